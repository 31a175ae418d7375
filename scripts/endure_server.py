"""The server that scripts/endure puts under load: starts and stops it, and measures its processes."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parent
PATIENCE_S = 30
HOST = "127.0.0.1"


class Failed(Exception):
    """The server did not do what it has to do under any load."""


class Sample(NamedTuple):
    """What a process uses."""

    private_kb: int  # memory that it shares with no other process
    descriptors: int
    sockets: int


class Server:
    """A running server. Its log is in a temporary directory, which is removed at the end."""

    def __init__(self, python, workers, *options, tls=False):
        self.place = Path(tempfile.mkdtemp(prefix="arctos-endure."))
        self.log = self.place / "log"
        self.tls = trusting(self.place) if tls else None
        pair = ["--certfile", self.place / "cert.pem", "--keyfile", self.place / "key.pem"] if tls else []
        command = [python, "-m", "arctos", "--bind", f"{HOST}:0", "--workers", str(workers), *pair, *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*map(str, command), "endure_app:app"], cwd=SCRIPTS, stderr=log, stdout=log)
        self.supervisor = self.process.pid
        try:
            self.port = int(self.await_line(rf"server\.ready.*?{re.escape(HOST)}:(\d+)")[1])
        except BaseException:
            self.__exit__(Failed)
            raise

    def await_line(self, pattern):
        """Waits for a line of the log, and returns its match."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(pattern, self.log.read_text(errors="replace")):
                return found
            time.sleep(0.05)
        raise Failed(f"the server did not write {pattern!r}:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def connect(self, timeout=PATIENCE_S, own_address=None):
        """Connects from 127.0.0.1 or another loopback address. Many of them have more ports than one has."""
        own = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        own.settimeout(timeout)
        if own_address:
            own.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT: connect(2) chooses the port
            own.bind((own_address, 0))
        own.connect((HOST, self.port))
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls.wrap_socket(own) if self.tls else own

    def workers(self):
        return children(self.supervisor)

    def samples(self):
        """What each process of the server uses, by pid."""
        return {pid: sample(pid) for pid in [self.supervisor, *self.workers()]}

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(2 * PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        said = self.tail()
        shutil.rmtree(self.place)
        if kind is None and status != 0:
            raise Failed(f"the server exited with status {status}:\n{said}")


def trusting(place):
    """Makes a certificate, and returns the context of clients that trust it."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=IP:{HOST} -keyout key.pem -out cert.pem"
    subprocess.run(command.split(), cwd=place, check=True, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=place / "cert.pem")
    context.check_hostname = False
    return context


def children(pid):
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def sample(pid):
    """Measures a process; all figures of one that has just ended are 0."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return Sample(0, 0, 0)
    private = sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE)))
    return Sample(private, len(links), sum(link.startswith("socket:") for link in links))


def tcp_memory_kb():
    """The memory of all TCP sockets of this network namespace's kernel, in kB."""
    pages = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)[1]
    return int(pages) * os.sysconf("SC_PAGESIZE") // 1024


def say(*words):
    print(*words, flush=True)


def warn(*words):
    print(*words, file=sys.stderr, flush=True)
