"""A client in an open loop: requests are due at times of their own, however slowly the server answers.

Latency counts from when a request is due, so that a request that waits for a connection, or for this client, is not
counted as a fast one (which is called coordinated omission). A request whose connection ends without a response is
lost, and is not repeated.

| connection | its request | what happens next |
|---|---|---|
| connecting | not sent | it is established, and the request is sent |
| busy | sent | the response arrives, and the connection is idle or closed |
| idle | none | takes a request, or is closed by the server |
"""

import contextlib
import errno
import gc
import random
import select
import socket
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

DRAIN_S = 30  # after the last arrival; what has no response then is lost
CHOICES = ("random", "newest", "oldest")
REQUEST = "GET /sleep/{} HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"


class Outcome(NamedTuple):
    """What became of one arrival."""

    at_s: float
    service_us: int
    late_s: float  # how much later than due this client began with it
    latency_s: float | None  # from when it was due to the end of its response; None if it is lost
    loss: str | None  # why it is lost


class Malformed(Exception):
    """A response that this client does not understand."""


class Response(NamedTuple):
    """What matters of a response."""

    status: int
    closes: bool


def complete(received):
    """Returns the response that `received` holds as a whole, or None if a part is missing."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.lower().split(b"\r\n")
    fields = {name: value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    try:
        version, status = first.split(b" ")[:2]
        length = int(fields[b"content-length"])
        status = int(status)
    except (KeyError, ValueError):
        raise Malformed from None
    if len(body) < length:
        return None
    if len(body) > length:
        raise Malformed
    kept = fields.get(b"connection", b"keep-alive" if version == b"http/1.1" else b"close")
    return Response(status, closes=kept != b"keep-alive")


class Connection:
    """A connection to the server, and the number of the request that it carries."""

    __slots__ = ("is_established", "received", "request", "socket")

    def __init__(self, socket, request):
        self.socket, self.request = socket, request
        self.is_established, self.received = False, b""


class Client:
    """Sends each request when it is due: on `pool` connections that are kept, or on a new one each if that is None.

    The first requests open the connections of the pool, so that they reach workers as connections do under load. From
    then on, a request takes an idle connection: a random one, or the one that was used last (`newest`) or the longest
    time ago (`oldest`). If none is idle, requests wait for one in the order of their arrival."""

    def __init__(self, port, arrivals, pool=None, choice="random", seed=0):
        self.address, self.arrivals, self.pool = ("127.0.0.1", port), arrivals, pool
        self.choice, self.draw = choice, random.Random(f"{seed} connections")
        self.poller = select.epoll()
        self.connections = {}  # by descriptor
        self.idle = []  # the one that was used longest ago first
        self.waiting = deque()  # numbers of requests for which no connection is idle
        self.late_s = [0.0] * len(arrivals)
        self.latency_s = [None] * len(arrivals)
        self.losses = {}  # number of a request -> why it is lost
        self.open_requests = 0
        self.closed_by_server = 0  # connections of the pool
        self.begun = 0.0

    def run(self):
        """Returns the outcome of each arrival."""
        with precise_timers(), contextlib.closing(self):
            self.begun = time.perf_counter()
            self.send_all()
            self.drain()
        return [
            Outcome(arrival.at_s, arrival.service_us, late_s, latency_s, self.losses.get(number))
            for number, (arrival, late_s, latency_s) in enumerate(zip(self.arrivals, self.late_s, self.latency_s))
        ]

    def close(self):
        for connection in self.connections.values():
            connection.socket.close()
        self.poller.close()

    def send_all(self):
        for number, arrival in enumerate(self.arrivals):
            due = self.begun + arrival.at_s
            while (now := time.perf_counter()) < due:
                self.turn(due - now)
            self.turn(0)  # so that a request of a client that is late finds the connections as they are
            self.late_s[number] = now - due
            self.open_requests += 1
            self.waiting.append(number)
            self.serve_waiting()

    def drain(self):
        until = time.perf_counter() + DRAIN_S
        while self.open_requests and (left := until - time.perf_counter()) > 0:
            self.turn(left)
        for number, latency_s in enumerate(self.latency_s):
            if latency_s is None:
                self.losses.setdefault(number, "no response in time")

    def turn(self, seconds):
        """Waits for events, and reacts to them. epoll_wait(2) only knows milliseconds, select(2) microseconds."""
        if seconds:
            select.select([self.poller], [], [], seconds)
        for descriptor, _ in self.poller.poll(0):
            self.react(self.connections[descriptor])
        self.serve_waiting()

    def serve_waiting(self):
        while self.waiting:
            if self.pool is None or len(self.connections) < self.pool:
                self.open(self.waiting.popleft())
            elif self.idle:
                self.send(self.next_idle(), self.waiting.popleft())
            else:
                return

    def next_idle(self):
        if self.choice == "newest":
            return self.idle.pop()
        return self.idle.pop(0 if self.choice == "oldest" else self.draw.randrange(len(self.idle)))

    def open(self, number):
        """Opens a connection for a request."""
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self.connections[opened.fileno()] = Connection(opened, number)
        self.poller.register(opened, select.EPOLLIN | select.EPOLLOUT)
        error = opened.connect_ex(self.address)
        if error in (0, errno.EINPROGRESS):
            self.send(connection, number)  # on the loopback interface, it is usually established by now
        else:
            self.end(connection, errno.errorcode[error])

    def send(self, connection, number):
        connection.request = number
        request = REQUEST.format(self.arrivals[number].service_us, "Connection: close\r\n" if self.pool is None else "")
        try:
            connection.socket.send(request.encode())  # which is smaller than any socket buffer
        except BlockingIOError:
            return  # it is not established yet
        except OSError as error:
            self.end(connection, errno.errorcode[error.errno])
            return
        if not connection.is_established:
            connection.is_established = True
            self.poller.modify(connection.socket, select.EPOLLIN)

    def react(self, connection):
        if not connection.is_established:
            self.send(connection, connection.request)
            return
        try:
            piece = connection.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.end(connection, errno.errorcode[error.errno])
            return
        if not piece or connection.request is None:
            self.closed_by_server += self.pool is not None
            self.end(connection, "closed")
            return
        connection.received += piece
        try:
            response = complete(connection.received)
        except Malformed:
            self.end(connection, "malformed response")
            return
        if response is not None:
            self.finish(connection, response)

    def finish(self, connection, response):
        self.settle(connection.request, None if response.status == 200 else f"status {response.status}")
        connection.request, connection.received = None, b""
        if self.pool is not None and not response.closes:
            self.idle.append(connection)
            return
        self.closed_by_server += self.pool is not None
        self.end(connection, "closed")

    def settle(self, number, loss):
        """The request has its response, or is lost."""
        self.open_requests -= 1
        if loss:
            self.losses[number] = loss
        else:
            self.latency_s[number] = time.perf_counter() - self.begun - self.arrivals[number].at_s

    def end(self, connection, reason):
        """Closes a connection. The request that it carries is lost."""
        del self.connections[connection.socket.fileno()]
        connection.socket.close()
        if connection.request is not None:
            self.settle(connection.request, reason)
        elif connection in self.idle:
            self.idle.remove(connection)


@contextlib.contextmanager
def precise_timers():
    """Lets timers of this process expire within a microsecond instead of 50, and prevents pauses by the collector.
    Children would inherit the timers, so that no server may be started meanwhile."""
    slack = Path("/proc/self/timerslack_ns")
    with contextlib.suppress(OSError):
        slack.write_text("1")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        with contextlib.suppress(OSError):
            slack.write_text("0")  # the default
