"""A statsd daemon of the tests' own: it keeps each datagram as it came, goes away and comes back, and
leaves what a line means to others.

The lines are read by yellowbox-statsd, a package of BioCatch's that tests of other programs receive
DogStatsD with. It was chosen because it alone knows all of what is sent here (tags, `@rate`, packed
values `1:2:3`, type `d`) and refuses whatever it does not match to the end, and because it adds up by
the rate and the tags on its own. Looked at, and left: statsd-parser of npm and perfmetrics of PyPI
(neither tags nor packed values), statsd-parser of crates.io (a packed value is an error, `d` too),
statsdproto and statsdproxy of crates.io (cut a line into fields, which they do not read), netuitive-statsd
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

# Most bytes of a datagram: what an Ethernet frame holds behind IPv6, and what agents read of a socket.
UDP_BYTES = 1432
UNIX_BYTES = 8192
# Options with which a server sends often, in lines of this format.
DOGSTATSD = ("--statsd-interval", "200ms", "--statsd-format", "dogstatsd")
SO_RCVBUFFORCE = 33  # socket(7); the socket module has no name for it


class Received:
    """What came, added up by the package."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.datagrams = []
        self.metrics = []
        self.refused = []
        self._captured = CapturedMetricsCollection()

    def take(self, datagram):
        """One more."""
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
        """Sum of a counter."""
        total = self._captured.get_count(self._full(name), tags=tags).total()
        assert total == int(total), f"{name} came in parts: {total}"
        return int(total)

    def counts(self, **tags):
        """All counters' sums, by name without the prefix; those of one name and other tags together."""
        skip = len(self._full(""))
        names = {name for name, kind in self._captured if kind == "c"}
        found = Counter({name[skip:]: self.count(name[skip:], **tags) for name in names})
        return +found

    def gauge(self, name, **tags):
        """Last value of a gauge; `None` when it never came."""
        found = self._captured.get_gauge(self._full(name), tags=tags)
        return found.last() if found else None

    def spread(self, name, **tags):
        """How many values a distribution has, each as often as its rate says; and the values."""
        found = self._captured.get_distribution(self._full(name), tags=tags)
        count = sum(len(one.values) / (one.sample_rate or 1) for one in found)
        return count, [float(value) for one in found for value in one.values]

    def tag_values(self, key):
        """All values that a tag ever had."""
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
        """As `--statsd-host` takes it."""
        return f"unix://{self.path}" if self.path else f"127.0.0.1:{self.port}"

    # --- Comes and goes ---

    def open(self, reading=True):
        """Comes (back) where it is or was. Without `reading`, what is sent to it stays in the kernel."""
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
        self._hear, self._tell = os.pipe()
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
        """Begins to read."""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self):
        """Goes, and loses nothing that the kernel has taken for it: first it is made so that nobody
        reaches it any more, then what is queued is read, then it is closed."""
        if self._socket is None:
            return
        if self.path:
            self._socket.shutdown(socket.SHUT_RD)
        else:
            self._socket.connect(("127.0.0.1", 1))  # udp(7): it now hears of this address only
        os.close(self._tell)
        if self._thread is None:
            self.read()
        self._thread.join(PATIENCE_S)
        self._thread = None
        os.close(self._hear)
        self._socket.close()
        self._socket = None

    def _read(self):
        going = False
        while True:
            ready = select.select([self._socket, self._hear], [], [])[0]
            going = going or self._hear in ready
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

    # --- What came ---

    def look(self, question):
        """The answer to a question about what came so far."""
        with self._came:
            return question(self._received)

    def wait_for(self, question, timeout=PATIENCE_S):
        """The first answer that is true."""
        with self._came:
            if not self._came.wait_for(lambda: question(self._received), timeout):
                raise AssertionError(f"not within {timeout} s: {dict(self._received.counts())}")
            return question(self._received)

    def check(self):
        """What must hold of all that ever comes."""
        with self._came:
            assert self._received.refused == []
            assert max(map(len, self._received.datagrams), default=0) <= self.limit_bytes
        return self


def finish(server, sink):
    """What had been received when the server was gone."""
    server.stop()
    sink.close()
    return sink.check().look(lambda received: received)


def fill(path):
    """Sends until the kernel takes no more for this unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to:
        to.connect(path)
        with pytest.raises(BlockingIOError):
            while True:
                to.send(b"arctos.test.filler:1|c")
