"""Facts about processes from /proc: parents, states, processor time and memory."""

import os
from pathlib import Path


def pids():
    """Returns the pids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""  # it has exited, or belongs to another user


def _stat(pid):
    """Returns state, parent and process group (proc(5)). The name before them may contain any character."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1]), int(fields[2])) if fields else ("X", 0, 0)


def state(pid):
    """Returns the state as one letter (R, S, T, Z), or X if the process does not exist."""
    return _stat(pid)[0]


def children(pid):
    """Returns the children of a process, including zombies."""
    return [found for found in pids() if _stat(found)[1] == pid]


def zombies(pid):
    """Returns the children that have exited and were not reaped."""
    return [found for found in children(pid) if state(found) == "Z"]


def processes_with(mark):
    """Returns the live processes with `mark` in their initial environment."""
    return [pid for pid in pids() if mark.encode() in _read(pid, "environ").split(b"\0") and state(pid) not in "ZX"]


def cpu_ticks(pid):
    """Returns the processor time used so far, in ticks of `_SC_CLK_TCK` (sysconf(3))."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def status_kb(pid, field):
    """Returns a size from /proc/PID/status, in KB."""
    for line in _read(pid, "status").decode().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no {field}")


class Peak:
    """Measures how far the memory of a process rises above its size at creation."""

    def __init__(self, pid):
        self.pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
        self.before_kb = status_kb(pid, "VmRSS")

    def growth_mb(self):
        """Returns the peak since creation minus the size at creation."""
        return (status_kb(self.pid, "VmHWM") - self.before_kb) / 1024
