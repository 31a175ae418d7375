"""The logs: one line per event on standard error, and the access log, without the query."""

import json
import os
import signal
import subprocess
import sys

import pytest
from support.server import (
    APPLICATION_RAISED,
    APPS,
    PATIENCE_S,
    SERVER_READY,
    WORKER_DIED,
    WORKER_READY,
    LogLine,
    Server,
    clean_environment,
)
from support.waiting import wait_for_file
from support.wire import Wire


def wait_for_json(server, event):
    """Waits until the JSON log has the event, and returns all lines so far."""
    with server._said:
        assert server._said.wait_for(lambda: any(f'"event":"{event}"' in line for line in server._lines), PATIENCE_S), server.log
    return [json.loads(line) for line in server.log.splitlines()]


def address_of(lines):
    """Returns the address of a server from the lines of its JSON log."""
    listen = next(line["listen"] for line in lines if line["event"] == SERVER_READY)
    return "127.0.0.1", int(listen.rpartition(":")[2].rstrip("/"))


def test_the_log_has_one_line_an_event_and_names_slot_pid_and_generation(serve):
    server = serve("plain:app", workers=2)
    server.stop()
    lines = server.log.splitlines()
    assert all(LogLine.parse(line) for line in lines), server.log
    ready = server.events(WORKER_READY)
    assert sorted(line.pairs["slot"] for line in ready) == ["0", "1"]
    assert all(line.pairs["pid"].isdigit() and line.pairs["generation"].isdigit() for line in ready)
    server.wait_for(SERVER_READY)
    assert len(server.events(SERVER_READY)) == 1


def test_ready_is_logged_when_all_workers_are_ready(serve):
    server = serve("plain:app", workers=4)
    server.stop()
    events = [LogLine.parse(line).event for line in server.log.splitlines()]
    assert events[: events.index(SERVER_READY)].count(WORKER_READY) == 4


