"""arctos as the first process of a PID namespace, as in a container."""

import os
import select
import signal

from support.processes import children, state, zombies


def test_it_stops_on_term(first_process):
    server, first = first_process
    os.kill(first, signal.SIGTERM)
    assert server.wait() == 0
    assert server.leftovers() == []


def test_it_stops_on_int(first_process):
    server, first = first_process
    os.kill(first, signal.SIGINT)
    assert server.wait() == 0


def test_it_reaps_orphans_whatever_they_exit_with(first_process, connect, make_gate, inbox):
    server, first = first_process
    workers = [pid for pid in children(first) if state(pid) != "Z"]
    for status in (0, 3, 4):
        gate = make_gate()
        connect(server).get(f"/orphan?status={status}&gate={gate.path}&notify={inbox.path}").response()
        inbox.receive()
        orphans = [pid for pid in children(first) if pid not in workers]
        assert len(orphans) == 1, "the first process adopts orphans"
        ended = os.pidfd_open(orphans[0])
        gate.open()
        _wait_until_reaped(ended, orphans[0])
    assert zombies(first) == []
    assert sorted(pid for pid in children(first)) == sorted(workers), "a worker was taken for dead"
    assert connect(server).get("/hello").response().status == 200


def _wait_until_reaped(pidfd, pid):
    # A pidfd is readable when the process exits (pidfd_open(2)). Its parent reaps it right after that.
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)
    for _ in range(200):
        if state(pid) == "X":
            return
        select.select([], [], [], 0.05)
    raise AssertionError(f"orphan {pid} was not reaped")
