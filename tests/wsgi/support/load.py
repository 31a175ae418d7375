"""Load whose every request has an outcome: half of the clients keep their connection, half take a new
one for each request. Nothing is retried, nothing is forgotten."""

import threading
import time
from collections import Counter
from enum import Enum
from typing import NamedTuple

from support.wire import Ended, Wire

# A kept connection may be closed while its client sends the next request: that takes a round trip. If
# it takes longer, the server had the request and did not answer it.
RACE_S = 0.5


class Outcome(Enum):
    """How a request ended, for the client."""

    ANSWERED = "answered in full, with status 200"
    REFUSED = "no connection was made"
    STALE = "the kept connection was closed at once, before a byte of the answer"
    HELD = "the kept connection was closed later, before a byte of the answer"
    LOST = "the connection was made, and ended before a byte of the answer"
    CUT = "the answer ended in the middle"
    WRONG = "another status"


class Record(NamedTuple):
    """One request."""

    outcome: Outcome
    at: float
    worker: int  # who answered on this connection before, or now; 0 when nobody did
    is_kept: bool  # whether the connection had carried a request before


class Load:
    """Clients at work until the `with` block ends."""

    def __init__(self, server, clients=8, target="/slow?ms=2"):
        self.address = ("127.0.0.1", server.port)
        self.target = target
        self.records, self._recorded = [], threading.Condition()
        self._done = threading.Event()
        # Clients that take a new connection for each request: so many may be with one worker at a time.
        self.connecting = (clients + 1) // 2
        self._threads = [
            threading.Thread(target=self._keeping if number % 2 else self._connecting, daemon=True)
            for number in range(clients)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join(60)

    def _record(self, outcome, worker, is_kept):
        with self._recorded:
            self.records.append(Record(outcome, time.monotonic(), worker, is_kept))
            self._recorded.notify_all()

    def wait_for_answers(self, count, timeout=60):
        """Returns after `count` more answered requests."""
        with self._recorded:
            start = len(self.records)
            answered = lambda: sum(one.outcome is Outcome.ANSWERED for one in self.records[start:])  # noqa: E731
            assert self._recorded.wait_for(lambda: answered() >= count, timeout), self.summary()

    def summary(self):
        """How many requests ended in which way."""
        return Counter(record.outcome.name for record in self.records)

    def failed(self):
        """All that were not answered."""
        return [record for record in self.records if record.outcome is not Outcome.ANSWERED]

    # --- Clients ---

    def _keeping(self):
        while not self._done.is_set():
            try:
                wire = Wire(self.address)
            except OSError:
                self._record(Outcome.REFUSED, 0, False)
                self._done.wait(0.01)  # a refused client comes back, but does not spin
                continue
            with wire:
                worker, is_kept = 0, False
                while not self._done.is_set():
                    outcome, worker, says_close = self._request(wire, worker, is_kept)
                    if outcome is not Outcome.ANSWERED or says_close:
                        break
                    is_kept = True

    def _connecting(self):
        while not self._done.is_set():
            try:
                wire = Wire(self.address)
            except OSError:
                self._record(Outcome.REFUSED, 0, False)
                self._done.wait(0.01)
                continue
            with wire:
                self._request(wire, 0, False, "Connection: close")

    def _request(self, wire, worker, is_kept, *fields):
        begun = time.monotonic()
        try:
            wire.get(self.target, *fields)
            answer = wire.response()
        except (Ended, OSError) as error:
            came = getattr(error, "held", b"")
            closed = Outcome.STALE if time.monotonic() - begun < RACE_S else Outcome.HELD
            outcome = Outcome.CUT if came else closed if is_kept else Outcome.LOST
            self._record(outcome, worker, is_kept)
            return outcome, worker, True
        outcome = Outcome.CUT if not answer.is_whole else Outcome.ANSWERED if answer.status == 200 else Outcome.WRONG
        worker = int(answer.body) if outcome is Outcome.ANSWERED else worker
        self._record(outcome, worker, is_kept)
        return outcome, worker, answer.field("Connection") == "close"
