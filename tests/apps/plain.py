"""Plain WSGI applications, one per path: `plain:app` routes to all of them.

An application that waits for the test reads a FIFO that the test writes to (`?gate=PATH`). One that notifies the
test sends a datagram to a unix socket (`?notify=PATH`). Neither side sleeps or polls.
"""

import contextvars
import hashlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from urllib.parse import parse_qs

PIECE_BYTES = 64 * 1024
NAME = contextvars.ContextVar("name", default="nobody")
IMPORTED_AS = {"pid": os.getpid(), "ppid": os.getppid(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}


def app(environ, start_response):
    """Routes by the first part of the path."""
    name = environ["PATH_INFO"].strip("/").split("/")[0].replace("-", "_") or "hello"
    found = ROUTES.get(name)
    if found is None:
        start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "10")])
        return [b"not found\n"]
    return found(environ, start_response)


application = app


def query(environ, name, default=None):
    """Returns one value of the query string."""
    values = parse_qs(environ.get("QUERY_STRING", "")).get(name)
    return default if values is None else values[0]


def wait_for_gate(environ):
    """Returns once the test has opened its FIFO for writing and closed it again."""
    with open(query(environ, "gate"), "rb") as gate:
        gate.read()


def notify(path, text):
    """Sends a datagram to the test."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.sendto(text.encode(), path)


def text(start_response, body, status="200 OK", fields=()):
    body = body.encode() if isinstance(body, str) else body
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields])
    return [body]


def as_json(start_response, value):
    body = json.dumps(value, sort_keys=True).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


# --- Requests -----------------------------------------------------------------------------------------


def hello(environ, start_response):
    return text(start_response, "Hello, world!\n")


def echo(environ, start_response):
    """Returns the request body, and its SHA-256 in a field."""
    body = environ["wsgi.input"].read(-1)  # wsgiref.validate wants an argument
    return text(start_response, body, fields=[("X-SHA256", hashlib.sha256(body).hexdigest())])


def digest(environ, start_response):
    """Returns the size and the SHA-256 of the body, which is read in pieces."""
    sha256, size_bytes = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(PIECE_BYTES):
        sha256.update(piece)
        size_bytes += len(piece)
    return as_json(start_response, {"size_bytes": size_bytes, "sha256": sha256.hexdigest(), "pid": os.getpid()})


def headers(environ, start_response):
    """Returns the strings in the environ."""
    return as_json(start_response, {name: value for name, value in environ.items() if isinstance(value, str)})


def environ_types(environ, start_response):
    """Returns the types in the environ, and its values that are no strings."""
    return as_json(
        start_response,
        {
            "type": type(environ).__name__,
            "types": {name: type(value).__name__ for name, value in environ.items()},
            "version": environ["wsgi.version"],
            "multithread": environ["wsgi.multithread"],
            "multiprocess": environ["wsgi.multiprocess"],
            "run_once": environ["wsgi.run_once"],
            "input_terminated": environ.get("wsgi.input_terminated"),
        },
    )


def read_all_ways(environ, start_response):
    """Reads with read(n), readline(), readline(n), readlines(hint), by iteration and past the end."""
    stream = environ["wsgi.input"]
    found = {
        "read3": stream.read(3),
        "readline": stream.readline(),
        "readline2": stream.readline(2),
        "readlines": stream.readlines(1),
        "next": next(iter(stream)),
        "rest": stream.read(-1),
        "past_end": stream.read(5),
        "line_past_end": stream.readline(),
    }
    show = lambda value: [show(one) for one in value] if isinstance(value, list) else value.decode("latin-1")  # noqa: E731
    return as_json(start_response, {name: show(value) for name, value in found.items()})


def unread(environ, start_response):
    """Answers without reading the body."""
    return text(start_response, "not read\n")


def errors(environ, start_response):
    """Writes two lines to the error log."""
    environ["wsgi.errors"].write("first line\nsecond ")
    environ["wsgi.errors"].writelines(["line\n"])
    environ["wsgi.errors"].flush()
    return text(start_response, "logged\n")


# --- Replies ------------------------------------------------------------------------------------------


def status(environ, start_response):
    """Answers with the status `?line=`, and with a body if the test asks for one."""
    start_response(query(environ, "line", "200 OK"), [("Content-Type", "text/plain")])
    return [query(environ, "body", "").encode()]


def length(environ, start_response):
    """Promises `?promise=` bytes and yields `?give=`, in pieces."""
    promised, given = int(query(environ, "promise")), int(query(environ, "give"))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(promised))])
    yield b"x" * (given // 2)
    yield b"x" * (given - given // 2)


def gated(environ, start_response):
    """Yields two items, the second only after the test has received the first. Reports over `?notify=` that it waits."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    if query(environ, "notify"):
        notify(query(environ, "notify"), str(os.getpid()))
    wait_for_gate(environ)
    yield b"second\n"


class Named:
    """Yields many bytes and then the value of the context variable, which it sends to the test when it is closed."""

    def __init__(self, environ):
        self.notify = query(environ, "notify")
        self.items = iter((b"x" * int(query(environ, "bytes")), None))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items) or NAME.get().encode()

    def close(self):
        notify(self.notify, NAME.get())


