"""Kept connections that any worker may serve: what a client sees on one of them."""

import hashlib
import json
import signal
import socket
import struct
import time

import pytest
from support.server import WORKER_LEFT
from support.shared_connections import assert_ends_orderly
from support.waiting import wait_until

MIB = bytes(range(256)) * 4096


# --- One hanging worker ---


@pytest.fixture(params=["tcp", "unix socket", "preload"])
def sharing(request, serve_sharing, tmp_path):
    """A server with 3 workers, of which each test hangs one."""
    options = ["--preload"] if request.param == "preload" else []
    bind = f"unix:{tmp_path}/http" if request.param == "unix socket" else "127.0.0.1:0"
    return serve_sharing(*options, workers=3, bind=bind)


@pytest.mark.smoke
def test_other_workers_answer_all_connections_while_one_worker_hangs(sharing, gate, inbox):
    pool = [sharing.connect() for _ in range(16)]
    first = [sharing.worker_of(wire) for wire in pool]
    # Sticky connections of the worker that has most of them would wait.
    owner = max(set(first), key=first.count)
    hung = sharing.hang(pool[first.index(owner)], gate, inbox)
    others = [wire for number, wire in enumerate(pool) if number != first.index(owner)]
    for _ in range(2):
        assert hung not in [sharing.worker_of(wire) for wire in others]
    sharing.wait_for_shared(15, being_served=1)
    gate.open()
    assert int(pool[first.index(owner)].response().body) == hung
    sharing.wait_for_shared(16)
    sharing.assert_each_executed_once()


def test_connections_that_never_sent_anything_are_answered_by_the_others(sharing, gate, inbox):
    pool = sharing.silent_pool(16)
    hung = sharing.hang(pool[0], gate, inbox)
    assert hung not in [sharing.worker_of(wire) for wire in pool[1:]]
    sharing.wait_for_shared(15, being_served=1)
    gate.open()
    assert int(pool[0].response().body) == hung
    sharing.assert_each_executed_once()


def test_connections_are_shared_by_default_once_requests_are_slow(serve_sharing, gate, inbox):
    sharing = serve_sharing(mode=None, workers=3)
    pool = [sharing.connect() for _ in range(6)]

    def are_shared():
        for wire in pool:
            assert wire.get(sharing.named("/slow?ms=5")).response().status == 200
        return sharing.gauge("conn_shared") == len(pool)

    wait_until(are_shared)
    hung = sharing.hang(pool[0], gate, inbox)
    assert hung not in [sharing.worker_of(wire) for wire in pool[1:]]
    gate.open()
    assert int(pool[0].response().body) == hung
    sharing.assert_each_executed_once()


def test_a_single_worker_keeps_its_connections_and_leaves_them_to_the_next(serve_sharing):
    sharing = serve_sharing(workers=1)
    pool = [sharing.connect() for _ in range(4)]
    first = {sharing.worker_of(wire) for wire in pool}
    assert (sharing.gauge("conn_shared"), sharing.gauge("conn_open")) == (0, 4)
    since = sharing.server.position()
    sharing.server.send(signal.SIGHUP)
    sharing.server.wait_for(WORKER_LEFT, since=since)
    second = {sharing.worker_of(wire) for wire in pool}
    assert len(first) == len(second) == 1 and first != second
    sharing.assert_each_executed_once()


def test_requests_that_came_while_all_workers_hang_are_all_answered(serve_sharing, make_gate, inbox):
    sharing = serve_sharing(workers=2)
    gates = [make_gate(), make_gate()]
    pool = sharing.pool(12)
    hung = {sharing.hang(wire, gate, inbox) for wire, gate in zip(pool, gates, strict=False)}
    assert len(hung) == 2
    for wire in pool[2:]:
        wire.get(sharing.named("/slow?ms=0"))
    gates[0].open()
    freed = int(pool[0].response().body)
    assert [int(wire.response().body) for wire in pool[2:]] == [freed] * 10
    gates[1].open()
    assert {freed, int(pool[1].response().body)} == hung
    sharing.assert_each_executed_once()


# --- Requests ---


@pytest.fixture
def three(serve_sharing):
    """A server with 3 workers, and two connections that they share."""
    sharing = serve_sharing(workers=3)
    return sharing, *sharing.pool(2)


def test_pipelined_requests_are_answered_in_order(three):
    sharing, wire, _ = three
    bodies = [f"number {number}".encode() for number in range(20)]
    heads = [f"POST {sharing.named('/echo')} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(it)}\r\n\r\n" for it in bodies]
    wire.send(b"".join(head.encode() + body for head, body in zip(heads, bodies, strict=True)))
    assert [wire.response().body for _ in bodies] == bodies
    sharing.wait_for_shared(2)
    sharing.worker_of(wire)
    sharing.assert_each_executed_once()


@pytest.mark.parametrize("cut", [1, 30, -7, -3], ids=["first byte", "in the head", "end of the head", "in the body"])
def test_a_request_in_two_pieces_is_executed_once(three, cut):
    sharing, wire, other = three
    request = f"POST {sharing.named('/echo')} HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nwhole".encode()
    wire.send(request[:cut])
    sharing.wait_for_shared(1, being_served=1)  # one worker reads it; the others are idle
    for _ in range(10):
        sharing.worker_of(other)
    wire.send(request[cut:])
    assert wire.response().body == b"whole"
    sharing.wait_for_shared(2)
    sharing.assert_each_executed_once()


