"""PROXY headers together with what else decides when a connection is accepted, and how long it may take."""

import json
import select
import signal
import socket
import ssl
import sys

import pytest
from support.activation import activated
from support.certificates import MemoryClient, certificate, client
from support.wire import Wire

ANNOUNCED = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
REQUEST = b"GET /headers HTTP/1.1\r\nHost: localhost\r\n\r\n"
OPTIONS = ("--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificates"), "server", "localhost")


def client_of(wire):
    """Returns the address of the client that the next response shows."""
    return json.loads(wire.response().body)["REMOTE_ADDR"]


@pytest.mark.parametrize(
    "pieces", [[ANNOUNCED + REQUEST], [ANNOUNCED, REQUEST], [ANNOUNCED[:9], ANNOUNCED[9:] + REQUEST]], ids=["one", "two", "cut"]
)
def test_a_deferred_accept_waits_for_the_header_only(serve, pieces):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)
        command = activated(listener.fileno(), sys.executable, "-m", "arctos")
        serve("plain:app", *OPTIONS, bind=[], command=command, pass_fds=[listener.fileno()])
        with Wire(listener.getsockname()) as wire, Wire(listener.getsockname()) as other:
            other.send(ANNOUNCED)
            for piece in pieces:
                wire.send(piece)
                assert client_of(other.send(REQUEST)) == "192.0.2.7", "meanwhile the worker looks at the piece"
            assert client_of(wire) == "192.0.2.7"


def test_each_slots_own_listener_expects_the_header(serve):
    server = serve("plain:app", *OPTIONS, "--listen-mode", "per-slot", workers=2).ready()
    seen = set()
    for _ in range(40):
        with Wire(("127.0.0.1", server.port)) as wire:
            assert client_of(wire.send(ANNOUNCED + REQUEST)) == "192.0.2.7"
            seen.add(wire.get("/slow?ms=0").response().body)
    assert len(seen) == 2, "both workers serve"
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.send(REQUEST).to_end()[0] == b""


def test_a_stop_waits_for_the_rest_of_a_header_and_its_request(serve):
    server = serve("plain:app", *OPTIONS, "--graceful-timeout", "60s").ready()
    with Wire(("127.0.0.1", server.port)) as wire, Wire(("127.0.0.1", server.port)) as other:
        wire.send(ANNOUNCED[:20])
        assert client_of(other.send(ANNOUNCED + REQUEST)) == "192.0.2.7"
        server.send(signal.SIGTERM)
        while other.get("/hello").response().field("Connection") != "close":
            pass
        # A worker that stops waits a second for idle clients.
        assert select.select([wire.socket], [], [], 3)[0] == [], "the connection was closed"
        wire.send(ANNOUNCED[20:])
        assert client_of(wire.send(REQUEST)) == "192.0.2.7"
        assert wire.is_closed()
    server.stop()


def test_a_header_and_a_handshake_have_one_deadline_together(serve, pair):
    options = ("--header-timeout", "2s", "--log-level", "info")
    server = serve("plain:app", *pair.options, *OPTIONS, *options).ready()
    with MemoryClient(server.port, client(pair)) as first, Wire(("127.0.0.1", server.port)) as second:
        with pytest.raises(ssl.SSLWantReadError):
            first.tls.do_handshake()
        hello = first.pending()
        second.send(ANNOUNCED[:20])
        # The second connection is accepted, because the third one is answered.
        with MemoryClient(server.port, client(pair)) as third:
            third.socket.sendall(ANNOUNCED)
            third.handshake()
        first.socket.sendall(ANNOUNCED + hello[:50])
        events = ("tls.handshake_failed", "connection.refused")
        server.wait_for(events, count=2)
        # The first one had connected first.
        assert [line.pairs["reason"] for line in server.events(events)] == [
            "it was not complete in time",
            "the PROXY header did not arrive in time",
        ]
