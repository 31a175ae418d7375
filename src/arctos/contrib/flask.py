"""Flask: the command `flask arctos`, which Flask finds by its entry point, and what the workers load then."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

try:
    import click
    from click.core import ParameterSource
    from flask import Flask, request
    from flask.cli import ScriptInfo
    from flask.helpers import get_debug_flag
except ModuleNotFoundError:
    raise ImportError("arctos.contrib.flask needs Flask: pip install Flask")  # noqa: B904

from ..in_process import WSGIApplication
from . import _command_line

VARIABLE = "FLASK_ARCTOS_APPLICATION"
"""The variable that names the application to the workers, as JSON."""

TAKEN = ("debug", "factory", "reload")
"""Options of arctos that have another form here, or concern the name of the application."""

DEBUG = {"reload": "on", "workers": "1", "timeout": "0", "access-logfile": "-"}
"""Options of arctos in debug mode, where nothing else gives them: a debugger must be able to stop a request."""


def application() -> WSGIApplication:
    """Loads the application as `flask run` does. The workers call this."""
    left = json.loads(os.environ[VARIABLE])
    create_app = None
    if left["create_app"] is not None:
        module, name = left["create_app"]
        create_app = getattr(__import__(module, fromlist=[name]), name)
    info = ScriptInfo(left["app_import_path"], create_app, left["set_debug_flag"])
    return info.load_app()


def name_routes(app: Flask) -> Flask:
    """Names the URL rule that each request of `app` matches, as `/orders/<int:id>`, for the metrics by route.
    Returns the application."""

    @app.before_request
    def name_route() -> None:
        # Each use of the proxy looks the request up again, which takes longer than all the rest.
        current = request._get_current_object()  # type: ignore[attr-defined]
        if current.url_rule is not None:
            current.environ["arctos.route"] = current.url_rule.rule

    return app


def _leave(info: ScriptInfo) -> None:
    create_app = None
    if info.create_app is not None:
        create_app = (getattr(info.create_app, "__module__", ""), getattr(info.create_app, "__qualname__", "?"))
        if create_app[0] in ("", "__main__") or not create_app[1].isidentifier():
            raise click.UsageError(
                "The workers cannot import the function create_app of this program. Define it in a module, or serve "
                "with arctos 'MODULE:create_app()'."
            )
    left = {
        "app_import_path": info.app_import_path,
        "create_app": create_app,
        "set_debug_flag": info.set_debug_flag,
    }
    os.environ[VARIABLE] = json.dumps(left)


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> bool | None:
    """Does the same as Flask's own option."""
    source = context.get_parameter_source(str(parameter.name))
    if source in (None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP):
        return None
    os.environ["FLASK_DEBUG"] = "1" if value else "0"
    return value


class _Command(click.Command):
    """Lets switches stand without a value, and lets arctos explain options that it does not have."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _command_line.with_switches(args))


def _parameters() -> list[click.Parameter]:
    flask: list[click.Parameter] = [
        click.Option(["--debug/--no-debug"], help="Set debug mode.", expose_value=False, callback=_set_debug),
        click.Option(
            ["--host", "-h"], envvar=["FLASK_ARCTOS_HOST", "FLASK_RUN_HOST"], help="The interface to bind to."
        ),
        click.Option(
            ["--port", "-p"],
            type=int,
            envvar=["FLASK_ARCTOS_PORT", "FLASK_RUN_PORT"],
            help="The port to bind to: 5000 unless --bind or the configuration of arctos says something else.",
        ),
        click.Option(["--reload/--no-reload"], default=None, help="Load new code on changes. Default: in debug mode."),
    ]
    taken = {"-h", "-p"}
    arctos: list[click.Parameter] = []
    for option in _command_line.options(TAKEN):
        names = [option.keyword, f"--{option.long}"]
        if option.short and f"-{option.short}" not in taken:
            names.append(f"-{option.short}")
        # None and not an empty tuple, so that a variable of arctos counts.
        arctos.append(click.Option(names, metavar=option.value, multiple=option.is_repeatable, help=option.help))
    instead: list[click.Parameter] = [
        click.Option([f"--{name}"], is_flag=True, help=text) for name, text in _command_line.INSTEAD.items()
    ]
    return [*flask, *arctos, *instead]


def _bind(host: str | None, port: int | None) -> list[str]:
    """Returns the address of --host and --port, if one of them is given."""
    if host is None and port is None:
        return []
    host = host or "127.0.0.1"
    if host.startswith("unix:"):
        return ["unix:" + host.removeprefix("unix:").removeprefix("//")]
    port = 5000 if port is None else port
    return [f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"]


def _defaults(reload: bool | None) -> dict[str, str]:
    """Returns options of arctos that count where nothing else gives them."""
    is_debug = get_debug_flag()
    defaults = dict(DEBUG) if is_debug else {}
    if reload is not None:
        defaults["reload"] = "on" if reload else "off"
    if not {"PORT", "LISTEN_FDS"} & os.environ.keys():
        defaults["bind"] = "127.0.0.1:5000"
    return defaults


def _is_local(arguments: list[str]) -> bool:
    """Whether these name addresses, and nobody else can connect to them."""
    binds = [word.removeprefix("--bind=") for word in arguments if word.startswith("--bind=")]
    return bool(binds) and all(bind.startswith(("127.0.0.1:", "localhost:", "[::1]:")) for bind in binds)


def _serve(host: str | None, port: int | None, reload: bool | None, **options: Any) -> None:
    """Replaces this process with arctos, for the application that `flask run` would serve."""
    context = click.get_current_context()
    _leave(context.ensure_object(ScriptInfo))
    values: Mapping[str, Any] = {**options, "bind": [*_bind(host, port), *(options.get("bind") or ())]}
    arguments = _command_line.with_defaults(_command_line.arguments_of(values), _defaults(reload))
    if get_debug_flag() and _is_local(arguments):
        arguments = _command_line.with_defaults(arguments, {"debug": "on"})
    # arctos answers what it does not know: it has advice for options of other servers.
    try:
        _command_line.replace_process("arctos.contrib.flask:application()", [*arguments, *context.args])
    except (OSError, RuntimeError) as error:
        raise click.ClickException(f"Cannot start arctos: {error}") from error


command = _Command(
    "arctos",
    callback=_serve,
    params=_parameters(),
    short_help="Serve with arctos, for production.",
    help="Serve the application with arctos, a server for production. In debug mode, it loads new code on changes. "
    "It takes the options of arctos, which can also be set in its environment variables and its configuration file.",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
"""The command of the entry point."""
