"""Faults of the supervisor and of its environment: daemons, the log, clocks, its death. Clients send requests
meanwhile, and each request has an outcome."""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from email.utils import parsedate_to_datetime

import pytest
from support.admin_client import ask, status
from support.nameserver import Nameserver
from support.processes import state
from support.server import (
    APPS,
    EXIT_CONFIGURATION,
    PATIENCE_S,
    SERVER_STOPPING,
    WORKER_DIED,
    WORKER_LEFT,
    WORKER_ORPHANED,
    WORKER_READY,
    clean_environment,
    run,
)
from support.statsd_sink import DOGSTATSD, fill, finish
from support.traffic import Outcome, traffic
from support.waiting import wait_for_file, wait_until
from support.wire import Wire

SUSPENDED = "server.was_suspended"
STOPPED = "server.stopped"  # abandoned: the number of aborted requests
STOPPED_S = 6  # three times the request timeout below: a supervisor without grace would kill
LIMIT = ("--timeout", "2s")


@contextmanager
def mixed(server):
    """Sends requests of 1 and 100 ms, half of each on new connections and half on kept ones."""
    with traffic(server, 6, "/slow?ms=1") as quick, traffic(server, 4, "/slow?ms=100") as slow:
        yield quick, slow


def outcomes(loads):
    """Returns the outcomes of all requests."""
    return {record.outcome for load in loads for record in load.records}


def answered(loads):
    """Returns the number of answered requests."""
    return sum(record.outcome is Outcome.ANSWERED for load in loads for record in load.records)


def probe(path, count):
    """Requests `/livez` and `/readyz` in turn, which must answer. Returns the times in ms."""
    took_ms = []
    for number in range(count):
        target = ("/livez", "/readyz")[number % 2]
        begun = time.perf_counter()
        answer = ask(path, target)
        took_ms.append((time.perf_counter() - begun) * 1000)
        assert (answer.status, answer.body) == (200, b"alive\n" if number % 2 == 0 else b"ready\n")
    return took_ms


def show(what, took_ms):
    """Prints figures, which `pytest -s` shows."""
    middle, worst = statistics.median(took_ms), max(took_ms)
    print(f"{what}: {len(took_ms)} answers, median {middle:.2f} ms, worst {worst:.2f} ms")


# --- Metrics: F13 ---


@contextmanager
def absent(make_sink, tmp_path):
    """No process listens."""
    sink = make_sink()
    sink.close()
    yield sink, sink.option, None, sink.open


@contextmanager
def full(make_sink, tmp_path):
    """A unix socket that is full and has no reader."""
    sink = make_sink(tmp_path / "sink")
    sink.close()
    sink.open(reading=False)
    fill(sink.path)
    yield sink, sink.option, None, sink.read


@contextmanager
def nameless(make_sink, tmp_path):
    """The name server accepts the query and does not answer."""
    mount = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', "/etc/resolv.conf"]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode != 0:
        pytest.skip("no mount namespace to be had here, for another /etc/resolv.conf")
    try:
        server = Nameserver()
    except PermissionError:
        pytest.skip("port 53 is not to be had here, for a name server")
    sink = make_sink()
    (tmp_path / "resolv.conf").write_text(f"nameserver {server.address}\noptions timeout:30 attempts:1\n")
    mount[-1] = str(tmp_path / "resolv.conf")
    try:
        yield sink, f"sink.arctos.test:{sink.port}", [*mount, sys.executable, "-m", "arctos"], server.answer
        server.wait_for_question()  # otherwise nothing was tested
    finally:
        server.close()


