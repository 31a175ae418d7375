"""Kept connections outlive the worker that has served them, and the victim of a worker's death gets an answer."""

import os
import random
import signal
import threading
from collections import Counter
from contextlib import ExitStack

import pytest
from support.proxies import keeping_connections, nginx
from support.server import EXIT_DONE, PATIENCE_S, WORKER_DIED, WORKER_LEFT, WORKER_READY, run
from support.shared_connections import assert_ends_orderly
from support.waiting import wait_until
from support.wire import Ended, Wire

KILLS = 60
CLIENTS = 16
PIECE = b"x" * 65536


def check_victim(sharing, wire, status, body):
    """The client gets a whole response without any detail but its ID, then the end; the log and the metrics say so."""
    answer = wire.response()
    assert (answer.status, answer.body, answer.is_whole) == (status, body, True)
    assert (answer.field("Connection"), answer.field("Content-Length")) == ("close", str(len(body)))
    assert_ends_orderly(wire)
    request_id = answer.field("X-Request-Id")
    assert len(request_id) == 24
    sharing.server.wait_for(WORKER_DIED, answered=status, victims=1, request_id=request_id)
    assert (sharing.gauge("resp_victim"), sharing.gauge("req_killed")) == (1, 1)


# --- Death ---


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["tcp", "unix socket", "preload"])
def test_kill_9_costs_the_request_that_ran_and_its_client_gets_502(serve_sharing, tmp_path, gate, inbox, kind):
    options = ["--preload"] if kind == "preload" else []
    bind = f"unix:{tmp_path}/http" if kind == "unix socket" else "127.0.0.1:0"
    sharing = serve_sharing(*options, workers=3, bind=bind)
    victim, *idle = sharing.pool(12) + sharing.silent_pool(4)
    since = sharing.server.position()
    killed = sharing.hang(victim, gate, inbox)
    os.kill(killed, signal.SIGKILL)
    check_victim(sharing, victim, 502, b"502 Bad Gateway\n")
    for wire in idle:
        assert sharing.worker_of(wire) != killed
    sharing.server.wait_for(WORKER_READY, since=since)
    for wire in idle:
        sharing.worker_of(wire)
    sharing.wait_for_shared(len(idle))
    sharing.assert_each_executed_once()


def test_idle_connections_survive_the_death_of_all_workers(serve_sharing):
    sharing = serve_sharing(workers=3)
    pool = sharing.pool(12) + sharing.silent_pool(4)
    killed = sharing.server.worker_pids()
    since = sharing.server.position()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    sharing.server.wait_for(WORKER_DIED, count=3, since=since)
    for wire in pool:  # before or after the first replacement is ready
        assert sharing.worker_of(wire) not in killed
    sharing.wait_for_shared(16)
    sharing.assert_each_executed_once()


def test_the_client_of_a_request_that_hangs_gets_504(serve_sharing, inbox):
    sharing = serve_sharing("--timeout", "1s", workers=3)
    victim, *idle = sharing.pool(8)
    since = sharing.server.position()
    victim.get(sharing.named(f"/stubborn?notify={inbox.path}"))
    killed = int(inbox.receive())
    check_victim(sharing, victim, 504, b"504 Gateway Timeout\n")
    for wire in idle:
        assert sharing.worker_of(wire) != killed
    sharing.server.wait_for(WORKER_READY, since=since)
    sharing.wait_for_shared(len(idle))
    sharing.assert_each_executed_once()


