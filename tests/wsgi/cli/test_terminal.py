"""What a person in a terminal sees: a table once the server is ready, and colors; programs see neither."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest
from support.server import APPS, EXIT_DONE, PATIENCE_S, clean_environment

GREEN = "\x1b[32m"


class Terminal:
    """A server whose standard error is a terminal."""

    def __init__(self, *options, **variables):
        self.text = ""
        self.ours, theirs = pty.openpty()
        environment = {**clean_environment(), "TERM": "xterm", **variables}
        command = [sys.executable, "-m", "arctos", "--bind", "127.0.0.1:0", *options, "plain:app"]
        self.process = subprocess.Popen(command, cwd=APPS, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def read_until(self, words):
        """Reads until these words have appeared, and returns everything so far."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            if select.select([self.ours], [], [], 1)[0]:
                try:
                    self.text += os.read(self.ours, 65536).decode()
                except OSError:  # the other side is closed
                    break
        assert words in self.text, self.text
        return self.text

    def interrupt(self):
        """Presses Ctrl-C, and returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        self.read_until("server.stopped")
        return self.process.wait(PATIENCE_S)


@pytest.mark.smoke
def test_a_terminal_shows_a_table_with_reasons_and_colors():
    with Terminal("--workers", "1") as terminal:
        shown = terminal.read_until("Press Ctrl-C to stop.")
        assert GREEN + "INFO" in shown
        plain = re.sub("\x1b\\[[0-9;]*m", "", shown).replace("\r", "")
        assert re.search(r"^  Address +http://127\.0\.0\.1:\d+ +command line$", plain, re.M), plain
        assert re.search(r"^  Application +plain:app +ready after \d+\.\d\d s$", plain, re.M), plain
        assert re.search(r"^  Workers +1 +command line$", plain, re.M), plain
        assert f"Python {sys.version.split()[0]}" in plain
        assert terminal.interrupt() == EXIT_DONE
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=lambda one: next(iter(one)))
def test_colors_can_be_turned_off(variables):
    with Terminal("--workers", "1", **variables) as terminal:
        assert "\x1b" not in terminal.read_until("Press Ctrl-C to stop.")


def test_a_pipe_gets_plain_lines_unless_colors_are_forced(serve):
    server = serve("plain:app")
    assert "Press Ctrl-C" not in server.log and "\x1b" not in server.log
    command = [sys.executable, "-m", "arctos", "--bind", "127.0.0.1:0", "no_such_module:app"]
    environment = {**clean_environment(), "FORCE_COLOR": "1"}
    ended = subprocess.run(command, cwd=APPS, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert "\x1b[1;31mCRITICAL" in ended.stderr


def test_json_lines_have_no_colors_and_no_table():
    with Terminal("--workers", "1", "--log-format", "json", FORCE_COLOR="1") as terminal:
        shown = terminal.read_until("server.ready")
        assert "\x1b" not in shown
        terminal.process.send_signal(signal.SIGINT)
        assert "Press Ctrl-C" not in terminal.read_until("server.stopped")
