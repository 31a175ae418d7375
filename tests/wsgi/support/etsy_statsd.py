"""The statsd daemon of Etsy (npm package `statsd`), the model of many others, with a backend that prints what
it aggregated."""

import json
import select
import socket
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from support.ports import free_port
from support.server import PATIENCE_S, ROOT

STATSD = ROOT / "target" / "npm" / "node_modules" / "statsd" / "stats.js"
FLUSH_MS = 100
ATTEMPTS = 5
MARK = "test.mark"


class EtsyStatsd:
    """Daemons that run one after the other at the same port; their sums add up."""

    def __init__(self, directory):
        if not STATSD.exists():
            pytest.fail(f"{STATSD} is missing: scripts/test installs it", pytrace=False)
        self.directory = Path(directory)
        self.counters, self.gauges = Counter(), {}
        self._flushed, self._said, self.marks = threading.Condition(), [], 0
        self.process = None
        self.port = 0
        for _ in range(ATTEMPTS):
            self.port = free_port(socket.SOCK_DGRAM)  # statsd replaces 0 by its default port
            if self._start():
                return
        raise AssertionError("".join(self._said))

    @property
    def option(self):
        """The value of `--statsd-host`."""
        return f"127.0.0.1:{self.port}"

    def _start(self):
        config = self.directory / "statsd.json"
        config.write_text(
            json.dumps(
                {
                    "address": "127.0.0.1",
                    "port": self.port,
                    "mgmt_address": "127.0.0.1",
                    "mgmt_port": free_port(socket.SOCK_STREAM),
                    "flushInterval": FLUSH_MS,
                    "deleteCounters": True,
                    "automaticConfigReload": False,
                    "backends": [str(ROOT / "tests" / "statsd" / "dump.js")],
                }
            )
        )
        self.process = subprocess.Popen(
            ["node", "--no-deprecation", str(STATSD), str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()
        return self._is_up()

    def _is_up(self):
        """Probes the daemon until it answers or has exited: it does not log when its socket is bound."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.drain(timeout=3 * FLUSH_MS / 1000)
                return True
            except (AssertionError, ConnectionRefusedError):
                select.select([], [], [], 0.02)  # not bound yet
        return False

    def _read(self, output):
        with output:
            for line in output:
                with self._flushed:
                    if line.startswith("{"):
                        seen = json.loads(line)
                        self.counters.update(seen["counters"])
                        self.gauges.update(seen["gauges"])
                    else:
                        self._said.append(line)
                    self._flushed.notify_all()

    def drain(self, timeout=PATIENCE_S):
        """Returns once it has flushed everything sent so far: a marker sent last has come through."""
        self.marks += 1
        mark = f"{MARK}.{self.marks}"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", self.port))
            probe.send(f"{mark}:1|c".encode())
            probe.send(b"")  # fails if the first was refused
        self.wait_for(lambda: self.counters[mark], timeout)
        return self

    def wait_for(self, question, timeout=PATIENCE_S):
        """Returns once `question()` about the sums is true."""
        with self._flushed:
            if not self._flushed.wait_for(question, timeout):
                raise AssertionError(f"not within {timeout} s: {dict(self.counters)}\n{''.join(self._said)}")

    def count(self, name):
        """Returns the sum of a counter over all flushes."""
        with self._flushed:
            return self.counters[name]

    def stop(self):
        """Stops the daemon, which flushes a last time."""
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self

    def start(self):
        """Starts the next daemon at the same port."""
        assert self._start(), "".join(self._said)
        return self
