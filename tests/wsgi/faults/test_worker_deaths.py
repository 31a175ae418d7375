"""Workers that die, and applications that misbehave."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from support.processes import cpu_ticks
from support.server import ACCEPT_FAILED, APPS, SPAWN_FAILED, WORKER_DIED, WORKER_LEFT, WORKER_ORPHANED, WORKER_READY
from support.traffic import Outcome, traffic
from support.wire import Ended, Wire

NOBODY_ELSES = 61234  # a user without processes, because RLIMIT_NPROC counts per user


def worker_pid(connect, server):
    return json.loads(connect(server).get("/worker").response().body)["now"]["pid"]


@pytest.mark.smoke
def test_kill_9_of_a_worker_fails_only_requests_on_its_own_connections(serve):
    # Otherwise the workers share connections as soon as the machine is slow, and have none of their own.
    server = serve("plain:app", "--keepalive-mode", "sticky", workers=4)
    victim = server.worker_pids()[0]
    with traffic(server, clients=16) as load:
        load.wait_for_answers(200)
        since = server.position()
        os.kill(victim, signal.SIGKILL)
        killed_at = time.monotonic()
        server.wait_for(WORKER_READY, since=since)
        ready_after_s = time.monotonic() - killed_at
        load.wait_for_answers(400)
    exited = server.wait_for(WORKER_DIED, since=since)
    assert int(exited.pairs["pid"]) == victim
    kept = [record for record in load.failed() if record.is_kept]
    new = [record for record in load.failed() if not record.is_kept]
    assert all(record.worker == victim for record in kept), load.summary()
    # The new connections that it had accepted are lost: at most one of each client.
    assert len(new) <= load.connecting and all(record.outcome is not Outcome.REFUSED for record in new), load.summary()
    assert all(record.outcome in (Outcome.STALE, Outcome.HELD, Outcome.LOST, Outcome.CUT) for record in load.failed())
    # plain:app is imported in some tens of ms.
    assert ready_after_s < 2, f"the replacement was ready after {ready_after_s:.1f} s"
    assert len(server.worker_pids()) == 4


def test_kill_9_of_all_workers_never_refuses_a_connection(serve):
    server = serve("plain:app", workers=2)
    with traffic(server, clients=8) as load:
        load.wait_for_answers(100)
        since = server.position()
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        server.wait_for(WORKER_READY, count=2, since=since)
        load.wait_for_answers(100)
    assert load.summary()["REFUSED"] == 0, load.summary()


def test_os_exit_costs_its_own_request_and_the_worker_is_replaced(serve, connect):
    server = serve("plain:app", workers=2)
    since = server.position()
    wire = connect(server)
    wire.get("/hard-exit?secret=hunter2")
    with pytest.raises(Ended):
        wire.response()
    exited = server.wait_for(WORKER_DIED, since=since)
    assert exited.pairs["status"] == "exit code 7" and "/hard-exit" in exited.text
    server.wait_for(WORKER_READY, since=since)
    assert len(server.worker_pids()) == 2
    assert connect(server).get("/hello").response().status == 200
    assert "hunter2" not in server.log


def test_a_worker_that_is_told_to_exit_is_replaced_after_its_request(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    pid = int(inbox.receive())
    since = server.position()
    os.kill(pid, signal.SIGTERM)
    gate.open()
    assert wire.response().body == f"{pid}\n".encode()
    server.wait_for(WORKER_READY, since=since)
    assert worker_pid(connect, server) != pid


def test_workers_ignore_hup(serve, connect):
    server = serve("plain:app", workers=1)
    (pid,) = server.worker_pids()
    os.kill(pid, signal.SIGHUP)
    assert worker_pid(connect, server) == pid


def test_an_application_that_forks_and_waits_is_answered(serve, connect):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    assert wire.get("/fork").response().body == b"5\n"
    assert wire.get("/subprocess-answer").response().body == b"from a program\n"
    assert wire.get("/hello").response().status == 200


def test_a_forked_child_that_returns_is_no_second_worker(serve, connect):
    server = serve("plain:app", workers=1)
    for path in ["/fork-and-come-back", "/fork-and-come-back?in_close=yes"]:
        wire = connect(server)
        assert wire.get(path).response().body == b"one answer\n"
        assert wire.get("/hello").response().status == 200
    server.wait_for("application.fork_returned", count=2)
    assert not server.events("worker.failed")


def test_a_process_of_multiprocessing_can_be_terminated(serve, connect):
    server = serve("plain:app", workers=1)
    assert connect(server).get("/terminate").response().body == b"-15\n"


def test_programs_of_the_application_can_use_hup_and_usr1(serve, connect):
    server = serve("plain:app", workers=1)
    ignored = json.loads(connect(server).get("/signals-of-a-program").response().body)
    assert not {signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGWINCH} & set(ignored)


def test_a_child_left_behind_by_the_application_holds_no_connection(serve, connect, gate):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/fork-and-stay?gate={gate.path}", "Connection: close")
    child = int(wire.response().body)
    assert wire.is_closed()  # although the child still has the descriptors that it inherited
    os.kill(child, 0)
    gate.open()


def test_the_port_is_free_after_a_stop_although_a_child_still_runs(serve, connect, gate):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    child = int(wire.get(f"/fork-and-stay?gate={gate.path}").response().body)
    server.send(signal.SIGTERM)
    assert server.process.wait(30) == 0  # not the end of its log, which the child still holds
    try:
        assert serve("plain:app", bind=f"127.0.0.1:{server.port}").stop()
    finally:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended with its worker


def test_a_new_server_starts_at_once_when_the_supervisor_is_killed(serve, connect, gate, inbox):
    server = serve("plain:app", workers=2)
    busy = connect(server)
    busy.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    worker = int(inbox.receive())
    server.send(signal.SIGKILL)
    server.process.wait()
    said = server.wait_for(WORKER_ORPHANED)
    assert {"slot", "pid", "generation"} <= set(said.pairs) and int(said.pairs["pid"]) != worker
    new = serve("plain:app", bind=f"127.0.0.1:{server.port}")  # although one worker still answers and has the socket
    assert connect(new).get("/hello").response().status == 200
    gate.open()
    assert busy.response().body == f"{worker}\n".encode()
    server.wait()
    assert server.leftovers() == []


def test_orphaned_workers_exit_however_many_clients_connect(serve):
    server = serve("plain:app", workers=2)
    with traffic(server, clients=24, target="/slow?ms=30") as load:  # the queue is never empty
        load.wait_for_answers(50)
        server.send(signal.SIGKILL)
        killed_at = time.monotonic()
        server.wait(timeout=30)  # the log ends when no process holds it any more
        assert time.monotonic() - killed_at < 10
    assert server.leftovers() == []
    assert set(load.summary()) <= {"ANSWERED", "REFUSED", "STALE"}, load.summary()


@pytest.mark.smoke
def test_workers_exit_when_the_supervisor_is_killed(serve, connect, gate, inbox):
    server = serve("plain:app", workers=2)
    workers = server.worker_pids()
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(signal.SIGKILL)
    server.process.wait()
    gate.open()
    assert wire.response().status == 200  # accepted requests are finished
    server.wait()  # the log ends when no process holds it any more
    assert server.leftovers() == [], workers
    assert serve("plain:app", bind=f"127.0.0.1:{server.port}").port == server.port


def test_an_orphan_of_a_quick_stop_does_not_wait_for_a_slow_client(serve, connect):
    server = serve("plain:app", workers=2)
    slow = connect(server, receive_buffer_bytes=4096).get(f"/file?bytes={1 << 30}")
    assert slow.socket.recv(1) == b"H"  # and no more
    server.send(signal.SIGINT)
    server.wait_for(WORKER_LEFT)  # the other worker; both were told at the same time
    server.send(signal.SIGKILL)
    killed_at = time.monotonic()
    server.wait_for(WORKER_ORPHANED)
    server.wait(timeout=30)  # the log ends when no process holds it any more
    assert time.monotonic() - killed_at < 15
    assert server.leftovers() == []


def test_signal_handlers_replaced_by_the_import_are_reinstalled(serve, tmp_path):
    (tmp_path / "takes.py").write_text(
        "import signal\nfrom plain import app\nsignal.signal(signal.SIGTERM, lambda *_: None)\n"
    )
    server = serve("takes:app", "--pythonpath", APPS, workers=1, cwd=tmp_path)
    assert server.wait_for("worker.signal_handler_replaced").pairs["signal"] == "SIGTERM"
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGTERM)
    server.wait_for(WORKER_READY, since=since)


def test_a_fork_that_fails_is_tried_again_while_the_others_serve(serve, connect):
    as_nobody_else = ["setpriv", f"--reuid={NOBODY_ELSES}", f"--regid={NOBODY_ELSES}", "--clear-groups", sys.executable]
    if shutil.which("setpriv") is None or subprocess.run([*as_nobody_else, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip("takes another user, who can run this Python")
    server = serve("plain:app", workers=2, command=[*as_nobody_else, "-m", "arctos"])
    _, hard = resource.prlimit(0, resource.RLIMIT_NPROC)
    limit = "import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_NPROC, (int(sys.argv[2]), int(sys.argv[3])))"
    allow = lambda count: subprocess.run([*as_nobody_else, "-c", limit, *map(str, (server.pid, count, hard))], check=True)  # noqa: E731
    allow(0)
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(SPAWN_FAILED, since=since)
    assert connect(server).get("/hello").response().status == 200
    allow(hard)
    server.wait_for(WORKER_READY, since=since)
    assert len(server.worker_pids()) == 2


def test_more_idle_connections_than_descriptors_leave_room_for_a_new_one(serve):
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))  # noqa: E731
    server = serve("plain:app", workers=1, preexec_fn=limit)
    limited = server.wait_for("server.connections_limited")
    assert limited.level == "WARNING"
    assert limited.pairs.items() >= {"max_connections": "10000", "connections": "96", "descriptors": "128"}.items()
    with ExitStack() as stack:
        idle = []
        for _ in range(150):
            idle.append(stack.enter_context(Wire(("127.0.0.1", server.port))))
            assert idle[-1].get("/hello").response().status == 200
        for wire in idle[-50:]:
            assert wire.get("/hello").response().status == 200
        assert idle[0].is_closed()
    assert not server.events(ACCEPT_FAILED)


def test_a_worker_out_of_descriptors_waits_for_one_without_spinning(serve):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (3, limits[1]))
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get("/hello")
        server.wait_for(ACCEPT_FAILED, slot=0, pid=worker)
        before, started = cpu_ticks(worker), time.monotonic()
        time.sleep(1)  # the worker could spin meanwhile
        used_s = (cpu_ticks(worker) - before) / os.sysconf("SC_CLK_TCK")
        assert used_s < 0.05 * (time.monotonic() - started) + 0.02
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
        assert wire.response().status == 200
