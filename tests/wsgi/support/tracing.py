"""System calls of a running process, recorded by strace(1)."""

import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.waiting import wait_until

CALL = re.compile(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)[( ]")


def awaits_events(pid):
    """Whether the process sleeps in epoll_wait(2)."""
    return Path(f"/proc/{pid}/wchan").read_text() in ("ep_poll", "do_epoll_wait")


@contextmanager
def traced(pid, path, *options):
    """Traces all threads of a worker, from when strace is attached to the end of the block, into the file `path`."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
    # A client has its response before the worker has finished its turn, and the rest of it must not count.
    wait_until(lambda: awaits_events(pid))
    strace = subprocess.Popen(
        ["strace", "-f", *options, "-o", path, "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        said = strace.stderr.readline()
        if "attached" not in said:
            pytest.skip(f"strace cannot attach here: {said.strip()}")
        yield
    finally:
        strace.terminate()
        strace.communicate(timeout=30)


def calls(path):
    """Counts the system calls by name, without signals and exits."""
    counts = {}
    for line in path.read_text().splitlines():
        found = CALL.match(line)
        if found and "<... " not in line:
            counts[found[1]] = counts.get(found[1], 0) + 1
    return counts