def test_an_upload_in_chunks_is_read_by_one_worker(three):
    sharing, wire, other = three
    wire.send(f"POST {sharing.named('/digest')} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
    for at in range(0, len(MIB), 10_000):
        piece = MIB[at : at + 10_000]
        wire.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if at % 100_000 == 0:
            sharing.worker_of(other)
    found = json.loads(wire.send("0\r\n\r\n").response().body)
    assert (found["size_bytes"], found["sha256"]) == (len(MIB), hashlib.sha256(MIB).hexdigest())
    sharing.wait_for_shared(2)
    sharing.assert_each_executed_once()


def test_a_large_streamed_response_arrives_whole(three):
    sharing, wire, other = three
    wire.get(sharing.named("/chunks?count=64&size=65536"))
    sharing.worker_of(other)
    expected = b"".join(bytes([ord("a") + number % 26]) * 65536 for number in range(64))
    answer = wire.response()
    assert answer.is_whole and answer.field("Transfer-Encoding") == "chunked" and answer.body == expected
    sharing.wait_for_shared(2)
    sharing.worker_of(wire)
    sharing.assert_each_executed_once()


def test_a_stream_that_pauses_stays_with_its_worker(three, gate):
    sharing, wire, other = three
    wire.get(sharing.named(f"/gated?gate={gate.path}"))
    wire.until(b"first\n")
    for _ in range(10):
        sharing.worker_of(other)
    sharing.wait_for_shared(1, being_served=1)
    gate.open()
    wire.until(b"second\n")
    assert wire.exactly(7) == b"\r\n0\r\n\r\n"
    sharing.wait_for_shared(2)
    sharing.worker_of(wire)
    sharing.assert_each_executed_once()


def test_100_continue_is_sent_once_and_before_the_body(three):
    sharing, wire, other = three
    target = sharing.named("/echo")
    wire.send(f"POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    sharing.worker_of(other)
    answer = wire.send("body").response()
    assert (answer.status, answer.body, wire.held) == (200, b"body", b"")
    sharing.wait_for_shared(2)
    sharing.assert_each_executed_once()


def test_the_answer_to_head_has_no_body(three):
    sharing, wire, _ = three
    for _ in range(3):
        answer = wire.get(sharing.named("/hello"), method="HEAD").response("HEAD")
        assert (answer.status, answer.field("Content-Length"), wire.held) == (200, "14", b"")
    sharing.worker_of(wire)
    sharing.assert_each_executed_once()


def test_a_bad_request_ends_its_own_connection_with_400(three):
    sharing, wire, other = three
    answer = wire.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").response()
    assert (answer.status, answer.field("Connection")) == (400, "close")
    assert_ends_orderly(wire)
    sharing.wait_for_shared(1)
    sharing.worker_of(other)
    sharing.assert_each_executed_once()


# --- Clients that leave ---


def reset(wire):
    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.socket.close()


def test_an_idle_client_that_resets_is_forgotten_by_all(three):
    sharing, wire, other = three
    reset(wire)
    sharing.wait_for_shared(1)
    sharing.worker_of(other)


def test_a_client_that_resets_in_its_request_does_not_harm_others(three, gate, inbox):
    sharing, wire, other = three
    sharing.hang(wire, gate, inbox)
    reset(wire)
    sharing.worker_of(other)
    gate.open()
    sharing.wait_for_shared(1)
    sharing.worker_of(other)
    sharing.assert_each_executed_once()


def test_a_half_closed_client_gets_its_answer_and_then_the_end(three):
    sharing, wire, other = three
    wire.get(sharing.named("/hello"))
    wire.socket.shutdown(socket.SHUT_WR)
    assert wire.response().body == b"Hello, world!\n"
    assert_ends_orderly(wire)
    other.socket.shutdown(socket.SHUT_WR)
    assert_ends_orderly(other)
    sharing.wait_for_shared(0)
    sharing.assert_each_executed_once()


# --- Idle connections ---


def test_keep_alive_ends_idle_shared_connections_after_its_time(serve_sharing):
    sharing = serve_sharing(workers=3, keep_alive="2s")
    pool, began = [], []
    for _ in range(6):
        pool.append(sharing.connect())
        sharing.worker_of(pool[-1])
        began.append(time.monotonic())
        sharing.worker_of(pool[-1])
    for wire, at in zip(pool, began, strict=True):
        assert_ends_orderly(wire)
        assert time.monotonic() - at >= 2
    sharing.wait_for_shared(0)


def test_the_gauges_agree_with_what_is_open(serve_sharing, make_gate, inbox):
    sharing = serve_sharing(workers=3)
    pool = sharing.pool(10)
    gates = [make_gate(), make_gate()]
    for wire, gate in zip(pool, gates, strict=False):
        sharing.hang(wire, gate, inbox)
    sharing.wait_for_shared(8, being_served=2)
    for wire in pool[6:]:
        wire.socket.close()
    sharing.wait_for_shared(4, being_served=2)
    for wire, gate in zip(pool, gates, strict=False):
        gate.open()
        assert wire.response().status == 200
    sharing.wait_for_shared(6)
    sharing.server.stop()
    for wire in pool[:6]:
        assert_ends_orderly(wire)


def test_descriptors_return_to_what_they_were_after_all_clients_left(serve_sharing):
    sharing = serve_sharing(workers=3)
    before = sharing.descriptor_counts()
    for _ in range(2):
        pool = sharing.pool(40) + sharing.silent_pool(10)
        sharing.wait_for_descriptors({pid: count + 50 for pid, count in before.items()})
        for number, wire in enumerate(pool):
            if number % 2:
                reset(wire)
            wire.socket.close()
        sharing.wait_for_descriptors(before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_every_idle_connection_in_an_orderly_way(serve_sharing, number):
    sharing = serve_sharing(workers=3)
    pool = sharing.pool(20) + sharing.silent_pool(10)
    sharing.server.stop(number)
    for wire in pool:
        assert_ends_orderly(wire)
