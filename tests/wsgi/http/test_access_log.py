"""The access log: gunicorn's own lines beside those of arctos, destinations, and which requests have a line."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
from support.server import APPS, EXIT_CONFIGURATION, EXIT_USAGE, clean_environment, run
from support.waiting import wait_until
from support.wire import Wire

# Every atom of gunicorn whose value does not depend on time, and several ways to write them.
FORMAT = (
    "%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|%({x-odd}i)s|%({HOST}i)s|"
    "%({Content-Type}o)s|%({etag}o)s|%({SET-COOKIE}o)s|%({location}o)s|%({date}o)s|%({request_method}e)s|"
    "%({wsgi.url_scheme}e)s|%({WSGI.VERSION}e)s|%({shop.user}e)s|%({HTTP_X_ODD}e)s|%({missing}e)s|%({missing}i)s|"
    '100%%|"%(m)-7s"|%(s)5s|%(B)08d|%(a).7s|%(a)9.3s|'
)
TIMES = "%(t)s %(T)s %(D)s %(M)s %(L)s %(p)s"


def basic(credentials):
    """A field of Basic authentication."""
    return f"Authorization: Basic {base64.b64encode(credentials).decode()}"


REQUESTS = {
    "plain": "GET / HTTP/1.1",
    "query": "GET /a/b?x=1&y=%22two%22&z HTTP/1.1",
    "empty query": "GET /? HTTP/1.1",
    "encoded path": "GET /caf%C3%A9/a%20b%2Fc%22d%25 HTTP/1.1",
    "latin-1 path": "GET /caf%e9/%ff%A0 HTTP/1.1",
    "broken encoding": "GET /100%/%zz%4 HTTP/1.1",
    "path parameters": "GET /a;b=c/,d@e:f HTTP/1.1",
    "double slashes": "GET /a//b/../c/. HTTP/1.1",
    "long query": f"GET /long?q={'0123456789' * 200} HTTP/1.1",
    "referer and agent": "GET / HTTP/1.1|Referer: http://a/b?c=d#e|User-Agent: curl/8.0 (x; y)",
    "quotes": 'GET / HTTP/1.1|User-Agent: an "odd" name"|Referer: "|X-Odd: ""',
    "empty fields": "GET / HTTP/1.1|User-Agent:|Referer:|X-Odd:",
    "repeated fields": "GET / HTTP/1.1|User-Agent: a|User-Agent: b|Referer: c|Referer: d|X-Odd: e|X-Odd: f",
    "spaces around values": "GET / HTTP/1.1|User-Agent:   a  b   |X-Odd: \tc\t ",
    "odd names": "GET / HTTP/1.1|x-oDD: 1|X!#$%&'*+.^`|~: 2",
    "latin-1 fields": "GET / HTTP/1.1|User-Agent: caf\xe9 \xbf\xff|X-Odd: \xa1",
    "utf-8 fields": "GET / HTTP/1.1|User-Agent: \xc3\xa9\xe7\x86\xb9|X-Odd: \xc2\xa9".replace("\x86", "\xa6"),
    "user": f"GET / HTTP/1.1|{basic(b'user:password')}",
    "user without a password": f"GET / HTTP/1.1|{basic(b'user')}",
    "user in utf-8": f"GET / HTTP/1.1|{basic('größer 熊'.encode())}",
    "user with quotes": f"GET / HTTP/1.1|{basic(b'a b:')}".replace("Basic", "bAsIc"),
    "user that is empty": f"GET / HTTP/1.1|{basic(b':password')}",
    "user that is not utf-8": f"GET / HTTP/1.1|{basic(bytes([0xFF, 0x3A]))}",
    "user without padding": "GET / HTTP/1.1|Authorization: Basic dXNlcg",
    "user between dashes": "GET / HTTP/1.1|Authorization: Basic dX-Nl-cjpw*YXNz",
    "no basic": "GET / HTTP/1.1|Authorization: Bearer dXNlcjpwYXNz",
    "head": "HEAD /head HTTP/1.1",
    "post": "POST /?body=created&status=201%20Created HTTP/1.1|Content-Length: 3||abc",
    "empty post": "POST / HTTP/1.1|Content-Length: 0",
    "chunked": "PUT /chunked HTTP/1.1|Transfer-Encoding: chunked||3|abc|2|de|0||",
    "delete": "DELETE /thing?status=204%20No%20Content HTTP/1.1",
    "unknown method": "PURGE /x HTTP/1.1",
    "options of a path": "OPTIONS /x HTTP/1.1",
    "not modified": 'GET /?status=304%20Not%20Modified HTTP/1.1|If-None-Match: "a b"',
    "redirect": "GET /?status=302%20Found&location=http://a/b%3Fc HTTP/1.1",
    "not found": "GET /?status=404%20Not%20Found&body= HTTP/1.1",
    "failure": "GET /?status=500%20Internal%20Server%20Error&times=1000 HTTP/1.1",
    "unavailable": "GET /?status=503%20%20 HTTP/1.1",
    "streamed": "GET /?stream=yes&times=10 HTTP/1.1",
    "http 1.0": "GET /old?a HTTP/1.0",
    "absolute form": "GET http://test/absolute?a=b HTTP/1.1",
}


def bytes_of(request):
    """A request, whose lines are separated by bars; with a Host and without keep-alive."""
    first, *rest = request.split("|") if "`|~" not in request else request.replace("`|~", "\0").split("|")
    lines = [first, "Host: test", "Connection: close", *(line.replace("\0", "`|~") for line in rest)]
    if "" not in lines:
        lines += ["", ""]
    return "\r\n".join(lines).encode("latin-1")


@contextmanager
def gunicorn(access_format, path):
    """A gunicorn with this access log; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--access-logfile", path, "--access-logformat", access_format, "logged:app"],
        cwd=APPS, env={**clean_environment(), "PYTHONUTF8": "1", "TZ": "UTC"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        port = next(found[1] for line in process.stderr if (found := re.search(r"Listening at: \S+:(\d+)", line)))
        yield "127.0.0.1", int(port)
    finally:
        process.terminate()
        process.communicate()


def ask(address, requests):
    """Sends the requests one after the other, each on a connection of its own."""
    for request in requests:
        with Wire(address) as wire:
            wire.send(request).to_end()


def lines_of_both(serve, tmp_path, access_format, requests):
    """Returns what gunicorn and arctos write for the same requests, in their order."""
    theirs, ours = tmp_path / "gunicorn.log", tmp_path / "arctos.log"
    with gunicorn(access_format, theirs) as address:
        ask(address, requests)
    server = serve("logged:app", "--access-logfile", ours, "--access-logformat", access_format)
    ask(("127.0.0.1", server.port), requests)
    server.stop()
    return theirs.read_bytes(), ours.read_bytes()


def test_the_lines_are_those_of_gunicorn_byte_for_byte(serve, tmp_path):
    requests = [bytes_of(request) for request in REQUESTS.values()]
    theirs, ours = (log.splitlines() for log in lines_of_both(serve, tmp_path, FORMAT + TIMES, requests))
    assert len(theirs) == len(REQUESTS)
    for name, their_line, our_line in zip(REQUESTS, theirs, ours, strict=True):
        (their_values, _, their_times), (values, _, times) = their_line.rpartition(b"|"), our_line.rpartition(b"|")
        assert values == their_values, name
        assert re.sub(rb"\d+|[A-Z][a-z]{2}", b"N", times) == re.sub(rb"\d+|[A-Z][a-z]{2}", b"N", their_times), name


def test_failed_requests_have_the_lines_of_gunicorn(serve, tmp_path):
    requests = ["GET /?raise=it HTTP/1.1", "POST /?raise=it HTTP/1.1|Content-Length: 1||x"]
    access_format = '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s" %({etag}o)s'
    theirs, ours = lines_of_both(serve, tmp_path, access_format, [bytes_of(request) for request in requests])
    assert ours.splitlines() == theirs.splitlines()
    assert ours.count(b"\n") == 2


def test_combined_is_the_default_of_gunicorn(serve, tmp_path):
    default = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    path, request = tmp_path / "arctos.log", bytes_of(REQUESTS["referer and agent"])
    for access_format in (default, "combined"):
        server = serve("logged:app", "--access-logfile", path, "--access-logformat", access_format)
        ask(("127.0.0.1", server.port), [request])
        server.stop()
    first, second = (re.sub(r"\[.*?\]", "[]", line) for line in path.read_text().splitlines())
    assert first == second and '"GET / HTTP/1.1" 200 5 "http://a/b?c=d#e" "curl/8.0 (x; y)"' in first


# A request, the value that gunicorn shows, and ours: what could forge a line or a field is escaped.
FORGERIES = {
    "line feed": ("GET /a%0Ab HTTP/1.1", "%(U)s", b"/a\nb", rb"/a\nb"),
    "carriage return": ("GET /a%0Db HTTP/1.1", "%(U)s", b"/a\rb", rb"/a\rb"),
    "escape of a terminal": ("GET /a%1b%5b31m HTTP/1.1", "%(U)s", b"/a\x1b[31m", rb"/a\x1b[31m"),
    "control of latin-1": ("GET / HTTP/1.1|User-Agent: a\x9bb", "%(a)s", b"a\xc2\x9bb", rb"a\u{9b}b"),
    "tab": ("GET / HTTP/1.1|User-Agent: a\tb", "%(a)s", b"a\tb", rb"a\tb"),
    "backslash before a quote": ('GET / HTTP/1.1|User-Agent: a\\" 200', "%(a)s", rb"a\\" + b'" 200', rb"a\\\" 200"),
    "user of two lines": (f"GET / HTTP/1.1|{basic(b'a' + bytes([10]) + b'b:')}", "%(u)s", b"a\nb", rb"a\nb"),
    "cut in an escape": ('GET / HTTP/1.1|User-Agent: a"b', "%(a).2s", b"a\\", b"a"),
}


def test_what_forges_a_line_of_gunicorn_is_escaped(serve, tmp_path):
    access_format = "".join(f"%(m)s {atom}|" for _, atom, _, _ in FORGERIES.values())
    requests = [bytes_of(request) for request, _, _, _ in FORGERIES.values()]
    theirs, ours = lines_of_both(serve, tmp_path, access_format, requests)
    assert theirs.count(b"\n") > len(FORGERIES), "gunicorn has forged lines"
    assert ours.count(b"\n") == len(FORGERIES)
    for (name, (_, _, their_value, value)), line in zip(FORGERIES.items(), ours.splitlines(), strict=True):
        assert b"GET " + their_value + b"|" in theirs, name
        assert b"GET " + value + b"|" in line, name


TRACE = "|traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_our_atoms_and_fields_name_what_only_arctos_knows(serve, tmp_path):
    path = tmp_path / "access.log"
    fields = "worker,generation,pid,request_id,queue_ms,application_ms,send_ms,duration_ms,path,query,route,trace_id,{x-odd}i,user={shop.user}e"
    names = [name for name in fields.split(",") if "{" not in name]
    for access_format in (f"json:{fields}", " ".join(f"%(arctos.{name})s" for name in names)):
        server = serve("logged:app", "--access-logfile", path, "--access-logformat", access_format)
        ask(("127.0.0.1", server.port), [bytes_of('GET /a%20b?c=d HTTP/1.1|X-Odd: "\xc3\xa9"' + TRACE)])
        pid = server.worker_pids()[0] if server.worker_pids() else 0
        server.stop()
    in_json, in_text = path.read_text().splitlines()
    values = json.loads(in_json)
    assert list(values) == [*names, "x_odd", "user"]
    assert (values["worker"], values["generation"], values["route"]) == (0, 1, "/{anything}")
    assert values["trace_id"] == "4bf92f3577b34da6a3ce929d0e0e4736" and re.fullmatch(r"[0-9a-f]{24}", values["request_id"])
    assert (values["path"], values["query"], values["x_odd"], values["user"]) == ("/a%20b", "c=d", '"é"', 'the "owner"')
    assert 0 <= values["application_ms"] <= values["duration_ms"] and values["queue_ms"] >= 0
    assert dict(zip(names, in_text.split(), strict=True))["pid"] == str(pid)


def test_a_variable_may_change_the_environ_when_it_is_turned_into_text(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("logged:app", "--access-logfile", path, "--access-logformat", "%({shop.user}e)s")
    assert connect(server).get("/?late=yes").response().status == 200
    server.stop()
    assert path.read_text() == "late\n"


def test_a_request_has_a_line_even_if_its_worker_dies_in_close(serve, connect, gate, inbox, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path, "--access-logformat", "combined")
    assert connect(server).get(f"/closes-late?gate={gate.path}&notify={inbox.path}").response().status == 200
    pid = int(inbox.receive())
    os.kill(pid, signal.SIGKILL)
    died = server.wait_for("worker.died", pid=pid)
    assert path.read_text().count("/closes-late") == path.read_text().count('HTTP/1.1" 200 ') == 1
    assert died.pairs["answered"] == "no"


def test_a_line_with_the_time_of_the_application_waits_for_close(serve, connect, gate, inbox, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path, "--access-logformat", "json:path,application_ms")
    assert connect(server).get(f"/closes-late?gate={gate.path}&notify={inbox.path}").response().status == 200
    inbox.receive()
    assert path.read_text() == ""
    gate.open()
    server.stop()
    assert json.loads(path.read_text())["path"] == "/closes-late"


def test_a_wrong_format_is_named_with_its_place():
    status, _, error = run("--access-logfile", "-", "--access-logformat", "%(h)s %(x)s", "plain:app")
    assert status == EXIT_USAGE
    assert "--access-logformat '%(h)s %(x)s': expected an atom" in error
    assert 'not "%(x)s" at character 7' in error


def test_excluded_paths_have_no_line(serve, connect, tmp_path):
    path = tmp_path / "access.log"
    server = serve("plain:app", "--access-logfile", path, "--access-log-exclude", "/healthz", "--access-log-exclude", "/a/b")
    for target in ("/healthz", "/healthz/disk", "/%68ealthz", "/a/b?c", "/healthz2", "/a", "/"):
        connect(server).get(target).response()
    server.stop()
    assert re.findall(r"GET (\S+)", path.read_text()) == ["/healthz2", "/a", "/"]


def test_a_sample_has_a_share_of_the_lines_and_every_failure(serve, connect, tmp_path):
    paths = [tmp_path / "first.log", tmp_path / "second.log"]
    for path in paths:
        server = serve("plain:app", "--access-logfile", path, "--access-log-sample", "10%", "--access-logformat", "combined")
        wire = connect(server)
        for number in range(300):
            wire.get(f"/status?line={503 if number % 50 == 0 else 200}+x&body={number}").response()
        server.stop()
    lines = paths[0].read_text().splitlines()
    assert sum(" 503 " in line for line in lines) == 6
    assert 10 <= sum(" 200 " in line for line in lines) <= 60
    kept = [re.findall(r"body=(\d+)", path.read_text()) for path in paths]
    assert kept[0] == kept[1]


def test_a_reload_applies_another_format(serve, connect, tmp_path):
    path, options = tmp_path / "access.log", tmp_path / "arctos.toml"
    options.write_text("access-logformat = '%(m)s %(U)s'\n")
    server = serve("plain:app", "--config", options, "--access-logfile", path)
    connect(server).get("/before").response()
    options.write_text("access-logformat = '%(arctos.generation)s %(U)s'\n")
    server.send(1)
    server.wait_for("reload.done")
    connect(server).get("/after").response()
    server.stop()
    assert path.read_text().splitlines() == ["GET /before", "2 /after"]


def test_lines_go_to_an_inherited_descriptor(serve, connect):
    reader, writer = os.pipe()
    server = serve("plain:app", "--access-logfile", f"fd://{writer}", pass_fds=[writer])
    os.close(writer)
    connect(server).get("/hello").response()
    server.stop()
    with open(reader, "rb") as log:
        assert b"/hello" in log.read()


def test_lines_go_to_syslog_and_follow_a_daemon_that_restarts(serve, connect, tmp_path):
    address = str(tmp_path / "log")
    where = f"syslog://{address}?facility=local0&tag=shop"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(address)
        daemon.settimeout(20)
        server = serve("plain:app", "--access-logfile", where, "--access-logformat", "%(m)s %(U)s")
        wire = connect(server)
        wire.get("/first").response()
        head, _, message = daemon.recv(4096).partition(b": ")
        assert re.fullmatch(rb"<134>shop\[\d+\]", head) and message == b"GET /first"
    os.unlink(address)
    wire.get("/lost").response()
    assert server.wait_for("access_log.lines_lost").pairs["reason"] == "Connection refused"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(address)
        daemon.setblocking(False)

        def received():
            wire.get("/again").response()
            try:
                return daemon.recv(4096)
            except BlockingIOError:
                return None

        assert wait_until(received).endswith(b": GET /again")
        server.stop()


def test_lines_go_to_syslog_over_udp(serve, connect):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        where = f"syslog://127.0.0.1:{daemon.getsockname()[1]}"
        server = serve("plain:app", "--access-logfile", where, "--access-logformat", "%(m)s %(U)s")
        connect(server).get("/hello").response()
        message = daemon.recv(4096)
        server.stop()
    head = rb"<14>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ arctos \d+ access - "
    assert re.fullmatch(head + rb"GET /hello", message)


@pytest.mark.parametrize("where", ["fd://77", "fd://4", "syslog:///nonexistent/log"])
def test_a_destination_that_is_not_there_is_named(where):
    status, _, error = run("--access-logfile", where, "plain:app", cwd=APPS)
    assert status == EXIT_CONFIGURATION and f"cannot open the access log {where}: " in error