def test_the_log_can_be_json(serve):
    process = subprocess.Popen(
        [sys.executable, "-m", "arctos", "--log-format", "json", "--bind", "127.0.0.1:0", "-w", "1", "plain:app"],
        cwd=APPS, env=clean_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = []
    with process.stderr as log:
        for line in log:
            seen.append(json.loads(line))
            if seen[-1]["event"] == SERVER_READY:
                process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert {"time", "level", "event"} <= set(seen[0])
    assert any(line["event"] == WORKER_READY and isinstance(line["pid"], int) for line in seen)


def test_a_log_of_errors_only_is_empty_when_nothing_fails(tmp_path):
    path = tmp_path / "pid"
    server = Server("plain:app", "--log-level", "error", "--pid", path, workers=1)
    try:
        # It logs nothing. Its pid file, which is written when it is ready, is awaited instead.
        wait_for_file(path, server.process)
        server.stop()
        assert server.log == ""
    finally:
        server.kill()


@pytest.mark.smoke
def test_the_access_log_has_a_line_a_request_without_its_query(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path)
    wire = connect(server)
    wire.get("/hello?secret=hunter2", "User-Agent: tester").response()
    wire.post("/echo?secret=hunter2", b"abc", "Referer: http://a/?secret=hunter2").response()
    wire.get("/fail?secret=hunter2").response()
    server.stop()
    lines = path.read_text().splitlines()
    assert len(lines) == 3
    assert "GET" in lines[0] and "/hello" in lines[0] and "200" in lines[0]
    assert "POST" in lines[1] and "/echo" in lines[1]
    assert "500" in lines[2]
    assert "hunter2" not in "".join(lines)


def test_a_refused_request_is_logged_with_its_rule_as_far_as_it_was_read(serve, connect, tmp_path):
    path, spool = tmp_path / "access.log", tmp_path / "spool"
    spool.mkdir()
    server = serve("plain:app", "--access-logfile", path, "--limit-request-body", 9000, "--body-memory", 10, "--body-temp-dir", spool)
    spool.rmdir()
    agent = "Host: a\r\nUser-Agent: tester\r\n"
    head = f"POST /p?secret=hunter2 HTTP/1.1\r\n{agent}"
    refused = [
        ("\x16\x03\x01", 400, '"-" 400 0 "-" "-"', "the request line contains a control character"),
        (f"GET http://me:hunter2@a/ HTTP/1.1\r\n{agent}\r\n", 400, '"GET" 400 0 "-" "-"', "the request target contains user information"),
        (f"{head}Referer: /x?secret=hunter2\r\nX : y\r\n\r\n", 400, '"POST /p HTTP/1.1" 400 0 "/x" "tester"', "white space precedes a field's colon"),
        (f"{head}Transfer-Encoding: chunked\r\n\r\n5;\r\n", 400, '"POST /p HTTP/1.1" 400 0 "-" "tester"', "a chunk extension is malformed"),
        (f"{head}Content-Length: 9001\r\n\r\n", 413, '"POST /p HTTP/1.1" 413 0 "-" "tester"', "the body is too large"),
        (f"{head}Expect: tea\r\n\r\n", 417, '"POST /p HTTP/1.1" 417 0 "-" "tester"', "Expect names an unknown expectation"),
        (f"{head}Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n", 500, '"POST /p HTTP/1.1" 500 0 "-" "tester"', "the body could not be stored"),
    ]  # fmt: skip
    for request, status, _, _ in refused:
        wire = connect(server)
        wire.send(request)
        assert wire.response().status == status
    server.stop()
    lines = path.read_text().splitlines()
    assert len(lines) == len(refused)
    for line, (_, _, expected, reason) in zip(lines, refused):
        assert expected in line and line.endswith(f' 0.000 "{reason}"'), line
    logged = server.events("request.refused")
    assert [line.pairs["reason"] for line in logged] == [reason for _, status, _, reason in refused if status != 500]
    assert logged[3].level == "INFO" and logged[3].has("request.refused", {"status": 400, "method": "POST", "path": "/p", "remote_addr": "127.0.0.1"})
    assert "hunter2" not in server.log + "".join(lines)


def test_a_request_that_timed_out_has_a_line(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path, "--header-timeout", "0.1")
    wire = connect(server)
    wire.send("GET /slow HTTP/1.1\r\nUser-Agent: tester\r\n")
    assert wire.response().status == 408
    server.stop()
    (line,) = path.read_text().splitlines()
    assert '"GET /slow HTTP/1.1" 408 0 "-" "tester" 0.000 "the head did not arrive in time"' in line
    server.wait_for("request.refused")
    assert len(server.events("request.refused")) == 1


def test_a_refused_request_of_a_unix_socket_names_no_address(serve, tmp_path):
    path = str(tmp_path / "socket")
    server = serve("plain:app", bind=f"unix:{path}")
    with Wire(path) as wire:
        wire.send("GET /x HTTP/1.1\r\n\r\n")
        assert wire.response().status == 400
    server.stop()
    (line,) = server.events("request.refused")
    assert line.pairs["reason"] == "Host is missing" and line.pairs["path"] == "/x" and "remote_addr" not in line.pairs


def test_refused_requests_are_logged_ten_times_a_minute_at_most(serve, connect):
    server = serve("plain:app", workers=1)
    for _ in range(25):
        wire = connect(server)
        wire.send("GET / HTTP/1.1\r\n\r\n")
        assert wire.response().status == 400
    server.stop()
    server.wait_for("request.refused", count=10)
    assert len(server.events("request.refused")) == 10


def test_a_json_access_line_has_the_request_id_of_application_and_log(serve, connect, tmp_path):
    (tmp_path / "echoes.py").write_text(
        "def app(environ, start_response):\n"
        "    if environ['PATH_INFO'] == '/raise':\n"
        "        raise ValueError\n"
        "    start_response('200 OK', [])\n"
        "    return [environ['arctos.request_id'].encode()]\n"
    )
    path = tmp_path / "access.log"
    trusted = ("--forwarded-allow-ips", "127.0.0.1")
    server = Server("echoes:app", *trusted, "--log-format", "json", "--access-logfile", path, "--pid", tmp_path / "pid", cwd=tmp_path)
    try:
        lines = wait_for_json(server, SERVER_READY)
        answered = []
        for target, field in (("/", None), ("/", "X-Request-Id: from-the-proxy"), ("/", "X-Request-Id: not sane"), ("/raise", None)):
            with Wire(address_of(lines)) as wire:
                answered.append(wire.get(target, *([field] if field else [])).response().body.decode())
        (raised,) = [line for line in wait_for_json(server, APPLICATION_RAISED) if line["event"] == APPLICATION_RAISED]
        server.stop()
    finally:
        server.kill()
    seen = [json.loads(line)["request_id"] for line in path.read_text().splitlines()]
    assert seen[:3] == answered[:3] and seen[1] == "from-the-proxy" and len(set(seen)) == 4
    assert seen[3] == raised["request_id"]


def test_an_aborted_response_has_a_line_with_the_bytes_that_were_sent(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path, "-w", "1")
    wire = connect(server)
    wire.get("/fail-late").until(b"\r\n\r\n")
    server.stop()
    (line,) = path.read_text().splitlines()
    assert "/fail-late" in line and " 200 " in line


def test_the_access_log_goes_to_standard_output_when_asked_to(serve, connect):
    server = serve("plain:app", "--access-logfile", "-")
    connect(server).get("/hello").response()
    server.stop()
    assert b"/hello" in server.output and "/hello" not in server.log


def test_lost_access_log_lines_are_reported_at_once_and_then_counted(serve, connect):
    server = serve("plain:app", "--access-logfile", "/dev/full", workers=1)
    for _ in range(5):
        assert connect(server).get("/hello").response().status == 200
    first = server.wait_for("access_log.lines_lost")
    server.stop()
    lost = server.events("access_log.lines_lost")
    assert len(lost) == 2 and sum(int(line.pairs["lines"]) for line in lost) == 5
    assert first.level == "WARNING" and first.pairs["reason"] == "No space left on device"


def test_a_client_cannot_inject_log_lines(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path)
    connect(server).get("/status/%0Aforged%0D%1b[31m?body=x", 'User-Agent: "quoted" \\ \xff').response()
    server.stop()
    (line,) = path.read_bytes().splitlines()
    assert line.isascii() and b"\x1b" not in line


def test_a_full_standard_error_costs_log_lines_only(connect, tmp_path):
    path, pid_file = str(tmp_path / "socket"), tmp_path / "pid"
    with open("/dev/full", "wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "arctos", "--bind", f"unix:{path}", "--pid", pid_file, "-w", "1", "plain:app"],
            cwd=APPS, env=clean_environment(), stderr=full,
        )  # fmt: skip
    try:
        wait_for_file(pid_file, process)
        for target, status in (("/fail", 500), ("/errors", 200), ("/hello", 200)):
            with Wire(path) as wire:
                assert wire.get(target).response().status == status
        process.terminate()
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)


def test_a_worker_exit_is_logged_with_its_cause(serve):
    server = serve("plain:app", workers=1)
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    said = server.wait_for(WORKER_DIED)
    assert "KILL" in said.text or "9" in said.pairs.values()


def test_log_lines_of_a_worker_name_it(serve, connect):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    connect(server).get("/fail").response()
    said = server.wait_for(APPLICATION_RAISED)
    assert (said.pairs["slot"], said.pairs["pid"], said.pairs["generation"]) == ("0", str(worker), "1")


def test_a_log_that_nobody_reads_costs_log_lines_only(tmp_path):
    path, pid_file = str(tmp_path / "socket"), tmp_path / "pid"
    unread, log = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "arctos", "--bind", f"unix:{path}", "--pid", pid_file, "--workers", "1", "plain:app"],
        cwd=APPS, env=clean_environment(), stderr=log,
    )  # fmt: skip
    os.close(log)
    try:
        wait_for_file(pid_file, process)
        with Wire(path) as wire:
            for _ in range(500):  # a pipe holds 64 KB, and each request writes two lines
                assert wire.get("/errors").response().status == 200
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        os.close(unread)
