"""`--preload`: the application is imported once, by a zygote that forks the workers."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from support.processes import children, processes_with, state
from support.server import (
    APPS,
    EXIT_NOT_IMPORTABLE,
    WORKER_DIED,
    WORKER_LEFT,
    WORKER_READY,
    Server,
    clean_environment,
    run,
)
from support.waiting import wait_until

ZYGOTE_READY = "zygote.ready"  # pid, generation: the application is loaded
ZYGOTE_LEFT = "zygote.exited"  # pid, generation, status: it was no longer needed, or has reported why
ZYGOTE_DIED = "zygote.died"  # pid, generation, status: it had not been told to exit
ZYGOTE_FAILED = "zygote.boot_failed"  # pid, generation; the report below
ZYGOTE_THREADS = "zygote.threads"  # pid, generation, threads: the names of threads that workers do not have
ZYGOTE_SOCKETS = "zygote.sockets"  # pid, generation, sockets: the sockets that all workers share
RELOAD_DONE = "reload.done"  # generation_in_service
RELOAD_FAILED = "reload.failed"  # generation_in_service, reason
WORKER_HANGS = "worker.hung"  # slot, pid, generation, and the request; its stack follows

APPLICATION = """
import atexit, json, os, random, socket, threading

WORD = "{word}"
IMPORTED_BY = os.getpid()
{more}

def app(environ, start_response):
    facts = {{
        "word": WORD, "imported_by": IMPORTED_BY, "pid": os.getpid(), "random": random.random(),
        "threads": threading.active_count(),
    }}
    body = json.dumps(facts).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def write(directory, word="old", more=""):
    """Writes the application into the directory that the server runs in."""
    (directory / "preloaded.py").write_text(APPLICATION.format(word=word, more=more))
    return {"cwd": directory}


def ask(server):
    """Sends a request on a new connection, and returns the response."""
    return requests.get(server.url, timeout=30).json()


def ask_all(server, count):
    """Returns one answer of each of `count` workers."""
    answers = {}
    for _ in range(1000):
        answer = ask(server)
        answers.setdefault(answer["pid"], answer)
        if len(answers) == count:
            return list(answers.values())
    raise AssertionError(f"1000 requests reached {sorted(answers)} only")


def zygote_pid(server):
    return int(server.events(ZYGOTE_READY)[-1].pairs["pid"])


@pytest.mark.smoke
def test_the_zygote_imports_and_the_workers_are_children_of_the_supervisor(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    zygote = zygote_pid(server)
    answers = ask_all(server, 2)
    assert {answer["imported_by"] for answer in answers} == {zygote}
    workers = {answer["pid"] for answer in answers}
    assert workers == set(server.worker_pids())
    wait_until(lambda: set(children(server.pid)) == workers | {zygote})  # the process between them exits
    wait_until(lambda: children(zygote) == [])


def test_workers_draw_different_random_numbers(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path, more="random.seed(7)"))
    first, second = ask_all(server, 2)
    assert first["random"] != second["random"]


