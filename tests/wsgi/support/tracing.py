"""System calls of a running process, recorded by strace(1)."""

import re
import shutil
import subprocess
from contextlib import contextmanager

import pytest

CALL = re.compile(r"^\d+ +(?:<\.\.\. )?([a-z_0-9]+)[( ]")


@contextmanager
def traced(pid, path, *options):
    """Traces all threads of a process, from when strace is attached to the end of the block, into the file `path`."""
    if shutil.which("strace") is None:
        pytest.skip("no strace")
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
