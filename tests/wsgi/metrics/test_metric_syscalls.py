"""Metrics cost a worker no system call: it counts in memory, and the supervisor sends. Nor do routes and the log of slow
requests, and a line of the access log costs one at most."""

import socket
import time

import pytest
from support.admin_client import scrape
from support.server import PATIENCE_S, run
from support.tracing import calls, traced
from support.waiting import wait_until

REQUESTS = 200
# A request on a kept connection is awaited, read and answered. The call that strace interrupts when it attaches
# continues as restart_syscall.
STEADY = {"epoll_wait", "recvfrom", "sendto"}
ATTACHING = {"restart_syscall"}
# A request whose worker did not get the processor at once is not answered before its client has been found to be there.
IF_LATE = "getsockopt"
# Once a second, a worker looks whether the application has replaced its signal handlers or its descriptors.
EACH_SECOND = {"getpid": 1, "rt_sigaction": 3, "fstat": 4}
# CPython's allocator takes its memory in arenas of 1 MB. A heap that lies at the end of one takes the next at any request,
# and may give it back later.
AN_ARENA = ("mmap", "munmap")


@pytest.fixture
def agent():
    """A UDP socket that metrics are sent to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(PATIENCE_S)
        yield agent


def _steady_calls(server, connect, path, meanwhile=lambda: None):
    """Returns the system calls of the only worker while one client sends requests, and the duration in seconds."""
    wire = connect(server)
    for _ in range(20):
        assert wire.get("/hello").response().status == 200
    (worker,) = server.worker_pids()
    begun = time.monotonic()
    with traced(worker, path):
        for _ in range(REQUESTS):
            assert wire.get("/hello").response().status == 200
        meanwhile()
    return calls(path), time.monotonic() - begun


def _assert_only_requests(counts, seconds):
    for name, most in EACH_SECOND.items():
        assert counts.pop(name, 0) <= most * (seconds + 1), counts
    assert counts.pop(IF_LATE, 0) < REQUESTS // 2, counts
    for name in AN_ARENA:
        assert counts.pop(name, 0) <= 1, counts
    assert set(counts) - ATTACHING == STEADY, counts
    # The end of the trace may cut off the last call, and idle turns wait too.
    assert abs(counts["sendto"] - REQUESTS) <= 1, counts
    assert counts["recvfrom"] <= 2 * REQUESTS + 2, counts


def test_a_worker_waits_reads_and_answers_and_nothing_else(serve, connect, tmp_path):
    server = serve("plain:app")
    _assert_only_requests(*_steady_calls(server, connect, tmp_path / "trace"))


def test_metrics_that_are_sent_cost_a_worker_no_system_call(serve, connect, tmp_path, agent):
    if "--statsd-host" not in run("--help")[1]:
        pytest.skip("no --statsd-host in this version")
    port = agent.getsockname()[1]
    server = serve("plain:app", "--statsd-host", f"127.0.0.1:{port}", "--statsd-interval", "0.1")
    agent.recv(65536)  # Metrics are sent before the trace and during it.
    agent.setblocking(False)

    def two_flushes():
        while True:
            try:
                agent.recv(65536)
            except BlockingIOError:
                break
        agent.settimeout(PATIENCE_S)
        agent.recv(65536)
        agent.recv(65536)

    _assert_only_requests(*_steady_calls(server, connect, tmp_path / "trace", two_flushes))


def test_routes_and_requests_that_are_not_slow_cost_no_system_call(serve, connect, tmp_path, path):
    options = ("--slow-request", "1h", "--request-id-header", "X-Request-Id", "--admin-bind", f"unix:{path}")
    server = serve("logged:app", *options)
    _assert_only_requests(*_steady_calls(server, connect, tmp_path / "trace"))
    # The last response is sent before it is counted.
    wait_until(lambda: _route_counts(path) == {"/{anything}": 20 + REQUESTS})


def _route_counts(path):
    samples = [sample for sample in scrape(path) if sample.name == "arctos_route_duration_seconds_count"]
    return {sample.labels["route"]: sample.value for sample in samples if sample.value}


@pytest.mark.parametrize("format", ["text", "json", "combined", "json:time,path,status,route,queue_ms,request_id"])
def test_a_line_of_the_access_log_costs_one_write_at_most(serve, connect, tmp_path, format):
    log = tmp_path / "access.log"
    server = serve("logged:app", "--access-logfile", str(log), "--access-logformat", format)
    counts, seconds = _steady_calls(server, connect, tmp_path / "trace")
    # A turn of the event loop may answer several requests, and writes their lines at once.
    assert 0 < counts.pop("write") <= REQUESTS + 1, counts
    _assert_only_requests(counts, seconds)
    server.stop()
    assert log.read_text().count("\n") == 20 + REQUESTS


def test_an_excluded_request_costs_no_write(serve, connect, tmp_path):
    server = serve("plain:app", "--access-logfile", str(tmp_path / "access.log"), "--access-log-exclude", "/hello")
    _assert_only_requests(*_steady_calls(server, connect, tmp_path / "trace"))


def test_the_wait_of_a_new_connection_is_read_once(serve, connect, tmp_path):
    server = serve("plain:app")
    assert connect(server).get("/hello").response().status == 200
    (worker,) = server.worker_pids()
    path = tmp_path / "trace"
    with traced(worker, path):
        for _ in range(5):
            wire = connect(server).get("/hello", "Connection: close")
            assert wire.response().status == 200
            assert wire.is_closed()
    lines = [line for line in path.read_text().splitlines() if "getsockopt(" in line]
    assert len(lines) == 5 and all("TCP_INFO" in line for line in lines), lines


def test_a_connection_that_epoll_cannot_take_is_closed_the_worker_lives(serve, connect, tmp_path):
    server = serve("plain:app")
    assert connect(server).get("/hello").response().status == 200
    (worker,) = server.worker_pids()
    # The listener is removed, the connection added, and the listener added again.
    inject = ("-e", "trace=epoll_ctl", "-e", "inject=epoll_ctl:error=ENOSPC:when=2")
    with traced(worker, tmp_path / "trace", *inject):
        assert connect(server).is_closed()
        assert connect(server).get("/hello").response().status == 200
    assert server.wait_for("connection.not_watched", error="No space left on device")
    assert server.worker_pids() == [worker]


def test_a_listener_that_epoll_cannot_take_pauses_and_resumes(serve, connect, tmp_path):
    server = serve("plain:app")
    assert connect(server).get("/hello").response().status == 200
    (worker,) = server.worker_pids()
    inject = ("-e", "trace=epoll_ctl", "-e", "inject=epoll_ctl:error=ENOSPC:when=3")
    with traced(worker, tmp_path / "trace", *inject):
        for _ in range(2):
            assert connect(server).get("/hello").response().status == 200
    assert server.wait_for("accept.failed")
    assert server.worker_pids() == [worker]
