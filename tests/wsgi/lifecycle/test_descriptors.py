"""Which descriptors a process has: those of the server stay in the supervisor, and those that a program or an
application has opened stay open under their numbers, wherever they were opened."""

import json
import os
import re
import signal
from collections import Counter
from contextlib import contextmanager

import pytest
from support.processes import children
from support.script import Script
from support.server import SERVER_READY, WORKER_READY, LogLine, Server
from support.waiting import wait_until

# Descriptors that a program opens before it serves, or a sitecustomize module before the command starts.
OPENS = """
import os
from pathlib import Path
HELD = [open(Path(os.environ["FILES"]) / f"held{number}", "w") for number in range(8)]
"""

PROGRAM = """
import json, os, sys
{opens}
import arctos

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []

if __name__ == "__main__":
    path, options = sys.argv[1], json.loads(sys.argv[2])
    arctos.serve(path if ":" in path else app, **options)
"""

APPLICATION = """
import json, os
from pathlib import Path

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []

def write_down(generation):
    links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
    found = {fd: os.readlink(link) for fd, link in links.items() if os.path.lexists(link)}
    (Path(os.environ["FILES"]) / "started.json").write_text(json.dumps(found))
"""


def descriptors(pid):
    """Returns the target of each descriptor."""
    return {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}


def kinds(links):
    """Counts the descriptors of each kind, and files by name."""
    return Counter(re.sub(r":\[\d+\]$", "", link) for link in links)


# Standard input, output and error, and the log, which has opened the pipe of standard error again.
STREAMS = {"/dev/null": 1, "pipe": 3}
# In addition: the pipe for its stacks, the control socket, the mailbox and the listener, the pidfd of the supervisor, the
# doorbell and the descriptor with which signals ring it, and epoll.
WORKER = {
    **STREAMS,
    "pipe": 4,
    "socket": 3,
    "anon_inode:[pidfd]": 1,
    "anon_inode:[eventfd]": 2,
    "anon_inode:[eventpoll]": 1,
}
# The control socket, and the pidfd of the supervisor.
ZYGOTE = {**STREAMS, "socket": 1, "anon_inode:[pidfd]": 1}
# The pipe that reports the result.
ON_START = {**STREAMS, "pipe": 4}


@contextmanager
def command(directory, *options):
    """Runs the command with files that sitecustomize has opened. Returns the pids of all workers."""
    (directory / "sitecustomize.py").write_text(OPENS)
    environment = {"FILES": str(directory), "PYTHONPATH": str(directory)}
    with Server("held:app", *options, workers=3, cwd=directory, env=environment) as server:
        yield server.pid, [int(line.pairs["pid"]) for line in server.events(WORKER_READY)]


@contextmanager
def program(directory, application, **options):
    """Runs a program that has files open and calls serve()."""
    (directory / "program.py").write_text(PROGRAM.format(opens=OPENS))
    options = {"bind": "127.0.0.1:0", "workers": 3, **options}
    with Script("program.py", application, json.dumps(options), directory=directory, FILES=str(directory)) as script:
        script.error_line(lambda line: (found := LogLine.parse(line)) is not None and found.event == SERVER_READY)
        events = [found for line in script.errors.splitlines() if (found := LogLine.parse(line))]
        yield script.process.pid, [int(line.pairs["pid"]) for line in events if line.event == WORKER_READY]
        script.send(signal.SIGTERM)
        assert script.wait() == 0, script.errors


def given(directory, options):
    """Returns options, for the command and for serve(), with which the supervisor holds as many descriptors as it can."""
    everything = {
        "admin_bind": f"unix:{directory}/admin.sock",
        "statsd_host": "127.0.0.1:9",
        "access_logfile": f"{directory}/access.log",
        "pid": f"{directory}/server.pid",
        "on_start": "held:write_down",
        **options,
    }
    named = {f"--{name.replace('_', '-')}": value for name, value in everything.items()}
    words = [name if value is True else f"{name}={value}" for name, value in named.items()]
    return words, everything


WAYS = {
    "command": lambda directory, words, _: command(directory, *words),
    "path": lambda directory, _, options: program(directory, "held:app", **options),
    "object": lambda directory, _, options: program(directory, "app", **options),
}


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_has_its_own_descriptors_and_those_of_the_program(tmp_path, way, preload):
    (tmp_path / "held.py").write_text(APPLICATION)
    words, options = given(tmp_path, {"preload": True} if preload else {})
    held = {f"{tmp_path}/held{number}" for number in range(8)}
    with WAYS[way](tmp_path, words, options) as (supervisor, workers):
        theirs = {fd: link for fd, link in descriptors(supervisor).items() if link in held}
        assert len(theirs) == len(held)

        def assert_has(found, own):
            assert {fd: link for fd, link in found.items() if link in held} == theirs
            assert kinds(link for link in found.values() if link not in held) == own

        for worker in workers:
            assert_has(descriptors(worker), {**WORKER, f"{tmp_path}/access.log": 1})
        zygotes = [pid for pid in children(supervisor) if pid not in workers]
        assert len(zygotes) == int(preload)
        for zygote in zygotes:
            # Its last order is answered before it closes the descriptors that came with it.
            wait_until(lambda zygote=zygote: len(descriptors(zygote)) == len(held) + sum(ZYGOTE.values()))
            assert_has(descriptors(zygote), ZYGOTE)
        started = json.loads((tmp_path / "started.json").read_text())
        assert_has({int(fd): link for fd, link in started.items()}, ZYGOTE if preload else ON_START)


