"""A real server for tests, in a process of its own, at a free port:

    with arctos.testing.serve(app, workers=2) as server:
        assert urlopen(f"{server.url}/health").status == 200

The pytest fixture `arctos_server` does the same. `arctos help testing` describes both.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

from .arctos import stop_with_parent
from .in_process import WSGIApplication
from .supervised import OptionValue, checked_options
from .supervised import serve as _serve_supervised

__all__ = ["Record", "Server", "ServerError", "serve"]

_EXECUTED: Final = """\
import json, sys
parent, sys.path[:] = int(sys.argv[1]), json.loads(sys.argv[2])
del sys.argv[1:3]
from arctos.arctos import main, stop_with_parent
stop_with_parent(parent)
sys.exit(main())
"""
"""The program that serves what can be imported. It imports from where the test imports."""

_forking: Final = threading.Lock()
"""Held while a pipe is open for writing in this process, so that no other server inherits it."""


class ServerError(Exception):
    """The server failed. The message has its log, with the traceback of the application."""


class Record(NamedTuple):
    """An event of the log."""

    level: str
    """INFO, WARNING, ..."""

    event: str
    """The name, such as "worker.ready"."""

    fields: dict[str, str]
    """What follows the name, such as {"slot": "0"}."""

    text: str
    """The lines below the event, such as a traceback."""


def serve(
    app_or_path: WSGIApplication | str,
    *,
    bind: str | Sequence[str] = "127.0.0.1:0",
    workers: int = 1,
    **options: OptionValue | Sequence[OptionValue] | Mapping[str, str] | None,
) -> Server:
    """Starts a server, and returns once all of its workers serve.

    app_or_path: "module:attr", which the server imports with the `sys.path` of this process; or any callable, such as a
        closure of the test. A callable is served by a fork of this process, so that it has all objects and
        monkeypatches of the test, but `Server.reload()` needs a path.
    bind: by default, a free port of the loopback interface.
    workers: by default one, so that all requests reach the same process.
    options: the options of the command line, as for `arctos.serve()`. `drain_delay` is 0, and no file is read unless
        `config` names it.

    Use the server as a context manager, or call its `stop()`. It also stops when this process ends, however it ends.

    Raises TypeError or ValueError for a wrong option; ServerError with the log if the server does not start.
    """
    if not isinstance(app_or_path, str) and not callable(app_or_path):
        raise TypeError(f"app_or_path must be 'module:attr' or callable, not {type(app_or_path).__name__}")
    if options.setdefault("log_format", "text") != "text":
        raise ValueError("log_format must be text, because arctos.testing reads the log")
    if options.setdefault("log_level", "info") not in ("debug", "info"):
        raise ValueError("log_level must be info or debug, because arctos.testing waits for events of the log")
    options.setdefault("drain_delay", 0)
    options.setdefault("config", "off")  # several tests that run side by side could not share its sockets and files
    server = Server(app_or_path, {"bind": bind, "workers": workers, **options})
    try:
        server._await_ready()
    except BaseException:
        server._kill()
        raise
    return server


class Server:
    """A running server, which `serve()` has started.

    As a context manager, it stops at the end of the block: gracefully, or quickly if an exception ends the block.
    """

    url: str
    """The URL of its first TCP address, without a slash at the end: "http://127.0.0.1:41234"."""

    addresses: list[str]
    """All of its addresses, as in "unix:/run/shop.sock"."""

    pid: int
    """The process of its supervisor."""

    def __init__(self, app_or_path: WSGIApplication | str, options: Mapping[str, Any]) -> None:
        checked = checked_options(options)
        if isinstance(app_or_path, str):
            command = _command(app_or_path, checked)
            begin: Callable[[int, int], _Process] = lambda out, log: _execute(command, out, log)
        else:
            app = app_or_path
            begin = lambda out, log: _fork(lambda: _serve_supervised(app, **options), out, log)
        self.url, self.addresses = "", []
        self._state = threading.Condition()
        self._log, self._output = b"", b""
        self._process: _Process | None = None
        self._failure: BaseException | None = None
        self._exit_code: int | None = None
        self._stop_requested = False
        # The kernel stops the server when this thread ends, so it lives as long as the server.
        threading.Thread(target=self._run, args=(begin,), name="arctos.testing", daemon=True).start()
        with self._state:
            self._state.wait_for(lambda: self._process is not None or self._failure is not None)
        if self._failure is not None:
            raise self._failure
        assert self._process is not None
        self.pid = self._process.pid

    # --- What it says ---

    @property
    def log(self) -> str:
        """What it has written to standard error so far: its own log, and what the application writes there."""
        with self._state:
            return _text(self._log)

    @property
    def output(self) -> str:
        """What it has written to standard output so far, such as what the application prints."""
        with self._state:
            return _text(self._output)

    @property
    def records(self) -> list[Record]:
        """The events of its log so far."""
        return _parsed(self.log)

    def wait_for(self, event: str, *, count: int = 1, timeout: float = 30.0, **fields: object) -> Record:
        """Waits until the log has `count` events with these fields, and returns the last of them:
        `wait_for("worker.died", slot=0)`. Those that have happened before count, too.

        Raises ServerError if the server ends, or after `timeout` seconds.
        """
        wanted = {name: str(value) for name, value in fields.items()}

        def found(records: list[Record]) -> Record | None:
            matching = [one for one in records if one.event == event and wanted.items() <= one.fields.items()]
            return matching[count - 1] if len(matching) >= count else None

        return self._await(found, 0, timeout, f"no {event} in the log" if count == 1 else f"fewer than {count} {event}")

    # --- What it does ---

    def reload(self, *, timeout: float = 60.0) -> None:
        """Loads the code and the configuration again, and returns once all workers have been replaced. It takes about
        a second, because the first new worker has to prove itself.

        Raises ServerError with the log since then if the reload fails: the old code keeps serving.
        """
        with self._state:
            begin = len(self._log)
        self._send(signal.SIGHUP)
        ends = ("reload.done", "reload.failed", "reload.refused", "reload.abandoned", "reload.halted")

        def found(records: list[Record]) -> Record | None:
            return next((one for one in records if one.event in ends), None)

        if self._await(found, begin, timeout, "the reload has not ended").event != "reload.done":
            with self._state:
                log = _text(self._log[begin:])
            raise ServerError(f"the reload failed:\n{log}")

    def stop(self, *, timeout: float = 60.0) -> int:
        """Stops the server gracefully, and returns its exit code: 0 if all went well. Does nothing if it has ended.

        Raises ServerError after `timeout` seconds, when it kills the server.
        """
        return self._stop(signal.SIGTERM, timeout)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is not None:
            self._stop(signal.SIGINT, 60.0)
            return
        has_stopped = self._stop_requested
        code = self.stop()
        if code != 0 and not has_stopped:
            raise ServerError(f"arctos exited with status {code}:\n{self.log}")

    # --- Its process ---

    def _run(self, begin: Callable[[int, int], _Process]) -> None:
        """Starts the process, reads what it writes, and waits for its end."""
        try:
            with _forking:
                (log, log_end), (output, output_end) = os.pipe(), os.pipe()
                try:
                    process = begin(output_end, log_end)
                finally:
                    os.close(log_end)
                    os.close(output_end)
        except BaseException as error:
            with self._state:
                self._failure = error
                self._state.notify_all()
            return
        with self._state:
            self._process = process
            self._state.notify_all()
        self._read(process, log, output)
        exit_code = process.reap()
        os.close(log)
        os.close(output)
        with self._state:
            self._exit_code = exit_code
            os.close(process.pidfd)
            self._state.notify_all()

    def _read(self, process: _Process, log: int, output: int) -> None:
        """Reads until the process has ended. Others that inherited its output may still have it open then."""
        poll, open_ends = select.poll(), {log, output}
        for fd in (log, output, process.pidfd):
            os.set_blocking(fd, False)
            poll.register(fd, select.POLLIN)
        has_ended = False
        while not has_ended:
            has_ended = process.pidfd in [fd for fd, _ in poll.poll()]
            for fd in list(open_ends):
                if not self._read_available(fd, is_log=fd == log):
                    poll.unregister(fd)
                    open_ends.remove(fd)

    def _read_available(self, fd: int, *, is_log: bool) -> bool:
        """Reads what is there, and returns whether more may come."""
        while True:
            try:
                got = os.read(fd, 1 << 16)
            except BlockingIOError:
                return True
            with self._state:
                if is_log:
                    self._log += got
                else:
                    self._output += got
                self._state.notify_all()
            if not got:
                return False

    def _await(
        self, found: Callable[[list[Record]], Record | None], begin: int, timeout: float | None, failure: str
    ) -> Record:
        """Waits until what the log has had since `begin` satisfies `found`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._state:
            while True:
                has_ended, log = self._exit_code is not None, _text(self._log[begin:])
                record = found(_parsed(log))
                if record is not None:
                    return record
                if has_ended:
                    raise ServerError(f"{failure}: arctos exited with status {self._exit_code}:\n{log}")
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise ServerError(f"{failure} after {timeout} s:\n{log}")
                self._state.wait(left)

    def _await_ready(self) -> None:
        """Waits as long as the server takes, which `boot_timeout` limits."""

        def found(records: list[Record]) -> Record | None:
            return next((one for one in records if one.event == "server.ready"), None)

        ready = self._await(found, 0, None, "the server did not start")
        self.addresses = ready.fields["listen"].split()
        self.url = next((address for address in self.addresses if address.startswith("http")), "")

    def _send(self, number: int) -> None:
        """Sends a signal to the supervisor, unless it has ended."""
        with self._state:
            if self._exit_code is None and self._process is not None:
                try:
                    signal.pidfd_send_signal(self._process.pidfd, number)
                except ProcessLookupError:
                    pass  # it has ended just now

    def _stop(self, number: int, timeout: float) -> int:
        self._stop_requested = True
        self._send(number)
        with self._state:
            self._state.wait_for(lambda: self._exit_code is not None, timeout)
        if self._exit_code is None:
            self._kill()
            raise ServerError(f"arctos did not stop within {timeout} s, and was killed:\n{self.log}")
        return self._exit_code

    def _kill(self) -> None:
        """Kills the supervisor, whose workers then end by themselves."""
        self._send(signal.SIGKILL)
        with self._state:
            self._state.wait_for(lambda: self._exit_code is not None)


