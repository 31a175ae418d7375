"""Kept connections that the workers of a server share."""

import os
from collections import Counter
from contextlib import ExitStack

from prometheus_client.parser import text_string_to_metric_families

from support.admin_client import ask
from support.server import KEEP_ALIVE, PATIENCE_S
from support.upgradable import UpgradableServer
from support.waiting import wait_until
from support.wire import Wire


class SharingServer:
    """A server whose workers share kept connections, and the connections of its clients.

    Each request has a name of its own, which the application writes down when it is executed.
    """

    def __init__(self, directory, *options, application="counted:app", mode="shared", workers=4, bind="127.0.0.1:0", keep_alive="300s"):
        self.admin = str(directory / "admin.sock")
        self.executions = directory / "executions"
        self.executions.touch()
        self.server = UpgradableServer(
            application,
            *(["--keepalive-mode", mode] if mode else []),
            *(KEEP_ALIVE, keep_alive),
            *("--admin-bind", f"unix:{self.admin}"),
            *options,
            workers=workers,
            bind=bind,
            env={"COUNTED_BEGUN": str(self.executions)},
        )
        self.unix_path = bind.removeprefix("unix:") if bind.startswith("unix:") else None
        self.names, self.wires = [], ExitStack()

    def __enter__(self):
        self.server.__enter__()
        return self

    def __exit__(self, *error):
        self.wires.close()
        self.server.__exit__(*error)

    @property
    def address(self):
        """The address of its listener."""
        return self.unix_path or ("127.0.0.1", self.server.port)

    # --- Connections ---

    def connect(self):
        """Opens a connection, which is closed after the test."""
        return self.wires.enter_context(Wire(self.address))

    def silent_pool(self, count):
        """Opens connections that send nothing, and waits until all are shared."""
        already, served = self.gauge("conn_shared"), self.gauge("conn_open")
        pool = [self.connect() for _ in range(count)]
        self.wait_for_shared(already + count, served)
        return pool

    def pool(self, count):
        """Opens connections of which each has had one answer, and waits until all are shared."""
        already, served = self.gauge("conn_shared"), self.gauge("conn_open")
        pool = [self.connect() for _ in range(count)]
        for wire in pool:
            self.worker_of(wire)
        self.wait_for_shared(already + count, served)
        return pool

    # --- Requests ---

    def named(self, target):
        """Returns the target with a name that no other request has."""
        self.names.append(f"id={len(self.names)}")
        return f"{target}{'&' if '?' in target else '?'}{self.names[-1]}"

    def worker_of(self, wire):
        """Sends a request, and returns the pid of the worker that has answered it."""
        answer = wire.get(self.named("/slow?ms=0")).response()
        assert (answer.status, answer.is_whole, wire.held) == (200, True, b""), answer
        return int(answer.body)

    def hang(self, wire, gate, inbox):
        """Sends a request that waits at the gate, and returns the pid of its worker."""
        wire.get(self.named(f"/gate?notify={inbox.path}&gate={gate.path}"))
        return int(inbox.receive())

    # --- What the server says ---

    def gauge(self, name):
        """Returns the sum of the samples of a metric of the server."""
        found = text_string_to_metric_families(ask(self.admin, "/metrics").body.decode())
        return sum(sample.value for family in found if family.name == f"arctos_{name}" for sample in family.samples)

    def wait_for_shared(self, count, being_served=0):
        """Waits until this many connections are shared and idle, and this many are served or belong to a worker."""
        seen = Counter()

        def is_so():
            seen.update(last := {(self.gauge("conn_shared"), self.gauge("conn_open")): 1})
            return (count, being_served) in last

        try:
            wait_until(is_so, PATIENCE_S)
        except AssertionError:
            raise AssertionError(f"not {count} shared and {being_served} others, but {dict(seen)}") from None

    def executed(self):
        """Counts the executions of each request by its name."""
        lines = self.executions.read_text().split()
        return Counter(field for line in lines for field in line.split("&") if field.startswith("id="))

    def assert_each_executed_once(self):
        """Each request was executed exactly once."""
        assert self.executed() == Counter(self.names)

    # --- Descriptors ---

    def descriptor_counts(self):
        """Returns how many descriptors the supervisor and each worker have."""
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in [self.server.pid, *self.server.worker_pids()]}

    def wait_for_descriptors(self, counts):
        """Waits until the supervisor and the workers have this many descriptors."""
        try:
            wait_until(lambda: self.descriptor_counts() == counts)
        except AssertionError:
            raise AssertionError(f"{self.descriptor_counts()}, not {counts}") from None


def assert_ends_orderly(wire):
    """Waits for the end of a connection: nothing comes before it, and it is no reset."""
    assert wire.to_end() == (b"", False)
