"""The golden sequences of the 15 counters, in the packets that a statsd daemon receives from a real server.

With one worker and one connection, the sums after the last flush are those of the sequence. Packets do not show
the order of the counts, which the tests of the worker check. A client that must be in step with the worker waits
for the counts that the daemon has received.
"""

import socket
import struct

import pytest
from support.counters import abbreviated, check_invariants, sequence
from support.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
GET_CLOSE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # socket(7): SO_LINGER of 0 s


class Client:
    """A client with the only connection of a worker."""

    def __init__(self, server, sink, **options):
        self.sink, self.sent_bytes = sink, 0
        self.wire = Wire(("127.0.0.1", server.port), **options)
        self.wait_for("conn.accept.success", 1)

    def wait_for(self, name, least):
        """Waits until the daemon has received this count."""
        self.sink.wait_for(lambda received: received.count(name) >= least)

    def send(self, data):
        """Sends data, and returns when the worker has read it."""
        self.wire.send(data)
        self.sent_bytes += len(data)
        self.wait_for("bytes.in", self.sent_bytes)

    def expect(self, status):
        """Reads a complete response with this status."""
        response = self.wire.response()
        assert (response.status, response.is_whole) == (status, True)

    def reset(self):
        """Resets the connection."""
        self.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.wire.socket.close()


def kept(client):
    client.send(GET)
    client.expect(200)


def closed_by_request(client):
    client.send(GET_CLOSE)
    client.expect(200)


def two_kept(client):
    kept(client)
    kept(client)


def pipelined(client):
    client.send(GET + GET)
    client.expect(200)
    client.expect(200)


def connects_only(client):
    pass


def resets(client):
    client.reset()


def head_in_three_packets(client):
    for piece in (GET_CLOSE[:10], GET_CLOSE[10:20], GET_CLOSE[20:]):
        client.send(piece)
    client.expect(200)


def interim(client):
    expecting = b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n"
    client.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\n" + expecting)
    client.expect(100)
    client.send(b"hello")
    client.expect(200)


def garbage(client):
    client.send(b"\x16\x03\x01\x00\xa5")
    client.expect(400)


def half_a_body(client):
    client.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")


def raises(client):
    client.wire.get("/fail")
    client.expect(500)


def never_starts(client):
    client.wire.get("/never-starts")
    client.expect(500)


def first_item_raises(client):
    client.wire.get("/fail-first")
    client.expect(500)


def second_item_raises(client):
    client.wire.get("/fail-late")
    assert not client.wire.response().is_whole


GOLDEN = [
    (kept, "AS RR RD SD SK CD RX", {"conn.close.idle": 1, "resp.status.2xx": 1}),
    (closed_by_request, "AS RR RD SD SC", {"resp.status.2xx": 1}),
    (two_kept, "AS RR RD SD SK RR RD SD SK CD RX", {"conn.close.idle": 1, "resp.status.2xx": 2}),
    (pipelined, "AS RR RD SD SK RR RD SD SK CD RX", {"conn.close.idle": 1, "resp.status.2xx": 2}),
    (connects_only, "AS CD RX", {}),
    (resets, "AS ER RX", {}),
    (head_in_three_packets, "AS RA RA RR RD SD SC", {"resp.status.2xx": 1}),
    (interim, "AS RA RR RD SD SC", {"resp.status.1xx": 1, "resp.status.2xx": 1}),
    (garbage, "AS EP RD SD SC", {"resp.status.4xx": 1}),
    (half_a_body, "AS RA CD RX", {"conn.close.idle": 0}),
    (raises, "AS RR EI RD SD SC", {"resp.status.5xx": 1}),
    (never_starts, "AS RR EI RD SD SC", {"resp.status.5xx": 1}),
    (first_item_raises, "AS RR EI RD SD SC", {"resp.status.5xx": 1}),
    (second_item_raises, "AS RR RD SX", {"resp.status.2xx": 1}),
]


def start(serve, sink):
    options = ("--statsd-interval", "100ms", "--statsd-format", "dogstatsd")
    return serve("plain:app", "--statsd-host", sink.option, *options)


def finish(server, sink):
    """Stops the server, and returns the sums after the last flush."""
    server.stop()
    sink.close()
    counts = sink.check().look(lambda received: received.counts())
    check_invariants(counts)
    return counts


@pytest.mark.parametrize(("talk", "letters", "beside"), GOLDEN, ids=[talk.__name__ for talk, *_ in GOLDEN])
def test_packets_add_up_to_the_golden_sequence(serve, sink, talk, letters, beside):
    server = start(serve, sink)
    client = Client(server, sink)
    with client.wire:
        talk(client)
    counts = finish(server, sink)
    assert abbreviated(counts) == sequence(letters)
    assert {name: counts[name] for name in beside} == beside


def test_packets_count_a_large_response_whose_reader_resets(serve, sink):
    server = start(serve, sink)
    client = Client(server, sink, receive_buffer_bytes=4096)
    with client.wire:
        client.wire.get("/chunks?count=1&size=8388608")
        client.wire.head()
        client.wait_for("resp.active", 1)
        client.reset()
    counts = abbreviated(finish(server, sink))
    assert counts.pop("SA") >= 1
    assert counts == sequence("AS RR RD SX")


@pytest.mark.parametrize(("file", "status", "letters"), [("page", 503, "AS RR RD SD SC"), ("../page", 500, "AS RR EI RD SD SC")])
def test_only_a_file_that_must_not_be_sent_is_an_error(serve, sink, tmp_path, file, status, letters):
    (tmp_path / "page").write_text("back soon")
    options = ("--statsd-interval", "100ms", "--statsd-format", "dogstatsd", "--sendfile-root", tmp_path)
    server = serve("sendfile:app", "--statsd-host", sink.option, *options)
    client = Client(server, sink)
    with client.wire:
        client.wire.get(f"/?header=X-Sendfile&file={file}&status=503+Later", "Connection: close")
        client.expect(status)
    assert abbreviated(finish(server, sink)) == sequence(letters)
