"""A server inside the caller's process, as with bjoern: one worker, the same event loop, no supervisor.

This module creates sockets and checks arguments; `serve_socket` of the extension module serves.
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol, TypedDict, overload

from .arctos import Statsd, is_serving, serve_socket

DEFAULT_LISTEN_BACKLOG: Final = 1024
"""The default number of connections that may wait to be accepted."""

_MAX_BACKLOG: Final = 2**31 - 1
"""The maximum that listen(2) accepts."""

DEFAULT_STATSD_HOST: Final = "127.0.0.1"
DEFAULT_STATSD_PORT: Final = 8125

WSGIApplication = Callable[[dict[str, Any], Any], Iterable[bytes]]
"""An application as PEP 3333 defines it."""


class HasFileno(Protocol):
    """A socket, or another object with a descriptor."""

    def fileno(self) -> int:
        """Returns the descriptor."""
        ...


class _StatsdNeeded(TypedDict):
    enable: bool


class StatsdOptions(_StatsdNeeded, total=False):
    """The destination of metrics: the `statsd` of `run()` and `server_run()`. Only `enable` is required."""

    host: str | None
    port: int | None
    ns: str | None
    tags: str | None


class _Instance(NamedTuple):
    """A socket and application that `listen()` prepares and `run()` serves."""

    sock: socket.socket
    wsgi_app: WSGIApplication
    file: _SocketFile | None


class _SocketFile(NamedTuple):
    """The path of a unix socket, and its identity, in case another file replaces it later."""

    path: str
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> _SocketFile:
        found = os.lstat(path)
        return cls(os.path.abspath(path), found.st_dev, found.st_ino)

    def unlink(self) -> None:
        try:
            found = os.lstat(self.path)
            if (found.st_dev, found.st_ino) == (self.device, self.inode):
                os.unlink(self.path)
        except FileNotFoundError:
            pass  # another process of the same server has removed it


_default_instance: _Instance | None = None


def bind_and_listen(
    host: str,
    port: int | None = None,
    reuse_port: bool = False,
    listen_backlog: int = DEFAULT_LISTEN_BACKLOG,
) -> socket.socket:
    """Creates a listening socket. The caller closes it, and removes the file of a unix socket.

    host: an address or a name, "" for all IPv4 addresses; `unix:/path`; `unix:@name` for an abstract socket.
        A name with IPv4 and IPv6 addresses is bound to an IPv4 one.
    port: 0 to 65535, 0 for any free one. Not for a unix socket.
    reuse_port: sets SO_REUSEPORT, so that several processes can bind the same address and the kernel distributes
        connections among them. Not for a unix socket.
    listen_backlog: connections that may wait to be accepted.

    Returns the socket, non-blocking.
    Raises TypeError or ValueError that names the argument; OSError if the address cannot be bound.
    """
    _check_type("host", host, str)
    _check_number("listen_backlog", listen_backlog, 0, _MAX_BACKLOG)
    _check_flag("reuse_port", reuse_port)
    if port is not None:
        _check_number("port", port, 0, 65535)
    address: Any
    if host.startswith("unix:"):
        for name, is_given in (("port", port is not None), ("reuse_port", bool(reuse_port))):
            if is_given:
                _warn(f"{name} has no meaning for the unix socket {host!r}")
        family, address = socket.AF_UNIX, _unix_address(host)
    elif port is None:
        raise TypeError(f"port is missing: host {host!r} is not a unix socket (unix:/path, unix:@name)")
    else:
        family, address = _inet_address(host, port)
    sock = socket.socket(family)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
        sock.setblocking(False)
        sock.listen(listen_backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def listen(
    wsgi_app: WSGIApplication,
    host: str,
    port: int | None = None,
    reuse_port: bool = False,
    listen_backlog: int = DEFAULT_LISTEN_BACKLOG,
) -> socket.socket:
    """Binds an address and listens, so that `run()` without arguments serves `wsgi_app` there.

    The process may fork in between: each child that calls `run()` serves the same address.
    The arguments after `wsgi_app` are those of `bind_and_listen()`.

    Returns the socket, which `run()` closes.
    Raises RuntimeError if a server is already listening, TypeError if the application is not callable, and what
    `bind_and_listen()` raises.
    """
    global _default_instance
    if _default_instance is not None:
        raise RuntimeError("a server is already listening: only one can listen at a time")
    _check_application(wsgi_app)
    sock = bind_and_listen(host, port, reuse_port, listen_backlog=listen_backlog)
    path = sock.getsockname() if sock.family == socket.AF_UNIX else ""
    # The name of an abstract socket is bytes; it has no file.
    file = _SocketFile.at(path) if path and isinstance(path, str) else None
    _default_instance = _Instance(sock, wsgi_app, file)
    return sock


@overload
def run(*, statsd: StatsdOptions | None = None) -> None: ...
@overload
def run(
    wsgi_app: WSGIApplication,
    host: str,
    port: int | None = None,
    reuse_port: bool = False,
    listen_backlog: int = DEFAULT_LISTEN_BACKLOG,
    *,
    statsd: StatsdOptions | None = None,
) -> None: ...
def run(*args: Any, statsd: StatsdOptions | None = None, **kwargs: Any) -> None:
    """Serves until a signal handler of this program raises; on Ctrl-C, until KeyboardInterrupt.

    `run(wsgi_app, host, port, ...)` calls `listen(wsgi_app, host, port, ...)` first; `run()` serves what an
    earlier `listen()` has prepared. `server_run()` describes `statsd`.

    In any case, it closes the socket at the end and removes the file of a unix socket; then the next `listen()`
    is possible.

    Raises RuntimeError for `run()` without `listen()`, and what `listen()` and `server_run()` raise.
    """
    global _default_instance
    if is_serving():  # before anything is bound, and without touching the running one
        raise RuntimeError("a server is already running in this process")
    checked = _checked_statsd(statsd)
    if args or kwargs:
        listen(*args, **kwargs)
    instance = _default_instance
    if instance is None:
        raise RuntimeError("nothing to serve: call listen(wsgi_app, host, ...) before run(), or pass the same to run()")
    try:
        serve_socket(instance.sock.fileno(), instance.wsgi_app, checked)
    finally:
        if instance.file is not None:
            instance.file.unlink()
        instance.sock.close()
        _default_instance = None


def server_run(sock: int | HasFileno, wsgi_app: WSGIApplication, statsd: StatsdOptions | None = None) -> None:
    """Serves `wsgi_app` at a listening socket that the caller has created and will close.

    sock: a socket, another object with `fileno()`, or a descriptor. It becomes non-blocking and stays so.
    statsd: the destination of metrics, which are sent every 2 s; `None` or `{}` for none. A dict with these keys only:
        enable   True or False; False sends nothing, but all other keys are still checked
        host     a name or an address; 127.0.0.1 if omitted, None or ""
        port     8125 if omitted or None
        ns       the prefix of all names: "bjoern" makes "bjoern.req.done"; no prefix if omitted, None or ""
        tags     separated by commas, as in "app:my-app-name,zone:central-europe". With tags, lines are in the
                 format of DogStatsD, otherwise in that of plain statsd

    In the main thread, signal handlers of the program keep running. An exception from one of them ends the server and
    is raised here. After the first Ctrl-C, a running request may finish, within 2 s after the application has
    returned, and KeyboardInterrupt is raised then; a second Ctrl-C raises it at once. An exception of the application,
    even SystemExit, results in a 500 and a log line.

    Raises TypeError or ValueError that names the mistake; RuntimeError if a server is already running in this process;
    OSError if the kernel refuses an operation.
    """
    if isinstance(sock, bool) or not (isinstance(sock, int) or hasattr(sock, "fileno")):
        raise TypeError(f"sock must be a socket or a descriptor, not {type(sock).__name__}")
    _check_application(wsgi_app)
    checked = _checked_statsd(statsd)
    serve_socket(sock if isinstance(sock, int) else sock.fileno(), wsgi_app, checked)


def _unix_address(host: str) -> str:
    """Returns the address for bind(2): a path, or an abstract name after a NUL."""
    address = host.removeprefix("unix:")
    if address.startswith("@"):
        address = "\0" + address[1:]
    if address in ("", "\0"):
        raise ValueError(f"host {host!r} names no unix socket: expected unix:/path or unix:@name")
    if not host.startswith("unix:@") and "\0" in address:
        raise ValueError(f"host {host!r} has a NUL, which ends a path")
    return address


def _inet_address(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Returns family and address. If a name has several addresses, an IPv4 one is preferred."""
    if host == "":
        return socket.AF_INET, ("", port)
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, address


