"""A program in a session of its own, by which all its processes are found and stopped."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

START_SECONDS = 20
STOP_SECONDS = 10


class Failed(Exception):
    """A server did not start, or gave a wrong response."""


class Session:
    """A running program that listens at a port of 127.0.0.1."""

    def __init__(self, command, port, log, environment=None, cwd=None, cpus=None, patience=1):
        self.port, self.log, self.patience = port, log, patience
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )
        try:
            self.wait_until_it_listens(START_SECONDS * patience)
            self.check()
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def wait_until_it_listens(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            if self.process.poll() is not None:
                raise Failed(f"ended at its start, see {self.log}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise Failed(f"does not listen after {seconds} s, see {self.log}") from None
                time.sleep(0.02)

    def check(self):
        """Checks the responses of a server that listens; raises `Failed` if they are wrong."""

    def pids(self):
        """Returns all processes of the session, the first one first."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and session(entry) == self.process.pid:
                found.append(int(entry))
        return sorted(found, key=lambda pid: (pid != self.process.pid, pid))

    def stop(self):
        """Stops the program, and kills what is left."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS * self.patience)
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def free_port(kind=socket.SOCK_STREAM):
    """Returns an unused port."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def stat_fields(pid):
    """Returns the fields of /proc/PID/stat from the third on, or none if the process is gone: proc_pid_stat(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def session(pid):
    """Returns the session of a process."""
    fields = stat_fields(pid)
    return int(fields[3]) if fields else None
