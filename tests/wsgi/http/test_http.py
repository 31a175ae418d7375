"""HTTP/1.1, as a client on a real socket sees it."""

import json
import socket
import subprocess

import pytest
from support.server import APPLICATION_FAILED, TOO_LONG

pytestmark = pytest.mark.smoke


def test_three_pipelined_requests_in_one_packet_are_answered_in_order(wire):
    wire.send("".join(f"GET /status?body={word} HTTP/1.1\r\nHost: test\r\n\r\n" for word in ("one", "two", "three")))
    assert [wire.response().body for _ in range(3)] == [b"one", b"two", b"three"]


def test_a_body_and_the_next_request_in_one_packet_are_separated(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbodyGET /status?body=next HTTP/1.1\r\nHost: test\r\n\r\n")
    assert [wire.response().body for _ in range(2)] == [b"body", b"next"]


def test_an_unread_body_is_not_taken_for_the_next_request(wire):
    wire.post("/unread", b"GET /hard-exit HTTP/1.1\r\nHost: test\r\n\r\n").get("/hello")
    assert wire.response().body == b"not read\n"
    assert wire.response().body == b"Hello, world!\n"


def test_after_connection_close_no_further_request_is_executed(wire, inbox):
    wire.get("/hello", "Connection: close").get(f"/gate?notify={inbox.path}")
    answer = wire.response()
    assert (answer.status, answer.field("Connection")) == (200, "close")
    assert wire.is_closed()
    assert not inbox.has_more()


def test_http_1_0_closes_and_is_answered_without_chunks(wire):
    wire.send("GET /chunks?count=2 HTTP/1.0\r\n\r\n")
    answer = wire.response()
    assert (answer.field("Transfer-Encoding"), answer.body) == (None, b"aaaaabbbbb")


def test_head_has_the_length_and_no_body(wire):
    wire.get("/hello", method="HEAD").get("/hello")
    answer = wire.response(method="HEAD")
    assert (answer.status, answer.field("Content-Length")) == (200, "14")
    assert wire.response().body == b"Hello, world!\n"


@pytest.mark.parametrize("line", ["204 No Content", "205 Reset Content", "304 Not Modified"])
def test_a_status_without_a_body_discards_what_the_application_yields(wire, line):
    wire.get(f"/status?line={line.replace(' ', '+')}&body=unwanted").get("/hello")
    answer = wire.response()
    assert (f"{answer.status} {answer.reason}", answer.field("Transfer-Encoding"), answer.body) == (line, None, b"")
    assert wire.response().body == b"Hello, world!\n"


def test_a_chunked_request_body_arrives_decoded(wire):
    wire.send(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;extension=1\r\nhello\r\nA\r\n, worlds!\n\r\n0\r\nTrailer: thrown away\r\n\r\n"
    )
    assert wire.response().body == b"hello, worlds!\n"


def test_trailers_never_reach_the_environ(wire):
    wire.send(
        "POST /headers HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Trailer: 1\r\n\r\n"
    )
    assert "HTTP_X_TRAILER" not in json.loads(wire.response().body)


def test_a_generator_is_answered_in_chunks_without_empty_ones(wire):
    wire.get("/chunks?count=3&size=5")
    answer = wire.response()
    assert answer.field("Transfer-Encoding") == "chunked"
    assert answer.body == b"aaaaabbbbbccccc"
    wire.get("/chunks?count=2&size=5")
    wire.head()
    assert wire.until(b"0\r\n\r\n") == b"5\r\naaaaa\r\n5\r\nbbbbb\r\n0\r\n\r\n"


def test_an_iterable_without_items_ends_its_body_once(wire):
    wire.get("/empty").get("/hello")
    assert wire.response().body == b""
    assert wire.response().body == b"Hello, world!\n"


def test_expect_100_continue_is_answered_before_the_body_is_sent(wire):
    wire.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head()[0] == 100
    wire.send("hello")
    assert wire.response().body == b"hello"


def test_curl_with_expect_100_continue_is_answered(plain):
    found = subprocess.run(
        ["curl", "-sS", "-v", "-H", "Expect: 100-continue", "--data-binary", "x" * 3000, f"{plain.url}/echo"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert found.stdout == b"x" * 3000
    assert b"HTTP/1.1 100 Continue" in found.stderr


def test_an_unknown_expectation_is_417(wire):
    wire.post("/echo", b"", "Expect: tea")
    assert wire.response().status == 417


def test_more_than_content_length_is_cut_and_logged(plain, wire):
    since = plain.position()
    wire.get("/length?promise=10&give=20")
    assert wire.response().body == b"x" * 10
    assert plain.wait_for(TOO_LONG, since=since)


def test_less_than_content_length_is_an_abrupt_close(wire):
    wire.get("/length?promise=20&give=10")
    answer = wire.response()
    assert (answer.field("Content-Length"), len(answer.body), answer.is_whole) == ("20", 10, False)


def test_an_iterator_that_fails_after_the_head_ends_abruptly(wire):
    wire.get("/fail-late")
    assert wire.head()[0] == 200
    body, _ = wire.to_end()
    assert b"first\n" in body
    assert not body.endswith(b"0\r\n\r\n")


def test_a_half_closed_client_gets_its_answer(wire):
    wire.get("/slow?ms=50")
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.response().status == 200
    assert wire.is_closed()


def test_a_request_sent_byte_by_byte_is_answered_like_one_in_one_piece(wire):
    for byte in b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc":
        wire.send(bytes([byte]))
    assert wire.response().body == b"abc"


REFUSED = {
    "bare LF": ("GET / HTTP/1.1\nHost: test\n\n", 400),
    "no Host": ("GET / HTTP/1.1\r\n\r\n", 400),
    "two Hosts": ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "space before the colon": ("GET / HTTP/1.1\r\nHost : test\r\n\r\n", 400),
    "obs-fold": ("GET / HTTP/1.1\r\nHost: test\r\nX: a\r\n b\r\n\r\n", 400),
    "two lengths": ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
    "signed length": ("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: +0\r\n\r\n", 400),
    "length and coding": (
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "coding in 1.0": ("POST / HTTP/1.0\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "another coding": ("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "chunk size without digits": ("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\r\n\r\n", 400),
    "HTTP/0.9": ("GET /\r\n\r\n", 400),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "CONNECT": ("CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\n\r\n", 501),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_executed(plain, connect, inbox, why):
    request, status = REFUSED[why]
    wire = connect(plain)
    wire.send(request).get(f"/gate?notify={inbox.path}")
    answer = wire.response()
    assert (answer.status, answer.field("Connection")) == (status, "close")
    assert answer.is_whole and answer.field("Date")
    assert wire.is_closed()
    # The only thread of the only worker has answered another connection. It would have executed the request by now.
    assert connect(plain).get("/hello").response().status == 200
    assert not inbox.has_more()


def test_a_client_gone_during_the_response_closes_the_iterable_once(plain, connect, inbox):
    wire = connect(plain)
    wire.get(f"/closing?items=500&repeat=20000&notify={inbox.path}")
    wire.exactly(1000)
    wire.socket.close()
    assert inbox.receive() == "closed"
    assert connect(plain).get("/hello").response().status == 200
    assert not inbox.has_more()


def test_the_head_is_the_applications_in_spelling_and_order(wire):
    wire.get("/header-lines")
    answer = wire.response()
    own = [name for name, _ in answer.fields if name not in ("Date", "Server", "Connection")]
    assert own == ["x-lower", "X-UPPER", "Set-Cookie", "Set-Cookie", "Content-Length"]
    assert answer.field("Date").endswith(" GMT") and answer.field("Server").startswith("arctos")


def test_a_failing_application_is_a_500_that_reveals_nothing_and_closes(plain, wire):
    since = plain.position()
    wire.get("/fail")
    answer = wire.response()
    assert (answer.status, answer.is_whole, answer.field("Connection")) == (500, True, "close")
    assert b"Traceback" not in answer.body and b"ValueError" not in answer.body
    assert wire.is_closed()
    assert plain.wait_for(APPLICATION_FAILED, since=since, path="/fail")
