"""Signals: how the server stops, and how the number of workers changes."""

import os
import signal
import sys

import pytest
from support.server import SERVER_STOPPING, WORKER_LEFT, WORKER_READY, Server
from support.traffic import Outcome, traffic
from support.wire import Ended

WITHOUT_PRIVILEGES = ["setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_leaves_nothing_behind_and_exits_0(serve, number):
    serve("plain:app", workers=4).stop(number)


@pytest.mark.smoke
def test_term_under_load_fails_no_request_that_was_accepted(serve):
    server = serve("plain:app", workers=2)
    with traffic(server, clients=16) as load:
        load.wait_for_answers(300)
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert server.leftovers() == []
    ended = load.summary()
    # Once the listener is closed, new clients are refused and know that nothing was executed. An idle kept connection
    # is closed at the end, when its client may have been about to write.
    assert set(ended) <= {"ANSWERED", "REFUSED", "STALE"}, ended
    assert ended["STALE"] <= 8, ended  # once per kept connection: the client then reconnects


def test_a_stop_without_privileges_also_closes_the_listener(serve):
    command = [*WITHOUT_PRIVILEGES, sys.executable, "-m", "arctos"]
    server = serve("plain:app", "--log-level", "debug", bind=["127.0.0.1:0", "[::1]:0"], command=command)
    server.stop()
    assert server.events("listener.not_closed") == []


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_graceful_stop_finishes_the_running_request_and_closes(serve, connect, gate, inbox, number):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(number)
    gate.open()
    answer = wire.response()
    assert (answer.status, answer.is_whole) == (200, True)
    assert wire.is_closed()
    assert server.wait() == 0


def test_a_graceful_stop_does_not_wait_for_idle_connections(serve, connect):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    assert wire.get("/hello").response().status == 200
    server.stop(timeout=15)  # well before the keep-alive timeout and the graceful timeout
    assert wire.is_closed()


def test_a_request_beyond_the_graceful_timeout_is_aborted_and_exit_is_0(serve, connect, gate, inbox):
    server = serve("plain:app", "--graceful-timeout", 1, workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.stop(timeout=20)
    with pytest.raises(Ended):
        wire.response()


def test_during_the_drain_delay_clients_are_accepted_and_told_to_close(serve, connect):
    server = serve("plain:app", "--drain-delay", "20s", workers=1)
    kept = connect(server)
    assert kept.get("/hello").response().field("Connection") != "close"
    server.send(signal.SIGTERM)
    server.wait_for(SERVER_STOPPING)
    # The supervisor writes the log. Its worker receives the order a little later, between two requests.
    for _ in range(10_000):
        answer = kept.get("/hello").response()
        if answer.field("Connection") == "close":
            break
    assert (answer.status, answer.field("Connection")) == (200, "close")
    assert kept.is_closed()
    answer = connect(server).get("/hello").response()
    assert (answer.status, answer.field("Connection")) == (200, "close")
    server.stop(signal.SIGTERM, timeout=15)  # a second one ends the delay


def test_a_balancer_that_keeps_sending_in_the_drain_delay_loses_nothing(serve):
    server = serve("plain:app", "--drain-delay", "2s", workers=2)
    with traffic(server, clients=8) as load:
        load.wait_for_answers(100)
        server.send(signal.SIGTERM)
        server.wait_for(SERVER_STOPPING)
        load.wait_for_answers(100)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert server.wait() == 0


def test_quit_skips_the_drain_delay(serve):
    serve("plain:app", "--drain-delay", "20s").stop(signal.SIGQUIT, timeout=15)


def test_systemd_is_told_when_all_workers_are_ready_and_when_they_stop(serve, inbox):
    server = serve("plain:app", workers=2, env={"NOTIFY_SOCKET": inbox.path})
    assert "READY=1" in inbox.receive().splitlines()
    server.stop()
    assert "STOPPING=1" in inbox.receive().splitlines()


def test_int_lets_a_running_request_finish_if_it_is_quick(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(signal.SIGINT)
    gate.open()
    assert wire.response().status == 200
    assert server.wait() == 0


def test_a_second_int_does_not_wait_for_the_running_request(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(signal.SIGINT)
    server.send(signal.SIGINT)
    assert server.wait(timeout=10) == 0
    assert server.leftovers() == []


def test_term_before_the_first_worker_is_ready_stops_it(tmp_path, make_gate):
    gate = make_gate()
    (tmp_path / "waits.py").write_text(f"open({gate.path!r}).read()\ndef app(environ, start_response): ...\n")
    server = Server("waits:app", workers=1, cwd=tmp_path)
    try:
        gate_end = os.open(gate.path, os.O_WRONLY)  # returns once the worker imports
        server.send(signal.SIGTERM)
        os.close(gate_end)
        assert server.wait(timeout=30) == 0
        assert server.leftovers() == []
    finally:
        server.kill()


def test_ttin_adds_a_worker_and_ttou_takes_one_away(serve):
    server = serve("plain:app", workers=1)
    since = server.position()
    server.send(signal.SIGTTIN)
    server.wait_for(WORKER_READY, since=since)
    assert len(server.worker_pids()) == 2
    since = server.position()
    server.send(signal.SIGTTOU)
    server.wait_for(WORKER_LEFT, since=since)
    assert len(server.worker_pids()) == 1


def test_ttou_never_takes_the_last_worker(serve, connect):
    server = serve("plain:app", workers=1)
    (before,) = server.worker_pids()
    server.send(signal.SIGTTOU)
    since = server.position()
    os.kill(before, signal.SIGKILL)  # replaced only if one worker is still wanted
    server.wait_for(WORKER_READY, since=since)
    assert connect(server).get("/hello").response().status == 200


def test_ttou_under_load_fails_no_request(serve):
    server = serve("plain:app", workers=3)
    with traffic(server, clients=12) as load:
        load.wait_for_answers(100)
        since = server.position()
        server.send(signal.SIGTTOU)
        server.wait_for(WORKER_LEFT, since=since)
        load.wait_for_answers(100)
    assert {record.outcome for record in load.failed()} <= {Outcome.STALE}, load.summary()
