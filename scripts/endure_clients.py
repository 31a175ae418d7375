"""The clients of `scripts/endure storm`: they keep their connections, give each request a name, and retry nothing."""

import heapq
import itertools
import random
import re
import selectors
import threading
import time
from collections import Counter

from endure_server import Failed

LONG_SHARE = 0.1  # of the requests; the others take SHORT_MS
SHORT_MS, LONG_MS = 1, (20, 100)
SPLIT_SHARE = 0.05  # of the requests: they come in two pieces
BUSY_PAUSE_S, IDLE_PAUSE_S, SPLIT_PAUSE_S = 0.2, (0.5, 3), (0.001, 0.05)
BUSY_PAUSE_SHARE = 0.2  # how often a busy client pauses; else its next request follows at once
HUNG_S = 20
# A worker may share a connection only half a second after its response, if the supervisor was busy.
SHARED_AFTER_S = 2
CLOSE = re.compile(rb"^connection: close\r$", re.IGNORECASE | re.MULTILINE)


class Connection:
    """A client: one connection at a time, and one request at a time."""

    def __init__(self, number, is_busy):
        self.number, self.is_busy = number, is_busy
        self.socket = None
        self.shared_at = None  # when the connection counts as shared
        self.name, self.sent_at, self.is_split = None, 0.0, False  # of the request that has no response yet
        self.received = b""

    def is_shared(self, now):
        return self.shared_at is not None and self.shared_at <= now


class Clients(threading.Thread):
    """All clients, in one thread. `counts` says what happened to them since `begin`."""

    def __init__(self, connect, busy, idle, seed):
        super().__init__(daemon=True)
        self._connect, self._random = connect, random.Random(seed)
        self.all = [Connection(number, number < busy) for number in range(busy + idle)]
        self._selector, self._agenda, self._order = selectors.DefaultSelector(), [], itertools.count()
        self._wanted, self._reached = "run", threading.Event()
        self._asleep = []  # the clients that would have asked while all pause
        self._names = itertools.count()
        self.answered, self.failure = set(), None
        self.counts, self.slowest_s, self.losses = Counter(), 0.0, []
        for one in self.all:
            self._later(self._random.uniform(0, 0.2), self._ask, one)

    # --- For the main thread ---

    def begin(self):
        """Resumes the load, and counts from 0."""
        self.counts, self.slowest_s, self.losses = Counter(), 0.0, []
        self._want("run")

    def pause(self):
        """Returns when each request has its outcome. Connections stay open."""
        self._want("pause")

    def close(self):
        """Returns when all connections are closed."""
        self._want("close")

    def end(self):
        self._want("end")
        self.join()

    def open_count(self):
        return sum(one.socket is not None for one in self.all)

    def _want(self, what):
        self._wanted = what
        self._reached.clear()
        if not self._reached.wait(2 * HUNG_S) or self.failure:
            raise Failed(f"the clients failed: {self.failure}")

    # --- The thread ---

    def run(self):
        try:
            while self._wanted != "end":
                self._turn()
        except BaseException as error:
            self.failure = repr(error)
            raise
        finally:
            self._close_all()
            self._reached.set()

    def _turn(self):
        now = time.monotonic()
        wait = min(0.05, max(0.0, self._agenda[0][0] - now)) if self._agenda else 0.05
        for key, _ in self._selector.select(wait):
            self._receive(key.data)
        now = time.monotonic()
        while self._agenda and self._agenda[0][0] <= now:
            _, _, what, one, argument = heapq.heappop(self._agenda)
            what(one, *argument)
        for one in self.all:
            if one.name and now - one.sent_at > HUNG_S:
                self._lost(one, "hung")
        if not self._reached.is_set():
            self._reach()

    def _reach(self):
        """Does what the main thread wants, and says when it is so."""
        if self._wanted == "run":
            asleep, self._asleep = self._asleep, []
            for one in asleep:
                self._later(0, self._ask, one)
        elif any(one.name for one in self.all):
            return
        elif self._wanted == "close":
            self._close_all()
        self._reached.set()

    def _later(self, pause_s, what, one, *argument):
        heapq.heappush(self._agenda, (time.monotonic() + pause_s, next(self._order), what, one, argument))

    def _close_all(self):
        for one in self.all:
            self._drop(one)

    def _drop(self, one):
        if one.socket:
            self._selector.unregister(one.socket)
            one.socket.close()
        one.socket = one.shared_at = one.name = None
        one.received = b""

    def _pause_s(self, one):
        if not one.is_busy:
            return self._random.uniform(*IDLE_PAUSE_S)
        return self._random.uniform(0, BUSY_PAUSE_S) if self._random.random() < BUSY_PAUSE_SHARE else 0

    def _ask(self, one):
        if self._wanted != "run":
            self._asleep.append(one)
            return
        if not one.socket:
            one.socket = self._connect()
            self._selector.register(one.socket, selectors.EVENT_READ, one)
            self.counts["connects"] += 1
        one.name, one.sent_at = f"{one.number}.{next(self._names)}", time.monotonic()
        ms = self._random.uniform(*LONG_MS) if self._random.random() < LONG_SHARE else SHORT_MS
        request = b"GET /named?id=%s&ms=%d HTTP/1.1\r\nHost: a\r\n\r\n" % (one.name.encode(), ms)
        one.is_split = self._random.random() < SPLIT_SHARE
        self.counts["requests"] += 1
        end = self._random.randrange(1, len(request)) if one.is_split else len(request)
        self._send(one, one.name, request[:end])
        if one.is_split:
            self._later(self._random.uniform(*SPLIT_PAUSE_S), self._send, one, one.name, request[end:])

    def _send(self, one, name, piece):
        """Sends a piece of the request with this name, if there is still one."""
        if one.name == name:
            try:
                one.socket.sendall(piece)
            except OSError:
                pass  # The end of the connection is about to be read.

    def _receive(self, one):
        try:
            piece = one.socket.recv(65536)
        except OSError:
            piece = b""
        if piece:
            one.received += piece
            head, blank, body = one.received.partition(b"\r\n\r\n")
            if blank and len(body) >= int(re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)[1]):
                self._answered(one, head)
        elif one.name:
            self._lost(one, "cut" if one.received else "ended")
        else:
            self._closed(one)

    def _answered(self, one, head):
        now, status = time.monotonic(), int(head[9:12])
        if one.name is None:
            self.counts["unasked"] += 1
            return self._closed(one)
        if status != 200:
            return self._lost(one, str(status))
        self.counts["200"] += 1
        self.answered.add(one.name)
        self.slowest_s = max(self.slowest_s, now - one.sent_at)
        one.name, one.received = None, b""
        if one.shared_at is None:
            one.shared_at = now + SHARED_AFTER_S
        if CLOSE.search(head + b"\r"):
            self.counts["announced"] += 1
            self._drop(one)
        self._later(self._pause_s(one), self._ask, one)
        return None

    def _lost(self, one, how):
        """A request was not answered with 200."""
        now = time.monotonic()
        self.counts[how] += 1
        kind = "split" if one.is_split else "whole" if one.is_shared(now) else "young"
        self.counts[f"lost {kind}"] += 1
        self.losses.append(f"{one.name} ({kind}, {how} after {now - one.sent_at:.3f} s)")
        self._drop(one)
        self._later(self._pause_s(one), self._ask, one)

    def _closed(self, one):
        """The server has closed a connection that had no request. Its client opens the next one when it asks."""
        self.counts["closed shared" if one.is_shared(time.monotonic()) else "closed young"] += 1
        self._drop(one)
