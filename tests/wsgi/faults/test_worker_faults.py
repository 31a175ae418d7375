"""Faults of workers under load and what they cost the clients (rows F1 to F4, F8 to F12 of the fault table).

A worker that is killed or hangs loses the request it runs and those sent on its own connections. Every other
request is answered. test_fault_table.py lists which test proves which row."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime

import pytest
from support.application_code import Code
from support.counters import abbreviated, check_invariants
from support.processes import cpu_ticks
from support.server import (
    ACCEPT_FAILED,
    APPS,
    EXIT_NOT_IMPORTABLE,
    SERVER_READY,
    SPAWN_FAILED,
    WORKER_DIED,
    WORKER_READY,
    Server,
)
from support.statsd_sink import DOGSTATSD
from support.traffic import begun_names, mixed, traffic
from support.waiting import wait_until
from support.wire import Ended, Wire

WORKERS = 4
EXIT_NOT_BOOTED = 3
EXIT_CRASH_LOOP = 5
WORKER_STARTED = "worker.started"  # slot, pid, generation: forked, and not ready yet
WORKER_HANGS = "worker.hung"  # slot, pid, generation, request_ms, request
WORKER_STUCK = "worker.stuck"  # slot, pid, in, for_ms, kernel
NOBODY_ELSES = 61235  # a user without processes, because RLIMIT_NPROC counts per user


@pytest.fixture
def code(tmp_path):
    """The application, in a temporary directory."""
    made = Code(tmp_path)
    made.good("0")
    return made


def ask_in_vain(server, target):
    """Sends a request whose worker dies, and returns when its connection has ended. The supervisor answers it with 502 if
    it has the connection, as it does if the request took a second."""
    with Wire(("127.0.0.1", server.port)) as wire:
        try:
            assert wire.get(target).response().status == 502
        except Ended as ended:
            assert ended.held == b"", ended


# --- F1, F2: killed ---


@pytest.mark.parametrize("victims", [1, WORKERS], ids=["F1", "F2"])
def test_killed_workers_cost_their_own_requests_and_are_counted(serve, sink, code, victims):
    """F1, F2: kill -9 of one worker and of all. A connection lost in the queue would not be counted as accepted.
    One count per kill may be missing, because a worker may die between a system call and its count."""
    server = code.serve(serve, "--statsd-host", sink.option, *DOGSTATSD, workers=WORKERS)
    with code.traffic(server, clients=16) as traffic:
        traffic.wait_for_each()
        killed = server.worker_pids()[:victims]
        since = server.position()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        server.wait_for(WORKER_READY, victims, since=since)
        traffic.wait_for_each()
    traffic.assert_lost_with(*killed)
    assert {int(line.pairs["pid"]) for line in server.events(WORKER_DIED)} == set(killed)
    assert len(server.worker_pids()) == WORKERS
    server.stop()
    sink.close()
    counts = sink.check().look(lambda received: received.counts())
    n, answered = abbreviated(counts), len(traffic.answered())
    assert traffic.connections - victims <= n["AS"] <= traffic.connections
    assert answered - victims <= n["SD"] <= answered
    assert abs(counts["req.killed"] - len(traffic.begun(traffic.failed()))) <= victims
    # The clients closed what was still open at the end, so only connections that died with a worker are lost.
    check_invariants(counts, lost=len(traffic.failed()), torn=victims)


# --- F3: stopped ---


def test_a_worker_that_is_stopped_for_a_while_loses_nothing(serve, code):
    """F3: SIGSTOP for 5 s, of one worker between two requests and of one under load. Requests on their connections
    wait, and are answered."""
    server = code.serve(serve, workers=WORKERS)
    with Wire(("127.0.0.1", server.port)) as kept:
        idle = int(kept.get("/work").response().body.split()[0])
        os.kill(idle, signal.SIGSTOP)
        stopped_at = time.monotonic()
        kept.get("/work")
        with code.traffic(server) as traffic:
            traffic.wait_for_each()
            busy = next(pid for pid in server.worker_pids() if pid != idle)
            os.kill(busy, signal.SIGSTOP)
            time.sleep(max(0, stopped_at + 5 - time.monotonic()))  # the fault itself
            before = time.monotonic()
            for pid in (idle, busy):
                os.kill(pid, signal.SIGCONT)
            assert int(kept.response().body.split()[0]) == idle
            traffic.wait_for_each()
    traffic.assert_nothing_lost()
    # It was stopped, and the other workers answered meanwhile.
    meanwhile = {record.worker for record in traffic.answered() if record.ended < before}
    assert meanwhile and idle not in meanwhile
    assert {idle, busy} <= set(server.worker_pids()) and not server.events(WORKER_HANGS)


def test_a_worker_stopped_forever_is_killed_and_costs_its_own_requests(serve, code):
    """F3: SIGSTOP forever, between two requests. The worker is killed when its event loop has stalled for 10 s. Only
    what was sent on its connection is lost, and no other worker is killed."""
    server = code.serve(serve, workers=WORKERS)
    with Wire(("127.0.0.1", server.port)) as kept:
        victim = int(kept.get("/work").response().body.split()[0])
        os.kill(victim, signal.SIGSTOP)
        kept.get("/work?id=late")
        with code.traffic(server) as traffic:
            stuck = server.wait_for(WORKER_STUCK)
            died = server.wait_for(WORKER_DIED)
            with pytest.raises(Ended):
                kept.response()
            server.wait_for(WORKER_READY, WORKERS + 1)
            traffic.wait_for_each()
    assert (int(stuck.pairs["pid"]), stuck.pairs["in"]) == (victim, "loop")
    assert int(stuck.pairs["for_ms"]) >= 10_000
    assert (int(died.pairs["pid"]), died.pairs["status"]) == (victim, "SIGKILL")
    traffic.assert_nothing_lost()
    assert victim not in {record.worker for record in traffic.answered()}
    assert "id=late" not in begun_names(code.directory)
    assert len(server.events(WORKER_DIED)) == 1 and len(server.worker_pids()) == WORKERS


# --- F4: hanging ---


# The way to hang -> the lines of the application that the stack may show.
HANGS_AT = {
    "spin": {"while True:", "pass"},
    "hold-the-lock": {"collections.deque(itertools.repeat(None), maxlen=0)"},
    "wait-for-itself": {"lock.acquire()"},
    "wait-in-c": {"libc.pthread_mutex_lock(mutex)"},
}


# Python code reacts to arctos.RequestTimeout (test_time_limits.py), so it hangs only if none is raised.
GRACE = {"spin": "0", "hold-the-lock": "200ms", "wait-for-itself": "0", "wait-in-c": "200ms"}


@pytest.mark.parametrize("way", HANGS_AT)
def test_a_hung_request_is_logged_with_its_stack_and_costs_one_worker(serve, code, way):
    """F4: `while True`, C code that holds the GIL, and deadlocks in Python and in C."""
    server = code.serve(serve, "--timeout", "1500ms", "--timeout-grace", GRACE[way], workers=WORKERS)
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        since = server.position()
        with Wire(("127.0.0.1", server.port)) as wire:
            assert wire.get(f"/{way}?secret=hunter2").response().status == 504
        hangs = server.wait_for(WORKER_HANGS, since=since)
        died = server.wait_for(WORKER_DIED, since=since)
        server.wait_for(WORKER_READY, since=since)
        traffic.wait_for_each()
    victim = int(hangs.pairs["pid"])
    assert hangs.pairs["path"] == f"/{way}" and int(hangs.pairs["request_ms"]) >= 1500
    assert (int(died.pairs["pid"]), died.pairs["path"]) == (victim, f"/{way}")
    (stacks,) = server.events("worker.stacks")
    assert int(stacks.pairs["pid"]) == victim
    assert server.log.index("worker.stacks") < server.log.index("worker.killed")
    # The innermost line of the stack is in this function.
    log, source = server.log, (APPS / "faulty.py").read_text().splitlines()
    found = re.search(r"most recent call first\):\n +File \S*faulty.py\", line (\d+) in (\w+)", log)
    assert found is not None, log
    assert found[2] == way.replace("-", "_") and source[int(found[1]) - 1].strip() in HANGS_AT[way], log
    assert "hunter2" not in log
    # Only that request had reached the application, and it is not part of the load.
    failed = traffic.assert_lost_with(victim)
    assert not traffic.begun(failed)
    assert len(server.events(WORKER_DIED)) == 1 and len(server.worker_pids()) == WORKERS


# --- F8: crashing ---


def test_a_crashing_request_is_logged_and_costs_one_worker(serve, code):
    """F8: a segmentation fault in a request."""
    server = code.serve(serve, workers=WORKERS)
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        since = server.position()
        ask_in_vain(server, "/crash?secret=hunter2")
        died = server.wait_for(WORKER_DIED, since=since)
        server.wait_for(WORKER_READY, since=since)
        traffic.wait_for_each()
    assert (died.pairs["status"], died.pairs["method"], died.pairs["path"]) == ("SIGSEGV", "GET", "/crash")
    assert "hunter2" not in server.log
    assert not traffic.begun(traffic.assert_lost_with(int(died.pairs["pid"])))
    assert len(server.events(WORKER_DIED)) == 1 and len(server.worker_pids()) == WORKERS


# --- F9: broken from the start ---


BROKEN = {
    "raises": ("raise ValueError('on purpose')", EXIT_NOT_IMPORTABLE),
    "crashes": ("import ctypes; ctypes.string_at(0)", EXIT_NOT_BOOTED),
}


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("how", BROKEN)
def test_a_first_start_that_is_broken_ends_soon_and_leaves_nothing(code, gate, how, workers):
    """F9: the same for one worker and for eight. The port is open during the import, and closed afterwards."""
    last_words, expected = BROKEN[how]
    code.write(f"open({gate.path!r}).read()\n{last_words}\n")
    with socket.socket() as held:  # reserves the port: it is bound and does not listen
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        address = held.getsockname()
        server = Server(
            "shop:app", "--pythonpath", APPS, "--reuse-port", workers=workers, bind=f"127.0.0.1:{address[1]}", **code.options
        )
        try:
            pilots = min(workers, 2)
            server.wait_for(WORKER_STARTED, pilots)
            with Wire(address):
                pass  # it waits in the queue: no client is refused before the code is known to be broken
            gate.open()  # for all clients in the queue
            assert server.process.wait(2) == expected, server.log
            server.wait()
            with pytest.raises(ConnectionRefusedError):
                Wire(address)
            assert server.leftovers() == []
            reports = server.log.count("Traceback (most recent call last)")
            assert reports == (how == "raises"), server.log
            assert len(server.events(WORKER_STARTED)) == pilots
            assert not server.events(SERVER_READY)
        finally:
            server.kill()


# --- F10: a loop of crashes ---


@pytest.mark.slow
def test_the_server_gives_up_after_60_s_of_workers_that_never_serve(tmp_path):
    """F10: one server whose workers die 0.3 s after they are ready, and one whose only worker is killed and cannot
    boot again. Both run at the same time, because it takes a minute."""
    dying, unready = tmp_path / "dying", tmp_path / "unready"
    for directory in (dying, unready):
        directory.mkdir()
    dying, unready = Code(dying), Code(unready)
    dying.good("0", "import os, threading", "threading.Timer(0.3, os._exit, [9]).start()")
    unready.good("0")

    def serve(what, *arguments, **options):
        return Server(what, *arguments, workers=1, **options)

    with unready.serve(serve, "--boot-timeout", "5s") as hopeless:
        looping = dying.serve(serve)
        try:
            looping.wait_for(WORKER_READY)
            started_at = time.monotonic()
            unready.write("raise ValueError('on purpose')\n")
            os.kill(hopeless.worker_pids()[0], signal.SIGKILL)
            killed_at = time.monotonic()
            assert hopeless.wait(90) == EXIT_CRASH_LOOP, hopeless.log
            took_s = time.monotonic() - killed_at
            assert 59 < took_s, f"it gave up after {took_s:.1f} s"
            assert hopeless.events("server.crash_loop") and hopeless.leftovers() == []
            assert "worker 0 (pid" in hopeless.events("server.failed")[0].pairs["reason"]
            assert 10 < len(hopeless.events(WORKER_STARTED)) <= 4 + 2 * took_s
            # The other server goes on, because a worker was ready from time to time.
            assert time.monotonic() - started_at >= 59
            assert looping.process.poll() is None, looping.log
            moments = [moment_s(line) for line in looping.events(WORKER_STARTED)]
            assert len(moments) > 10, "it was not given up, either"
            assert all(sum(0 <= other - one < 10 for other in moments) <= 2 + 2 * 10 for one in moments), moments
            looping.stop()
        finally:
            looping.kill()


def moment_s(line):
    """Returns the time at which a line was written, in seconds."""
    return datetime.fromisoformat(line.text.split()[0].replace("Z", "+00:00")).timestamp()


# --- F26: a storm of crashes ---


def test_repeated_crashes_cost_their_own_requests_and_are_summed_up(serve, code):
    """F26: so many crashes that any backoff would show. A worker that has served is replaced at once, so all workers
    are ready in the end and no other request is lost."""
    server = code.serve(serve, workers=WORKERS)
    crashes = 10 * WORKERS
    with code.traffic(server, clients=4) as traffic:
        for number in range(crashes):
            ask_in_vain(server, f"/crash?id=crash{number}")
            traffic.wait_for_each(1)
        server.wait_for(WORKER_READY, WORKERS + crashes)
        traffic.wait_for_each()
    died = server.events(WORKER_DIED)
    assert len(died) == crashes and {line.pairs["path"] for line in died} == {"/crash"}
    traffic.assert_lost_with(*(int(line.pairs["pid"]) for line in died))
    assert len(server.worker_pids()) == WORKERS
    storm = server.wait_for("server.restart_storm")
    assert (storm.pairs["deaths"], storm.pairs["requests"]) == ("5", "GET /crash (5)")


# --- F11: fork fails ---


def test_a_fork_that_fails_loses_nothing_and_is_tried_again(serve, code):
    """F11: RLIMIT_NPROC. An additional worker and a reload both need a process: the first is retried until it
    succeeds, and the second fails."""
    as_nobody_else = ["setpriv", f"--reuid={NOBODY_ELSES}", f"--regid={NOBODY_ELSES}", "--clear-groups", sys.executable]
    if shutil.which("setpriv") is None or subprocess.run([*as_nobody_else, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip("takes another user, who can run this Python")
    server = serve("faulty:app", workers=2, command=[*as_nobody_else, "-m", "arctos"])
    before = server.worker_pids()
    _, hard = resource.prlimit(0, resource.RLIMIT_NPROC)
    limit = "import resource, sys; resource.prlimit(int(sys.argv[1]), resource.RLIMIT_NPROC, (int(sys.argv[2]), int(sys.argv[3])))"
    allow = lambda most: subprocess.run([*as_nobody_else, "-c", limit, *map(str, (server.pid, most, hard))], check=True)  # noqa: E731
    with traffic(server, target=mixed("/work")) as clients:
        clients.wait_for_each()
        allow(0)
        since = server.position()
        server.send(signal.SIGTTIN)
        server.wait_for(SPAWN_FAILED, 3, since=since)
        server.send(signal.SIGHUP)
        failed = server.wait_for("reload.failed", since=since)
        assert failed.pairs["generation_in_service"] == "1"
        assert sorted(server.worker_pids()) == sorted(before)
        allow(hard)
        server.wait_for(WORKER_READY, since=since, slot=2, generation=1)
        clients.wait_for_each()
    clients.assert_nothing_lost()
    assert len(server.worker_pids()) == 3 and not server.events(WORKER_DIED)


# --- F12: no free descriptor ---


class Starved:
    """Workers that can open no descriptor until the `with` block ends, and their processor time."""

    def __init__(self, *pids):
        self.pids = pids
        self.before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}

    def __enter__(self):
        for pid, (_, hard) in self.before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
        return self

    def __exit__(self, *_):
        for pid, limits in self.before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

    def assert_idle(self, seconds=1.5):
        """They use less than a twentieth of the time."""
        ticks = {pid: cpu_ticks(pid) for pid in self.pids}
        time.sleep(seconds)  # they could spin meanwhile
        used_s = {pid: (cpu_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") for pid, before in ticks.items()}
        assert all(used < 0.05 * seconds + 0.02 for used in used_s.values()), used_s


def test_one_worker_without_descriptors_loses_nothing(serve, code):
    """F12 in one worker. The others accept what it cannot. All connections are new, so that it has no work."""
    server = code.serve(serve, workers=2)
    starved, other = server.worker_pids()
    with code.traffic(server, clients=4, kept=False) as traffic:
        traffic.wait_for_each()
        with Starved(starved) as one:
            server.wait_for(ACCEPT_FAILED, pid=starved)
            traffic.wait_for_each()
            begun = time.monotonic()
            one.assert_idle()
            traffic.wait_for_each()
            ended = time.monotonic()
        wait_until(lambda: any(record.worker == starved for record in traffic.answered() if record.begun > ended))
    traffic.assert_nothing_lost()
    meanwhile = [record for record in traffic.answered() if begun < record.begun and record.ended < ended]
    assert {record.worker for record in meanwhile} == {other}
    assert not server.events(WORKER_DIED)


def test_all_workers_without_descriptors_lose_nothing(serve, code):
    """F12 in all workers. New connections wait in the queue until descriptors are free; kept ones are answered all
    the time."""
    server = code.serve(serve, workers=2)
    with Wire(("127.0.0.1", server.port)) as kept:
        assert kept.get("/work").response().status == 200
        with code.traffic(server, clients=4, kept=False) as traffic:
            traffic.wait_for_each()
            with Starved(*server.worker_pids()) as all_of_them:
                for pid in server.worker_pids():
                    server.wait_for(ACCEPT_FAILED, pid=pid)
                assert kept.get("/work").response().status == 200
                all_of_them.assert_idle()
            traffic.wait_for_each()
        traffic.assert_nothing_lost()
    assert not server.events(WORKER_DIED)
