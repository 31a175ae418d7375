"""Load of the fault table: requests of 1 ms and of 100 ms, half of the clients on kept connections and
half on a new one for each request. Each request has a name and one outcome; nothing is retried,
nothing is forgotten, and no client gives up a connection that still works."""

import os
import threading
import time
from collections import Counter
from enum import Enum
from itertools import count
from typing import NamedTuple

from support.server import APPS, PATIENCE_S
from support.wire import Ended, Wire


class Outcome(Enum):
    """How a request ended, for its client."""

    ANSWERED = "whole, with status 200"
    REFUSED = "no connection was made"
    CLOSED = "the connection was closed before a byte of the answer"
    RESET = "the connection was reset before a byte of the answer"
    CUT = "the answer ended in the middle"
    TIMED_OUT = "nothing came, and the connection stayed"
    WRONG = "another status"


class Record(NamedTuple):
    """One request."""

    name: str
    outcome: Outcome
    worker: int  # who answered on this connection, before or now; 0 when nobody did
    version: str  # of the application that answered; empty without an answer
    is_kept: bool  # whether the connection had carried a request before
    begun: float
    ended: float


class Traffic:
    """Clients at work until the `with` block ends."""

    def __init__(self, server, folder=None, clients=8, path="/work", kept=True, new=True):
        self.address = ("127.0.0.1", server.port)
        self.path, self.folder = path, folder
        self.records, self._recorded = [], threading.Condition()
        self.connections = 0
        self._numbers, self._done = count(), threading.Event()
        kinds = [kind for kind, is_wanted in ((self._keeping, kept), (self._connecting, new)) if is_wanted]
        self._threads = [
            threading.Thread(target=kinds[number % len(kinds)], args=(number,), daemon=True) for number in range(clients)
        ]
        self._answered = Counter()
        # Clients that take a new connection for each request.
        self.connecting = sum(kinds[number % len(kinds)] == self._connecting for number in range(clients))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    # --- What came of it ---

    def summary(self):
        """How many requests ended in which way."""
        with self._recorded:
            return Counter(record.outcome.name for record in self.records)

    def answered(self):
        """Those that were answered."""
        return [record for record in self.records if record.outcome is Outcome.ANSWERED]

    def failed(self):
        """Those that were not."""
        return [record for record in self.records if record.outcome is not Outcome.ANSWERED]

    def begun(self, records):
        """Those that the application had been given."""
        names = given(self.folder)
        return [record for record in records if record.name in names]

    def wait_for_each(self, more=5):
        """Returns when each client has had so many more answers: whatever happened to its connection
        before, it has noticed."""
        with self._recorded:
            before = self._answered.copy()
            everyone = range(len(self._threads))
            came = lambda: all(self._answered[one] >= before[one] + more for one in everyone)  # noqa: E731
            assert self._recorded.wait_for(came, PATIENCE_S), self.records[-20:]

    def assert_nothing_lost(self):
        """Every request was answered."""
        assert not self.failed(), (self.summary(), self.failed()[:10])

    def assert_lost_with(self, *workers):
        """As F1 has it: of what was not answered, at most one request a worker had been given to the
        application; the rest had been sent on connections of theirs, and on no other. None was refused
        and none was cut. Returns them."""
        failed = self.failed()
        told = (self.summary(), failed[:10])
        assert {record.outcome for record in failed} <= {Outcome.CLOSED, Outcome.RESET}, told
        assert all(record.worker in workers for record in failed if record.is_kept), told
        assert len(self.begun(failed)) <= len(workers), told
        # A worker may hold a connection of each client that has not sent its request yet. Whether more
        # were lost in the queue, the counters tell.
        assert sum(not record.is_kept for record in failed) <= self.connecting * len(workers), told
        return failed

    # --- Clients ---

    def _record(self, client, record):
        with self._recorded:
            self.records.append(record)
            self._answered[client] += record.outcome is Outcome.ANSWERED
            self._recorded.notify_all()

    def _connect(self, client):
        begun = time.monotonic()
        try:
            wire = Wire(self.address)
        except OSError:
            self._record(client, Record("", Outcome.REFUSED, 0, "", False, begun, time.monotonic()))
            self._done.wait(0.01)  # a refused client comes back, but does not spin
            return None
        with self._recorded:
            self.connections += 1
        return wire

    def _keeping(self, client):
        while not self._done.is_set():
            if (wire := self._connect(client)) is None:
                continue
            with wire:
                worker, is_kept, goes_on = 0, False, True
                while goes_on and not self._done.is_set():
                    worker, goes_on = self._request(client, wire, worker, is_kept)
                    is_kept = True

    def _connecting(self, client):
        while not self._done.is_set():
            if (wire := self._connect(client)) is not None:
                with wire:
                    self._request(client, wire, 0, False, "Connection: close")

    def _request(self, client, wire, worker, is_kept, *fields):
        number = next(self._numbers)
        name = f"id={number}"
        # One in ten is long: half of the workers' time.
        ms = 100 if number % 10 == 0 else 1
        begun = time.monotonic()
        outcome, version, says_close = Outcome.WRONG, "", True
        try:
            wire.get(f"{self.path}?ms={ms}&{name}", *fields)
            answer = wire.response()
            says_close = answer.field("Connection") == "close"
            if not answer.is_whole:
                outcome = Outcome.CUT
            elif answer.status == 200:
                outcome = Outcome.ANSWERED
                pid, version = answer.body.decode().split()
                worker = int(pid)
        except TimeoutError:
            outcome = Outcome.TIMED_OUT
        except Ended as ended:
            outcome = Outcome.CUT if ended.held else Outcome.RESET if ended.was_reset else Outcome.CLOSED
        except OSError:  # it was reset before the request had been sent
            outcome = Outcome.RESET
        self._record(client, Record(name, outcome, worker, version, is_kept, begun, time.monotonic()))
        return worker, outcome is Outcome.ANSWERED and not says_close


def given(folder):
    """The names of all requests that the application was given."""
    return {field for line in (folder / "begun").read_text().split() for field in line.split("&")}


class Code:
    """The module `shop` in a folder, and what a server needs to serve it."""

    def __init__(self, folder):
        self.folder = folder
        self.options = {
            "cwd": folder,
            "env": {"FAULTY_BEGUN": str(folder / "begun")},
        }
        (folder / "begun").touch()

    def write(self, text):
        """Whole, at one go: a worker may import it at any moment."""
        new = self.folder / "shop.new"
        new.write_text(text)
        os.replace(new, self.folder / "shop.py")

    def good(self, version, *before):
        """Code that works."""
        self.write("\n".join([*before, f"from faulty import application\napp = application({version!r})\n"]))

    def serve(self, serve, *options, **more):
        """A server of it."""
        return serve("shop:app", "--pythonpath", APPS, *options, **self.options, **more)