def _check_type(name: str, value: object, expected: type) -> None:
    """Checks a type. A bool is not accepted as a number, because `port=True` is a mistake."""
    if not isinstance(value, expected) or isinstance(value, bool):
        raise TypeError(f"{name} must be {expected.__name__}, not {type(value).__name__}")


def _check_text(name: str, value: str | None) -> None:
    if value is None:
        return
    _check_type(name, value, str)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} must be text that UTF-8 can encode, not {value!r}") from None


def _check_number(name: str, value: int, minimum: int, maximum: int) -> None:
    _check_type(name, value, int)
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} must be from {minimum} to {maximum}, not {value}")


def _check_flag(name: str, value: object) -> None:
    """Checks a flag. 0 and 1 are accepted, because programs for C extensions use them."""
    if not isinstance(value, int) or value not in (0, 1):
        raise TypeError(f"{name} must be bool, not {type(value).__name__}")


def _warn(text: str) -> None:
    """Warns at the line of the caller outside this file."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals is globals():
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)


def _check_application(wsgi_app: Any) -> None:
    if not callable(wsgi_app):
        raise TypeError(f"wsgi_app must be callable, not {type(wsgi_app).__name__}")


def _checked_statsd(options: Mapping[str, Any] | None) -> Statsd | None:
    """Checks all parts of `statsd`, and returns None if nothing should be sent."""
    if options is None:
        return None
    if not isinstance(options, Mapping):
        raise TypeError(f"statsd must be a dict, not {type(options).__name__}")
    if not options:
        return None
    known = ("enable", "host", "port", "ns", "tags")
    for key in options:
        if key not in known:
            raise ValueError(f"statsd has no key {key!r}; its keys are {', '.join(known)}")
    if "enable" not in options:
        raise ValueError("statsd['enable'] is missing: True or False")
    _check_flag("statsd['enable']", options["enable"])
    for key in ("host", "ns", "tags"):
        _check_text(f"statsd[{key!r}]", options.get(key))
    port = options.get("port")
    if port is None:
        port = DEFAULT_STATSD_PORT
    _check_number("statsd['port']", port, 1, 65535)
    host = options.get("host") or DEFAULT_STATSD_HOST
    statsd = Statsd(host, port, options.get("ns") or "", options.get("tags") or "")
    return statsd if options["enable"] else None
