"""Clients that keep books: each connection they made, each request on it and how it ended. Nothing is
retried, nothing is forgotten, and no client gives up a connection that still works, so that what the
books say and what the server counts must be equal."""

import os
import signal
import threading
from collections import Counter
from itertools import count

from support.server import PATIENCE_S
from support.wire import Ended, Wire


class Books:
    """Written by all clients of a test."""

    def __init__(self, folder):
        self.begun_path = folder / "begun"
        self.begun_path.touch()
        self.environment = {"COUNTED_BEGUN": str(self.begun_path)}
        self._changed = threading.Condition()
        self._number = count()
        self.connections = self.refused = self.answered = self.left_open = 0
        self.failed = []
        self.answered_by = Counter()

    def request_id(self):
        """A new one."""
        with self._changed:
            return f"id={next(self._number)}"

    def connect(self, address):
        """A connection; `None` when it was refused."""
        try:
            wire = Wire(address)
        except OSError:
            with self._changed:
                self.refused += 1
            return None
        with self._changed:
            self.connections += 1
        return wire

    def request(self, wire, path, *fields, client=None):
        """Sends one and reads its answer; `None` when none came whole. Whatever is not a whole 200 is
        a failure."""
        name = self.request_id()
        glue = "&" if "?" in path else "?"
        try:
            wire.get(f"{path}{glue}{name}", *fields)
            answer = wire.response()
            is_good = answer.is_whole and answer.status == 200
        except (Ended, OSError):
            is_good = False
        with self._changed:
            if is_good:
                self.answered += 1
                self.answered_by[client] += 1
            else:
                self.failed.append(name)
            self._changed.notify_all()
        return answer if is_good else None

    def leave(self):
        """A client gives up a connection that works."""
        with self._changed:
            self.left_open += 1

    def wait_for(self, question):
        """Returns once a question about the books has a true answer."""
        with self._changed:
            assert self._changed.wait_for(lambda: question(self), PATIENCE_S), vars(self)

    def wait_for_answers(self, more):
        """Returns after so many more."""
        with self._changed:
            wanted = self.answered + more
        self.wait_for(lambda books: books.answered >= wanted)

    def begun(self):
        """The failed requests that the application had been given."""
        written = {field for line in self.begun_path.read_text().split() for field in line.split("&")}
        return [name for name in self.failed if name in written]


class Clients:
    """Half of them keep their connection, half take a new one for each request, until the `with` block
    ends."""

    def __init__(self, server, books, clients=8, path="/slow?ms=1"):
        self.address, self.books, self.path = ("127.0.0.1", server.port), books, path
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._keeping if number % 2 else self._closing, args=(number,), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def wait_for_each(self, more=2):
        """Returns once each client has had so many more answers: whatever happened to its connection
        before, it has noticed."""
        before = self.books.answered_by.copy()
        everyone = range(len(self._threads))
        self.books.wait_for(lambda books: all(books.answered_by[one] >= before[one] + more for one in everyone))

    def _keeping(self, number):
        while not self._done.is_set():
            if (wire := self.books.connect(self.address)) is None:
                continue
            with wire:
                answer = True
                while answer and not self._done.is_set():
                    answer = self.books.request(wire, self.path, client=number)
                    if answer and answer.field("Connection") == "close":
                        break
                else:
                    if answer:
                        self.books.leave()

    def _closing(self, number):
        while not self._done.is_set():
            if (wire := self.books.connect(self.address)) is not None:
                with wire:
                    self.books.request(wire, self.path, "Connection: close", client=number)


def kill_in_request(server, books, gate, ear):
    """Kills the worker that runs a request, for sure: it has said so, and waits. Returns its pid."""
    with books.connect(("127.0.0.1", server.port)) as wire:
        killer = threading.Thread(target=_kill_next, args=(ear,))
        killer.start()
        assert books.request(wire, f"/gate?tell={ear.path}&gate={gate.path}", "Connection: close") is None
        killer.join()


def _kill_next(ear):
    os.kill(int(ear.hear()), signal.SIGKILL)