def test_a_response_that_had_begun_ends_without_a_second_one(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    victim, *idle = sharing.pool(8)
    victim.get(sharing.named(f"/gated?notify={inbox.path}&gate={gate.path}"))
    os.kill(int(inbox.receive()), signal.SIGKILL)
    received, was_reset = victim.to_end()
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n") and (body, was_reset) == (b"6\r\nfirst\n\r\n", False)
    for wire in idle:
        sharing.worker_of(wire)
    sharing.server.wait_for(WORKER_DIED, answered="no")
    assert (sharing.gauge("resp_victim"), sharing.gauge("req_killed")) == (0, 1)
    sharing.assert_each_executed_once()


def test_a_client_that_still_sends_its_body_reads_its_502(serve_sharing):
    sharing = serve_sharing(workers=3)
    victim, other = sharing.pool(2)
    victim.send(f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {64 * len(PIECE)}\r\n\r\n").send(PIECE)
    sharing.wait_for_shared(1, being_served=1)
    for pid in sharing.server.worker_pids():
        os.kill(pid, signal.SIGKILL)
    victim.response()
    for _ in range(32):
        victim.send(PIECE)
    sharing.worker_of(other)
    assert sharing.gauge("resp_victim") == 1
    sharing.assert_each_executed_once()


def test_a_worker_killed_in_close_does_not_end_the_answered_connection(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    wire, *others = sharing.pool(4)
    killed = int(wire.get(sharing.named(f"/closes-late?notify={inbox.path}&gate={gate.path}")).response().body)
    assert int(inbox.receive()) == killed
    wire.get(sharing.named("/slow?ms=0"))
    os.kill(killed, signal.SIGKILL)
    assert int(wire.response().body) != killed
    for other in [wire, *others]:
        sharing.worker_of(other)
    sharing.wait_for_shared(4)
    sharing.assert_each_executed_once()


def test_requests_behind_the_one_that_ran_are_not_executed(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    victim, other = sharing.pool(2)
    killed = sharing.hang(victim, gate, inbox)
    victim.get("/slow?ms=0&id=behind").get("/slow?ms=0&id=behind")
    os.kill(killed, signal.SIGKILL)
    answer = victim.response()
    assert (answer.status, answer.body, answer.field("Connection")) == (502, b"502 Bad Gateway\n", "close")
    assert_ends_orderly(victim)
    sharing.worker_of(other)
    sharing.assert_each_executed_once()


@pytest.fixture
def behind_nginx(serve_sharing, tmp_path, make_gate, inbox):
    """A server behind an nginx that keeps 4 connections to it, and clients with a connection to nginx each."""

    def start(*options):
        sharing = serve_sharing(*options, workers=4)
        proxy = proxies.enter_context(nginx(tmp_path / "nginx", keeping_connections(sharing.server)))
        clients = [sharing.wires.enter_context(Wire(("127.0.0.1", proxy.port))) for _ in range(4)]
        gates = [make_gate() for _ in clients]
        for wire, gate in zip(clients, gates, strict=True):
            sharing.hang(wire, gate, inbox)
        for wire, gate in zip(clients, gates, strict=True):
            gate.open()
            assert wire.response().status == 200
        sharing.wait_for_shared(4)
        return sharing, clients

    with ExitStack() as proxies:
        yield start


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [("/gate?gate={gate}&", 502, b"502 Bad Gateway\n"), ("/stubborn?", 504, b"504 Gateway Timeout\n")],
    ids=["killed", "hung"],
)
def test_victims_behind_nginx_get_the_answer_of_the_server(behind_nginx, gate, inbox, target, status, body):
    sharing, (victim, *others) = behind_nginx("--timeout", "1s" if status == 504 else "60s")
    accepted = sharing.gauge("conn_accept_success")
    victim.get(sharing.named(f"{target.format(gate=gate.path)}notify={inbox.path}"))
    killed = int(inbox.receive())
    if status == 502:
        os.kill(killed, signal.SIGKILL)
    answer = victim.response()
    assert (answer.status, answer.body) == (status, body)  # nginx would send a page of its own
    for wire in [victim, *others] * 3:
        assert sharing.worker_of(wire) != killed
    assert sharing.gauge("conn_accept_success") == accepted  # nginx has opened no new connection
    sharing.wait_for_shared(3)
    sharing.assert_each_executed_once()


# --- Replacement ---


def replace_by_reload(sharing, since):
    sharing.server.send(signal.SIGHUP)
    sharing.server.wait_for(WORKER_READY, count=3, since=since)
    sharing.server.wait_for(WORKER_LEFT, count=3, since=since)


def replace_by_scaling(sharing, since):
    sharing.server.send(signal.SIGTTOU)
    sharing.server.wait_for(WORKER_LEFT, since=since)
    sharing.server.send(signal.SIGTTIN)
    sharing.server.wait_for(WORKER_READY, since=since)


def replace_by_recycling(sharing, since):
    for slot in range(3):
        assert run("ctl", "recycle", slot, "--admin", f"unix:{sharing.admin}")[0] == EXIT_DONE
        sharing.server.wait_for(WORKER_READY, since=since, slot=slot)
        sharing.server.wait_for(WORKER_LEFT, since=since, slot=slot)


def replace_by_signal(sharing, since):
    for number, pid in enumerate(sharing.server.worker_pids(), 1):
        os.kill(pid, signal.SIGTERM)
        sharing.server.wait_for(WORKER_LEFT, number, since=since)
        sharing.server.wait_for(WORKER_READY, number, since=since)


def replace_by_upgrade(sharing, since):
    sharing.server.upgrade()


REPLACEMENTS = [replace_by_reload, replace_by_scaling, replace_by_recycling, replace_by_signal, replace_by_upgrade]


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("replace", REPLACEMENTS)
def test_idle_connections_go_on_when_workers_are_replaced(serve_sharing, replace, preload):
    sharing = serve_sharing(*["--preload"] * preload, workers=3)
    pool = sharing.pool(12) + sharing.silent_pool(4)
    replaced = sharing.server.worker_pids() if replace is not replace_by_scaling else []
    for _ in range(2):
        replace(sharing, sharing.server.position())
        for wire in pool:
            assert sharing.worker_of(wire) not in replaced
        sharing.wait_for_shared(16)
    sharing.assert_each_executed_once()


def test_a_new_worker_serves_connections_that_are_older_than_it(serve_sharing, make_gate, inbox):
    sharing = serve_sharing(workers=2)
    pool = sharing.pool(8)
    gate = make_gate()
    hung = sharing.hang(pool[0], gate, inbox)
    old = [pid for pid in sharing.server.worker_pids() if pid != hung]
    since = sharing.server.position()
    os.kill(*old, signal.SIGKILL)
    sharing.server.wait_for(WORKER_READY, since=since)
    (new,) = [pid for pid in sharing.server.worker_pids() if pid not in (hung, *old)]
    assert [sharing.worker_of(wire) for wire in pool[1:]] == [new] * 7
    gate.open()
    assert int(pool[0].response().body) == hung
    sharing.assert_each_executed_once()


def test_descriptors_return_to_what_they_were_after_workers_were_replaced(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    supervisor, *workers = sharing.descriptor_counts().values()
    pool = sharing.pool(30)
    since = sharing.server.position()
    os.kill(sharing.hang(pool.pop(), gate, inbox), signal.SIGKILL)
    sharing.server.wait_for(WORKER_READY, since=since)
    since = sharing.server.position()
    replace_by_reload(sharing, since)
    sharing.wait_for_shared(29)
    for wire in pool:
        wire.socket.close()
    wait_until(lambda: [*sharing.descriptor_counts().values()] == [supervisor, *workers])


def test_connections_of_a_server_without_supervisor_end_in_an_orderly_way(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    busy, *idle = sharing.pool(12)
    sharing.hang(busy, gate, inbox)
    sharing.server.send(signal.SIGKILL)
    sharing.server.process.wait()
    gate.open()
    assert busy.response().status == 200
    for wire in [busy, *idle]:
        assert_ends_orderly(wire)
    sharing.server.wait()
    assert sharing.server.leftovers() == []


def test_a_stop_answers_what_runs_and_ends_the_rest(serve_sharing, gate, inbox):
    sharing = serve_sharing(workers=3)
    busy, *idle = sharing.pool(8) + sharing.silent_pool(4)
    hung = sharing.hang(busy, gate, inbox)
    sharing.server.send(signal.SIGTERM)
    for wire in idle:
        assert_ends_orderly(wire)
    gate.open()
    assert int(busy.response().body) == hung
    assert_ends_orderly(busy)
    sharing.server.stop()
    sharing.assert_each_executed_once()


def test_a_large_pool_survives_a_kill_and_a_reload_while_a_worker_hangs(serve_sharing, make_gate, inbox):
    sharing = serve_sharing(workers=3)
    gates = [make_gate(), make_gate()]
    first = sharing.pool(2)
    sharing.hang(first[0], gates[0], inbox)  # this worker is told of the others when it has answered
    pool = sharing.pool(300)
    killed = sharing.hang(first[1], gates[1], inbox)
    os.kill(killed, signal.SIGKILL)
    check_victim(sharing, first[1], 502, b"502 Bad Gateway\n")
    gates[0].open()
    assert first[0].response().status == 200
    since = sharing.server.position()
    sharing.server.send(signal.SIGHUP)
    sharing.server.wait_for(WORKER_LEFT, count=3, since=since)
    for wire in pool:
        sharing.worker_of(wire)
    sharing.wait_for_shared(301)
    sharing.assert_each_executed_once()


# --- A storm ---


class StormClient(threading.Thread):
    """A client that keeps its connection as long as it can, and retries nothing."""

    def __init__(self, number, sharing, is_over):
        super().__init__(daemon=True)
        self.number, self.sharing, self.is_over = number, sharing, is_over
        self.outcomes, self.unexplained = {}, []

    def run(self):
        try:
            while not self.is_over.is_set():
                with Wire(self.sharing.address) as wire:
                    self.use(wire)
        except Exception as error:  # such as the time that a connection is silent
            self.unexplained.append(repr(error))

    def use(self, wire):
        """Sends requests until the connection ends or the test is over."""
        is_shared = False
        while not self.is_over.is_set():
            name = f"id={self.number}.{len(self.outcomes)}"
            try:
                answer = wire.get(f"/slow?ms=2&{name}").response()
            except (Ended, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
                self.outcomes[name] = "ended" if is_shared else "ended before it was shared"
                return
            self.outcomes[name] = answer.status if answer.is_whole else "cut"
            if answer.status != 200 or not answer.is_whole:
                assert answer.status in (200, 502) and wire.is_closed(), answer
                return
            is_shared = True


def test_a_storm_of_kills_executes_nothing_twice_and_closes_nothing_idle(serve_sharing):
    sharing = serve_sharing(workers=4)
    idle = sharing.pool(16)
    is_over, seed = threading.Event(), random.randrange(1 << 32)
    clients = [StormClient(number, sharing, is_over) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    choice, killed = random.Random(seed), set()
    for _ in range(KILLS):
        alive = wait_until(lambda: [pid for pid in sharing.server.worker_pids() if pid not in killed])
        killed.add(victim := choice.choice(alive))
        os.kill(victim, signal.SIGKILL)
        is_over.wait(choice.uniform(0.01, 0.1))
    sharing.server.wait_for(WORKER_DIED, KILLS)
    is_over.set()
    for client in clients:
        client.join(PATIENCE_S)
        assert not client.is_alive(), "a client hangs"
    assert [one for client in clients for one in client.unexplained] == [], f"seed {seed}"
    outcomes = {name: outcome for client in clients for name, outcome in client.outcomes.items()}
    summary = f"seed {seed}: {Counter(outcomes.values())}"
    for wire in idle:
        sharing.worker_of(wire)
    executed = Counter({name: n for name, n in sharing.executed().items() if "." in name})
    assert max(executed.values()) == 1, summary
    assert {name for name, outcome in outcomes.items() if outcome == 200} <= executed.keys(), summary
    # Each kill may cost the one request that its worker was about to read, ran, or was answering, and connections
    # that it did not share yet.
    failed = [outcome for outcome in outcomes.values() if outcome not in (200, "ended before it was shared")]
    assert 502 in failed and len(failed) <= KILLS, summary
    sharing.wait_for_shared(16)
