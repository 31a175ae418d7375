"""Workers that die, and applications that do what a server's application should not."""

import json
import os
import signal
import time

import pytest
from load import Load, Outcome
from server import WORKER_DIED, WORKER_READY
from wire import Ended


def worker_pid(connect, server):
    return json.loads(connect(server).get("/worker").response().body)["now"]["pid"]


def test_kill_9_of_a_worker_under_load_fails_only_the_requests_on_its_connections(serve):
    server = serve("plain:app", workers=4)
    victim = server.worker_pids()[0]
    with Load(server, clients=16) as load:
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
    # One thread runs one request: of the new connections, at most that one and one just taken are lost.
    assert len(new) <= 2 and all(record.outcome is not Outcome.REFUSED for record in new), load.summary()
    assert all(record.outcome in (Outcome.STALE, Outcome.HELD, Outcome.LOST, Outcome.CUT) for record in load.failed())
    # plain:app is imported in some tens of ms.
    assert ready_after_s < 2, f"the replacement was ready after {ready_after_s:.1f} s"
    assert len(server.worker_pids()) == 4


def test_kill_9_of_all_workers_never_refuses_a_connection(serve):
    server = serve("plain:app", workers=2)
    with Load(server, clients=8) as load:
        load.wait_for_answers(100)
        since = server.position()
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        server.wait_for(WORKER_READY, count=2, since=since)
        load.wait_for_answers(100)
    assert load.summary()["REFUSED"] == 0, load.summary()


def test_os_exit_in_a_request_costs_that_request_and_its_worker_is_replaced(serve, connect):
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


def test_a_worker_that_is_told_to_leave_is_replaced_and_finishes_its_request(serve, connect, gate, ear):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?tell={ear.path}&gate={gate.path}")
    pid = int(ear.hear())
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


def test_a_child_that_the_application_leaves_behind_holds_no_connection_open(serve, connect, gate):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/fork-and-stay?gate={gate.path}", "Connection: close")
    child = int(wire.response().body)
    assert wire.is_closed()  # although the child still has what it inherited
    os.kill(child, 0)
    gate.open()


def test_the_port_is_free_after_the_stop_although_the_applications_child_lives(serve, connect, gate):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    child = int(wire.get(f"/fork-and-stay?gate={gate.path}").response().body)
    server.send(signal.SIGTERM)
    assert server.process.wait(30) == 0  # not the end of its log: the child still holds that
    try:
        assert serve("plain:app", bind=f"127.0.0.1:{server.port}").stop()
    finally:
        try:
            os.kill(child, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it went with its worker


def test_workers_leave_when_the_supervisor_is_killed(serve, connect, gate, ear):
    server = serve("plain:app", workers=2)
    workers = server.worker_pids()
    wire = connect(server)
    wire.get(f"/gate?tell={ear.path}&gate={gate.path}")
    ear.hear()
    server.send(signal.SIGKILL)
    server.process.wait()
    gate.open()
    assert wire.response().status == 200  # what was accepted is finished
    server.wait()  # the end of the log: no process holds it any more
    assert server.leftovers() == [], workers
    assert serve("plain:app", bind=f"127.0.0.1:{server.port}").port == server.port
