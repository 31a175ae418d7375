"""Limits on what a peer sends and how long it takes. Each limit is an option; each refusal has its own status
and closes the connection."""

import http.client
import socket
from contextlib import closing

import pytest
from support.server import (
    BODY_TIMEOUT,
    HEAD_TIMEOUT,
    KEEP_ALIVE,
    LIMIT_BODY,
    LIMIT_COUNT,
    LIMIT_FIELD,
    LIMIT_LINE,
    WRITE_TIMEOUT,
    Server,
)


@pytest.fixture(scope="module")
def strict():
    """A server with small limits."""
    options = [LIMIT_LINE, 100, LIMIT_COUNT, 5, LIMIT_FIELD, 64, LIMIT_BODY, 1000]
    with Server("plain:app", *options, workers=1) as server:
        yield server


def refused(wire, status):
    answer = wire.response()
    assert (answer.status, answer.field("Connection"), answer.is_whole) == (status, "close", True)
    assert wire.is_closed()
    return True


def test_a_request_just_within_the_limits_is_answered(strict, connect):
    target = "/hello?" + "q" * (100 - len("GET /hello? HTTP/1.1"))
    fields = ["X: " + "v" * 61, "A: 1", "B: 2", "C: 3"]
    assert connect(strict).get(target, *fields).response().status == 200
    assert connect(strict).post("/echo", b"x" * 1000).response().body == b"x" * 1000


@pytest.mark.smoke
def test_a_longer_request_line_is_414(strict, connect):
    assert refused(connect(strict).get("/hello?" + "q" * (101 - len("GET /hello? HTTP/1.1"))), 414)


def test_a_request_line_that_never_ends_is_414_before_it_does(strict, connect):
    assert refused(connect(strict).send("GET /" + "a" * 3000), 414)


def test_a_longer_field_is_431(strict, connect):
    assert refused(connect(strict).get("/hello", "X: " + "v" * 62), 431)


def test_more_fields_are_431(strict, connect):
    assert refused(connect(strict).get("/hello", *(f"X{number}: 1" for number in range(5))), 431)


def test_a_body_of_a_larger_declared_length_is_413_at_once(strict, connect):
    assert refused(connect(strict).send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1001\r\n\r\n"), 413)


def test_a_chunked_body_that_grows_larger_is_413(strict, connect):
    wire = connect(strict).send("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.send("200\r\n" + "x" * 0x200 + "\r\n200\r\n" + "x" * 0x200 + "\r\n")
    assert refused(wire, 413)


def test_a_refused_client_that_goes_on_sending_still_reads_the_refusal(strict, connect):
    wire = connect(strict).send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\n" + "x" * 50_000)
    assert refused(wire, 413)


@pytest.mark.parametrize("framing", ["Content-Length", "Transfer-Encoding"])
def test_a_client_that_sends_all_before_it_reads_still_gets_the_refusal(strict, framing):
    piece, count = bytes(1 << 20), 20  # more than the socket buffers hold
    value = len(piece) * count if framing == "Content-Length" else "chunked"
    client = http.client.HTTPConnection("127.0.0.1", strict.port, timeout=30)
    with closing(client):
        chunked = framing == "Transfer-Encoding"
        client.request("POST", "/echo", (piece for _ in range(count)), {framing: value}, encode_chunked=chunked)
        assert client.getresponse().status == 413


@pytest.fixture(scope="module")
def impatient():
    """A server with short timeouts."""
    options = [HEAD_TIMEOUT, 1, BODY_TIMEOUT, 1, KEEP_ALIVE, 1, WRITE_TIMEOUT, 1]
    with Server("plain:app", *options, workers=1) as server:
        yield server


def test_a_head_that_is_not_whole_in_time_is_408(impatient, connect):
    assert refused(connect(impatient).send("GET /hello HTTP/1.1\r\nHost:"), 408)


def test_a_body_that_stops_is_408_and_the_application_is_not_called(impatient, connect, inbox):
    wire = connect(impatient).send(f"POST /gate?notify={inbox.path} HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabc")
    assert refused(wire, 408)
    assert not inbox.has_more()


def test_an_idle_kept_connection_is_closed_without_a_response(impatient, connect):
    wire = connect(impatient)
    assert wire.get("/hello").response().status == 200
    assert wire.is_closed()


def test_a_silent_connection_is_closed_without_a_response(impatient, connect):
    assert connect(impatient).is_closed()


def test_a_client_that_does_not_read_is_cut_off_and_its_iterable_closed(impatient, connect, inbox):
    wire = connect(impatient, receive_buffer_bytes=4096)
    wire.get(f"/closing?items=500&repeat=20000&notify={inbox.path}")
    assert inbox.receive() == "closed"  # only the write timeout does that: this client keeps its connection open
    assert connect(impatient).get("/hello").response().status == 200


def test_a_body_that_ends_early_never_reaches_the_application(impatient, connect, inbox):
    wire = connect(impatient).send(f"POST /gate?notify={inbox.path} HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nabc")
    wire.socket.shutdown(socket.SHUT_WR)
    wire.to_end()
    assert connect(impatient).get("/hello").response().status == 200
    assert not inbox.has_more()
