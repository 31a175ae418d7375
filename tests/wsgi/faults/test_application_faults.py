"""Applications that interfere with the server's signals, processes and memory, and what that costs other
clients."""

import os
import signal
import sys
import time
from collections import Counter
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.memory_groups import joining, memory_group
from support.server import PATIENCE_S, WORKER_DIED, WORKER_LEFT, WORKER_READY
from support.traffic import Outcome, traffic
from support.wire import Ended, Wire

HANDLER_REPLACED = "worker.signal_handler_replaced"  # signal: the application had replaced its handler
OUT_OF_MEMORY = "worker.out_of_memory"  # slot
GROUP_BYTES = 192 << 20


def ask(server, path):
    """Sends a request on a new connection, and returns the response."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(path, "Connection: close").response()


def only_of(load, *pids):
    """Only requests on connections of these workers failed: those on kept connections, and for each worker at
    most one new connection of each client. A victim of one of them may have come on any connection."""
    victims = [record for record in load.failed() if record.outcome is Outcome.VICTIM]
    kept = [record for record in load.failed() if record.is_kept and record not in victims]
    assert len(victims) <= len(pids), load.summary()
    new = [record for record in load.failed() if not record.is_kept]
    assert all(record.worker in pids for record in kept), load.summary()
    assert len(new) <= load.connecting * len(pids), load.summary()
    assert load.summary().keys() <= {"ANSWERED", "STALE", "HELD", "LOST", "VICTIM", "CUT"}, load.summary()


# --- Signals and processes: F20 ---


def test_an_application_that_takes_over_signals_can_still_be_stopped(serve):
    """F20. The supervisor uses the control socket for its orders, and the worker reinstalls its signal handlers."""
    server = serve("unruly:app", workers=2)
    with traffic(server) as load:
        load.wait_for_answers(50)
        taken = set()
        while taken != set(server.worker_pids()):
            taken.add(int(ask(server, "/take-signals").body))
        load.wait_for_answers(50)
        since = server.position()
        server.send(signal.SIGTTOU)
        server.wait_for(WORKER_LEFT, since=since)
        load.wait_for_answers(50)
        (left,) = server.worker_pids()
        server.wait_for(HANDLER_REPLACED, pid=left)
        since = server.position()
        os.kill(left, signal.SIGTERM)
        server.wait_for(WORKER_LEFT, since=since)
    assert {record.outcome for record in load.failed()} <= {Outcome.STALE}, load.summary()
    assert not server.events(WORKER_DIED)
    server.stop(timeout=15)  # well before the graceful timeout


@pytest.mark.parametrize("path", ["/fork", "/pool", "/fork-and-forget"])
def test_processes_started_in_requests_cost_no_other_request_anything(serve, path):
    """F20."""
    server = serve("unruly:app", workers=2)
    workers = server.worker_pids()
    with traffic(server) as load:
        for _ in range(10):
            assert ask(server, path).status == 200
            load.wait_for_answers(10)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert server.worker_pids() == workers


def test_sys_exit_in_a_request_is_a_500_and_the_worker_goes_on(serve):
    """F20. SystemExit ends the request, not the worker."""
    server = serve("unruly:app", workers=2)
    workers = server.worker_pids()
    with traffic(server) as load:
        for _ in range(10):
            assert ask(server, "/system-exit").status == 500
            load.wait_for_answers(10)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert server.worker_pids() == workers
    said = server.wait_for("application.raised", count=10)
    assert "SystemExit: 3" in said.text


@pytest.mark.parametrize("out_of", ["call", "item"])
def test_a_forked_child_exits_with_the_status_of_sys_exit(serve, out_of):
    server = serve("unruly:app")
    assert ask(server, f"/fork-and-exit?by=exit&out_of={out_of}").body == b"[7]\n"
    assert ask(server, "/hello").status == 200
    assert not server.events(("application.raised", "application.fork_raised", "application.fork_returned"))


def test_a_forked_child_exits_with_the_status_of_sys_exit_in_close(serve, inbox):
    server = serve("unruly:app")
    ask(server, f"/fork-and-exit?by=exit&out_of=close&notify={inbox.path}")
    assert inbox.receive() == "[7]"


@pytest.mark.parametrize("out_of", ["call", "item"])
def test_a_forked_child_that_raises_exits_1_and_its_traceback_is_logged(serve, out_of):
    server = serve("unruly:app")
    assert ask(server, f"/fork-and-exit?by=raise&out_of={out_of}").body == b"[1]\n"
    said = server.wait_for("application.fork_raised", method="GET", path="/fork-and-exit")
    assert "LookupError: in the child" in said.text
    assert not server.events("application.raised")


def test_a_forked_child_that_returns_has_status_0_and_is_warned_about(serve):
    server = serve("unruly:app")
    assert ask(server, "/fork-and-exit?out_of=call").body == b"[0]\n"
    assert server.wait_for("application.fork_returned", path="/fork-and-exit").level == "WARNING"


@pytest.mark.parametrize("kind", ["thread", "executor"])
def test_an_exiting_worker_waits_for_the_threads_of_its_application(serve, gate, tmp_path, kind):
    server, file = serve("unruly:app"), tmp_path / "file"
    assert ask(server, f"/threads?kind={kind}&gate={gate.path}&file={file}").status == 200
    server.send(signal.SIGTERM)
    assert kind in server.wait_for("worker.threads_awaited").pairs["threads"].lower()
    gate.open()
    server.stop()
    assert file.read_text() == "done"


def test_a_thread_that_never_ends_is_killed_with_its_worker_at_a_stop(serve, gate, tmp_path):
    server = serve("unruly:app", "--graceful-timeout", "2s")
    assert ask(server, f"/threads?gate={gate.path}&file={tmp_path / 'file'}").status == 200
    server.stop(timeout=10)
    assert server.events("worker.killed", reason="did not exit in time")


def test_a_reload_waits_for_no_thread_that_does_not_end(serve, gate, tmp_path):
    server, file = serve("unruly:app"), tmp_path / "file"
    assert ask(server, f"/threads?gate={gate.path}&file={file}").status == 200
    server.send(signal.SIGHUP)
    server.wait_for("reload.done")
    assert not server.events(WORKER_LEFT)
    gate.open()
    server.wait_for(WORKER_LEFT)
    assert file.read_text() == "done"


def test_an_exiting_worker_is_replaced_while_its_threads_finish(serve, gate, tmp_path):
    server, file = serve("unruly:app"), tmp_path / "file"
    assert ask(server, f"/threads?gate={gate.path}&file={file}").status == 200
    os.kill(server.worker_pids()[0], signal.SIGTERM)
    server.wait_for(WORKER_READY, 2)
    assert not server.events(WORKER_LEFT)
    gate.open()
    server.wait_for(WORKER_LEFT)


def test_os_exit_under_load_costs_only_the_connections_of_those_workers(serve):
    """F20, as F1."""
    server = serve("unruly:app", workers=4)
    with traffic(server, clients=12) as load:
        for number in range(1, 4):
            load.wait_for_answers(50)
            with pytest.raises(Ended):
                ask(server, "/hard-exit")
            server.wait_for(WORKER_READY, count=4 + number)
        load.wait_for_answers(100)
    died = server.events(WORKER_DIED)
    assert [line.pairs["status"] for line in died] == 3 * ["exit code 7"]
    assert all("/hard-exit" in line.text for line in died)
    only_of(load, *(int(line.pairs["pid"]) for line in died))
    assert len(server.worker_pids()) == 4


# --- Memory ---


@pytest.mark.parametrize("how", ["read", "readline", "readlines"])
def test_a_body_that_exceeds_memory_is_a_memory_error_the_worker_survives(serve, connect, how):
    server = serve("unruly:app")
    wire = connect(server).post(f"/read-without-memory?how={how}", bytes(64 << 20))
    assert wire.response().body == b"MemoryError"
    assert ask(server, "/hello").status == 200
    assert not server.events(WORKER_DIED)


@pytest.fixture
def group():
    """A memory cgroup that is removed after the server of the test has exited."""
    with memory_group(GROUP_BYTES) as made:
        yield made


def test_an_oom_kill_costs_what_a_kill_costs_and_the_log_names_the_cause(group, serve, tmp_path):
    """F21."""
    admin = str(tmp_path / "admin")
    command = joining(group, sys.executable, "-m", "arctos")
    server = serve("unruly:app", "--admin-bind", f"unix:{admin}", workers=4, command=command)
    assert str(server.pid) in (group / "cgroup.procs").read_text().split()
    with traffic(server, clients=12) as load:
        load.wait_for_answers(100)
        since = server.position()
        with suppress(Ended):  # the request has died within a second
            assert ask(server, "/allocate?secret=hunter2").status == 502
        died = server.wait_for(WORKER_DIED, since=since)
        server.wait_for(WORKER_READY, since=since)
        load.wait_for_answers(100)
    assert "/allocate" in died.text and "hunter2" not in server.log
    assert server.wait_for(OUT_OF_MEMORY, since=since).pairs["slot"] == died.pairs["slot"]
    assert len(server.events(WORKER_DIED)) == len(server.events(OUT_OF_MEMORY)) == 1
    only_of(load, int(died.pairs["pid"]))
    assert restarts(admin) == {"oom": 1}
    # A SIGKILL that does not come from the kernel.
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_READY, since=since)
    assert restarts(admin) == {"oom": 1, "signal": 1}
    assert not server.events(OUT_OF_MEMORY, since=since)


def samples(admin, family):
    """Returns the labels and values of one family in `/metrics`."""
    with Wire(admin) as wire:
        page = wire.get("/metrics").response().body.decode()
    return [
        (sample.labels, int(sample.value))
        for found in text_string_to_metric_families(page)
        if found.name == family
        for sample in found.samples
    ]


def restarts(admin):
    """Returns how many workers died, by reason."""
    found = {}
    for labels, value in samples(admin, "arctos_worker_restarts"):
        found[labels["reason"]] = found.get(labels["reason"], 0) + value
    return {reason: count for reason, count in found.items() if count}


def counted(admin):
    """Returns the number of responses of each slot."""
    return Counter({labels["worker"]: value for labels, value in samples(admin, "arctos_resp_done")})


class Received:
    """The answers that clients received from the workers of each slot."""

    def __init__(self, server):
        self.server = server
        self.answers = Counter()

    def add(self, load):
        """Adds the requests of a load that has ended."""
        for record in load.records:
            if record.outcome is Outcome.ANSWERED:
                self.answers[self._slot(record.worker)] += 1
        return self

    def settle(self):
        """Sends one more request to each worker. A worker counts a response a moment after it is sent, but before
        it closes the connection or serves another."""
        waiting, deadline = set(self.server.worker_pids()), time.monotonic() + PATIENCE_S
        while waiting:
            assert time.monotonic() < deadline, f"{waiting} take no connection"
            with Wire(("127.0.0.1", self.server.port)) as wire:
                pid = int(wire.get("/slow?ms=0", "Connection: close").response().body)
                assert wire.is_closed()
            self.answers[self._slot(pid)] += 1
            waiting.discard(pid)
        return self.answers

    def _slot(self, pid):
        return next(line.pairs["slot"] for line in self.server.events(WORKER_READY, pid=pid))


@pytest.mark.parametrize("how", ["00", "ff", "7f", "random&seed=1", "random&seed=2", "random&seed=3"])
def test_corrupted_counters_affect_one_slot_until_its_worker_is_replaced(serve, tmp_path, how):
    """F22."""
    admin = str(tmp_path / "admin")
    server = serve("unruly:app", "--admin-bind", f"unix:{admin}", workers=3)
    with traffic(server, clients=9) as load:
        load.wait_for_answers(60)
        scribbler = int(ask(server, f"/scribble?how={how}").body)
        slot = next(line.pairs["slot"] for line in server.events(WORKER_READY, pid=scribbler))
        load.wait_for_answers(60)
        assert samples(admin, "arctos_workers_target") == [({}, 3)]  # it is probed, and answers
        try:
            os.kill(scribbler, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it exited by an order that it had forged itself
        server.wait_for(WORKER_READY, count=4)
        load.wait_for_answers(60)
    only_of(load, scribbler)
    assert len(server.worker_pids()) == 3 and scribbler not in server.worker_pids()
    received = Received(server).add(load).settle()
    spoilt = counted(admin)
    assert [spoilt[other] for other in "012" if other != slot] == [received[other] for other in "012" if other != slot]
    with traffic(server, clients=9) as load:
        load.wait_for_answers(200)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    received = Received(server).add(load).settle()
    assert counted(admin) - spoilt == received, "all are right again"
    assert received[slot] > 0