@pytest.mark.parametrize("fault", [absent, full, nameless])
def test_an_unreachable_daemon_costs_no_metric_no_request_and_no_probe(
    serve, make_sink, tmp_path, path, fault
):
    """F13. The name server answers once its silence was seen to be harmless. The tests of the emitter cover a
    lookup that takes longer than 5 s."""
    with ExitStack() as stack:
        sink, target, command, mend = stack.enter_context(fault(make_sink, tmp_path))
        options = ("--statsd-host", target, *DOGSTATSD, "--admin-bind", f"unix:{path}")
        server = serve("plain:app", *options, workers=4, command=command)
        with mixed(server) as loads:
            loads[0].wait_for_answers(200)
            took_ms = probe(path, 100)
            loads[1].wait_for_answers(10)
            mend()
            loads[0].wait_for_answers(200)
            sink.wait_for(lambda received: received.count("resp.done") > 400)
        received = finish(server, sink)
    show(f"probes with a daemon that is {fault.__name__}", took_ms)
    assert outcomes(loads) == {Outcome.ANSWERED}
    assert received.count("resp.done") == answered(loads)
    assert not server.events(WORKER_DIED) and not server.events(SUSPENDED)


# --- The log: F14 ---


@contextmanager
def on_a_full_disk():
    """Each write fails with ENOSPC."""
    with open("/dev/full", "wb") as log:
        yield log, None


@contextmanager
def with_a_stopped_reader():
    """A pipe that soon is full."""
    unread, log = os.pipe()
    yield log, lambda: os.close(log)
    os.close(unread)


@contextmanager
def with_a_reader_that_is_gone():
    """Each write fails with EPIPE, and raises SIGPIPE where it is not ignored."""
    unread, log = os.pipe()
    os.close(unread)
    yield log, lambda: os.close(log)


@contextmanager
def closed():
    """Standard error is closed."""
    yield "closed", None


class Mute:
    """A server without a log: the test watches its admin socket and its pid file."""

    def __init__(self, tmp_path, path, log):
        pid_file = tmp_path / "pid"
        command = [sys.executable, "-m", "arctos", "--bind", "127.0.0.1:0", "--admin-bind", f"unix:{path}", "--pid", pid_file]
        shell = ["sh", "-c", 'exec "$@" 2>&-', "sh"] if log == "closed" else []
        self.process = subprocess.Popen(
            [*shell, *command, "--workers", "2", "plain:app"],
            cwd=APPS, env=clean_environment(), stderr=None if log == "closed" else log,
        )  # fmt: skip
        try:
            wait_for_file(pid_file, self.process)
        except BaseException:
            self.kill()
            raise
        self.port = int(status(path)["listen"][0].rpartition(":")[2].rstrip("/"))

    def kill(self):
        """Kills it, whatever its state."""
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("log", [on_a_full_disk, with_a_stopped_reader, with_a_reader_that_is_gone, closed])
def test_a_log_that_cannot_be_written_costs_no_request_and_no_worker(tmp_path, path, journal, log):
    """F14. The application writes two lines a request, and a worker dies meanwhile."""
    with log() as (to, given):
        server = Mute(tmp_path, path, to)
        try:
            if given:
                given()
            with traffic(server, journal=journal, target="/errors", names_worker=False):
                journal.wait_for_answers(1000)  # a pipe holds 64 KB, and each request writes two lines
            assert journal.failed() == []
            victim, other = [worker["pid"] for worker in status(path)["workers"]]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: victim not in ready_pids(path) and len(ready_pids(path)) == 2)
            assert other in ready_pids(path)
            page = ask(path, "/metrics").body.decode()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(PATIENCE_S) == 0
        finally:
            server.kill()
    dropped = sum(float(line.split()[-1]) for line in page.splitlines() if line.startswith("arctos_log_dropped_total"))
    assert (dropped > 0) == (log is not closed)


def ready_pids(path):
    """Returns the pids of the workers that serve."""
    return {worker["pid"] for worker in status(path)["workers"] if worker["state"] == "ready"}


# --- Death of the supervisor: F15 ---


def as_soon_as_it_is_free(start):
    """Starts a server as soon as an old worker has finished its request, which takes 100 ms at most."""
    for _ in range(20):
        try:
            return start()
        except AssertionError as error:
            if "is in use" not in str(error):
                raise
    return start()


