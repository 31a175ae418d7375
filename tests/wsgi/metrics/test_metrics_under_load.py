"""Workers die, the daemon goes and comes back, signals arrive: afterwards what the daemon received adds up
to what the clients wrote down, to the request."""

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
    """The sums after the last flush."""
    server.stop()
    sink.close()
    return sink.check().look(lambda received: received)


def test_with_workers_killed_in_requests_every_request_is_accounted_for(serve, sink, journal, make_gate, ear):
    """Each victim runs a request and waits in it, so that none is between a system call and the count of
    it: nothing is tolerated."""
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=WORKERS, env=journal.environment)
    kills, gate = 0, make_gate()

    def kill():
        nonlocal kills
        kill_in_request(server, journal, gate, ear)
        kills += 1

    with traffic(server, journal=journal) as clients:
        clients.wait_for_each(20)
        kill()
        clients.wait_for_each(20)
        server.send(signal.SIGHUP)
        kill()
        # The daemon is away, and workers die meanwhile.
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
    # A failed request's connection died with its worker, whether or not the request had been read.
    check_invariants(counts, lost=len(journal.failed()))
    assert counts["conn.close.idle"] == journal.left_open
    assert received.spread("request.duration")[0] == len(journal.answered())
    for slot in range(WORKERS):
        assert received.count("resp.done", worker=slot) > 0


def test_each_worker_killed_at_any_moment_loses_at_most_one_count(serve, sink, journal):
    """A worker killed between write(2) and the count of it has sent an answer that nobody counts, and so
    with accept4(2): one for each kill is tolerated, and neither a second nor one too many."""
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
    # Given to the application and not answered. The worker tells of a request a moment before the
    # application hears of it, and until a moment after it has returned.
    assert abs(counts["req.killed"] - len(journal.begun(journal.failed()))) <= kills
    assert counts["req.killed"] <= kills
    check_invariants(counts, lost=len(journal.failed()), torn=kills)
