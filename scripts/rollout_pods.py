"""What a rollout consists of: pods, a HAProxy in front of them, and clients that send requests all the time."""

import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
HOST = "127.0.0.1"
PATIENCE_S = 60
POLL_S = 0.02
HAPROXY = """
defaults
    mode http
    timeout connect 10s
    timeout client 60s
    timeout server 60s
frontend web
    bind {host}:{port}
    default_backend shop
backend shop
    option httpchk GET /readyz
    default-server check inter 1s fall 2 rise 1
{servers}
"""


class Failed(Exception):
    """The rollout could not be carried out."""


class Pod:
    """A server as the first process of its container, from its start to its exit."""

    def __init__(self, name, version):
        self.name, self.version = name, version
        self.port, self.admin = free_port(), free_port()
        self.times = {}  # of "started", "ready", "term" and "exited"
        self.status = None
        self.process = self.first = None

    def start(self, python, arguments, import_s, log):
        """Starts it, in a PID namespace if the machine grants one."""
        command = [*namespace(), python, "-m", "arctos", "--bind", f"{HOST}:{self.port}"]
        command += ["--admin-bind", f"{HOST}:{self.admin}", *arguments, "rollout_app:app"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCTOS_")}
        # The first variable is what every pod has, and sets the default of --drain-delay.
        environment |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {"ROLLOUT_POD": self.name, "ROLLOUT_IMPORT_S": str(import_s)}
        self.times["started"] = time.monotonic()
        self.process = subprocess.Popen(
            list(map(str, command)), cwd=HERE, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def wait_until_ready(self):
        """Waits as the startup probe does, which is impatient here."""
        deadline = time.monotonic() + PATIENCE_S
        while not is_ready(self.admin):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise Failed(f"{self.name} does not become ready")
            time.sleep(POLL_S)
        self.times["ready"] = time.monotonic()
        self.first = first_process(self.process.pid)

    def terminate(self):
        """Sends TERM to its first process, as the kubelet does."""
        self.times["term"] = time.monotonic()
        os.kill(self.first, signal.SIGTERM)

    def wait(self):
        """Waits for its exit."""
        try:
            self.status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not exit") from None
        self.times["exited"] = time.monotonic()

    def kill(self):
        """Kills it if it still runs."""
        if self.process is not None and self.process.poll() is None:
            for pid in filter(None, (self.first, self.process.pid)):
                with suppress(ProcessLookupError):  # it was faster
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(PATIENCE_S)


def namespace():
    """Returns the command that makes a PID namespace, or nothing if the machine grants none."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    command += [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    if shutil.which("unshare") is None:
        return []
    return command if subprocess.run([*command, "true"], check=False, capture_output=True).returncode == 0 else []


def first_process(pid):
    """Returns the first process of the namespace that `pid` has made; `pid` itself if it has made none."""
    if not Path(f"/proc/{pid}/exe").resolve().name.startswith("unshare"):
        return pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def free_port():
    """Returns a free port below those that the kernel gives to clients."""
    highest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((HOST, random.randrange(10_000, highest)))
            except OSError:
                continue  # it is in use
            return probe.getsockname()[1]


def is_ready(port):
    """Whether `/readyz` answers 200."""
    with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False


class Balancer:
    """A HAProxy that checks each pod once a second. It stops sending to a pod after the second check that fails."""

    def __init__(self, directory, pods):
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
        if program is None:
            raise Failed("haproxy is missing. Debian, Ubuntu: apt-get install haproxy")
        self.port = free_port()
        servers = [f"    server {pod.name} {HOST}:{pod.port} port {pod.admin}" for pod in pods]
        config = directory / "haproxy.cfg"
        config.write_text(HAPROXY.format(host=HOST, port=self.port, servers="\n".join(servers)))
        # By default, HAProxy sends to all pods until a check has failed, so it has to check some that do not exist yet.
        self.settled_at = time.monotonic() + 4
        with (directory / "haproxy.log").open("wb") as log:
            command = [program, "-db", "-f", config]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def settle(self):
        """Returns once it knows which pods do not exist."""
        time.sleep(max(self.settled_at - time.monotonic(), 0))
        if self.process.poll() is not None:
            raise Failed("HAProxy has exited")

    def kill(self):
        self.process.kill()
        self.process.wait()


class Record(NamedTuple):
    """A request, as its client saw it."""

    begun: float
    ended: float
    ms: int  # that the application takes
    pod: str  # that has answered; empty if the request failed
    error: str


class Client(threading.Thread):
    """Sends a request every `every_s` seconds, or when the previous one has ended, and retries nothing."""

    def __init__(self, port, every_s, ms, keeps):
        super().__init__(daemon=True)
        self.port, self.every_s, self.ms, self.keeps = port, every_s, ms, keeps
        self.records, self.stopped = [], threading.Event()

    def run(self):
        connection = None
        due = time.monotonic() + random.random() * self.every_s
        while not self.stopped.wait(max(due - time.monotonic(), 0)):
            connection = connection or http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE_S)
            record = self.request(connection)
            self.records.append(record)
            if record.error or not self.keeps:
                connection.close()
                connection = None
            due = max(due + self.every_s, time.monotonic())
        if connection is not None:
            connection.close()

    def request(self, connection):
        begun = time.monotonic()
        try:
            connection.request("GET", f"/?ms={self.ms}", headers={} if self.keeps else {"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            error = "" if response.status == 200 else f"status {response.status}"
        except (OSError, http.client.HTTPException) as failure:
            body, error = "", repr(failure)
        return Record(begun, time.monotonic(), self.ms, "" if error else body, error)


def say(*words):
    print(*words, flush=True)


def warn(*words):
    print("scripts/rollout:", *words, file=sys.stderr)
