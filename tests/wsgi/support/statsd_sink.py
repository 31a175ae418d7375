"""A statsd daemon for tests: it records each datagram, can go away and come back, and leaves the parsing of
lines to a package.

yellowbox-statsd of BioCatch parses the lines. It was chosen because it alone supports everything that is sent
here (tags, `@rate`, packed values `1:2:3`, type `d`), refuses a line that it does not match completely, and
adds up by rate and tags itself. Considered and rejected: statsd-parser of npm and perfmetrics of PyPI
(neither tags nor packed values), statsd-parser of crates.io (a packed value is an error, `d` too),
statsdproto and statsdproxy of crates.io (split a line into fields without parsing them), netuitive-statsd
of PyPI (no packed values).
"""

import os
import select
import socket
import threading
from collections import Counter

import pytest
from support.server import PATIENCE_S
from yellowbox_statsd.metrics import CapturedMetricsCollection, Metric

# Maximum size of a datagram: the payload of an Ethernet frame over IPv6, and what agents read from a socket.
UDP_BYTES = 1432
UNIX_BYTES = 8192
# Options with which a server sends often and in this format.
DOGSTATSD = ("--statsd-interval", "200ms", "--statsd-format", "dogstatsd")
SO_RCVBUFFORCE = 33  # socket(7); the socket module has no name for it


class Received:
    """The received datagrams, and their sums as the package computes them."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.datagrams = []
        self.metrics = []
        self.refused = []
        self._captured = CapturedMetricsCollection()

    def take(self, datagram):
        """Adds a datagram."""
        self.datagrams.append(datagram)
        for line in datagram.split(b"\n"):
            try:
                metric = Metric.parse(line.decode())
            except ValueError:
                self.refused.append(line)
                continue
            self.metrics.append(metric)
            self._captured.append(metric)

    def _full(self, name):
        return f"{self.prefix}.{name}" if self.prefix else name

    def count(self, name, **tags):
        """Returns the sum of a counter."""
        total = self._captured.get_count(self._full(name), tags=tags).total()
        assert total == int(total), f"{name} came in parts: {total}"
        return int(total)

    def counts(self, **tags):
        """Returns the sums of all counters by name without the prefix, added up over other tags."""
        skip = len(self._full(""))
        names = {name for name, kind in self._captured if kind == "c"}
        found = Counter({name[skip:]: self.count(name[skip:], **tags) for name in names})
        return +found

    def gauge(self, name, **tags):
        """Returns the last value of a gauge, or `None` if it never came."""
        found = self._captured.get_gauge(self._full(name), tags=tags)
        return found.last() if found else None

    def spread(self, name, **tags):
        """Returns the number of values of a distribution, weighted by their rate, and the values."""
        found = self._captured.get_distribution(self._full(name), tags=tags)
        count = sum(len(one.values) / (one.sample_rate or 1) for one in found)
        return count, [float(value) for one in found for value in one.values]

    def tag_values(self, key):
        """Returns all values that a tag ever had."""
        tagged = [metric.tags.get(key, ()) for metric in self.metrics if metric.tags]
        return sorted({value for values in tagged for value in values})


class Sink:
    """Listens on a free UDP port of the loopback interface, or on a unix socket at `path`."""

    def __init__(self, path=None, prefix="arctos"):
        self.path, self.port = path and str(path), 0
        self.limit_bytes = UNIX_BYTES if path else UDP_BYTES
        self._received, self._came = Received(prefix), threading.Condition()
        self._thread = None
        self.open()

    @property
    def option(self):
        """The value of `--statsd-host`."""
        return f"unix://{self.path}" if self.path else f"127.0.0.1:{self.port}"

    # --- Opening and closing ---

    def open(self, reading=True):
        """Binds the address, again if it was closed. Without `reading`, datagrams stay in the kernel."""
        if self.path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            if os.path.exists(self.path):
                os.unlink(self.path)
            self._socket.bind(self.path)
        else:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._widen()
            self._socket.bind(("127.0.0.1", self.port))
            self.port = self._socket.getsockname()[1]
        self._socket.setblocking(False)
        self._closing, self._close = os.pipe()
        if reading:
            self.read()
        return self

    def _widen(self):
        size_bytes = 8 << 20
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size_bytes)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)

    def read(self):
        """Starts to read."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self):
        """Closes the socket without losing what the kernel has accepted for it: makes it unreachable, reads the
        queue, and then closes it."""
        if self._socket is None:
            return
        if self.path:
            self._socket.shutdown(socket.SHUT_RD)
        else:
            self._socket.connect(("127.0.0.1", 1))  # udp(7): it now receives from this address only
        os.close(self._close)
        if self._thread is None:
            self.read()
        self._thread.join(PATIENCE_S)
        self._thread = None
        os.close(self._closing)
        self._socket.close()
        self._socket = None

    def _read(self):
        going = False
        while True:
            ready = select.select([self._socket, self._closing], [], [])[0]
            going = going or self._closing in ready
            while (datagram := self._next()) is not None:
                with self._came:
                    self._received.take(datagram)
                    self._came.notify_all()
            if going:
                return

    def _next(self):
        try:
            return self._socket.recv(65536) or None
        except BlockingIOError:
            return None

    # --- Received metrics ---

    def look(self, question):
        """Returns `question(received)` for what was received so far."""
        with self._came:
            return question(self._received)

    def wait_for(self, question, timeout=PATIENCE_S):
        """Waits for the first true `question(received)`, and returns it."""
        with self._came:
            if not self._came.wait_for(lambda: question(self._received), timeout):
                raise AssertionError(f"not within {timeout} s: {dict(self._received.counts())}")
            return question(self._received)

    def check(self):
        """Checks that every datagram is within the limit and every line well-formed."""
        with self._came:
            assert self._received.refused == []
            assert max(map(len, self._received.datagrams), default=0) <= self.limit_bytes
        return self


def finish(server, sink):
    """Stops the server, and returns everything that was received."""
    server.stop()
    sink.close()
    return sink.check().look(lambda received: received)


def fill(path):
    """Fills the queue of this unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to:
        to.connect(path)
        with pytest.raises(BlockingIOError):
            while True:
                to.send(b"arctos.test.filler:1|c")
