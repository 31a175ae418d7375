"""A program that calls the Python API of arctos: what it prints, and how it exits."""

import os
import queue
import signal
import subprocess
import sys
import threading
import uuid

from support.processes import processes_with
from support.server import APPS, PATIENCE_S, clean_environment
from support.wire import Wire

SCRIPTS = APPS / "bjoern_scripts"


class Script:
    """A running program."""

    def __init__(self, name, *arguments, directory=SCRIPTS, **environment):
        self.mark = f"TEST_SCRIPT_MARK={uuid.uuid4()}"
        key, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, directory / name, *map(str, arguments)],
            cwd=directory,
            env={**clean_environment(), **environment, key: value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._said, self._errors, self._erred = queue.Queue(), [], threading.Condition()
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self):
        with self.process.stdout as lines:
            for line in lines:
                self._said.put(line.rstrip("\n"))
        self._said.put(None)

    def _read_errors(self):
        with self.process.stderr as lines:
            for line in lines:
                with self._erred:
                    self._errors.append(line)
                    self._erred.notify_all()

    @property
    def errors(self):
        """Everything it wrote to standard error so far."""
        return "".join(self._errors)

    def error_line(self, is_it):
        """Waits for a line on standard error for which `is_it(line)` is true, and returns the first one."""
        with self._erred:
            is_there = self._erred.wait_for(lambda: any(map(is_it, self._errors)), PATIENCE_S)
            assert is_there, self.errors
            return next(filter(is_it, self._errors))

    def next_line(self):
        """Waits for the next line of its output; `None` at the end."""
        return self._said.get(timeout=PATIENCE_S)

    def port(self):
        """Waits for the next line, which is a port."""
        line = self.next_line()
        assert line is not None, self.errors
        return int(line)

    def send(self, number=signal.SIGINT):
        """Sends a signal to the program."""
        self.process.send_signal(number)

    def wait(self):
        """Waits for its exit and returns the status. All of its output has been read then, and no process is left."""
        status = self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        assert processes_with(self.mark) == [], f"processes are left\n{self.errors}"
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in {*processes_with(self.mark), *([self.process.pid] if self.process.poll() is None else [])}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster
        self.process.wait(PATIENCE_S)


def get(address, path="/", patience_s=PATIENCE_S):
    """Returns the body of one response, from a TCP port or a unix socket."""
    with Wire(("127.0.0.1", address) if isinstance(address, int) else address) as wire:
        wire.socket.settimeout(patience_s)
        answer = wire.get(path).response()
        assert answer.status == 200, answer
        return answer.body.decode()
