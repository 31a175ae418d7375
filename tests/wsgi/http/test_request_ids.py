"""The identifier of a request and its trace: whose is kept, and where both appear."""

import json

import pytest
from support.server import EXIT_USAGE, run
from support.wire import Wire

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"
TRUSTED = ("--forwarded-allow-ips", "127.0.0.1")
ECHO = ("--request-id-header", "X-Trace-Me")
APP = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/raise":
        raise ValueError
    fields = [("x-trace-me", "of the application")] if environ["PATH_INFO"] == "/own" else []
    start_response("200 OK", fields)
    return [environ["arctos.request_id"].encode()]
"""


@pytest.fixture
def told(serve, tmp_path):
    """Starts a server whose responses say which identifier the application sees."""
    (tmp_path / "told.py").write_text(APP)
    return lambda *options: serve("told:app", "--pythonpath", tmp_path, *options)


def ask(server, target, *fields):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(target, *fields).response()


@pytest.mark.parametrize("options", [(), TRUSTED], ids=["stranger", "trusted"])
def test_only_the_identifier_of_a_trusted_proxy_is_kept(told, options):
    server = told(*ECHO, *options)
    answer = ask(server, "/", "X-Request-Id: order-66")
    assert (answer.body == b"order-66") == bool(options)
    assert answer.field("X-Trace-Me").encode() == answer.body
    others = {ask(server, "/", "X-Request-Id: two words").body, ask(server, "/", "X-Request-Id: " + "x" * 129).body, ask(server, "/").body}
    assert len(others) == 3 and all(len(other) == 24 for other in others)


def test_the_response_has_the_identifier_unless_the_application_set_it(told):
    server = told(*ECHO)
    assert ask(server, "/own").values("X-Trace-Me") == ["of the application"]
    failed = ask(server, "/raise")
    assert failed.status == 500
    raised = server.wait_for("application.raised")
    assert failed.values("X-Trace-Me") == [raised.pairs["request_id"]]


def test_no_response_has_an_identifier_by_default(told):
    server = told()
    assert ask(server, "/").field("X-Request-Id") is None
    assert ask(server, "/raise").field("X-Request-Id") is None


def test_a_failed_request_and_the_access_log_name_the_trace(told, tmp_path):
    log = tmp_path / "access.log"
    server = told("--access-logfile", log, "--access-logformat", "json:path,request_id,trace_id")
    assert ask(server, "/raise", PARENT).status == 500
    server.wait_for("application.raised", trace_id=TRACE)
    assert ask(server, "/", PARENT, PARENT).status == 200
    assert ask(server, "/", PARENT.replace("00-", "ff-", 1)).status == 200
    server.stop()
    assert [json.loads(line).get("trace_id") for line in log.read_text().splitlines()] == [TRACE, None, None]


def test_a_complete_request_that_is_refused_has_an_identifier_and_a_trace(serve, tmp_path):
    log = tmp_path / "access.log"
    options = ("--access-logfile", log, "--access-logformat", "json:status,request_id,trace_id", "--log-level", "info")
    server = serve("poison:app", "--quarantine", "1/1h", *ECHO, *TRUSTED, *options)
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get("/kill")
        server.wait_for("request.quarantined")
        server.wait_for("worker.ready", 2)
    answers = [ask(server, "/kill", PARENT, *fields) for fields in ((), ("X-Request-Id: order-66",), ())]
    others = [ask(server, "/"), ask(server, "/")]
    ids = [answer.field("X-Trace-Me") for answer in answers + others]
    assert ids[1] == "order-66" and len(set(ids)) == 5 and [answer.status for answer in answers] == [503] * 3
    server.wait_for("request.refused", request_id=ids[0], trace_id=TRACE)
    server.stop()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[:3] == [{"status": 503, "request_id": id, "trace_id": TRACE} for id in ids[:3]]
    assert [line["request_id"] for line in lines[3:]] == ids[3:]


def test_a_request_that_is_refused_after_its_head_has_its_trace(serve, tmp_path):
    log = tmp_path / "access.log"
    options = ("--access-logfile", log, "--access-logformat", "json:status,request_id,trace_id", "--limit-request-body", "1")
    server = serve("plain:app", *ECHO, *options)
    answer = ask(server, "/", PARENT, "Content-Length: 2")
    assert (answer.status, answer.field("X-Trace-Me")) == (413, None)
    server.stop()
    assert json.loads(log.read_text()) == {"status": 413, "trace_id": TRACE}


@pytest.mark.parametrize("name", ["two words", "", "Content-Length", "connection", "Date", "a:b"])
def test_a_header_that_cannot_be_sent_is_refused(name):
    code, _, error = run("--request-id-header", name, "plain:app")
    assert code == EXIT_USAGE and f"--request-id-header '{name}'" in error
