"""The whole server from Python: a supervisor with its workers, as started by the command line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .arctos import option_names, serve_supervised
from .in_process import WSGIApplication

OptionValue = str | int | float | bool
"""A value of an option."""


def serve(
    app_or_path: WSGIApplication | str,
    *,
    bind: str | Sequence[str] | None = None,
    workers: int | str | None = None,
    **options: OptionValue | Sequence[OptionValue] | Mapping[str, str] | None,
) -> int:
    """Runs a supervisor in this process, with its workers, and serves until a signal ends it.

    app_or_path: "module:attr", which each worker imports itself; or an application, which the workers inherit. New
        code can only be loaded from a path.
    bind, workers, options: the options of the command line, with `_` for `-`, as in
        `serve("shop.wsgi:app", bind=["127.0.0.1:8000", "unix:/run/shop"], workers=4, graceful_timeout=30)`.
        Values are str, int, float or bool; a list if the option can be repeated; for `env` also a dict.
        None and an empty list mean that the option is not given. `ARCTOS_*` variables apply to options not given.

    Returns the exit code: `sys.exit(arctos.serve(...))`. Once the options are read, failures appear in the log on
    standard error and in the exit code.
    Call it in the main thread of a process without other threads, because it forks. While it serves, it handles all
    signals and reaps all children of this process. Afterwards, it restores signal dispositions, the current directory
    and the limit of open files. What was registered with `atexit` before runs when this process exits, not with each
    worker.

    Raises TypeError for an unknown option or a wrong type, ValueError for a wrong value, both with the name of the
    option; RuntimeError if a server is already running in this process, or other threads are.
    """
    if not isinstance(app_or_path, str) and not callable(app_or_path):
        raise TypeError(f"app_or_path must be 'module:attr' or callable, not {type(app_or_path).__name__}")
    given = checked_options({"bind": bind, "workers": workers, **options})
    _check_threads()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()  # otherwise, each worker would also write what is still buffered
        except (AttributeError, ValueError):
            pass  # None or closed: nothing is buffered
    return serve_supervised(app_or_path, given)


def checked_options(options: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Returns the options that are given, each with its values as on the command line."""
    known = option_names()
    given = []
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"serve() has no option {name!r}{_hint(name, known)}")
        if value is None:
            continue
        texts = _texts(name, value, known[name])
        if texts:
            given.append((name, texts))
    return given


def disown_exit_handlers() -> None:
    """Removes exit handlers. Called in a worker before it loads anything, when all of them belong to the program."""
    import atexit
    import weakref

    atexit._clear()
    # One handler calls all finalizers, and those of the worker must still be called.
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    if "multiprocessing.util" in sys.modules:
        atexit.register(sys.modules["multiprocessing.util"]._exit_function)  # each process has its own children


def _check_threads() -> None:
    """Refuses other threads that Python knows. The log reports threads that it does not know."""
    import threading

    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        raise RuntimeError(f"serve() forks, which a process with other threads cannot: {', '.join(others)}")


def _hint(name: str, known: Mapping[str, bool]) -> str:
    import difflib  # imported here because the command line does not need it

    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _texts(name: str, value: object, is_repeatable: bool) -> list[str]:
    """Returns the values as on the command line."""
    if name == "env" and isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not isinstance(value[key], str):
                raise TypeError(f"env must have str for names and values, not {key!r}: {value[key]!r}")
            if "=" in key:
                raise ValueError(f"env must have names without '=', not {key!r}")
        return [_text(name, f"{key}={text}") for key, text in value.items()]
    if is_repeatable and isinstance(value, (list, tuple)):
        return [_text(name, one) for one in value]
    return [_text(name, value)]


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (str, int, float)):
        text = str(value)
        if "\0" in text:  # a command line cannot contain it
            raise ValueError(f"{name}={text!r}: expected text without NUL")
        return text
    raise TypeError(f"{name} must be str, int, float or bool, not {type(value).__name__}")


def import_standard_library(directories: Sequence[str]) -> None:
    """Imports what most frameworks import from the standard library, so that the workers of --reload start sooner.

    directories: where the application's modules are searched. If one of them shadows a module of the standard library,
        nothing is imported.
    """
    own = {name.partition(".")[0] for directory in directories for name in _listed(directory)}
    if own & sys.stdlib_module_names:
        return
    before = sys.path[:]
    library = os.path.dirname(os.__file__)
    # Extension modules are in `lib-dynload`, wherever that is.
    sys.path[:] = [path for path in before if path == library or os.path.basename(path) == "lib-dynload"]
    try:
        for name in _FREQUENT.split():
            try:
                importlib.import_module(name)
            except ImportError:
                pass  # a build without it
    finally:
        sys.path[:] = before


_FREQUENT = """
    argparse ast asyncio base64 calendar codecs collections.abc concurrent.futures.thread configparser contextlib
    contextvars copy dataclasses datetime decimal difflib email.message email.parser email.policy email.utils enum fractions
    functools gettext hashlib hmac html html.parser http.client http.cookiejar http.cookies importlib.metadata
    importlib.resources inspect io ipaddress json linecache locale logging.handlers mimetypes numbers operator pathlib
    pickle pkgutil platform pprint queue random re secrets selectors shutil signal socket ssl string struct subprocess
    tempfile textwrap threading traceback types typing unicodedata urllib.parse urllib.request uuid warnings weakref
    zipfile zoneinfo
"""


def _listed(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
