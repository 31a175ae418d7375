"""A program of ours that serves by itself, as a test sees it: what it prints, and how it ends."""

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
    """One such program, running."""

    def __init__(self, name, *arguments, folder=SCRIPTS, **environment):
        self.mark = f"TEST_SCRIPT_MARK={uuid.uuid4()}"
        key, value = self.mark.split("=")
        self.process = subprocess.Popen(
            [sys.executable, folder / name, *map(str, arguments)],
            cwd=folder,
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
        """What it wrote to standard error so far."""
        return "".join(self._errors)

    def error_line(self, is_it):
        """The first line on standard error that is it, once it is there."""
        with self._erred:
            is_there = self._erred.wait_for(lambda: any(map(is_it, self._errors)), PATIENCE_S)
            assert is_there, self.errors
            return next(filter(is_it, self._errors))

    def hears(self):
        """The next line that it prints; `None` at the end."""
        return self._said.get(timeout=PATIENCE_S)

    def port(self):
        """The next line, which is a port."""
        line = self.hears()
        assert line is not None, self.errors
        return int(line)

    def send(self, number=signal.SIGINT):
        """A signal to the program."""
        self.process.send_signal(number)

    def wait(self):
        """Its exit status, with all it said read and nothing of it left."""
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
    """The body of one answer, from a TCP port or a unix address."""
    with Wire(("127.0.0.1", address) if isinstance(address, int) else address) as wire:
        wire.socket.settimeout(patience_s)
        answer = wire.get(path).response()
        assert answer.status == 200, answer
        return answer.body.decode()
