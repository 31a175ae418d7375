"""What /proc says of processes: who descends from whom, and how much memory they hold."""

import os
from pathlib import Path


def pids():
    """All processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid, name):
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""  # it has ended, or is somebody else's


def _stat(pid):
    """State, parent and process group (proc(5)); the name before them may hold anything."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return (fields[0].decode(), int(fields[1]), int(fields[2])) if fields else ("X", 0, 0)


def state(pid):
    """One letter: R, S, T, Z ..; X when it is gone."""
    return _stat(pid)[0]


def children(pid):
    """Its children, zombies included."""
    return [found for found in pids() if _stat(found)[1] == pid]


def zombies(pid):
    """Its children that ended and were not reaped."""
    return [found for found in children(pid) if state(found) == "Z"]


def processes_with(mark):
    """Live processes that were started with `mark` in their environment."""
    return [pid for pid in pids() if mark.encode() in _read(pid, "environ").split(b"\0") and state(pid) not in "ZX"]


def cpu_ticks(pid):
    """Processor time used so far, in ticks of sysconf(3)'s _SC_CLK_TCK."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def status_kb(pid, field):
    """A size from /proc/PID/status, in KB."""
    for line in _read(pid, "status").decode().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"process {pid} has no {field}")


class Peak:
    """How far a process's memory rises above where it was when this was made."""

    def __init__(self, pid):
        self.pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5): resets the peak resident set size
        self.before_kb = status_kb(pid, "VmRSS")

    def growth_mb(self):
        """Peak since then over the size then."""
        return (status_kb(self.pid, "VmHWM") - self.before_kb) / 1024