def named(environ, start_response):
    """Sets a context variable to `?name=`, and returns its previous value in a field."""
    before = NAME.get()
    NAME.set(query(environ, "name"))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Before", before)])
    return Named(environ)


def written(environ, start_response):
    """Uses write(), with a second piece only after the test has received the first."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"first\n")
    if query(environ, "gate"):
        wait_for_gate(environ)
    write(b"second\n")
    return [b"third\n"]


def written_large(environ, start_response):
    """Sends more through write() than the socket takes."""
    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for number in range(int(query(environ, "count", "64"))):
        write(bytes([number % 256]) * PIECE_BYTES)
    return []


def chunks(environ, start_response):
    """Yields `?count=` items of `?size=` bytes, with empty ones in between."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    for number in range(int(query(environ, "count", "3"))):
        yield bytes([ord("a") + number % 26]) * int(query(environ, "size", "5"))
        yield b""


def empty(environ, start_response):
    """Yields no item."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter(())


def file(environ, start_response):
    """Returns a sparse file of `?bytes=` zeros from `?offset=`, for sendfile(2)."""
    size_bytes, offset = int(query(environ, "bytes")), int(query(environ, "offset", "0"))
    found = tempfile.TemporaryFile()
    found.truncate(size_bytes)
    if query(environ, "mark"):  # to recognize both ends
        found.write(b"begin")
        found.seek(size_bytes - 3)
        found.write(b"end")
    found.seek(offset)
    fields = [("Content-Type", "application/octet-stream")]
    if query(environ, "length", "yes") == "yes":
        fields.append(("Content-Length", str(size_bytes - offset)))
    start_response("200 OK", fields)
    return environ["wsgi.file_wrapper"](found, PIECE_BYTES)


def kernel_file(environ, start_response):
    """Returns a file that the kernel generates when it is read, and whose size is 0."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](open("/proc/version", "rb"))


class Closing:
    """An iterable that notifies the test each time it is closed."""

    def __init__(self, path, items, failing=False):
        self.path, self.items, self.failing = path, iter(items), failing

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.items)
        except StopIteration:
            if self.failing:
                raise RuntimeError("the iterator failed") from None
            raise

    def close(self):
        notify(self.path, "closed")


def closing(environ, start_response):
    """Notifies the test when it is closed. Yields `?items=` items, and raises after the last with `?failing=yes`."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    items = [b"item\n" * int(query(environ, "repeat", "1"))] * int(query(environ, "items", "2"))
    return Closing(query(environ, "notify"), items, query(environ, "failing") == "yes")


class ClosesLate(list):
    """Its close() reports over `?notify=` that it runs, and waits for the gate."""

    def close(self):
        notify(query(self.environ, "notify"), str(os.getpid()))
        wait_for_gate(self.environ)


def closes_late(environ, start_response):
    """Occupies its worker when the response is already complete."""
    found = ClosesLate(text(start_response, f"{os.getpid()}\n"))
    found.environ = environ
    return found


def header_lines(environ, start_response):
    """Returns fields whose spelling and order must not change."""
    fields = [("x-lower", "1"), ("X-UPPER", "2"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Length", "0")]
    start_response("200 OK", fields)
    return []


def bad_head(environ, start_response):
    """Violates PEP 3333 by `?kind=`."""
    kinds = {
        "status-int": (200, []),
        "status-short": ("20", []),
        "status-1xx": ("101 Switching Protocols", []),
        "newline": ("200 OK", [("X-Split", "a\r\nX-Injected: b")]),
        "name": ("200 OK", [("X Split", "a")]),
        "hop": ("200 OK", [("Keep-Alive", "5")]),
        "transfer-encoding": ("200 OK", [("Transfer-Encoding", "chunked")]),
        "length": ("200 OK", [("Content-Length", "ten")]),
        "two-lengths": ("200 OK", [("Content-Length", "2"), ("Content-Length", "2")]),
        "bytes": ("200 OK", [(b"X-Bytes", b"1")]),
        "wide": ("200 OK", [("X-Wide", "\u20ac")]),
        "fields-none": ("200 OK", None),
    }
    line, fields = kinds[query(environ, "kind")]
    start_response(line, fields)
    return [b"ok"]


def body_kinds(environ, start_response):
    """Returns a body that is no iterable of bytes, by `?kind=`."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return {"str": "text", "none": None, "items-str": ["text"], "bytes": b"bytes", "number": 5}[query(environ, "kind")]


# --- Failures -----------------------------------------------------------------------------------------


def fail(environ, start_response):
    """Raises before it has called start_response."""
    raise ValueError("the application failed")


def fail_late(environ, start_response):
    """Raises at its second item."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    raise ValueError("the second item failed")


def fail_first(environ, start_response):
    """Raises at its first item, after start_response."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Never", "sent")])
    raise ValueError("the first item failed")
    yield b""


def never_starts(environ, start_response):
    return [b"no head\n"]


def starts_twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"twice\n"]