def test_after_kill_9_of_the_supervisor_nothing_is_cut_and_a_start_works(serve):
    """F15."""
    server = serve("plain:app", workers=4)
    with mixed(server) as loads:
        for load in loads:
            load.wait_for_answers(20)
        server.send(signal.SIGKILL)
        server.process.wait()
        killed_at = time.monotonic()
        server.wait_for(WORKER_ORPHANED)
        new = as_soon_as_it_is_free(lambda: serve("plain:app", workers=4, bind=f"127.0.0.1:{server.port}"))
        for load in loads:
            load.wait_for_answers(20)
        server.wait(timeout=PATIENCE_S)  # the log ends when no process holds it any more
        assert time.monotonic() - killed_at < 10
    assert server.leftovers() == []
    assert outcomes(loads) <= {Outcome.ANSWERED, Outcome.REFUSED, Outcome.STALE}, [load.summary() for load in loads]
    new.stop()


def kill_nine(server):
    """Kills the supervisor, and reaps it."""
    server.send(signal.SIGKILL)
    server.process.wait()


def test_an_orphaned_worker_with_an_endless_thread_still_exits(serve, gate, connect):
    """F15. It waits for the thread for the rest of its constant 10 s."""
    server = serve("unruly:app", workers=1)
    with connect(server) as wire:
        assert wire.get(f"/threads?gate={gate.path}").response().status == 200
    kill_nine(server)
    server.wait_for("worker.threads_awaited")
    server.wait(timeout=PATIENCE_S)  # the log ends when no process holds it any more
    assert server.leftovers() == []


def test_an_exiting_worker_that_waits_for_a_thread_ends_with_supervisor(serve, gate, connect):
    """F15. No other process would enforce its timeout."""
    server = serve("unruly:app", "--graceful-timeout", "1h", workers=1)
    with connect(server) as wire:
        assert wire.get(f"/threads?gate={gate.path}").response().status == 200
    os.kill(server.worker_pids()[0], signal.SIGTERM)
    server.wait_for("worker.threads_awaited")
    kill_nine(server)
    server.wait(timeout=PATIENCE_S)
    assert server.leftovers() == []


def test_a_worker_whose_import_hangs_ends_with_its_supervisor(serve, gate, tmp_path):
    """F15. It has accepted no connection."""
    hangs, begun = tmp_path / "hangs", tmp_path / "begun"
    lines = [
        "import os",
        "from plain import app",
        f"if os.path.exists({str(hangs)!r}):",
        f"    open({str(begun)!r}, 'w').close()",
        f"    open({gate.path!r})",
    ]
    (tmp_path / "slow.py").write_text("\n".join(lines))
    server = serve("slow:app", "--pythonpath", tmp_path, "--boot-timeout", "1h", workers=1)
    hangs.touch()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    wait_until(begun.exists)
    kill_nine(server)
    server.wait(timeout=PATIENCE_S)
    assert server.leftovers() == []


# --- Suspension and clocks: F16 ---


def sleep_through(pids):
    """Suspends these processes for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(STOPPED_S)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("who", ["the supervisor", "all"])
def test_no_worker_is_killed_because_of_a_suspension_of(serve, who, inbox, gate, connect):
    """F16. A request runs all the time. Without grace, its timeout would have expired when the supervisor resumes."""
    server = serve("plain:app", *LIMIT, workers=4)
    workers = server.worker_pids()
    with mixed(server) as loads:
        for load in loads:
            load.wait_for_answers(20)
        long = connect(server).get(f"/gate?notify={inbox.path}&gate={gate.path}")
        inbox.receive()
        sleep_through([server.pid, *(workers if who == "all" else [])])
        server.wait_for(SUSPENDED)
        gate.open()
        assert long.response().status == 200
        for load in loads:
            load.wait_for_answers(20)
    assert outcomes(loads) == {Outcome.ANSWERED}
    assert server.worker_pids() == workers
    assert not server.events(WORKER_DIED) and not server.events("worker.hung")


SHIFTED_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static volatile long *shift_s;

__attribute__((constructor)) static void start(void) {
    int file = open(getenv("SHIFT_FILE"), O_RDONLY | O_CLOEXEC);
    shift_s = mmap(0, sizeof *shift_s, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += *shift_s;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    int failed = clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *to) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (to) *to = found.tv_sec;
    return found.tv_sec;
}
"""


