"""Paste: `use = egg:arctos#main` in the section `[server:main]` of a configuration file, for `pserve` of Pyramid.

| what is known | what happens |
|---|---|
| the file and the section of the application | arctos replaces this process, and its workers load the application |
| the same, under `pserve --reload` | arctos runs as a child, because the reloader watches this process |
| only the application | this process forks the workers, which inherit the application |
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..in_process import WSGIApplication
from ..supervised import serve as serve_supervised
from . import _command_line

VARIABLE = "PASTE_ARCTOS_APPLICATION"
"""The variable that names the application to the workers, as JSON."""

FACTORY = "arctos.contrib.paste:application()"

DEVELOPMENT = {"workers": "1", "timeout": "0", "access-logfile": "-"}
"""Options of arctos under a reloader, where nothing else gives them: a debugger must be able to stop a request."""

WITH_PARENT = (
    "import sys; from arctos.arctos import main, stop_with_parent; "
    "stop_with_parent(int(sys.argv.pop(1))); sys.exit(main())"
)
"""A program that is arctos until the process that started it dies."""


def main(wsgi_app: WSGIApplication, global_conf: Mapping[str, str] | None, **settings: str) -> None:
    """Serves an application until a signal ends the server: an entry point of the group `paste.server_runner`.

    settings: the options of arctos, with `_` or `-`; `host` and `port`, or `listen`, in place of `bind`; and `app`, the
        section of the application, such as `main`, if another program than pserve has loaded it.

    If this process forks the workers, raises what `arctos.serve()` raises, and RuntimeError if the server failed.
    """
    conf = dict(global_conf or {})
    source = _source(conf, settings.pop("app", None))
    values = _options(settings)
    if source is None:
        return _serve_object(wsgi_app, values)
    os.environ[VARIABLE] = json.dumps(source._asdict())
    arguments = [f"--pythonpath={path}" for path in _command_line.search_path()]
    for keyword, value in values.items():
        # arctos answers names that it does not know: it has advice for options of other servers.
        name = keyword.replace("_", "-")
        arguments += [f"--{name}={one}" for one in (value if isinstance(value, list) else [value])]
    if _is_watched():
        _run_child(_command_line.with_defaults(arguments, DEVELOPMENT))
    else:
        _command_line.replace_process(FACTORY, arguments)


def application() -> Any:
    """Loads the application from its configuration file. The workers call this."""
    source = _Source(**json.loads(os.environ[VARIABLE]))
    try:
        import plaster
    except ModuleNotFoundError:
        from paste.deploy import loadapp

        return loadapp(f"config:{source.file}", name=source.app, global_conf=source.variables)
    loader = plaster.get_loader(source.file, protocols=["wsgi"])
    loader.setup_logging(source.variables)
    return loader.get_wsgi_app(source.app, source.variables)


class _Source(NamedTuple):
    """The configuration file of an application, its section and its variables."""

    file: str
    app: str
    variables: dict[str, str]


def _source(conf: dict[str, str], app: str | None) -> _Source | None:
    """Returns where the workers can load the application, if that is certain."""
    file = conf.get("__file__")
    if file is None:
        return None
    loaded = _loaded_by_pserve(file)
    if app is not None:
        given = {name: value for name, value in conf.items() if name not in ("__file__", "here")}
        return _Source(file, app, loaded.variables if loaded else given)
    return loaded


def _loaded_by_pserve(file: str) -> _Source | None:
    """Returns what the command line of pserve says about the application, if it names this file."""
    pserve = sys.modules.get("pyramid.scripts.pserve")
    if pserve is None or os.path.basename(sys.argv[0]) not in ("pserve", "pserve.py"):
        return None
    from pyramid.scripts.common import parse_vars

    words, _ = pserve.PServeCommand.parser.parse_known_args(sys.argv[1:])
    path, _, section = (words.config_uri or "").partition("#")
    if not os.path.isfile(path) or not os.path.samefile(path, file):
        return None
    variables = {"__script__": "pserve", **parse_vars(words.config_vars)}
    return _Source(file, words.app_name or section or "main", variables)


def _options(settings: dict[str, str]) -> dict[str, str | list[str]]:
    """Returns the options of arctos by their keywords. Those that can be repeated have one value per line."""
    repeatable = {option.keyword for option in _command_line.options() if option.is_repeatable}
    host, port = settings.pop("host", None), settings.pop("port", None)
    listen = settings.pop("listen", "").split()  # as in waitress, whose files need no change
    values: dict[str, str | list[str]] = {}
    for name, text in settings.items():
        keyword = name.replace("-", "_")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        values[keyword] = lines if keyword in repeatable else text.strip()
    if host is not None or port is not None:
        address = f"[{host}]" if host and ":" in host and not host.startswith("[") else host or "127.0.0.1"
        listen.append(f"{address}:{port or 8000}")
    if listen:
        values["bind"] = [*(address.removeprefix("*") for address in listen), *values.get("bind", [])]
    return values


def _serve_object(wsgi_app: WSGIApplication, values: Mapping[str, Any]) -> None:
    if threading.active_count() > 1:
        raise RuntimeError(
            "this process has other threads, so it cannot fork the workers of arctos. Let them load the application "
            "themselves: app = main in [server:main], if [app:main] is what should be served"
        )
    status = serve_supervised(wsgi_app, **values)
    if status:
        raise RuntimeError(f"arctos ended with exit status {status}; its log has the reason")


def _is_watched() -> bool:
    """Whether this is the process that `pserve --reload` watches and starts again."""
    hupper = sys.modules.get("hupper")
    return hupper is not None and bool(hupper.is_active())


def _run_child(arguments: list[str]) -> None:
    """Runs the server until it ends, or until this process should end."""
    words = _command_line.command(FACTORY, arguments, ["-c", WITH_PARENT, str(os.getpid())])
    child = subprocess.Popen(words)
    try:
        signal.signal(signal.SIGTERM, _raise_terminated)
        status = child.wait()
    except BaseException as error:
        child.send_signal(signal.SIGINT)
        child.wait()
        if isinstance(error, _Terminated):
            # The reloader gives this process only a second, which ends as it would without arctos.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        raise
    if status:
        sys.exit(status)


class _Terminated(BaseException):
    """This process should end."""


def _raise_terminated(*_: object) -> None:
    raise _Terminated
