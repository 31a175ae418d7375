"""Shortages that the kernel reports: no memory for sockets, no descriptors, full disks. Each costs at most the request or
the log line that it hit, and the worker goes on. strace(1) injects the errors that a test cannot cause."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.admin_client import ask
from support.server import ACCEPT_FAILED, WORKER_DIED
from support.tracing import traced
from support.waiting import wait_until

BODY = b"x" * 40_000
MEMORY = ["--body-memory", 1000]
# A body that one read delivers as a whole is not stored. This one is longer than a read.
LONG_BODY_BYTES = 300_000


@pytest.fixture
def admin(tmp_path):
    """The address of an admin socket."""
    return str(tmp_path / "admin.sock")


@pytest.fixture
def server(serve, admin):
    """A server of one worker that stores bodies of more than 1000 bytes in files."""
    return serve("plain:app", "--admin-bind", f"unix:{admin}", *MEMORY, workers=1)


def counter(admin, name):
    """One counter of the only worker, as `/metrics` shows it."""
    lines = ask(admin, "/metrics").body.decode().splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith(f"arctos_{name}_total{{"))


@contextmanager
def injected(server, path, call, error, when):
    """Lets the given calls of the only worker fail."""
    (worker,) = server.worker_pids()
    with traced(worker, path, "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"):
        yield
    assert "(INJECTED)" in path.read_text(), "the fault did not happen"
    assert server.worker_pids() == [worker] and not server.events(WORKER_DIED)


# --- accept ---


@pytest.mark.parametrize("error", ["ENFILE", "ENOBUFS", "ENOMEM"])
def test_a_shortage_at_accept_costs_the_longest_idle_connection(server, connect, admin, tmp_path, error):
    idle, other = connect(server), connect(server)
    for wire in (idle, other):
        assert wire.get("/hello").response().status == 200
    with injected(server, tmp_path / "trace", "accept4", error, 1):
        assert connect(server).get("/hello").response().status == 200
    assert idle.is_closed()
    assert other.get("/hello").response().status == 200, "one is enough"
    assert counter(admin, "conn_accept_error") == 1 and not server.events(ACCEPT_FAILED)


@pytest.mark.parametrize("error", ["ENFILE", "ENOBUFS"])
def test_a_shortage_at_accept_delays_a_connection_if_none_is_idle(server, connect, tmp_path, error):
    with injected(server, tmp_path / "trace", "accept4", error, "1..3"):
        assert connect(server).get("/hello").response().status == 200
    server.wait_for(ACCEPT_FAILED)
    assert len(server.events(ACCEPT_FAILED)) == 1, "it is logged once a minute"


def test_an_error_of_the_network_at_accept_is_no_failure(server, connect, admin, tmp_path):
    with injected(server, tmp_path / "trace", "accept4", "EPROTO", 1):
        assert connect(server).get("/hello").response().status == 200
    assert counter(admin, "conn_accept_error") == 0 and not server.events(ACCEPT_FAILED)


# --- send and receive ---


@pytest.mark.parametrize("error", ["ENOBUFS", "ENOMEM", "EPIPE", "ECONNRESET"])
def test_a_send_that_fails_aborts_its_response_and_closes_its_iterable(server, connect, admin, inbox, tmp_path, error):
    kept, hit = connect(server), connect(server)
    assert kept.get("/hello").response().status == 200
    # The head and the first item are sent together, then one item at a time.
    with injected(server, tmp_path / "trace", "sendto", error, 1):
        hit.get(f"/closing?items=3&notify={inbox.path}")
        assert inbox.receive() == "closed"
        hit.to_end()
    assert kept.get("/hello").response().status == 200
    assert counter(admin, "resp_aborted") == 1
    assert not server.events("application.close_raised")


def test_a_sendfile_that_fails_aborts_its_response(server, connect, admin, tmp_path):
    with injected(server, tmp_path / "trace", "sendfile", "ENOMEM", 1):
        answer = connect(server).get("/file?bytes=100000").response()
    assert not answer.is_whole and answer.body == b""
    assert counter(admin, "resp_aborted") == 1
    assert connect(server).get("/hello").response().status == 200


@pytest.mark.parametrize("error", ["ENOMEM", "ECONNRESET"])
def test_a_receive_that_fails_closes_its_connection(server, connect, admin, tmp_path, error):
    kept = connect(server)
    assert kept.get("/hello").response().status == 200
    hit = connect(server).send("GET /hello")
    wait_until(lambda: counter(admin, "req_active") == 1)
    with injected(server, tmp_path / "trace", "recvfrom", error, 1):
        hit.send(" HTTP/1.1\r\n")
        assert hit.is_closed()
    assert kept.get("/hello").response().status == 200
    assert counter(admin, "req_error_read") == 1


# --- Request bodies ---


@pytest.mark.parametrize(
    "call, error, status",
    [
        ("pwrite64", "ENOSPC", 507),
        ("pwrite64", "EDQUOT", 507),
        ("pwrite64", "EFBIG", 507),
        ("pwrite64", "EIO", 500),
        ("openat", "EMFILE", 503),
        ("openat", "ENFILE", 503),
        ("openat", "ENOSPC", 507),
    ],
)
def test_a_body_that_cannot_be_stored_costs_its_request(server, connect, tmp_path, call, error, status):
    wire = connect(server)
    assert wire.get("/hello").response().status == 200  # so that everything is imported
    with injected(server, tmp_path / "trace", call, error, 1):
        # The worker waits for the other half, and stores this one.
        wire.send(f"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY[:20_000])
        refused = wire.response()
    assert (refused.status, refused.field("Connection")) == (status, "close")
    assert refused.field("Retry-After") == ("1" if status == 503 else None)
    assert connect(server).post("/echo", BODY).response().body == BODY
    server.wait_for("request.body_not_stored")
    assert len(server.events("request.body_not_stored")) == 1


def test_a_body_above_the_limit_on_file_sizes_costs_its_request(server, connect):
    (worker,) = server.worker_pids()
    limits = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (10_000, limits[1]))
    # The worker waits for the end of the body, and stores what it has.
    wire = connect(server).send("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert wire.send(b"5000\r\n" + bytes(0x5000)).response().status == 507
    resource.prlimit(worker, resource.RLIMIT_FSIZE, limits)
    assert connect(server).post("/echo", BODY).response().body == BODY
    assert server.worker_pids() == [worker], "SIGXFSZ does not end it"


# --- Full disks ---


WHOLE_LINE = re.compile(rb'127\.0\.0\.1 .* "GET /\S+ HTTP/1\.1" \d{3} \d+ "-" "-" \d+\.\d+')
MOUNTED = 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"'


@pytest.fixture
def small_disk(tmp_path):
    """A directory, and a command that runs a program in a mount namespace where it is a file system of 64 KB."""
    unshare = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    directory = tmp_path / "disk"
    directory.mkdir()
    command = [*unshare, "sh", "-c", MOUNTED, str(directory)]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine grants no mount namespace")
    return directory, command


def inside(server, path):
    """A path as the server sees it."""
    return f"/proc/{server.pid}/root{path}"


def test_uploads_to_a_full_disk_are_507_and_work_again_when_there_is_room(serve, connect, small_disk):
    disk, command = small_disk
    options = ["--body-temp-dir", disk, *MEMORY]
    server = serve("plain:app", *options, workers=1, command=[*command, sys.executable, "-m", "arctos"])
    for size, status in ((40_000, 200), (LONG_BODY_BYTES, 507), (100, 200), (40_000, 200)):
        wire = connect(server)
        wire.send("POST /digest HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n0\r\n\r\n")
        assert wire.response().status == status, size
    assert not server.events(WORKER_DIED)
    for _ in range(20):
        wire = connect(server).send("POST /digest HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        wire.send(f"{LONG_BODY_BYTES:x}\r\n".encode() + bytes(LONG_BODY_BYTES) + b"\r\n0\r\n\r\n")
        assert wire.response().status == 507
    server.wait_for("request.body_not_stored", count=10)
    assert len(server.events("request.body_not_stored")) == 10, "a full disk does not fill the log"
    assert os.listdir(inside(server, disk)) == []


def test_an_access_log_on_a_full_disk_loses_lines_until_there_is_room(serve, connect, small_disk, admin):
    disk, command = small_disk
    options = ["--access-logfile", disk / "access.log", "--admin-bind", f"unix:{admin}"]
    server = serve("plain:app", *options, workers=1, command=[*command, sys.executable, "-m", "arctos"])
    log, filler = Path(inside(server, disk / "access.log")), inside(server, disk / "filler")
    wire = connect(server)
    assert wire.get("/hello?before").response().status == 200
    wait_until(lambda: log.stat().st_size > 0)
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    for _ in range(100):  # the page that the log has begun still takes some of these lines
        assert wire.get(f"/{'x' * 60}").response().status == 404
    assert server.wait_for("access_log.lines_lost").pairs["reason"] == "No space left on device"
    os.unlink(filler)
    assert wire.get("/hello").response().status == 200
    lines = lambda: log.read_bytes().split(b"\n")  # noqa: E731
    wait_until(lambda: b'"GET /hello HTTP/1.1" 200' in lines()[-2])
    lost = counter(admin, "log_dropped")
    whole = [line for line in lines() if WHOLE_LINE.fullmatch(line)]
    server.stop()
    assert 0 < lost < 100
    reported = sum(int(line.pairs["lines"]) for line in server.events("access_log.lines_lost"))
    assert reported == lost, "each lost line is reported once"
    assert len(whole) == 102 - lost, "a line that was torn is lost, and the next one starts on a line of its own"



# --- a disk that delivers late ---


def has_left(worker, answer):
    """A worker that drains closes its connections, or leaves them to its replacement."""
    return answer.field("Connection") == "close" or int(answer.body) != worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_worker_that_leaves_waits_for_the_disk(serve, connect, tmp_path, number):
    (tmp_path / "files").mkdir()
    content = os.urandom(3_000_000)
    (tmp_path / "files" / "large.bin").write_bytes(content)
    server = serve("plain:app", "--static", f"/static={tmp_path}/files", "--graceful-timeout", "60s", workers=1).ready()
    with connect(server) as other, connect(server) as wire:
        leaver = int(other.get("/slow?ms=0").response().body)
        late = ["-e", "trace=preadv2", "-e", "inject=preadv2:error=EAGAIN"]
        with traced(leaver, tmp_path / "trace", *late):
            wire.get("/static/large.bin")
            wait_until(lambda: "(INJECTED)" in (tmp_path / "trace").read_text())
            server.send(number)
            while not has_left(leaver, other.get("/slow?ms=0").response()):
                pass
        answer = wire.response()
        assert answer.is_whole and answer.body == content
        if number == signal.SIGHUP:
            # A request that arrives before the worker has left the connection is still its own.
            while not has_left(leaver, wire.get("/slow?ms=0").response()):
                pass
        else:
            assert wire.is_closed()
    server.wait_for("server.stopped" if number == signal.SIGTERM else "reload.done")
