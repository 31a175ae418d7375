"""The statsd daemons of the tests, with handmade packets: they must add these up correctly before their sums for
the server mean anything."""

import socket

import pytest
from support.statsd_sink import Received


def send(option, *datagrams):
    """Sends from a new socket."""
    if option.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect(option.removeprefix("unix://"))
            return [to.send(datagram) for datagram in datagrams]
    host, port = option.split(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
        to.connect((host, int(port)))
        return [to.send(datagram) for datagram in datagrams]


LINES = [
    b"arctos.req.done:3|c|#worker:0,zone:eu\narctos.req.done:4|c|#worker:1,zone:eu",
    b"arctos.conn.open:7|g|#worker:1\narctos.conn.open:5|g|#worker:1",
    b"arctos.request.duration:1.5:2:300|d|@0.25|#worker:0\narctos.request.duration:9|d|#worker:0",
]


@pytest.fixture(params=["udp", "unix"])
def any_sink(request, make_sink, tmp_path):
    return make_sink(tmp_path / "socket" if request.param == "unix" else None)


def test_a_sink_adds_up_counters_by_tag_and_values_by_rate(any_sink):
    send(any_sink.option, *LINES)
    any_sink.close()
    assert any_sink.look(lambda received: received.counts()) == {"req.done": 7}
    assert any_sink.look(lambda received: received.count("req.done", worker=1)) == 4
    assert any_sink.look(lambda received: received.gauge("conn.open")) == 5
    assert any_sink.look(lambda received: received.spread("request.duration")) == (13, [1.5, 2, 300, 9])
    assert any_sink.look(lambda received: received.tag_values("worker")) == ["0", "1"]


@pytest.mark.parametrize("line", [b"a:1|c|#", b"a:1|c\n", b"a:|c", b"a:1|c|#b|c", b"a:1|c|@0.5|@0.5", b"a b:1|c", b""])
def test_a_sink_refuses_malformed_lines(line):
    received = Received("")
    received.take(line)
    assert received.refused


def test_a_closed_sink_loses_nothing_and_is_absent_until_it_reopens(any_sink):
    sent = 0
    for _ in range(200):
        sent += len(send(any_sink.option, b"arctos.req.done:1|c"))
    any_sink.close()
    with pytest.raises(OSError):
        send(any_sink.option, b"arctos.req.done:1|c", b"arctos.req.done:1|c")
    any_sink.open()
    sent += len(send(any_sink.option, b"arctos.req.done:1|c"))
    any_sink.close()
    assert any_sink.look(lambda received: received.count("req.done")) == sent


def test_etsys_statsd_adds_up_over_flushes_and_restarts(etsy):
    send(etsy.option, b"arctos.req.done:3|c\narctos.conn.open:7|g")
    etsy.drain()
    send(etsy.option, b"arctos.req.done:4|c")
    etsy.drain().stop().start()
    send(etsy.option, b"arctos.req.done:5|c\narctos.conn.open:6|g")
    etsy.drain().stop()
    assert etsy.count("arctos.req.done") == 12
    assert etsy.gauges["arctos.conn.open"] == 6
    assert etsy.count("statsd.bad_lines_seen") == 0


def test_etsys_statsd_receives_tags(etsy):
    send(etsy.option, b"arctos.req.done:3|c|#worker:0")
    etsy.drain()
    assert etsy.count("arctos.req.done;worker=0") == 3
