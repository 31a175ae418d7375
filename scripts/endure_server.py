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
        self.log, self.admin, self.executions = (self.place / name for name in ("log", "admin", "executions"))
        self.mark = f"ENDURE_EXECUTIONS={self.executions}"
        self.tls = trusting(self.place) if tls else None
        pair = ["--certfile", self.place / "cert.pem", "--keyfile", self.place / "key.pem"] if tls else []
        command = [python, "-m", "arctos", "--bind", f"{HOST}:0", "--workers", workers, *pair]
        command += ["--admin-bind", f"unix:{self.admin}", *options, "endure_app:app"]
        environment = os.environ | {"ENDURE_EXECUTIONS": str(self.executions)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), cwd=SCRIPTS, env=environment, stderr=log, stdout=log
            )
        self.supervisor = self.process.pid
        try:
            self.port = int(self.await_line(rf"server\.ready.*?{re.escape(HOST)}:(\d+)")[1])
        except BaseException:
            self.__exit__(Failed)
            raise

    def position(self):
        """The end of the log, from which a later wait can start."""
        return self.log.stat().st_size

    def read_log(self, since=0):
        with self.log.open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def await_line(self, pattern, since=0):
        """Waits for a line of the log, and returns its match."""
        until = time.monotonic() + PATIENCE_S
        may_come = True
        while may_come:
            may_come = time.monotonic() < until and is_running(self.supervisor)
            if found := re.search(pattern, self.read_log(since)):
                return found
            time.sleep(0.02)
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

    def ready_workers(self):
        """The workers that are alive and were ready at least once."""
        said = map(int, re.findall(r"worker\.ready .*?pid=(\d+)", self.read_log()))
        return [pid for pid in said if is_running(pid)]

    def gauge(self, name):
        """The sum of the samples of a metric."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as admin:
            admin.settimeout(PATIENCE_S)
            admin.connect(str(self.admin))
            admin.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            page = b"".join(iter(lambda: admin.recv(65536), b"")).decode()
        return sum(map(int, re.findall(rf"^arctos_{name}(?:{{.*}})? (\d+)", page, re.MULTILINE)))

    def reload(self):
        os.kill(self.supervisor, signal.SIGHUP)

    def upgrade(self):
        """Returns when the successor serves and its predecessor has exited."""
        since, before = self.position(), self.supervisor
        self._request_upgrade()
        self.await_line(rf"upgrade\.taken_over predecessor={before}\b", since)
        successor = int(self.await_line(r"server\.ready pid=(\d+)", since)[1])
        self.await_line(rf"server\.stopped .*?pid={before}\b", since)
        self.supervisor = successor
        if self.process.wait(PATIENCE_S) != 0:
            raise Failed(f"the first server exited with status {self.process.returncode}:\n{self.tail()}")

    def _request_upgrade(self):
        """Asks again as long as the server has not noticed the end of its own predecessor."""
        outcome = "the previous server"
        while "the previous server" in outcome:
            since = self.position()
            os.kill(self.supervisor, signal.SIGUSR2)
            outcome = self.await_line(r"upgrade\.(started|refused .*)", since)[1]

    def leftovers(self):
        """The live processes that descend from the server, whatever parent they have by now."""
        found = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [pid for pid in found if is_running(pid) and self.mark.encode() in environment_of(pid)]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        was_running = is_running(self.supervisor)
        if was_running:
            os.kill(self.supervisor, signal.SIGTERM)
        until = time.monotonic() + 2 * PATIENCE_S
        while is_running(self.supervisor) and time.monotonic() < until:
            self.process.poll()
            time.sleep(0.02)
        left = self.leftovers()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        status, said = self.process.wait(), self.tail()
        shutil.rmtree(self.place)
        if kind is None and (status != 0 or not was_running):
            raise Failed(f"the server exited with status {status}:\n{said}")
        if kind is None and left:
            raise Failed(f"{len(left)} processes were left:\n{said}")


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


def is_running(pid):
    """Whether there is a process with this pid that has not ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def environment_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
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


def say(*words, sep=" "):
    print(*words, sep=sep, flush=True)


def warn(*words):
    print(*words, file=sys.stderr, flush=True)