def test_hup_serves_new_code(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    old = zygote_pid(server)
    assert ask(server)["word"] == "old"
    write(tmp_path, word="new")
    server.send(signal.SIGHUP)
    server.wait_for(WORKER_LEFT, count=2, generation=1)
    new = zygote_pid(server)
    assert new != old
    for answer in ask_all(server, 2):
        assert (answer["word"], answer["imported_by"]) == ("new", new)
    server.wait_for(ZYGOTE_LEFT, pid=old)


def test_hup_with_code_that_cannot_be_imported_changes_nothing(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    workers = set(server.worker_pids())
    write(tmp_path, word="new", more="import nowhere_to_be_found")
    server.send(signal.SIGHUP)
    assert "nowhere_to_be_found" in server.wait_for(ZYGOTE_FAILED, generation=2).text
    server.wait_for(ZYGOTE_LEFT, generation=2)
    assert {answer["word"] for answer in ask_all(server, 2)} == {"old"}
    assert set(server.worker_pids()) == workers


def test_a_failed_import_exits_4_with_one_report(tmp_path):
    write(tmp_path, more="1 / 0")
    server = Server("preloaded:app", "--preload", workers=4, cwd=tmp_path)
    try:
        assert server.wait() == EXIT_NOT_IMPORTABLE, server.log
        assert server.log.count("ZeroDivisionError") == 1
        assert server.leftovers() == []
    finally:
        server.kill()


HANGS = """
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
    to.sendto(b"importing", {path!r})
threading.Event().wait()
"""


def test_a_stop_does_not_wait_for_an_import(tmp_path, inbox):
    write(tmp_path, more=HANGS.format(path=inbox.path))
    server = Server("preloaded:app", "--preload", workers=2, cwd=tmp_path)
    try:
        assert inbox.receive() == "importing"
        server.stop()
    finally:
        server.kill()


def test_a_worker_that_dies_is_replaced_without_an_import(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    zygote = zygote_pid(server)
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_DIED, since=since)
    server.wait_for(WORKER_READY, since=since)
    assert {answer["imported_by"] for answer in ask_all(server, 2)} == {zygote}


def test_a_dead_zygote_costs_nothing_and_is_replaced_when_needed(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    first = zygote_pid(server)
    os.kill(first, signal.SIGKILL)
    server.wait_for(ZYGOTE_DIED, pid=first)
    assert {answer["imported_by"] for answer in ask_all(server, 2)} == {first}
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_READY, since=since)
    assert {answer["imported_by"] for answer in ask_all(server, 2)} == {first, zygote_pid(server)}


def test_all_processes_end_when_the_supervisor_is_killed(tmp_path):
    with Server("preloaded:app", "--preload", workers=2, **write(tmp_path)) as server:
        server.process.kill()
        server.wait()  # the pipe of the log ends when the last process has exited
        assert [pid for pid in processes_with(server.mark) if state(pid) != "Z"] == []


THREAD = """
threading.Thread(target=threading.Event().wait, name="sweeper", daemon=True).start()
"""


def test_threads_that_an_import_has_started_are_named(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path, more=THREAD))
    # Before 3.14, CPython does not set the names of its threads in the kernel.
    assert server.wait_for(ZYGOTE_THREADS).pairs["threads"] != ""
    assert [answer["threads"] for answer in ask_all(server, 2)] == [1, 1]


SOCKETS = """
LISTENER = socket.create_server(("127.0.0.1", 0))
CONNECTION = socket.create_connection(LISTENER.getsockname())
"""


def test_sockets_that_an_import_has_opened_are_named(serve, tmp_path):
    server = serve("preloaded:app", "--preload", **write(tmp_path, more=SOCKETS))
    named = server.wait_for(ZYGOTE_SOCKETS).pairs["sockets"]
    assert "listening at 127.0.0.1:" in named and "connected to 127.0.0.1:" in named


def test_an_import_without_threads_and_sockets_warns_of_nothing(serve, tmp_path):
    server = serve("preloaded:app", "--preload", **write(tmp_path))
    assert server.events(ZYGOTE_THREADS) + server.events(ZYGOTE_SOCKETS) == []


TELLS = """
import sys
print("imported", end="")

def leave():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(str(os.getpid()).encode(), {path!r})

atexit.register(leave)
"""


def test_exit_handlers_of_the_import_run_in_workers_not_in_the_zygote(serve, tmp_path, inbox):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path, more=TELLS.format(path=inbox.path)))
    workers = set(server.worker_pids())
    server.stop()
    assert {int(inbox.receive()), int(inbox.receive())} == workers
    assert not inbox.has_more()
    assert server.output == b"imported"  # once: it was not left in a buffer that every process would flush


def test_faulthandler_and_signals_are_those_of_a_worker_forked_directly(serve, tmp_path):
    def caught(*options):
        server = serve("preloaded:app", *options, **write(tmp_path))
        status = Path(f"/proc/{server.worker_pids()[0]}/status").read_text()
        return [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]

    assert caught("--preload") == caught()


def test_wsgi_multiprocess_and_multithread_are_correct(serve, connect):
    server = serve("plain:app", "--preload", workers=2)
    pids = json.loads(connect(server).get("/worker").response().body)
    assert pids["now"]["pid"] in server.worker_pids()
    assert pids["now"]["ppid"] == server.pid


