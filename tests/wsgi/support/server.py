"""A running arctos: started from the installed wheel, awaited by its log, and stopped without leaving a
process behind.

The interface that tests rely on is spelled here once: log events, names of options, exit codes.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from support.processes import processes_with

ROOT = Path(__file__).resolve().parents[3]
APPS = ROOT / "tests" / "apps"
GUIDE = sorted((ROOT / "src" / "guide").glob("*.md"))
# The README and all pages of the guide.
MANUAL = "\n".join(page.read_text() for page in [ROOT / "README.md", *GUIDE])
PATIENCE_S = 60  # bounds a test that hangs; nothing takes this long on a working machine

# Events of the log.
SERVER_READY = "server.ready"  # the first full set of workers serves; `listen` names every address
SERVER_STOPPING = "server.stopping"  # it was asked to stop; with a drain delay, it still accepts
WORKER_READY = "worker.ready"  # slot, pid, generation
WORKER_LEFT = "worker.exited"  # slot, pid, generation, status: it had been told to exit
WORKER_DIED = "worker.died"  # slot, pid, generation, status: it had not been told to exit
SPAWN_FAILED = "worker.spawn_failed"  # slot, generation, reason: no process was created
WORKER_ORPHANED = "worker.orphaned"  # slot, pid, generation: its supervisor has died
ACCEPT_FAILED = "accept.failed"  # slot, pid, generation, error
APPLICATION_RAISED = "application.raised"  # method, path, request_id; the traceback follows
APPLICATION_FAILED = (APPLICATION_RAISED, "application.response_not_started", "application.response_rejected")
APPLICATION_ERRORS = "wsgi.errors"  # one event per write
TOO_LONG = "response.longer_than_content_length"

# Exit codes.
EXIT_DONE = 0
EXIT_CONFIGURATION = 1
EXIT_USAGE = 2
EXIT_NOT_IMPORTABLE = 4

# Options by what they limit. Where Gunicorn has the option, the name is the same.
LIMIT_LINE = "--limit-request-line"
LIMIT_COUNT = "--limit-request-fields"
LIMIT_FIELD = "--limit-request-field-size"
LIMIT_BODY = "--limit-request-body"
HEAD_TIMEOUT = "--header-timeout"
BODY_TIMEOUT = "--body-timeout"
WRITE_TIMEOUT = "--write-timeout"
KEEP_ALIVE = "--keep-alive"

LINE = re.compile(r"(?P<time>\d{4}-\d\d-\d\dT\S+Z) +(?P<level>[A-Z]+) +(?P<event>[a-z_.0-9]+)(?P<pairs>.*)")
TCP_ADDRESS = re.compile(r"(?:https?://)?(?:[0-9.]+|\[[0-9a-f:.]+\]):([0-9]+)/?")
PAIR = re.compile(r'([A-Za-z_0-9]+)=("(?:[^"\\]|\\.)*"|\S*)')


class LogLine(NamedTuple):
    """One event of the log, with the block of text below it."""

    level: str
    event: str
    pairs: dict
    text: str

    @classmethod
    def parse(cls, line):
        """Returns `None` for a line that starts no event, such as one of a traceback."""
        match = LINE.fullmatch(line.rstrip("\n"))
        if match is None:
            return None
        pairs = {key: _unquoted(value) for key, value in PAIR.findall(match["pairs"])}
        return cls(match["level"], match["event"], pairs, line)

    def has(self, event, pairs):
        """Whether it is this event and has these pairs."""
        events = (event,) if isinstance(event, str) else event
        return self.event in events and all(self.pairs.get(key) == str(value) for key, value in pairs.items())


def _unquoted(value):
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1])


class Server:
    """One supervisor and its workers."""

    def __init__(self, application="plain:app", *options, workers=1, bind="127.0.0.1:0", command=None, **popen):
        self.mark = f"TEST_SERVER_MARK={uuid.uuid4()}"
        program = command or [sys.executable, "-m", "arctos"]
        bound = [bind] if isinstance(bind, str) else bind
        self.arguments = [
            *program,
            *(word for address in bound for word in ("--bind", address)),
            *(["--workers", str(workers)] if workers else []),
            *map(str, options),
            *([application] if application else []),
        ]
        name, value = self.mark.split("=")
        environment = {**clean_environment(), **popen.pop("env", {}), name: value}
        self._lines, self._said = [], threading.Condition()
        self._log_ended = False
        self.process = subprocess.Popen(
            self.arguments,
            cwd=popen.pop("cwd", APPS),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **popen,
        )
        self._readers = [
            threading.Thread(target=self._read_log, daemon=True),
            threading.Thread(target=self._read_output, daemon=True),
        ]
        self.output = b""
        for reader in self._readers:
            reader.start()

    # --- Log and output ---

    def _read_log(self):
        rest = b""
        with self.process.stderr as said:
            # An event and the text below it are one write(2). Whoever waits for the event gets the text too, because
            # all lines that come at once are added at once.
            while came := said.read1(1 << 16):
                *lines, rest = (rest + came).split(b"\n")
                with self._said:
                    self._lines += [line.decode("utf-8", "backslashreplace") + "\n" for line in lines]
                    self._said.notify_all()
        with self._said:
            self._lines += [rest.decode("utf-8", "backslashreplace")] if rest else []
            self._log_ended = True
            self._said.notify_all()

    def _read_output(self):
        with self.process.stdout as output:
            self.output = output.read()

    @property
    def log(self):
        """Everything it wrote to standard error so far."""
        with self._said:
            return "".join(self._lines)

    def position(self):
        """Returns the current end of the log, from which a later wait can start."""
        with self._said:
            return len(self._lines)

    def events(self, event, since=0, **pairs):
        """Returns all lines of an event so far, each with the text below it."""
        with self._said:
            return self._events(event, since, pairs)

    def _events(self, event, since, pairs):
        found, current = [], None
        for line in self._lines[since:]:
            parsed = LogLine.parse(line)
            if parsed is not None:
                current = parsed.has(event, pairs)
                if current:
                    found.append(parsed)
            elif current:
                found[-1] = found[-1]._replace(text=found[-1].text + line)
        return found

    def wait_for(self, event, count=1, since=0, timeout=PATIENCE_S, **pairs):
        """Waits for the `count`th line of an event, and returns it."""
        deadline = time.monotonic() + timeout
        with self._said:
            while len(found := self._events(event, since, pairs)) < count:
                left = deadline - time.monotonic()
                if self._log_ended or not self._said.wait(max(left, 0)) and left <= 0:
                    shown = " ".join(f"{key}={value}" for key, value in pairs.items())
                    why = "it left before" if self._log_ended else f"not within {timeout} s"
                    raise AssertionError(f"no {event} {shown}: {why}\n{''.join(self._lines)}")
        return found[count - 1]

    def wait_for_text(self, event, text, since=0, timeout=PATIENCE_S, **pairs):
        """Waits for the first line of an event that has this text below it. The server writes both at once, but
        a pipe may deliver them in pieces."""
        found = lambda: [one for one in self._events(event, since, pairs) if text in one.text]  # noqa: E731
        with self._said:
            assert self._said.wait_for(found, timeout), f"no {event} with {text!r}\n{''.join(self._lines)}"
            return found()[0]

    # --- Addresses and processes ---

    def ready(self):
        """Waits until the server is ready."""
        self.addresses = self.wait_for(SERVER_READY).pairs["listen"].split()
        assert self.addresses, f"{SERVER_READY} names no address\n{self.log}"
        return self

    @property
    def ports(self):
        """The ports of the TCP addresses."""
        return [int(found[1]) for address in self.addresses if (found := TCP_ADDRESS.fullmatch(address))]

    @property
    def port(self):
        """The port of the first TCP address."""
        return self.ports[0]

    @property
    def url(self):
        """The URL of the first TCP address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        """The pid of the supervisor."""
        return self.process.pid

    def worker_pids(self):
        """Returns the pids of the workers that became ready and are still alive."""
        said = [int(line.pairs["pid"]) for line in self.events(WORKER_READY)]
        # Not the children of the supervisor: a worker that a zygote has forked may be ready before the process
        # between them has exited.
        return [pid for pid in said if os.path.exists(f"/proc/{pid}")]

    # --- Exit ---

    def send(self, number):
        """Sends a signal to the supervisor."""
        self.process.send_signal(number)

    def wait(self, timeout=PATIENCE_S):
        """Waits for its exit and returns the status. All of its output has been read then."""
        status = self.process.wait(timeout)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return status

    def leftovers(self):
        """Returns the live processes that descend from it, whatever session or parent they have now."""
        return processes_with(self.mark)

    def stop(self, number=signal.SIGTERM, timeout=PATIENCE_S):
        """Stops the server, and checks that it exits with status 0 and leaves no process."""
        if self.process.poll() is None:
            self.send(number)
        status = self.wait(timeout)
        assert status == EXIT_DONE, f"exit status {status}\n{self.log}"
        assert self.leftovers() == [], f"processes are left\n{self.log}"
        return self

    def kill(self):
        """Kills everything that is left of it after a failed test."""
        for pid in [self.pid, *self.leftovers()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it was faster
        self.wait()

    def __enter__(self):
        try:
            return self.ready()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, kind, error, trace):
        if kind is None and self.process.returncode is None:
            try:
                self.stop()
                return
            finally:
                self.kill()
        self.kill()
        if kind is not None:
            print(f"--- the log of {' '.join(self.arguments)}\n{self.log}")


def clean_environment():
    """Returns the environment of the tests without the variables that would configure a server."""
    configures = ("ARCTOS_", "LISTEN_", "KUBERNETES_", "NOTIFY_SOCKET", "WEB_CONCURRENCY", "PYTHONPATH")
    places = {"PORT", "DYNO", "K_SERVICE"}
    kept = {name: value for name, value in os.environ.items() if name not in places and not name.startswith(configures)}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def run(*arguments, timeout=PATIENCE_S, **popen):
    """Runs an arctos that exits by itself. Returns its exit status, standard output and standard error."""
    environment = {**clean_environment(), **popen.pop("env", {})}
    ended = subprocess.run(
        [sys.executable, "-m", "arctos", *map(str, arguments)],
        cwd=popen.pop("cwd", APPS),
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        **popen,
    )
    return ended.returncode, ended.stdout, ended.stderr


def printed_configuration(arguments, **env):
    """Returns the effective configuration of a command line."""
    code, out, error = run(*arguments, "--print-config", env=env)
    assert (code, error) == (0, ""), (arguments, error)
    rows = (re.match(r"(\S+) +(.*?)(?: {2,}.*)?$", line) for line in out.splitlines())
    return {row[1]: row[2] for row in rows}