@pytest.fixture
def clock(tmp_path):
    """A wall clock for one server: the environment that provides it, and a function that sets it."""
    source, library, shift = (tmp_path / name for name in ("clock.c", "clock.so", "shift"))
    source.write_text(SHIFTED_CLOCK)
    shift.write_bytes(bytes(8))
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, for a clock that can be set")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def set_to(seconds):
        with open(shift, "r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    return {"LD_PRELOAD": str(library), "SHIFT_FILE": str(shift)}, set_to


def hour(server):
    """Returns the hour in the Date field of an answer."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return parsedate_to_datetime(wire.get("/hello").response().field("Date")).timestamp() / 3600


def test_a_wall_clock_that_jumps_moves_nothing(serve, clock, path):
    """F16."""
    environment, set_to = clock
    server = serve("plain:app", *LIMIT, "--keep-alive", "5s", "--admin-bind", f"unix:{path}", workers=4, env=environment)
    workers = server.worker_pids()
    with mixed(server) as loads:
        for hours in (1, -1, 0):
            set_to(hours * 3600)
            begun = time.monotonic()
            while time.monotonic() - begun < 1:  # some rounds of the watchdog of the supervisor
                loads[0].wait_for_answers(20)
                probe(path, 2)
            assert round(hour(server) - time.time() / 3600, 1) == hours
    assert outcomes(loads) == {Outcome.ANSWERED}
    assert server.worker_pids() == workers
    assert not server.events(SUSPENDED) and not server.events("worker.hung")


# --- Shutdown: F17, F18 ---


def test_with_kubernetes_delay_a_balancer_that_lags_3_s_loses_nothing(serve):
    """F17 with a drain delay of 5 s."""
    server = serve("plain:app", workers=4, env={"KUBERNETES_SERVICE_HOST": "127.0.0.1"})
    with mixed(server) as loads:
        loads[0].wait_for_answers(100)
        server.send(signal.SIGTERM)
        server.wait_for(SERVER_STOPPING)
        time.sleep(3)
    assert outcomes(loads) == {Outcome.ANSWERED}
    assert len(loads[1].records) > 20 and len(loads[0].records) > 200
    assert server.process.poll() is None, "it goes on accepting for a while"
    assert server.wait() == 0


def test_without_a_delay_clients_are_refused_and_never_cut_off(serve):
    """F17 without a drain delay. A kept connection may be closed just before its client writes."""
    server = serve("plain:app", "--drain-delay", "0s", workers=4)
    with mixed(server) as loads:
        for load in loads:
            load.wait_for_answers(20)
        server.send(signal.SIGTERM)
        assert server.wait() == 0
    assert server.leftovers() == []
    assert Outcome.REFUSED in outcomes(loads)
    assert outcomes(loads) <= {Outcome.ANSWERED, Outcome.REFUSED, Outcome.STALE}, [load.summary() for load in loads]


def test_only_a_request_beyond_the_graceful_timeout_is_aborted_and_counted(serve, connect, gate, inbox):
    """F18. Requests on connections of the worker that runs it are lost with it; no other request is cut."""
    server = serve("plain:app", "--graceful-timeout", "3s", workers=4)
    with mixed(server) as loads:
        for load in loads:
            load.wait_for_answers(20)
        long = connect(server).get(f"/gate?notify={inbox.path}&gate={gate.path}")
        busy = int(inbox.receive())
        server.send(signal.SIGTERM)
        assert server.wait(timeout=10) == 0
    assert server.leftovers() == []
    assert long.response().status == 502
    fair = (Outcome.ANSWERED, Outcome.REFUSED, Outcome.STALE)
    lost = [record for load in loads for record in load.records if record.outcome not in fair]
    assert all(record.is_kept and record.worker == busy for record in lost), lost
    assert server.wait_for(STOPPED).pairs["abandoned"] == "1"


# --- A second server: F23 ---


def test_a_second_server_on_the_port_gets_requests_only_if_told_to_share(serve, path):
    """F23."""
    server = serve("plain:app", workers=2)
    address = f"127.0.0.1:{server.port}"
    with traffic(server) as load:
        for _ in range(3):
            load.wait_for_answers(20)
            code, _, said = run("--bind", address, "plain:app", cwd=APPS)
            assert code == EXIT_CONFIGURATION and address in said and "in use" in said
        load.wait_for_answers(20)
        workers = set(server.worker_pids())
        assert {record.worker for record in load.records} <= workers
        second = serve("plain:app", "--reuse-port", bind=address, workers=2)
        load.wait_for_answers(200)
        both = {record.worker for record in load.records}
        assert both & workers and both & set(second.worker_pids())
    assert set(load.summary()) == {"ANSWERED"}, load.summary()


# --- Recycling: F25 ---


def test_workers_due_for_recycling_together_are_replaced_one_by_one(serve, path):
    """F25."""
    server = serve(
        "plain:app", "--max-requests", 150, "--max-requests-jitter", 0, "--admin-bind", f"unix:{path}", workers=4
    )
    first = server.worker_pids()
    fewest, most = [], []
    with traffic(server, clients=12, target="/slow?ms=1") as load:
        deadline = time.monotonic() + PATIENCE_S
        while set(first) & set(server.worker_pids()):
            assert time.monotonic() < deadline, server.log
            found = status(path)
            fewest.append(found["workers_ready"])
            most.append(len(found["workers"]))
        load.wait_for_answers(100)
    assert min(fewest) >= 4 and max(most) <= 5, (min(fewest), max(most))
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert not server.events(WORKER_DIED)


# --- Probes while no worker serves ---


@pytest.mark.parametrize("hang", ["/spin", "/sleep", "stopped"])
def test_probes_are_answered_while_every_worker_hangs(serve, connect, path, hang):
    """The workers hang in Python or in the kernel, or are stopped. `pytest -s` shows the figures."""
    server = serve("unruly:app", "--admin-bind", f"unix:{path}", "--graceful-timeout", "1s", workers=4)
    workers = server.worker_pids()
    if hang == "stopped":
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: {state(pid) for pid in workers} == {"T"})  # a busy machine takes a moment
    else:
        for count in range(1, len(workers) + 1):
            connect(server).get(hang)
            wait_until(lambda: busy(path) == count)  # noqa: B023: it is called at once
    took_ms = probe(path, 200)
    show(f"probes while every worker hangs ({hang})", took_ms)
    if hang == "stopped":
        assert {state(pid) for pid in workers} == {"T"}
    else:
        assert busy(path) == len(workers)
    assert server.worker_pids() == workers


def busy(path):
    """Returns the number of workers that run a request."""
    return sum(worker["request"] is not None for worker in status(path)["workers"])


# Shuts down every connected stream socket of the worker except the one that it answers on, like code that mistakes
# a descriptor for its own.
CUTS_THE_LINE = """
import os, socket

def app(environ, start_response):
    for fd in map(int, os.listdir("/proc/self/fd")) if environ["PATH_INFO"] == "/cut" else ():
        try:
            found = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if found.family == socket.AF_UNIX and found.type == socket.SOCK_STREAM and not stray(found):
            found.shutdown(socket.SHUT_RDWR)
    start_response("200 OK", [("Content-Length", "0")])
    return []

def stray(found):
    return found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
"""


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_a_worker_without_control_socket_closes_no_listener_of_others(
    serve, connect, tmp_path, options
):
    (tmp_path / "cuts.py").write_text(CUTS_THE_LINE)
    server = serve("cuts:app", *options, workers=2, cwd=tmp_path)
    assert connect(server).get("/cut").response().status == 200
    cut = server.wait_for("worker.disconnected").pairs
    server.wait_for(WORKER_LEFT, pid=cut["pid"])
    server.wait_for(WORKER_READY, count=3)
    for _ in range(4):
        assert connect(server).get("/").response().status == 200
    assert server.events(WORKER_ORPHANED) == []


def test_a_pid_file_of_a_live_process_is_not_replaced_silently(serve, tmp_path):
    path = tmp_path / "server.pid"
    path.write_text(f"{os.getpid()}\n")
    server = serve("plain:app", "--pid", path)
    assert server.wait_for("pid_file.names_another").pairs["names"] == str(os.getpid())
    assert int(path.read_text()) == server.pid
    server.stop()
    assert list(tmp_path.iterdir()) == []
