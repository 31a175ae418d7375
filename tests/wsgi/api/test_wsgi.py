"""PEP 3333, as an application and its client see it."""

import json

import pytest
import requests
from support.server import APPLICATION_ERRORS, APPLICATION_FAILED, Server
from support.wire import Wire

pytestmark = pytest.mark.smoke


def test_environ_is_a_dict_with_the_types_of_the_pep(wire):
    wire.get("/environ-types?a=1", "X-Field: 1")
    found = json.loads(wire.response().body)
    assert found["type"] == "dict"
    assert found["version"] == [1, 0]
    assert (found["multithread"], found["run_once"], found["input_terminated"]) == (False, False, True)
    strings = [name for name, kind in found["types"].items() if kind == "str"]
    needed = {
        "REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL",
        "REMOTE_ADDR", "REMOTE_PORT", "SERVER_SOFTWARE", "REQUEST_URI", "RAW_URI", "wsgi.url_scheme", "HTTP_X_FIELD",
        "HTTP_HOST",
    }  # fmt: skip
    assert needed <= set(strings)


def test_environ_has_the_values_of_the_request(plain, wire):
    wire.get("/headers/caf%C3%A9%2Fx?q=%20a", "X-Two: a", "X-Two: b", "X_Posing: 1", "Authorization: Basic eA==", "X-High: \xff")
    found = json.loads(wire.response().body)
    assert found["PATH_INFO"] == "/headers/caf\u00c3\u00a9/x"  # decoded once; bytes as latin-1
    assert found["QUERY_STRING"] == "q=%20a"
    assert found["REQUEST_URI"] == found["RAW_URI"] == "/headers/caf%C3%A9%2Fx?q=%20a"
    assert found["HTTP_X_TWO"].replace(" ", "") == "a,b"
    assert found["HTTP_AUTHORIZATION"] == "Basic eA=="
    assert found["HTTP_X_HIGH"] == "\u00ff"
    assert "HTTP_X_POSING" not in found
    assert found["REMOTE_ADDR"] == "127.0.0.1" and found["SERVER_PORT"] == str(plain.port)
    assert "PATH" not in found, "the process's environment is not the request's"


def test_content_type_and_length_are_not_given_twice(wire):
    wire.post("/headers", b"abc", "Content-Type: text/x")
    found = json.loads(wire.response().body)
    assert (found["CONTENT_TYPE"], found["CONTENT_LENGTH"]) == ("text/x", "3")
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(found)


def test_cookies_are_joined_by_semicolons(wire):
    wire.get("/headers", "Cookie: a=1", "Cookie: b=2")
    assert json.loads(wire.response().body)["HTTP_COOKIE"] == "a=1; b=2"


def test_input_reads_as_bytesio_does(wire):
    wire.post("/read-all-ways", b"abcdef\nghijk\nline\nnext\nrest of it")
    assert json.loads(wire.response().body) == {
        "read3": "abc", "readline": "def\n", "readline2": "gh", "readlines": ["ijk\n"], "next": "line\n",
        "rest": "next\nrest of it", "past_end": "", "line_past_end": "",
    }  # fmt: skip


def test_errors_go_to_the_log_as_one_event(plain, wire):
    since = plain.position()
    assert wire.get("/errors").response().body == b"logged\n"
    said = plain.wait_for_text(APPLICATION_ERRORS, "\n    first line\n    second line\n", since=since)
    assert said.level == "NOTICE" and said.text.endswith("\n    first line\n    second line\n")
    assert len(plain.events(APPLICATION_ERRORS, since=since)) == 1


def test_a_warning_of_logging_is_not_logged_as_an_error(serve):
    """Flask's logger writes to wsgi.errors."""
    server = serve("flask_app:app", "--log-level", "info")
    assert requests.get(f"{server.url}/warn", timeout=30).status_code == 200
    said = server.wait_for_text(APPLICATION_ERRORS, "    LookupError: stock\n")
    assert said.level == "NOTICE" and "WARNING in flask_app: low on stock" in said.text
    assert "Traceback" in said.text and said.text.endswith("    LookupError: stock\n")
    server.wait_for(APPLICATION_ERRORS)
    assert len(server.events(APPLICATION_ERRORS)) == 1


def test_write_sends_at_once_and_before_the_returned_iterable(wire, gate):
    wire.get(f"/written?gate={gate.path}")
    assert wire.head()[0] == 200
    assert b"first\n" in wire.until(b"first\n")
    gate.open()
    assert wire.until(b"0\r\n\r\n").replace(b"\r\n", b"|").count(b"second\n") == 1


def test_write_keeps_the_order_when_the_socket_is_full(plain, connect):
    wire = connect(plain, receive_buffer_bytes=4096)
    wire.get("/written-large?count=64")
    assert wire.response().body == b"".join(bytes([number]) * 65536 for number in range(64))


def test_a_second_start_response_replaces_the_first_until_headers_are_sent(wire):
    answer = wire.get("/restart").response()
    assert (answer.status, answer.body) == (503, b"sorry\n")
    assert (answer.field("X-First"), answer.field("X-Second")) == (None, "2")