# A child records its descriptors, wherever it is forked.
FORKS = """
import json, os, re
from pathlib import Path

def fork(where):
    if not (child := os.fork()):
        links = {fd: f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")}
        found = [os.readlink(link) for link in links.values() if os.path.lexists(link)]
        (Path(os.environ["FILES"]) / f"{where}.json").write_text(json.dumps(found))
        os._exit(0)
    os.waitpid(child, 0)

def on_start(generation): fork("on_start")
def pre_fork(worker): fork("pre_fork")
def post_fork(worker): fork("post_fork")
def worker_ready(worker): fork("worker_ready")
def worker_exit(worker): fork("worker_exit")
fork("import")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/file":
        held = open(os.environ["SENT"], "rb")
        start_response("200 OK", [("Content-Length", str(os.fstat(held.fileno()).st_size))])
        return environ["wsgi.file_wrapper"](held)
    fork("request")
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""

# The log is standard error, and so is the number of the pipe for the stacks of its parent.
DISTINCT_STREAMS = {"/dev/null": 1, "pipe": 2}
MOMENTS = ["on_start", "pre_fork", "import", "post_fork", "worker_ready", "request", "worker_exit"]


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_a_child_of_the_application_never_has_a_descriptor_of_the_server(tmp_path, connect, preload):
    (tmp_path / "forks.py").write_text(FORKS)
    moments = [moment for moment in MOMENTS if preload or moment != "pre_fork"]
    hooks = [f"--{name.replace('_', '-')}=forks:{name}" for name in moments if name not in ("import", "request")]
    options = [*hooks, f"--access-logfile={tmp_path}/access.log", *(["--preload"] if preload else [])]
    with Server("forks:app", *options, cwd=tmp_path, env={"FILES": str(tmp_path)}) as server:
        assert connect(server).get("/").response().status == 200
        server.stop()
    for moment in moments:
        found = json.loads((tmp_path / f"{moment}.json").read_text())
        assert kinds(set(found)) == DISTINCT_STREAMS, moment


def test_a_child_has_neither_bodies_nor_files_of_other_requests(tmp_path, connect):
    (tmp_path / "forks.py").write_text(FORKS)
    (tmp_path / "sent").write_bytes(bytes(64 << 20))  # more than the socket buffers hold, so that it is still being sent
    (tmp_path / "bodies").mkdir()
    options = ["--body-temp-dir", tmp_path / "bodies", "--body-memory", "4K"]
    environment = {"FILES": str(tmp_path), "SENT": str(tmp_path / "sent")}
    with Server("forks:app", *options, cwd=tmp_path, env=environment) as server:
        upload, download = connect(server), connect(server)
        upload.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50000))
        download.get("/file")
        assert download.socket.recv(1)
        (worker,) = server.worker_pids()
        wait_until(lambda: sum(str(tmp_path) in link for link in descriptors(worker).values()) == 3)
        assert connect(server).get("/").response().status == 200
        found = json.loads((tmp_path / "request.json").read_text())
        # The file that the application opened is open in its child, like any other file.
        assert kinds(set(found)) == {**DISTINCT_STREAMS, str(tmp_path / "sent"): 1}
        upload.socket.close()
        download.socket.close()


# Takes the number that the doorbell had and all other free ones, and sends a signal.
EXITS = """
import os, signal
from pathlib import Path

FOLDER = Path(os.environ["FILES"])

def worker_exit(worker):
    held = [open(FOLDER / f"held{number}", "wb", 0) for number in range(64)]
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        os.kill(os.getpid(), number)
    sizes = [os.fstat(file.fileno()).st_size for file in held]
    (FOLDER / "sizes").write_text(repr(sizes))

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def test_a_signal_during_exit_hooks_writes_into_no_file_of_the_application(tmp_path):
    (tmp_path / "exits.py").write_text(EXITS)
    options = ("--worker-exit", "exits:worker_exit")
    with Server("exits:app", *options, cwd=tmp_path, env={"FILES": str(tmp_path)}) as server:
        server.stop()
    assert (tmp_path / "sizes").read_text() == repr([0] * 64)
