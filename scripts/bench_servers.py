"""Starts, observes and stops a server, and puts load on it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bench_session import Failed, Session, free_port, stat_fields

SCRIPTS = Path(__file__).resolve().parent
PLACE = SCRIPTS.parent / "target/bench"  # the environment, what servers write, and the results
PYTHON = PLACE / "venv/bin/python"
LOAD = SCRIPTS.parent / "target/release/examples/load"
FILE = PLACE / "file_1m"
STATIC = PLACE / "static"

WITHOUT_COMMAND_LINE = ("freastal", "fastwsgi", "fastpysgi", "bjoern")
# Each peer, and what has to be importable, or to be a command of the environment, for it to run.
PEERS = {
    **{name: name for name in WITHOUT_COMMAND_LINE},
    "granian": "granian",
    "peregrine": "peregrine",
    "gunicorn": "gunicorn",
    "gunicorn sync": "gunicorn",
    "uwsgi": "uwsgi",
    "waitress": "waitress",
    "cheroot": "cheroot",
}


class Cpus(NamedTuple):
    """The CPU of the server, and the CPU of everything else."""

    server: int
    load: int


class Variant(NamedTuple):
    """A server with its options: the subject of a row."""

    name: str
    server: str
    options: tuple = ()
    pythonpath: str = ""  # searched before the environment
    app: str = ""  # in bench_apps, instead of that of the case


class Run(NamedTuple):
    """The results of a server in one round."""

    requests_per_second: float
    cpu_us: float  # per request, of all processes of the server
    server_busy: float  # fraction of its CPU that the server used
    first_busy: float  # the same for its first process, usually the supervisor
    load_busy: float  # fraction of the time in which the load generator had something to do
    p50_us: float
    p99_us: float
    max_us: float
    errors: int
    unanswered: int


def choose_cpus():
    """Returns the first two CPUs that this process may use, and warns if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) == 1:
        print("bench: one CPU only, so that load and server disturb each other: trust no figure", file=sys.stderr)
    return Cpus(allowed[0], allowed[-1] if len(allowed) == 1 else allowed[1])


def command(variant, case, port):
    """Returns the command line of a server for `case`."""
    name, python, app = variant.server, str(PYTHON), variant.app or case.app
    if name in WITHOUT_COMMAND_LINE:
        return [python, str(SCRIPTS / "bench_peer.py"), name, app, str(port), *variant.options]
    if name == "floor":
        kind = ["--kind", case.kind, "--body-bytes", str(case.body_bytes)]
        return [str(LOAD), "floor", "--port", str(port), *kind]
    bind = ["--bind", f"127.0.0.1:{port}", "--log-level", "error", "--workers", "1"]
    own = {
        "arctos": bind,
        "gunicorn": [*bind, *"--worker-class gthread --threads 1 --worker-connections 2000 --keep-alive 75".split()],
        "gunicorn sync": bind,
        "granian": [
            *f"--host 127.0.0.1 --port {port} --log-level error --workers 1".split(),
            *"--interface wsgi --blocking-threads 1 --runtime-threads 1 --http 1 --no-ws".split(),
        ],
        "peregrine": f"--host 127.0.0.1 --port {port} --workers 1 --protocol wsgi".split(),
        "uwsgi": [
            *f"--http 127.0.0.1:{port} --http-keepalive=75 --http-timeout 75 --http-processes 1 --listen 100".split(),
            *f"--master --processes 1 --disable-logging --die-on-term --virtualenv {PLACE}/venv".split(),
        ],
        "waitress": f"--listen 127.0.0.1:{port} --threads 1 --connection-limit 2000 --backlog 2048".split(),
        "cheroot": f"--bind 127.0.0.1:{port} --threads 1 --request-queue-size 2048".split(),
    }[name]
    options = [option.format(files=STATIC) for option in case.options.get(variant.name, ())]
    start = [str(PYTHON.with_name(name))] if name == "uwsgi" else [python, "-m", PEERS.get(name, name)]
    place = ["--module"] if name == "uwsgi" else []
    return [*start, *own, *variant.options, *options, *place, f"bench_apps:{app}"]


class Server(Session):
    """A running server, and the load on it."""

    def __init__(self, variant, case, cpus, wrapper=(), patience=1):
        self.case, self.cpus = case, cpus
        port = free_port()
        super().__init__(
            [*wrapper, *command(variant, case, port)],
            port,
            PLACE / f"{variant.name}.log".replace(" ", "-"),
            environment={
                **os.environ,
                "BENCH_FILE": str(FILE),
                "BENCH_STATIC": str(STATIC),
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONHASHSEED": "0",  # for the same order of dictionaries in each run
                "PYTHONPATH": os.pathsep.join(filter(None, [variant.pythonpath, str(SCRIPTS)])),
            },
            cwd=PLACE,
            cpus={cpus.server},
            patience=patience,
        )

    def check(self):
        """Checks one response and its size."""
        answer = self.send("--requests", "1", connections=1)
        if answer["body_bytes"] != self.case.body_bytes:
            raise Failed(f"answers {answer['body_bytes']} bytes, not {self.case.body_bytes}")

    def send(self, *extent, connections=None):
        """Puts load on the server. Returns the output of `load send`."""
        where = ["--port", str(self.port), "--cpu", str(self.cpus.load)]
        what = ["--kind", self.case.kind, "--connections", str(connections or self.case.connections)]
        what += ["--sleep"] if self.case.sleeps else []
        done = subprocess.run([LOAD, "send", *where, *what, *extent], capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(done.stderr.strip())
        return json.loads(done.stdout)

    def measure(self, seconds):
        """Runs one round: load for `seconds`, after a fifth of that as warm-up."""
        cpu_before, first_before, began = self.cpu_seconds(), cpu_seconds(self.process.pid), time.monotonic()
        sent = self.send("--seconds", str(seconds), "--warm-up", str(seconds / 5))
        cpu, took = self.cpu_seconds() - cpu_before, time.monotonic() - began
        if sent["requests"] == 0:
            raise Failed("answered nothing in the measured time")
        return Run(
            requests_per_second=sent["requests"] / sent["seconds"],
            cpu_us=cpu / sent["requests_in_all"] * 1e6,
            server_busy=cpu / took,
            first_busy=(cpu_seconds(self.process.pid) - first_before) / took,
            load_busy=sent["busy_seconds"] / sent["seconds"],
            p50_us=sent["latency_p50_us"],
            p99_us=sent["latency_p99_us"],
            max_us=sent["latency_max_us"],
            errors=sent["errors"],
            unanswered=sent["unanswered"],
        )

    def cpu_seconds(self):
        """Returns the CPU time of all processes of the server."""
        return sum(cpu_seconds(pid) for pid in self.pids())


def cpu_seconds(pid):
    """Returns the CPU time of a process: in nanoseconds if the kernel has them, else from its user and system ticks."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (FileNotFoundError, ProcessLookupError):
        fields = stat_fields(pid)
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK") if fields else 0.0