def restart(environ, start_response):
    """Calls start_response again with exc_info before the headers are sent."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-First", "1"), ("Content-Length", "999")])
    try:
        raise ValueError("caught")
    except ValueError:
        start_response("503 Service Unavailable", [("X-Second", "2"), ("Content-Length", "6")], sys.exc_info())
    return [b"sorry\n"]


def restart_late(environ, start_response):
    """Calls start_response again with exc_info after the headers were sent, which raises it."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    try:
        raise ValueError("caught too late")
    except ValueError:
        start_response("503 Service Unavailable", [("X-Second", "2")], sys.exc_info())
    yield b"never\n"


def starts_late(environ, start_response):
    """Calls start_response when the first item is requested, after empty ones."""
    yield b""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"late\n"


def system_exit(environ, start_response):
    sys.exit(3)


def interrupt(environ, start_response):
    raise KeyboardInterrupt


def hard_exit(environ, start_response):
    os._exit(7)


# --- Processes and time ---------------------------------------------------------------------------------


def slow(environ, start_response):
    """Occupies its worker for `?ms=` milliseconds."""
    time.sleep(int(query(environ, "ms", "100")) / 1000)
    return text(start_response, f"{os.getpid()}\n")


def gate(environ, start_response):
    """Reports over `?notify=` that it runs, and occupies its worker until the test opens the gate."""
    if query(environ, "notify"):
        notify(query(environ, "notify"), str(os.getpid()))
    wait_for_gate(environ)
    return text(start_response, f"{os.getpid()}\n")


def stubborn(environ, start_response):
    """Reports over `?notify=` that it runs, and never ends, whatever is raised in it."""
    notify(query(environ, "notify"), str(os.getpid()))
    while True:
        try:
            time.sleep(60)
        except BaseException:  # such as a limit that interrupts requests
            pass


def umask():
    """Returns the umask, which can only be read by setting another."""
    found = os.umask(0o077)
    os.umask(found)
    return found


def worker(environ, start_response):
    """Returns facts about the worker."""
    now = {"pid": os.getpid(), "ppid": os.getppid(), "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups()}
    return as_json(
        start_response,
        {
            "worker": environ.get("arctos.worker"),
            "now": now,
            "imported": IMPORTED_AS,
            "umask": umask(),
            "cwd": os.getcwd(),
            "environment": {name: value for name, value in os.environ.items() if name.startswith("PLAIN_")},
        },
    )


def fork(environ, start_response):
    """Forks a child that exits at once, and waits for it."""
    child = os.fork()
    if child == 0:
        os._exit(5)
    _, how = os.waitpid(child, 0)
    return text(start_response, f"{os.waitstatus_to_exitcode(how)}\n")


def fork_and_come_back(environ, start_response):
    """Forks, and both processes answer: in the call of the application, or when the iterable is closed."""

    class Answer(list):
        def close(self):
            if query(environ, "in_close"):
                wait_for_child()

    def wait_for_child():
        child = os.fork()
        if child:
            os.waitpid(child, 0)

    if not query(environ, "in_close"):
        wait_for_child()
    text(start_response, b"one answer\n")
    return Answer([b"one answer\n"])


def terminate(environ, start_response):
    """Terminates a process of multiprocessing, and returns the signal that ended it."""
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    child.terminate()
    child.join(10)
    ended_by = child.exitcode
    child.kill()
    return text(start_response, f"{ended_by}\n")


def signals_of_a_program(environ, start_response):
    """Returns the numbers of the signals that a child program ignores from its start."""
    import subprocess

    lines = subprocess.run(["cat", "/proc/self/status"], check=True, capture_output=True).stdout.decode().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:"))
    return as_json(start_response, [number for number in range(1, 65) if mask >> (number - 1) & 1])


def fork_and_stay(environ, start_response):
    """Forks a child that outlives the request and must not keep the connection open."""
    child = os.fork()
    if child == 0:
        with open(query(environ, "gate"), "rb") as held:
            held.read()
        os._exit(0)
    return text(start_response, f"{child}\n")


def orphan(environ, start_response):
    """Forks twice: the orphaned grandchild exits with `?status=` when the gate opens."""
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os.setsid()
            notify(query(environ, "notify"), str(os.getpid()))
            wait_for_gate(environ)
            os._exit(int(query(environ, "status", "0")))
        os._exit(0)
    os.waitpid(child, 0)
    return text(start_response, "orphaned\n")


def subprocess_answer(environ, start_response):
    """Runs a program."""
    import subprocess

    return text(start_response, subprocess.run(["echo", "from a program"], check=True, capture_output=True).stdout)


ROUTES = {
    found.__name__: found
    for found in (
        hello, echo, digest, headers, environ_types, read_all_ways, unread, errors, status, length, gated, named, written,
        written_large, chunks, empty, file, closing, closes_late, header_lines, bad_head, body_kinds, fail, fail_late, fail_first,
        never_starts, starts_twice, restart, restart_late, starts_late, system_exit, interrupt, hard_exit, slow, gate,
        stubborn, worker, fork, fork_and_come_back, fork_and_stay, orphan, subprocess_answer, terminate, signals_of_a_program,
        kernel_file,
    )
}  # fmt: skip