def pss_kb(pids):
    """Returns the memory of processes, with shared pages divided among them (proc(5))."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


@pytest.mark.timeout(300)
def test_four_workers_of_a_django_application_need_much_less_memory(serve, tmp_path):
    environment = {"DJANGO_PROJECT_DIRECTORY": str(tmp_path), "DJANGO_SETTINGS_MODULE": "django_project.settings"}
    for command in (["migrate"], ["collectstatic", "--noinput"]):
        subprocess.run(
            [sys.executable, "-m", "django", *command, "--verbosity", "0"],
            cwd=APPS, env={**clean_environment(), **environment}, check=True, timeout=120,
        )  # fmt: skip

    def measured(*options):
        with Server("django_project.wsgi", *options, workers=4, env=environment) as server:
            for _ in range(40):
                assert requests.get(f"{server.url}/admin/login/", timeout=30).status_code == 200
            workers = server.worker_pids()
            assert len(workers) == 4
            return pss_kb(workers), pss_kb(children(server.pid))

    (with_workers, with_all), (without_workers, without_all) = measured("--preload"), measured()
    print(f"workers {with_workers} of {without_workers} KB, with the zygote {with_all} of {without_all} KB")
    assert with_workers < 0.6 * without_workers
    assert with_all < 0.75 * without_all


def test_a_hup_while_an_import_hangs_starts_over_with_the_current_code(serve, tmp_path, inbox):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    write(tmp_path, more=HANGS.format(path=inbox.path))
    server.send(signal.SIGHUP)
    assert inbox.receive() == "importing"
    assert ask(server)["word"] == "old"
    write(tmp_path, word="new")
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_DONE)
    assert {answer["word"] for answer in ask_all(server, 2)} == {"new"}
    wait_until(lambda: set(children(server.pid)) == set(server.worker_pids()) | {zygote_pid(server)})


def test_new_code_that_hangs_or_crashes_at_import_changes_nothing(serve, tmp_path, inbox):
    server = serve("preloaded:app", "--preload", "--boot-timeout", "2s", workers=2, **write(tmp_path))
    workers = set(server.worker_pids())
    for more in (HANGS.format(path=inbox.path), "import ctypes; ctypes.string_at(0)"):
        write(tmp_path, word="new", more=more)
        since = server.position()
        server.send(signal.SIGHUP)
        server.wait_for(RELOAD_FAILED, since=since)
    assert {answer["word"] for answer in ask_all(server, 2)} == {"old"}
    assert set(server.worker_pids()) == workers


def test_a_client_waiting_for_a_reload_gets_the_traceback(serve, tmp_path):
    admin = f"unix:{tmp_path / 'admin.sock'}"
    serve("preloaded:app", "--preload", "--admin-bind", admin, **write(tmp_path))
    write(tmp_path, more="1 / 0")
    exit_code, _, errors = run("ctl", "reload", "--wait", "--admin", admin)
    assert exit_code == 1 and "ZeroDivisionError" in errors


def test_a_reload_can_turn_preloading_on_and_off(serve, tmp_path):
    (tmp_path / "arctos.toml").write_text("workers = 2\n")
    server = serve("preloaded:app", "--config", "arctos.toml", workers=None, **write(tmp_path))
    for text, is_shared in (("preload = true", True), ("preload = false", False)):
        (tmp_path / "arctos.toml").write_text(f"workers = 2\n{text}\n")
        since = server.position()
        server.send(signal.SIGHUP)
        server.wait_for(RELOAD_DONE, since=since)
        answers = ask_all(server, 2)
        assert (len({answer["imported_by"] for answer in answers}) == 1) == is_shared
    server.wait_for(ZYGOTE_LEFT)


LOOPS = """
def spin(environ, start_response):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(str(os.getpid()).encode(), {path!r})
    while True:
        pass
"""


def test_a_hung_worker_is_logged_with_its_stack_and_replaced(serve, connect, tmp_path, inbox):
    options = write(tmp_path, more=LOOPS.format(path=inbox.path))
    server = serve("preloaded:spin", "--preload", "--timeout", "1s", "--timeout-grace", "0", **options)
    connect(server).get("/endless")
    stuck = inbox.receive()
    server.wait_for(WORKER_HANGS, pid=stuck)
    server.wait_for(WORKER_READY, count=2)
    assert "in spin" in server.log and int(stuck) not in server.worker_pids()


def test_a_suspended_zygote_does_not_delay_a_stop(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path))
    os.kill(zygote_pid(server), signal.SIGSTOP)
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_DIED)
    server.stop()


def test_a_child_that_returns_from_the_import_is_no_second_zygote(serve, tmp_path):
    server = serve("preloaded:app", "--preload", workers=2, **write(tmp_path, more="os.fork()"))
    assert {answer["imported_by"] for answer in ask_all(server, 2)} == {zygote_pid(server)}
    assert set(processes_with(server.mark)) == {server.pid, zygote_pid(server), *server.worker_pids()}


# --- An application that forges messages of its zygote ---

FORGES = """
import os, socket, struct
from faulty import app
VICTIM = int(os.environ["FORGES_VICTIM"])
def forge(_worker):
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            line = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if (line.family, line.type & 0xf) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
            line.send(struct.pack("=cIi", b"S", 1, VICTIM))
"""


def test_a_process_that_the_application_claims_as_worker_is_left_alone(tmp_path):
    """The supervisor may run as root, so it accepts a pid from a zygote only if the process is its own child.
    Otherwise this process would be killed when it is not ready in time."""
    (tmp_path / "shop.py").write_text(FORGES)
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as sleeper:
        status, _, log = run(
            *("--preload", "--workers", 1, "--bind", "127.0.0.1:0", "--boot-timeout", "1s"),
            *("--pre-fork", "shop:forge", "--pythonpath", APPS, "shop:app"),
            cwd=tmp_path,
            env={"FORGES_VICTIM": str(sleeper.pid)},
        )
        assert status == 3, log
        assert f"reported_pid={sleeper.pid}" in log and "zygote.message_rejected" in log, log
        assert sleeper.poll() is None
        sleeper.kill()
