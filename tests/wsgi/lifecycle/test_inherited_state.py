"""Descriptors and signals that the server inherits from its parent, and signals of a terminal."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from support.processes import children, state
from support.server import APPS, PATIENCE_S, WORKER_DIED, WORKER_READY, Server, clean_environment
from support.waiting import wait_until
from support.wire import Wire

ARCTOS = [sys.executable, "-m", "arctos"]


def test_closed_standard_streams_become_dev_null(tmp_path):
    path, pid_file = str(tmp_path / "socket"), tmp_path / "pid"
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    options = ["--bind", f"unix:{path}", "--pid", pid_file, "--workers", "1", "plain:app"]
    process = subprocess.Popen([*closing, *ARCTOS, *options], cwd=APPS, env=clean_environment())
    try:
        wait_until(pid_file.exists)
        for pid in (process.pid, *children(process.pid)):
            assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        with Wire(path) as wire:
            assert wire.get("/errors").response().status == 200
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()


def test_signals_that_the_parent_ignored_still_work(serve):
    ignoring = ["sh", "-c", "trap '' HUP INT QUIT TERM CHLD; exec \"$@\"", "sh"]
    server = serve("plain:app", command=[*ignoring, *ARCTOS])
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_READY, since=since)
    server.stop()


def test_signals_that_the_parent_blocked_still_work(serve):
    blocking = (
        "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); "
        "os.execv(sys.executable, [sys.executable, '-m', 'arctos', *sys.argv[1:]])"
    )
    server = serve("plain:app", command=[sys.executable, "-c", blocking])
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGTERM)
    server.wait_for(WORKER_READY, since=since)
    server.stop()


IGNORED = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH]


def test_a_booting_worker_ignores_the_same_signals_as_a_ready_one(tmp_path, gate):
    (tmp_path / "waits.py").write_text(f"from plain import app\nopen({gate.path!r}).read()\n")
    server = Server("waits:app", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    try:
        held = os.open(gate.path, os.O_WRONLY)  # returns once the worker imports
        (worker,) = children(server.pid)
        for number in IGNORED:
            os.kill(worker, number)
        os.close(held)
        server.ready()
        assert server.worker_pids() == [worker]
        for number in IGNORED:
            os.kill(worker, number)
        with Wire(("127.0.0.1", server.port)) as wire:
            assert wire.get("/hello").response().status == 200
        assert server.worker_pids() == [worker]
        server.stop()
    finally:
        server.kill()


@pytest.mark.parametrize("key", ["\x03", "\x1c"], ids=["Ctrl-C", "Ctrl-\\"])
def test_a_key_on_the_terminal_stops_it_and_its_workers(tmp_path, key):
    """The terminal signals its foreground process group. Workers have process groups of their own."""
    pid_file = tmp_path / "pid"
    os.environ.update(clean_environment())
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(APPS)
        os.execv(ARCTOS[0], [*ARCTOS, "--bind", "127.0.0.1:0", "--pid", str(pid_file), "--workers", "2", "plain:app"])
    try:
        wait_until(pid_file.exists)
        workers = children(child)
        assert len(workers) == 2
        os.write(terminal, key.encode())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert {state(pid) for pid in workers} == {"X"}
    finally:
        if state(child) != "X":
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)


def test_a_suspended_and_resumed_supervisor_loses_nothing(serve, connect):
    server = serve("plain:app", workers=2)
    before = server.worker_pids()
    server.send(signal.SIGSTOP)  # Ctrl-Z in a shell
    wait_until(lambda: state(server.pid) == "T")
    assert connect(server).get("/hello").response().status == 200
    os.kill(before[0], signal.SIGKILL)
    server.send(signal.SIGCONT)  # fg
    server.wait_for(WORKER_DIED)
    server.wait_for(WORKER_READY, count=3)
    assert before[1] in server.worker_pids()