class _Process(NamedTuple):
    """A child of this process."""

    pid: int
    pidfd: int
    reap: Callable[[], int]
    """Waits for its end, and returns its exit code."""


def _command(path: str, options: list[tuple[str, list[str]]]) -> list[str]:
    """Returns the command that serves what can be imported."""
    words = [f"--{name.replace('_', '-')}={text}" for name, texts in options for text in texts]
    imported_from = json.dumps([os.path.abspath(directory) for directory in sys.path])
    return [sys.executable, "-c", _EXECUTED, str(os.getpid()), imported_from, *words, path]


def _execute(command: list[str], output: int, log: int) -> _Process:
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=log, start_new_session=True
    )
    return _Process(process.pid, os.pidfd_open(process.pid), process.wait)


def _fork(run: Callable[[], int], output: int, log: int) -> _Process:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()  # otherwise, the child would also write what is still buffered
        except (AttributeError, ValueError):
            pass  # None or closed: nothing is buffered
    with warnings.catch_warnings():
        # From Python 3.12 on, it warns if there are other threads. The child has only this one.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _be_the_server(run, parent, output, log)

    def reap() -> int:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    return _Process(pid, os.pidfd_open(pid), reap)


def _be_the_server(run: Callable[[], int], parent: int, output: int, log: int) -> NoReturn:
    """Runs the server in the child."""
    code = 1
    try:
        stop_with_parent(parent)
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(log, 2)
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]
        sys.stdout = sys.__stdout__ = open(1, "w", 1, closefd=False)  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # type: ignore[misc]
        _leave_the_test_runner()
        code = run()
    except ValueError as error:
        code = 2  # the exit code of the command for a wrong value
        print(f"error: {error}", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _leave_the_test_runner() -> None:
    """Undoes what pytest has set up to collect output, which would otherwise disappear in this process."""
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    for handler in list(logging.root.handlers):
        if type(handler).__module__.startswith("_pytest."):
            logging.root.removeHandler(handler)


# --- The log ---

_LINE: Final = re.compile(r"\d{4}-\d\d-\d\dT\S+Z +(?P<level>[A-Z]+) +(?P<event>[a-z0-9_]+\.[a-z0-9_.]+)(?P<fields>.*)")
_FIELD: Final = re.compile(r'([A-Za-z_0-9]+)=("(?:[^"\\]|\\.)*"|\S*)')
_ESCAPE: Final = re.compile(r"\\(?:x([0-9a-f]{2})|u\{([0-9a-f]+)\}|(.))")
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t"}
_INDENTATION: Final = "    "


def _text(log: bytes) -> str:
    return log.decode("utf-8", "backslashreplace")


def _parsed(log: str) -> list[Record]:
    """Returns the events of a log. A last line without its end is not one yet."""
    records: list[Record] = []
    is_below = False
    for line in log.split("\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is not None:
            fields = {name: _unquoted(value) for name, value in _FIELD.findall(match["fields"])}
            records.append(Record(match["level"], match["event"], fields, ""))
        elif is_below and line.startswith(_INDENTATION):
            records[-1] = records[-1]._replace(text=records[-1].text + line[len(_INDENTATION) :] + "\n")
        is_below = match is not None or (is_below and line.startswith(_INDENTATION))
    return records


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value

    def plain(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _CONTROLS.get(match[3], match[3])

    return _ESCAPE.sub(plain, value[1:-1])
