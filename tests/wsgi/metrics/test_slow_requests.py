"""The log of slow requests (`--slow-request`)."""

from support.wire import Wire

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01"


def ask(server, target, *fields):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(target, "Connection: close", *fields).response().status


def test_a_slow_request_is_logged_with_its_phases(serve):
    server = serve("phases:app", "--slow-request", "100ms")
    assert ask(server, "/work?call=1") == 200
    assert ask(server, "/work?call=60&item=40&close=30&status=404&size=7&secret=1", PARENT) == 404
    slow = server.wait_for("request.slow")
    pairs = slow.pairs
    assert (pairs["method"], pairs["path"], pairs["status"]) == ("GET", "/work", "404")
    assert (pairs["body_bytes"], pairs["trace_id"], len(pairs["request_id"])) == ("10", TRACE, 24)
    assert int(pairs["application_ms"]) >= 60 + 2 * 40 + 30
    total = int(pairs["total_ms"])
    parts = sum(int(pairs[f"{phase}_ms"]) for phase in ("queue", "application", "send"))
    assert total - 3 <= parts <= total
    assert "secret" not in server.log
    server.stop()
    assert server.log.count("request.slow") == 1


def test_a_flood_of_slow_requests_is_logged_in_part(serve):
    server = serve("phases:app", "--slow-request", "1ms", workers=1)
    with Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(40):
            assert wire.get("/whole?call=2").response().status == 200
    server.stop()
    assert server.log.count("request.slow") in (10, 20)  # twenty if ten seconds have passed


def test_nothing_is_logged_by_default_or_without_a_time(serve):
    for options in ((), ("--slow-request", "0")):
        server = serve("phases:app", *options)
        assert ask(server, "/whole?call=50") == 200
        server.stop()
        assert "request.slow" not in server.log
