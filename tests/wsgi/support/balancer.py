"""A load balancer like that of a cluster: it learns with a delay which instances are ready."""

import threading
import time
from collections import deque
from typing import NamedTuple

from support.server import PATIENCE_S
from support.wire import Ended, Wire

POLL_S = 0.2
LAG_S = 3


class Instance(NamedTuple):
    """A server that requests can be sent to."""

    name: str
    port: int
    admin: str


class Balancer:
    """Polls `/readyz` of each known instance, and sends to those that were ready `LAG_S` ago."""

    def __init__(self):
        self._instances = []
        self._seen = deque()  # (when, the instances that were ready)
        self._changed = threading.Condition()
        self._done = threading.Event()
        self._turn = 0
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join(PATIENCE_S)

    def add(self, instance):
        """Polls this instance too from now on."""
        with self._changed:
            self._instances.append(instance)

    def ready(self):
        """Returns the instances it sends to now."""
        with self._changed:
            return self._ready()

    def pick(self):
        """Returns the next instance in turn."""
        with self._changed:
            found = self._ready()
            assert found, "no instance is ready"
            self._turn += 1
            return found[self._turn % len(found)]

    def sends_to(self, instance):
        """Whether it still sends to this instance."""
        return instance in self.ready()

    def wait_for(self, *names):
        """Returns once it sends to exactly these instances."""
        with self._changed:
            known = lambda: {instance.name for instance in self._ready()} == set(names)  # noqa: E731
            deadline = time.monotonic() + PATIENCE_S
            while not known():
                assert time.monotonic() < deadline, f"it sends to {self._ready()}"
                self._changed.wait(POLL_S)

    def _ready(self):
        until = time.monotonic() - LAG_S
        while len(self._seen) > 1 and self._seen[1][0] <= until:
            self._seen.popleft()
        return self._seen[0][1] if self._seen and self._seen[0][0] <= until else []

    def _poll(self):
        while not self._done.is_set():
            with self._changed:
                instances = list(self._instances)
            ready = [instance for instance in instances if is_ready(instance)]
            with self._changed:
                self._seen.append((time.monotonic(), ready))
                self._changed.notify_all()
            self._done.wait(POLL_S)


def is_ready(instance):
    """Whether `/readyz` of the instance answers 200."""
    try:
        with Wire(instance.admin) as wire:
            return wire.get("/readyz").response().status == 200
    except (OSError, Ended):
        return False
