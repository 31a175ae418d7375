"""What a worker of `manage.py runserver` loads. The command has become the server since, so it leaves its options in a
variable of the environment."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import django
from django.core.management import load_command_class
from django.core.signals import request_started
from django.template.autoreload import reset_loaders

from ....in_process import WSGIApplication

VARIABLE = "DJANGO_ARCTOS_RUNSERVER"
"""The variable with the options and the command line of the command, as JSON."""

_log = logging.getLogger("django.server")


def leave(options: Mapping[str, object], attributes: Mapping[str, object]) -> None:
    """Leaves options and attributes of the command for the workers. Options that are no plain values cannot be left."""
    plain = {name: value for name, value in options.items() if isinstance(value, (str, int, bool, type(None)))}
    os.environ[VARIABLE] = json.dumps({"argv": sys.argv, "options": plain, "attributes": attributes})


def application() -> WSGIApplication:
    """Checks the project as `runserver` does, and returns its handler."""
    left = json.loads(os.environ[VARIABLE])
    sys.argv = left["argv"]  # projects look there for "runserver"
    django.setup()
    command: Any = load_command_class("arctos.contrib.django.runserver", "runserver")
    vars(command).update(left["attributes"])
    handler: WSGIApplication = command.load(**left["options"])
    request_started.connect(forget_templates)
    command.on_bind(int(command.port))
    return handler


def forget_templates(**_: object) -> None:
    """Lets each request read its templates. Django keeps them in memory, and its own reloader forgets them when a file
    changes."""
    reset_loaders()


class RequestLog:
    """Logs a line for each request, as Django's own server does."""

    def __init__(self, application: WSGIApplication) -> None:
        self.application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Calls the application."""
        started: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            started[:] = [status, headers]
            return start_response(status, headers, *error)

        response = self.application(environ, start)
        if started:
            _log_request(environ, *started)
        return response


def _log_request(environ: Mapping[str, Any], status: str, headers: Iterable[tuple[str, str]]) -> None:
    from datetime import datetime

    code = int(status[:3])
    length = next((value for name, value in headers if name.lower() == "content-length"), "-")
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI") or environ.get("PATH_INFO")
    level = logging.ERROR if code >= 500 else logging.WARNING if code >= 400 else logging.INFO
    extra = {"status_code": code, "server_time": datetime.now().strftime("%d/%b/%Y %H:%M:%S"), "request": None}
    line = f"{environ['REQUEST_METHOD']} {target} {environ['SERVER_PROTOCOL']}"
    _log.log(level, '"%s" %s %s', line, code, length, extra=extra)
