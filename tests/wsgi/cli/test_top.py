"""`arctos top` in a pseudo-terminal, read by an independent terminal emulator."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pyte
import pytest
from support.processes import state
from support.server import EXIT_DONE, MANUAL, PATIENCE_S, WORKER_LEFT, Server, clean_environment, run
from support.traffic import Outcome, traffic

EXIT_FAILED = 1
# Back to the main screen of the shell, with its cursor.
LEAVE = b"\x1b[?25h\x1b[?1049l"
# Makes it the controlling terminal, as for a shell: only then does a change of its size send a signal.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "arctos", *sys.argv[1:]])
"""
INTERVAL = ("--interval", "0.2")
HEADS = "slot pid gen state age req/s p99 requests restarts open rss pss private request".split()


@pytest.fixture
def address(tmp_path):
    """The path of the admin socket."""
    return f"unix:{tmp_path}/admin.sock"


class Top:
    """A running `arctos top` and its terminal."""

    def __init__(self, address, columns=160, lines=24):
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.cooked = termios.tcgetattr(self.slave)
        self.raw = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._painted = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWN_TERMINAL, "top", "--admin", address, *INTERVAL],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=clean_environment(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # EIO: no process has the other side open any more
                return
            with self._painted:
                self.raw += data
                self._stream.feed(data)
                self._painted.notify_all()

    def resize(self, columns, lines):
        """Changes the size of the terminal."""
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys):
        """Sends keys as the terminal does."""
        os.write(self.master, keys.encode())

    def wait_for(self, holds):
        """Waits until `holds(lines)` is true for the lines of the screen, and returns its result."""
        deadline = time.monotonic() + PATIENCE_S
        with self._painted:
            while not holds(self._screen.display):
                left = deadline - time.monotonic()
                shown = "\n".join(self._screen.display)
                assert left > 0, f"it never came to that\n{shown}"
                self._painted.wait(left)
            return [line.rstrip() for line in self._screen.display]

    def wait_for_text(self, text):
        """Waits until the text is on the screen, and returns the lines."""
        return self.wait_for(lambda lines: any(text in line for line in lines))

    def wait_until_left(self):
        """Waits until it has switched back to the main screen."""
        with self._painted:
            assert self._painted.wait_for(lambda: self.raw.endswith(LEAVE), PATIENCE_S), self.raw

    def wait(self):
        """Waits for its exit and returns the status. All of its output has been read then."""
        code = self.process.wait(PATIENCE_S)
        if self.slave is not None:
            self.after = termios.tcgetattr(self.slave)
            os.close(self.slave)
            self.slave = None
        self._reader.join(PATIENCE_S)
        return code

    def is_restored(self):
        """Whether the terminal is restored: its modes, its main screen and its cursor."""
        return self.after == self.cooked and self.raw.endswith(LEAVE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        os.close(self.master)


@pytest.fixture
def top(address):
    """An `arctos top` that shows its first rates."""
    with Top(address) as shown:
        shown.wait_for_text("p99 ")
        yield shown


def table(lines):
    """Returns the cells of each worker by the name of their column."""
    at = next(index for index, line in enumerate(lines) if line.split()[:1] == ["slot"])
    heads = lines[at].split()
    rows = [line.split(maxsplit=len(heads) - 1) for line in lines[at + 1 :]]
    return [dict(zip(heads, row, strict=True)) for row in rows if row and row[0].isdigit()]


@pytest.fixture
def server(serve, address):
    """A server with two workers."""
    return serve("plain:app", "--admin-bind", address, workers=2)


# --- Display ---


@pytest.mark.smoke
def test_top_shows_the_server_and_its_workers(server, top):
    lines = top.wait_for_text("by slot  d dump")
    assert re.match(rf"serving, up \d+s  generation 1  pid {server.pid}  arctos ", lines[0])
    assert re.match(r"2 of 2 ready  0 busy  backlog 0 of \d+  restarts 0  reload none yet", lines[1])
    assert lines[4].split() == HEADS
    rows = table(lines)
    assert [row["slot"] for row in rows] == ["0", "1"]
    assert {int(row["pid"]) for row in rows} == set(server.worker_pids())
    assert {(row["state"], row["gen"], row["restarts"]) for row in rows} == {("ready", "1", "0")}
    assert all(row["rss"].endswith("M") for row in rows)


def test_top_shows_rates_and_percentiles(server, top):
    with traffic(server, clients=2) as load:
        load.wait_for_answers(20)
        at_work = r"req/s [1-9][0-9.]*  p50 [0-9.]+[mu]s  p90 [0-9.]+[mu]s  p99 [0-9.]+[mu]s"
        top.wait_for(lambda lines: re.match(at_work, lines[2]))
    top.wait_for(lambda lines: re.match(r"req/s 0.0  p50 -  p90 -  p99 -", lines[2]))


def test_top_shows_a_running_request_without_its_query(server, connect, gate, inbox, top):
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    lines = top.wait_for_text("GET /gate")
    (row,) = [row for row in table(lines) if "GET" in row["request"]]
    assert re.fullmatch(r"[0-9.]+(us|ms|s) GET /gate", row["request"])
    assert " 1 busy " in lines[1]
    gate.open()
    assert wire.response().status == 200
    top.wait_for(lambda lines: not any("GET /gate" in line for line in lines))
    assert b"notify=" not in top.raw and inbox.path.encode() not in top.raw


def test_top_follows_the_size_of_its_terminal(server, top):
    with top._painted:
        top._screen.reset()
        top._screen.resize(10, 40)
        top.resize(40, 10)
    lines = top.wait_for(lambda lines: lines[9].startswith("s by slot  d dump"))
    assert lines[4].split() == ["slot", "state", "req/s", "request"]
    assert [row["slot"] for row in table(lines)] == ["0", "1"]


# --- Keys ---


def test_d_dumps_the_stack_of_the_selected_worker(server, connect, gate, inbox, top):
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    pid = inbox.receive()
    lines = top.wait_for_text("GET /gate")
    (slot,) = [int(row["slot"]) for row in table(lines) if row["pid"] == pid]
    top.press("j" * slot + "d")
    top.wait_for_text(f"worker {slot} (pid {pid}) writes its stack to the log")
    deadline = time.monotonic() + PATIENCE_S
    while "in wait_for_gate" not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    gate.open()
    assert wire.response().status == 200


def test_r_replaces_the_selected_worker_and_no_request_fails(server, top):
    before = table(top.wait_for_text("by slot"))
    with traffic(server, clients=8) as load:
        load.wait_for_answers(50)
        top.press("\x1b[Br")
        top.wait_for_text(f"worker 1 (pid {before[1]['pid']}) exits once its replacement is ready")
        server.wait_for(WORKER_LEFT, pid=before[1]["pid"])
        load.wait_for_answers(50)
    # An idle kept connection may be closed while its client starts to write.
    assert {record.outcome for record in load.failed()} <= {Outcome.STALE}, load.summary()

    def is_replaced(lines):
        rows = table(lines)
        return len(rows) == 2 and rows[1]["pid"] != before[1]["pid"] and rows[1]["state"] == "ready"

    rows = table(top.wait_for(is_replaced))
    assert (rows[0]["pid"], rows[1]["gen"]) == (before[0]["pid"], "1")


def test_a_reload_is_confirmed_and_starts_a_generation(server, top):
    top.press("R")
    top.wait_for_text("worker by worker? y/n")
    top.press("n")
    top.wait_for_text("not reloaded")
    top.press("R")
    top.wait_for_text("worker by worker? y/n")
    top.press("y")
    top.wait_for_text("reloading; the log reports the outcome")
    top.wait_for(lambda lines: "reload done, " in lines[1])
    rows = table(top.wait_for(lambda lines: "generation 2" in lines[0]))
    assert {row["gen"] for row in rows} == {"2"}


def test_s_sorts_and_a_question_mark_helps(server, top):
    for word in ("req/s", "rss", "request", "slot"):
        top.press("s")
        top.wait_for_text(f"by {word}  d dump")
    top.press("?")
    top.wait_for_text("as HUP does; asks first")
    top.press("q")
    top.wait_for_text("by slot  d dump")
    assert top.process.poll() is None


def test_t_shows_the_routes_that_the_application_names(serve, address):
    server = serve("phases:app", "--admin-bind", address, workers=2)
    with Top(address) as top:
        top.wait_for_text("s by slot")
        top.press("t")
        lines = top.wait_for_text("No request has had a route yet")
        assert any("arctos help metrics" in line for line in lines)
        with traffic(server, clients=2, target="/whole?route=/orders/{id}", names_worker=False) as load:
            load.wait_for_answers(20)
            numbers = r" *[0-9.]+ +[1-9][0-9.]* +[0-9.]+(us|ms) +[0-9.]+(us|ms) +[0-9.]+(us|ms) +0\.0  /orders/\{id\}"
            lines = top.wait_for(lambda lines: re.match(numbers, lines[5]))
            assert lines[4].split() == ["time/s", "req/s", "mean", "p50", "p99", "5xx/s", "route"]
        top.wait_for(lambda lines: re.match(r" 0.000 +0.0 +- +- +- +0.0  /orders/", lines[5]))
        top.press("t")
        top.wait_for_text("s by slot")


# --- Exit ---


@pytest.mark.parametrize("key", ["q", "\x1b", "\x03"], ids=["q", "Escape", "Ctrl-C"])
def test_a_key_ends_it_and_the_terminal_is_as_before(server, top, key):
    top.press(key)
    assert top.wait() == EXIT_DONE
    assert top.is_restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_ends_it_and_the_terminal_is_as_before(server, top, number):
    top.process.send_signal(number)
    assert top.wait() == EXIT_DONE
    assert top.is_restored()


@pytest.mark.parametrize("how", ["key", "signal"])
def test_while_suspended_it_releases_the_terminal(server, top, how):
    if how == "key":
        top.press("\x1a")
    else:
        top.process.send_signal(signal.SIGTSTP)
    deadline = time.monotonic() + PATIENCE_S
    while state(top.process.pid) != "T":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert termios.tcgetattr(top.slave) == top.cooked
    top.wait_until_left()
    with top._painted:
        top._screen.reset()
    top.process.send_signal(signal.SIGCONT)
    top.wait_for_text("by slot  d dump")
    assert termios.tcgetattr(top.slave) != top.cooked
    top.press("q")
    assert top.wait() == EXIT_DONE
    assert top.is_restored()


# --- Without a server ---


def test_a_server_that_goes_away_is_reported_and_waited_for(server, address, top):
    before = table(top.wait_for_text("by slot"))
    server.stop()
    lines = top.wait_for_text("trying again: cannot reach the server")
    assert [row["pid"] for row in table(lines)] == [row["pid"] for row in before], "the last look stays"
    top.press("r")
    top.wait_for(lambda lines: "cannot reach the server" in lines[23])
    with Server("plain:app", "--admin-bind", address) as another:
        top.wait_for(lambda lines: f"pid {another.pid}" in lines[0])
        assert len(table(top.wait_for_text("1 of 1 ready"))) == 1


def test_keys_work_while_the_server_does_not_answer(server, top):
    server.send(signal.SIGSTOP)
    try:
        top.press("?")
        top.wait_for_text("press any key to return")
        top.press("qq")
        assert top.wait() == EXIT_DONE
        assert top.is_restored()
    finally:
        server.send(signal.SIGCONT)


def test_a_server_that_never_existed_is_an_error(address):
    code, output, error = run("top", "--admin", address)
    assert (code, output) == (EXIT_FAILED, "")
    assert error.startswith(f"error: cannot reach the server at {address}: ")


# --- Without a terminal ---


@pytest.mark.parametrize("words", [["--once"], []], ids=["once", "pipe"])
def test_without_a_terminal_it_prints_one_screen(server, address, words):
    code, output, error = run("top", "--admin", address, *INTERVAL, *words)
    assert (code, error) == (EXIT_DONE, "")
    assert "\x1b" not in output
    lines = output.splitlines()
    assert len(lines) == 7 and lines[4].split() == HEADS
    assert {int(row["pid"]) for row in table(lines)} == set(server.worker_pids())


def test_once_shows_the_routes_below_the_workers(serve, address):
    server = serve("phases:app", "--admin-bind", address, workers=2)
    with traffic(server, clients=2, target="/whole?route=/orders/{id}", names_worker=False) as load:
        load.wait_for_answers(20)
        lines = run("top", "--admin", address, "--once", *INTERVAL)[1].splitlines()
    assert len(lines) == 10 and len(table(lines[:7])) == 2
    assert lines[7:9] == ["", "time/s   req/s    mean     p50     p99   5xx/s  route"]
    assert lines[9].endswith("  /orders/{id}")


def test_once_prints_on_a_terminal_and_leaves_it_alone(server, address):
    master, slave = pty.openpty()
    try:
        cooked = termios.tcgetattr(slave)
        command = [sys.executable, "-m", "arctos", "top", "--admin", address, "--once", *INTERVAL]
        ended = subprocess.run(command, stdin=slave, stdout=slave, env=clean_environment(), timeout=PATIENCE_S, check=True)
        assert ended.returncode == EXIT_DONE
        assert termios.tcgetattr(slave) == cooked
        shown = os.read(master, 65536)
        assert b"2 of 2 ready" in shown and b"\x1b" not in shown
    finally:
        os.close(slave)
        os.close(master)


def test_the_guide_shows_a_real_screen(server, address):
    section = MANUAL.partition("\n## arctos top\n")[2].partition("\n#")[0]
    (block,) = [text for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", section, re.M | re.S) if not language]

    def facts(line):
        """Returns the words of a line without the values that change."""
        return [word for word in re.findall(r"[a-z][a-z0-9/]*", line) if not re.fullmatch(r"[mu]?s|m|[0-9]+", word)]

    shown = run("top", "--admin", address, "--once", *INTERVAL)[1].splitlines()
    claimed = block.splitlines()
    assert (claimed[3], claimed[4].split()) == ("", shown[4].split())
    assert facts(claimed[1]) == facts(shown[1])
    without_memory = lambda line: line.partition("  memory ")[0]  # noqa: E731  (of the machine, and its limit)
    assert facts(without_memory(claimed[2])) == facts(without_memory(shown[2]))
    assert facts(claimed[0])[:5] == facts(shown[0])[:5]
    assert len(table(claimed)) == len(claimed) - 5
