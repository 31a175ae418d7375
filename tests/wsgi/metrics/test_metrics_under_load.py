"""Workers die, the daemon goes away and comes back, signals arrive: afterwards the sums of the daemon match the
journal of the clients exactly."""

import os
import random
import signal
import time

from support.counters import abbreviated, check_invariants
from support.server import WORKER_DIED, WORKER_READY
from support.statsd_sink import DOGSTATSD
from support.traffic import kill_in_request, traffic

WORKERS = 4
ABSENT_S = 5


def finish(server, sink):
    """Stops the server, and returns the sums after the last flush."""
    server.stop()
    sink.close()
    return sink.check().look(lambda received: received)


def test_with_workers_killed_in_requests_every_request_is_accounted_for(serve, sink, journal, make_gate, inbox):
    """Each victim waits in a request, so that none dies between a system call and its count. The sums are exact."""
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=WORKERS, env=journal.environment)
    kills, gate = 0, make_gate()

    def kill():
        nonlocal kills
        kill_in_request(server, journal, gate, inbox)
        kills += 1

    with traffic(server, journal=journal) as clients:
        clients.wait_for_each(20)
        kill()
        clients.wait_for_each(20)
        server.send(signal.SIGHUP)
        kill()
        # The daemon is absent, and workers die meanwhile.
        sink.close()
        gone = time.monotonic()
        kill()
        while time.monotonic() - gone < ABSENT_S:
            journal.wait_for_answers(50)
        kill()
        sink.open()
        clients.wait_for_each(20)
        # It is restarted.
        sink.close()
        sink.open()
        kill()
        clients.wait_for_each(20)
        server.wait_for(WORKER_READY, WORKERS + kills)
        clients.wait_for_each(20)
    received = finish(server, sink)
    counts = received.counts()
    n = abbreviated(counts)
    assert journal.summary()["REFUSED"] == 0
    assert len(server.events(WORKER_DIED)) == kills
    assert received.count("worker.restarts", reason="signal") == received.count("worker.restarts") == kills
    assert n["AS"] == journal.connections
    assert n["RR"] == n["RD"] == n["SD"] == counts["resp.status.2xx"] == len(journal.answered())
    assert counts["req.killed"] == len(journal.begun(journal.failed())) == kills
    # The connection of a failed request died with its worker, whether or not the request had been read.
    check_invariants(counts, lost=len(journal.failed()))
    assert counts["conn.close.idle"] == journal.left_open
    assert received.spread("request.duration")[0] == len(journal.answered())
    for slot in range(WORKERS):
        assert received.count("resp.done", worker=slot) > 0


def test_each_worker_killed_at_any_moment_loses_at_most_one_count(serve, sink, journal):
    """A worker killed between write(2) or accept4(2) and the count of it leaves that count out. One missing count per
    kill is tolerated, and no surplus."""
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=WORKERS, env=journal.environment)
    kills = 8
    with traffic(server, journal=journal) as clients:
        for _ in range(kills):
            clients.wait_for_each(5)
            os.kill(random.choice(server.worker_pids()), signal.SIGKILL)
        clients.wait_for_each(5)
        server.wait_for(WORKER_DIED, kills)
        server.wait_for(WORKER_READY, WORKERS + kills)
        clients.wait_for_each(5)
    received = finish(server, sink)
    counts = received.counts()
    n = abbreviated(counts)
    assert journal.summary()["REFUSED"] == 0
    assert received.count("worker.restarts", reason="signal") == kills
    assert journal.connections - kills <= n["AS"] <= journal.connections
    assert len(journal.answered()) - kills <= n["SD"] <= len(journal.answered())
    assert len(journal.answered()) - kills <= n["RD"] <= len(journal.answered()) + kills
    # Requests that reached the application and were not answered. The worker marks a request a moment before the
    # application gets it, until a moment after the application has returned.
    assert abs(counts["req.killed"] - len(journal.begun(journal.failed()))) <= kills
    assert counts["req.killed"] <= kills
    check_invariants(counts, lost=len(journal.failed()), torn=kills)
