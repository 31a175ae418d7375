"""Clients that send requests while a test does something to the server, and a journal of what became of
each request.

Half of the clients keep their connection, and half open a new one for each request. They retry nothing,
forget nothing, and never give up a connection that still works, so the journal and the counters of the
server must agree.
"""

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from enum import Enum
from itertools import count
from typing import NamedTuple

from support.server import PATIENCE_S
from support.wire import Ended, Wire

# A server may close a kept connection while the client sends the next request: that takes one round trip.
# If it takes longer, the server had the request and did not answer it.
RACE_S = 0.5


class Outcome(Enum):
    """How a request ended, as its client saw it."""

    ANSWERED = "a complete response with status 200"
    REFUSED = "no connection was established"
    STALE = "the kept connection was closed at once, before the first byte of the response"
    HELD = "the kept connection was closed later, before the first byte of the response"
    LOST = "the new connection was closed before the first byte of the response"
    VICTIM = "502 or 504: the worker that ran it has died"
    CUT = "the response ended in the middle"
    TIMED_OUT = "no byte came, and the connection stayed open"
    WRONG = "another status"


# The connection was established, and ended before the first byte of the response of the application.
UNANSWERED = {Outcome.STALE, Outcome.HELD, Outcome.LOST, Outcome.VICTIM}


class Record(NamedTuple):
    """One request."""

    name: str  # a field of its query; empty without a connection
    outcome: Outcome
    worker: int  # the process that answered on this connection, before or now; 0 without one
    version: str  # of the application that answered; empty without one
    is_kept: bool  # whether the connection had carried a request before
    begun: float
    ended: float
    instance: str = ""  # the server that it was sent to, where there are several
    error: str = ""


class Journal:
    """The requests of a test, whichever clients sent them."""

    def __init__(self, directory=None):
        self.directory = directory
        self.environment = {}
        if directory is not None:
            (directory / "begun").touch()
            self.environment = {"COUNTED_BEGUN": str(directory / "begun")}
        self.records = []
        self.connections = self.left_open = 0
        # How many of the clients that run now, or ran last, open a new connection for each request.
        self.connecting = 0
        self.answered_by, self.answered_at = Counter(), Counter()  # by client, by instance
        self._changed = threading.Condition()
        self._numbers, self._counts, self._clients = count(), Counter(), range(0)

    # --- What became of the requests ---

    def summary(self):
        """The number of requests by the name of their outcome."""
        with self._changed:
            return Counter(self._counts)

    def answered(self):
        """The requests that were answered."""
        return [record for record in self.records if record.outcome is Outcome.ANSWERED]

    def failed(self):
        """The requests that were not answered."""
        return [record for record in self.records if record.outcome is not Outcome.ANSWERED]

    def begun(self, records):
        """Those of `records` that reached the application."""
        names = begun_names(self.directory)
        return [record for record in records if record.name in names]

    def assert_nothing_lost(self):
        """Every request was answered."""
        assert not self.failed(), (self.summary(), self.failed()[:10])

    def assert_lost_with(self, *workers):
        """The loss is the one that row F1 of the fault table allows for the death of these workers.

        Of the requests that were not answered, at most one per worker had reached the application. The
        others were sent on connections of these workers. None was refused, and none was cut. Returns them.
        """
        failed = self.failed()
        found = (self.summary(), failed[:10])
        assert {record.outcome for record in failed} <= UNANSWERED, found
        # Any worker may have run a victim: its connection may be shared.
        closed = [record for record in failed if record.is_kept and record.outcome is not Outcome.VICTIM]
        assert all(record.worker in workers for record in closed), found
        assert len(self.begun(failed)) <= len(workers), found
        # A worker may hold a connection of each client that has not sent its request yet. Whether more
        # were lost in the queue is what the counters of the server show.
        assert sum(not record.is_kept for record in failed) <= self.connecting * len(workers), found
        return failed

    # --- Waiting ---

    def wait_for(self, question, timeout=PATIENCE_S):
        """Returns once `question()` is true; it is asked again after each request."""
        with self._changed:
            assert self._changed.wait_for(question, timeout), (self._counts, self.records[-20:])

    def wait_for_requests(self, total, timeout=2 * PATIENCE_S):
        """Returns once `total` requests have ended."""
        self.wait_for(lambda: self._counts.total() >= total, timeout)

    def wait_for_answers(self, more):
        """Returns after `more` further answers."""
        with self._changed:
            total = self._counts[Outcome.ANSWERED.name] + more
        self.wait_for(lambda: self._counts[Outcome.ANSWERED.name] >= total)

    def wait_for_each(self, more=5):
        """Returns after `more` further answers to each client, which has then noticed whatever happened to
        its connection before."""
        with self._changed:
            before = self.answered_by.copy()
        self.wait_for(lambda: all(self.answered_by[client] >= before[client] + more for client in self._clients))

    # --- Requests ---

    def connect(self, address, client=None, instance=""):
        """Returns a connection, or `None` if it was refused."""
        begun = time.monotonic()
        try:
            wire = Wire(address)
        except OSError as error:
            refused = Record("", Outcome.REFUSED, 0, "", False, begun, time.monotonic(), instance, repr(error))
            self._add(client, refused)
            return None
        with self._changed:
            self.connections += 1
        return wire

    def request(self, wire, target, *fields, client=None, connection=None, names_worker=True):
        """Sends a request, reads the response, and returns the record of both."""
        connection = connection or Connection()
        with self._changed:
            number = next(self._numbers)
        name = f"id={number}"
        target = target(client, number) if callable(target) else target
        begun = time.monotonic()
        outcome, version, says_close, problem = Outcome.WRONG, "", True, ""
        try:
            wire.get(f"{target}{'&' if '?' in target else '?'}{name}", *fields)
            answer = wire.response()
            says_close = answer.field("Connection") == "close"
            if not answer.is_whole:
                outcome = Outcome.CUT
            elif answer.status == 200:
                outcome = Outcome.ANSWERED
                if names_worker:  # and the version of the application, where it has one
                    pid, _, version = answer.body.decode().strip().partition(" ")
                    connection.worker = int(pid)
            elif answer.status in (502, 504) and says_close:
                outcome = Outcome.VICTIM
            problem = "" if outcome is Outcome.ANSWERED else repr(answer)
        except (Ended, OSError) as error:
            outcome, problem = _failure(error, connection, time.monotonic() - begun), repr(error)
        record = Record(
            name, outcome, connection.worker, version, connection.is_kept, begun, time.monotonic(),
            connection.instance, problem,
        )  # fmt: skip
        self._add(client, record)
        connection.is_kept, connection.works = True, outcome is Outcome.ANSWERED and not says_close
        return record

    def leave(self):
        """A client gave up a connection that still works, because the test is over."""
        with self._changed:
            self.left_open += 1

    def start(self, clients, connecting):
        """`clients` clients begin to send, of which `connecting` open a new connection for each request."""
        with self._changed:
            self._clients, self.connecting = range(clients), connecting

    def _add(self, client, record):
        with self._changed:
            self.records.append(record)
            self._counts[record.outcome.name] += 1
            if record.outcome is Outcome.ANSWERED:
                self.answered_by[client] += 1
                self.answered_at[record.instance] += 1
            self._changed.notify_all()