def test_a_late_second_start_response_raises_its_exc_info(plain, wire):
    since = plain.position()
    wire.get("/restart-late")
    assert wire.head()[0] == 200
    body, _ = wire.to_end()
    assert b"first\n" in body and b"never" not in body
    plain.wait_for_text(APPLICATION_FAILED, "caught too late", since=since, path="/restart-late")


@pytest.mark.parametrize("path", ["fail", "fail-first", "never-starts", "starts-twice", "system-exit", "interrupt"])
def test_a_failure_before_the_headers_is_a_500_and_the_worker_goes_on(plain, connect, path):
    since = plain.position()
    before = json.loads(connect(plain).get("/worker").response().body)["now"]["pid"]
    wire = connect(plain)
    answer = wire.get(f"/{path}").response()
    assert (answer.status, answer.is_whole, answer.field("X-Never")) == (500, True, None)
    assert plain.wait_for(APPLICATION_FAILED, since=since, path=f"/{path}")
    assert json.loads(connect(plain).get("/worker").response().body)["now"]["pid"] == before


BAD_HEADS = [
    "status-int", "status-short", "status-1xx", "newline", "name", "hop", "transfer-encoding", "length", "two-lengths",
    "bytes", "wide", "fields-none",
]  # fmt: skip


@pytest.mark.parametrize("kind", BAD_HEADS)
def test_a_head_that_the_pep_forbids_is_a_500(wire, kind):
    answer = wire.get(f"/bad-head?kind={kind}").response()
    assert (answer.status, answer.field("X-Injected")) == (500, None)


@pytest.mark.parametrize("kind", ["str", "none", "items-str", "number"])
def test_a_body_that_is_no_iterable_of_bytes_is_a_500(wire, kind):
    assert wire.get(f"/body-kinds?kind={kind}").response().status == 500


def test_start_response_may_be_called_as_late_as_the_first_item(wire):
    assert wire.get("/starts-late").response().body == b"late\n"


@pytest.mark.parametrize("failing", ["no", "yes"])
def test_the_iterable_is_closed_exactly_once(plain, connect, inbox, failing):
    connect(plain).get(f"/closing?notify={inbox.path}&failing={failing}", "Connection: close").to_end()
    assert inbox.receive() == "closed"
    assert connect(plain).get("/hello").response().status == 200
    assert not inbox.has_more()


def test_the_error_log_names_method_and_path_and_not_the_query(plain, connect):
    since = plain.position()
    connect(plain).get("/fail?secret=hunter2", method="PUT").response()
    said = plain.wait_for_text(APPLICATION_FAILED, "ValueError: the application failed", since=since, method="PUT")
    assert (said.pairs["method"], said.pairs["path"]) == ("PUT", "/fail")
    assert "Traceback" in said.text
    assert "hunter2" not in plain.log


def test_a_whole_module_of_requests_passes_wsgiref_validate():
    """Every request must be answered as without the validator, whose AssertionError would be a 500."""
    with Server("validated:app") as server, Wire(("127.0.0.1", server.port)) as wire:
        asked = [
            ("GET", "/hello", b"", b"Hello, world!\n"),
            ("HEAD", "/hello", b"", b""),
            ("POST", "/echo", b"body" * 1000, b"body" * 1000),
            ("PUT", "/echo", b"x", b"x"),
            ("DELETE", "/status?body=gone", b"", b"gone"),
            ("GET", "/chunks?count=3", b"", b"aaaaabbbbbccccc"),
            ("GET", "/written", b"", b"first\nsecond\nthird\n"),
            ("GET", "/status?line=404+Not+Found&body=no", b"", b"no"),
            ("POST", "/unread", b"unread", b"not read\n"),
            ("POST", "/digest", b"d" * 200_000, None),
            ("GET", "/errors", b"", b"logged\n"),
            ("OPTIONS", "/hello", b"", b"Hello, world!\n"),
            ("OPTIONS", "*", b"", None),
            ("GET", "/headers/%41?x=%20", b"", None),
            ("POST", "/echo", b"f" * 1_000_000, b"f" * 1_000_000),
        ]
        for method, target, body, expected in asked:
            fields = [] if method in ("GET", "HEAD", "OPTIONS") else ["Content-Type: application/octet-stream"]
            if fields:
                head = f"{method} {target} HTTP/1.1\r\nHost: test\r\n{fields[0]}\r\nContent-Length: {len(body)}\r\n\r\n"
                wire.send(head.encode() + body)
            else:
                wire.get(target, method=method)
            answer = wire.response(method=method)
            assert answer.status in (200, 404), f"{method} {target}: {answer}\n{server.log}"
            assert expected is None or answer.body == expected
        wire.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert wire.response().body == b"abc"
        server.stop()
        assert server.events(APPLICATION_FAILED) == []
        assert "AssertionError" not in server.log and "Warning" not in server.log
        assert "garbage collected" not in server.log, "an iterable was not closed"
