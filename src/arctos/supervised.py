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
    server's, and children of this process that end are reaped; dispositions and the current folder are put back.

    Raises TypeError for an unknown option or a wrong type, ValueError for a wrong value, both with its name;
    RuntimeError where a server runs in this process already.
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
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # or each worker would write what is still in there, too
    return serve_supervised(app_or_path, given)


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
        return [f"{key}={text}" for key, text in value.items()]
    if is_repeatable and isinstance(value, (list, tuple)):
        return [_text(name, one) for one in value]
    return [_text(name, value)]


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError(f"{name} must be str, int, float or bool, not {type(value).__name__}")
