"""The whole server from Python: the supervisor and its workers, as the command line starts them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from .arctos import option_names, serve_supervised
from .in_process import WSGIApplication

OptionValue = str | int | float | bool
"""One value of an option."""


def serve(
    app_or_path: WSGIApplication | str,
    *,
    bind: str | Sequence[str] | None = None,
    workers: int | str | None = None,
    **options: OptionValue | Sequence[OptionValue] | Mapping[str, str] | None,
) -> int:
    """Starts a supervisor in this process and workers below it, and serves until a signal ends it.

    app_or_path: "module:attr", which each worker imports for itself; or an application, which the workers
        inherit. New code can only be loaded from a path.
    bind, workers, options: the options of the command line, with `_` for `-`, as in
        `serve("shop.wsgi:app", bind=["127.0.0.1:8000", "unix:/run/shop"], workers=4, graceful_timeout=30)`.
        Values are str, int, float or bool; a list where the option can be repeated; for `env` also a dict.
        None and an empty list are the same as leaving it out. The environment's `ARCTOS_*` holds for what is left out.

    Returns the exit code: `sys.exit(arctos.serve(...))`. What goes wrong once the options are read is in the log
    on standard error and in that code.
    To be called in the main thread of a process without other threads: it forks. While it serves, signals are the
    server's, and children of this process that end are reaped; dispositions, the current folder and the limit of
    descriptors are put back. What was registered with `atexit` before runs at the end of this process, not of each
    worker.

    Raises TypeError for an unknown option or a wrong type, ValueError for a wrong value, both with its name;
    RuntimeError where a server runs in this process already, or another thread.
    """
    if not isinstance(app_or_path, str) and not callable(app_or_path):
        raise TypeError(f"app_or_path must be 'module:attr' or callable, not {type(app_or_path).__name__}")
    known = option_names()
    given = []
    for name, value in {"bind": bind, "workers": workers, **options}.items():
        if name not in known:
            raise TypeError(f"serve() has no option {name!r}{_hint(name, known)}")
        if value is None:
            continue
        texts = _texts(name, value, known[name])
        if texts:
            given.append((name, texts))
    _check_threads()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()  # or each worker would write what is still in there, too
        except (AttributeError, ValueError):
            pass  # None, or closed: nothing is in there
    return serve_supervised(app_or_path, given)


def disown_exit_handlers() -> None:
    """Called in a worker before it loads anything: what was registered until now is the program's."""
    import atexit
    import weakref

    atexit._clear()
    # They are among the handlers, once for all, and still to be called when those of the worker are.
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
    if "multiprocessing.util" in sys.modules:
        atexit.register(sys.modules["multiprocessing.util"]._exit_function)  # each process has children of its own


def _check_threads() -> None:
    """Those that Python knows by name; of others the log tells."""
    import threading

    others = [thread.name for thread in threading.enumerate() if thread is not threading.current_thread()]
    if others:
        raise RuntimeError(f"serve() forks, which a process with other threads cannot: {', '.join(others)}")


def _hint(name: str, known: Mapping[str, bool]) -> str:
    import difflib  # only here: the command line needs none of it

    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _texts(name: str, value: object, is_repeatable: bool) -> list[str]:
    """A value as the command line would have it, or several."""
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
        if "\0" in text:  # no command line could have it
            raise ValueError(f"{name}={text!r}: expected a text without NUL")
        return text
    raise TypeError(f"{name} must be str, int, float or bool, not {type(value).__name__}")