class Connection:
    """What the journal remembers of a connection from one request to the next."""

    def __init__(self, instance=""):
        self.instance, self.worker = instance, 0
        self.is_kept, self.works = False, True  # it has carried a request, and can carry another one


def _failure(error, connection, took_s):
    if getattr(error, "held", b""):
        return Outcome.CUT
    if isinstance(error, TimeoutError):
        return Outcome.TIMED_OUT
    if not connection.is_kept:
        return Outcome.LOST
    return Outcome.STALE if took_s < RACE_S else Outcome.HELD


def begun_names(directory):
    """The names of all requests that reached the application, which writes them to the file `begun`."""
    return {field for line in (directory / "begun").read_text().split() for field in line.split("&")}


def mixed(path):
    """Requests of 1 ms and of 100 ms: one in ten is long, which is most of the time of a worker."""
    return lambda client, number: f"{path}?ms={100 if number % 10 == 0 else 1}"


class OneServer:
    """The destination of all requests."""

    def __init__(self, server):
        self.name, self.port = "", server.port

    def pick(self):
        return self

    def sends_to(self, instance):
        return True


@contextmanager
def traffic(server, clients=8, target="/slow?ms=2", kept=True, new=True, **options):
    """Clients of one server that are at work until the `with` block ends; yields their journal."""
    with traffic_to(OneServer(server), clients, target, kept, new, **options) as journal:
        yield journal


@contextmanager
def traffic_to(destination, clients, target, kept=True, new=True, journal=None, names_worker=True):
    """The same through a balancer: `pick()` returns where the next connection goes, and a client keeps a
    connection as long as the balancer `sends_to()` its instance."""
    journal, done = journal or Journal(), threading.Event()

    def connections(client):
        while not done.is_set():
            instance = destination.pick()
            if (wire := journal.connect(("127.0.0.1", instance.port), client, instance.name)) is None:
                done.wait(0.01)  # a refused client comes back, but does not spin
                continue
            with wire:
                yield wire, instance

    def keep(client):
        for wire, instance in connections(client):
            state = Connection(instance.name)
            while state.works and not done.is_set() and destination.sends_to(instance):
                journal.request(wire, target, client=client, connection=state, names_worker=names_worker)
            if state.works and done.is_set():
                journal.leave()

    def reconnect(client):
        for wire, instance in connections(client):
            state = Connection(instance.name)
            journal.request(wire, target, "Connection: close", client=client, connection=state, names_worker=names_worker)

    kinds = [kind for kind, is_wanted in ((keep, kept), (reconnect, new)) if is_wanted]
    chosen = [kinds[number % len(kinds)] for number in range(clients)]
    journal.start(clients, chosen.count(reconnect))
    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number, run in enumerate(chosen)]
    for thread in threads:
        thread.start()
    try:
        yield journal
    finally:
        done.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)


def kill_in_request(server, journal, gate, inbox):
    """Kills the worker that runs a request: it has said that it runs one, and waits at the gate."""
    with journal.connect(("127.0.0.1", server.port)) as wire:
        killer = threading.Thread(target=lambda: os.kill(int(inbox.receive()), signal.SIGKILL))
        killer.start()
        killed = journal.request(wire, f"/gate?notify={inbox.path}&gate={gate.path}", "Connection: close")
        assert killed.outcome is not Outcome.ANSWERED
        killer.join()
