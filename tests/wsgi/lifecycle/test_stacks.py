"""SIGUSR2 to a worker logs its stacks, and the worker goes on."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.processes import state
from support.server import APPS, PATIENCE_S, WORKER_READY, Server, clean_environment
from support.wire import Wire

NOTIFY = "import os, socket\ndef notify(path):\n    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(str(os.getpid()).encode(), path)\n"
FIRST = "most recent call first"  # of each thread's stack


def wait_for_text(server, *words):
    """Waits until the log contains all the words, and returns the log."""
    with server._said:
        assert server._said.wait_for(lambda: all(word in "".join(server._lines) for word in words), PATIENCE_S), server.log
    return server.log


def test_a_worker_that_waits_in_a_request_shows_the_line(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    os.kill(int(inbox.receive()), signal.SIGUSR2)
    wait_for_text(server, FIRST, "in gate", "in app")
    gate.open()
    assert wire.response().status == 200


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=["fork", "zygote"])
def test_a_dump_is_one_event_of_its_worker(serve, connect, gate, inbox, options):
    server = serve("plain:app", *options, workers=2)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    pid = int(inbox.receive())
    os.kill(pid, signal.SIGUSR2)
    event = server.wait_for("worker.stacks")
    slot = next(line.pairs["slot"] for line in server.events(WORKER_READY) if line.pairs["pid"] == str(pid))
    assert event.has("worker.stacks", {"slot": slot, "pid": pid, "generation": 1})
    wait_for_text(server, FIRST, "in gate", "in app")
    gate.open()
    assert wire.response().status == 200
    server.stop()
    server.wait_for("worker.stacks")
    assert len(server.events("worker.stacks")) == 1
    block = server.log.split("worker.stacks", 1)[1].splitlines()[1:]
    assert block[0].startswith("    ") and FIRST in block[0], "its lines are indented"


def test_a_dump_is_one_object_where_the_log_is_json(serve, gate, inbox):
    server = Server("plain:app", "--log-format", "json", workers=1)
    try:
        (ready,) = [json.loads(line) for line in wait_for_text(server, '"server.ready"').splitlines() if '"server.ready"' in line]
        with Wire(("127.0.0.1", int(ready["listen"].rpartition(":")[2].rstrip("/")))) as wire:
            wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
            pid = int(inbox.receive())
            os.kill(pid, signal.SIGUSR2)
            wait_for_text(server, '"worker.stacks"')
            gate.open()
            assert wire.response().status == 200
        server.stop()
    finally:
        server.kill()
    (dump,) = [event for event in map(json.loads, server.log.splitlines()) if event["event"] == "worker.stacks"]
    assert (dump["slot"], dump["pid"], dump["generation"]) == (0, pid, 1)
    assert FIRST in dump["text"] and "in gate\n" in dump["text"]


def test_a_dump_is_shown_at_any_level(tmp_path, gate, inbox):
    (tmp_path / "hangs.py").write_text(f"{NOTIFY}notify({inbox.path!r})\nopen({gate.path!r}).read()\nfrom plain import app\n")
    server = Server("hangs:app", "--log-level", "critical", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    try:
        os.kill(int(inbox.receive()), signal.SIGUSR2)
        wait_for_text(server, "worker.stacks", FIRST)
    finally:
        server.kill()


def test_threads_are_shown_too(serve, connect, tmp_path, inbox):
    (tmp_path / "threaded.py").write_text(
        f"{NOTIFY}import threading\n"
        "def waits_in_a_thread(): threading.Event().wait()\n"
        "threading.Thread(target=waits_in_a_thread, daemon=True).start()\n"
        "from plain import app\n"
        f"notify({inbox.path!r})\n"
    )
    server = serve("threaded:app", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    os.kill(int(inbox.receive()), signal.SIGUSR2)
    wait_for_text(server, FIRST, "in waits_in_a_thread")
    assert connect(server).get("/hello").response().status == 200


def test_c_code_that_holds_the_gil_is_shown(serve, connect, tmp_path, inbox):
    (tmp_path / "locked.py").write_text(
        f"{NOTIFY}import ctypes\n"
        "def holds_the_lock(): ctypes.PyDLL(None).pause()\n"  # until a signal has been handled
        "def app(environ, start_response):\n"
        f"    notify({inbox.path!r})\n"
        "    holds_the_lock()\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )
    server = serve("locked:app", workers=1, cwd=tmp_path)
    wire = connect(server)
    wire.get("/")
    pid = int(inbox.receive())
    deadline = time.monotonic() + PATIENCE_S
    while state(pid) != "S":  # a signal before pause(2) would be handled too early
        assert time.monotonic() < deadline
    os.kill(pid, signal.SIGUSR2)
    wait_for_text(server, FIRST, "in holds_the_lock")
    assert wire.response().body == b"ok"


def test_an_import_that_hangs_is_shown(tmp_path, gate, inbox):
    (tmp_path / "hangs.py").write_text(f"{NOTIFY}notify({inbox.path!r})\nopen({gate.path!r}).read()\nfrom plain import app\n")
    server = Server("hangs:app", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    try:
        os.kill(int(inbox.receive()), signal.SIGUSR2)
        wait_for_text(server, FIRST, "hangs.py", "in <module>")
        gate.open()
        server.ready().stop()
    finally:
        server.kill()


def test_a_sigusr2_handler_replaced_by_the_import_is_reinstalled(serve, connect, tmp_path):
    (tmp_path / "takes.py").write_text(
        "import signal\nfrom plain import app\nsignal.signal(signal.SIGUSR2, lambda *_: None)\n"
    )
    server = serve("takes:app", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    assert server.wait_for("worker.signal_handler_replaced").pairs["signal"] == "SIGUSR2"
    os.kill(server.worker_pids()[0], signal.SIGUSR2)
    wait_for_text(server, FIRST)
    assert connect(server).get("/hello").response().status == 200
    server.wait_for(WORKER_READY)
    assert len(server.events(WORKER_READY)) == 1


def test_a_worker_without_standard_error_survives_a_dump(tmp_path, inbox):
    path = str(tmp_path / "socket")
    (tmp_path / "notifies.py").write_text(f"{NOTIFY}notify({inbox.path!r})\nfrom plain import app\n")
    command = [sys.executable, "-m", "arctos", "--bind", f"unix:{path}", "-w", "1", "--pythonpath", str(APPS), "notifies:app"]
    for redirection in ("2>/dev/full", "2>&-"):
        process = subprocess.Popen(
            ["sh", "-c", f'exec "$@" {redirection}', "sh", *command], cwd=tmp_path, env=clean_environment()
        )
        try:
            pid = int(inbox.receive())
            with Wire(path) as wire:
                assert wire.get("/hello").response().status == 200
                os.kill(pid, signal.SIGUSR2)
                assert wire.get("/hello").response().status == 200
            process.terminate()
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
