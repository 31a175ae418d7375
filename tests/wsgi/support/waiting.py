"""Waiting for conditions that no event announces."""

import time

from support.server import PATIENCE_S


def wait_until(holds, timeout=PATIENCE_S):
    """Returns the first true answer of `holds()`."""
    deadline = time.monotonic() + timeout
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.02)
    return found


def wait_for_file(path, process):
    """Waits for the pid file of a server that cannot log that it is ready."""
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
