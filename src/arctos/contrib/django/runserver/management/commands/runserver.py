"""`manage.py runserver` with arctos as the server: development with system checks and static files."""

from __future__ import annotations

import errno
import os
import socket
import sys
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands.runserver import Command as CoreCommand
from django.db import connections

from ..... import _command_line
from .... import _options
from ... import _development
from ......arctos import __version__
from ......in_process import WSGIApplication, bind_and_listen, server_run

APPLICATION = "arctos.contrib.django.runserver._development:application()"
DEFAULTS = {"reload": "on", "workers": "1", "timeout": "0"}
"""Options of arctos in development, where nothing else gives them: a debugger must be able to stop a request."""

ADDRESS = ("addr", "port", "use_ipv6", "_raw_ipv6")
"""What Django's command reads from its argument."""

BIND_ERRORS = {
    errno.EACCES: "You don't have permission to access that port.",
    errno.EADDRINUSE: "That port is already in use.",
    errno.EADDRNOTAVAIL: "That IP address can't be assigned to.",
}


def next_command() -> Any:
    """Returns the `runserver` of the next application in INSTALLED_APPS that has one, otherwise Django's: that of
    `django.contrib.staticfiles`, for example, adds the options for static files."""
    names = [config.name for config in apps.get_app_configs()] if apps.ready else []
    own = __name__.removesuffix(".management.commands.runserver")
    following = names[names.index(own) + 1 :] if own in names else []
    for name in following:
        module = f"{name}.management.commands.runserver"
        try:
            return import_module(module).Command
        except ModuleNotFoundError as error:
            if error.name is None or not module.startswith(error.name):
                raise
    return CoreCommand


Base: Any = CoreCommand if TYPE_CHECKING else next_command()


class Command(_options.TakesOptions, Base):  # type: ignore[misc]
    """The command. Its subclass may override `get_handler`, as that of Django's."""

    help = "Serves the project with arctos for development: with reload, system checks and static files."

    def add_arguments(self, parser: CommandParser) -> None:
        """Adds the options of arctos to Django's."""
        super().add_arguments(parser)
        _options.add_options(parser, without=("bind", "reload"))

    def run(self, **options: Any) -> None:
        """Replaces this process with the server, or serves in it with `--noreload`."""
        if not options["use_reloader"]:
            return self._serve_here(**options)
        _development.leave(options, {name: getattr(self, name) for name in ADDRESS})
        os.environ["RUN_MAIN"] = "true"  # as in the process in which Django's reloader serves
        address = self._address()
        bind = f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"
        arguments = _command_line.arguments_of({**options, "bind": [bind]})
        if options["config"] is None and "ARCTOS_CONFIG" not in os.environ:
            arguments.append("--config=off")  # a file in this directory is for production
        arguments = _command_line.with_defaults([*arguments, *self.unknown], DEFAULTS)
        _options.replace_process(APPLICATION, arguments)

    def load(self, **options: Any) -> WSGIApplication:
        """Checks the project, and returns its handler. Called with each load of the code."""
        if not options["skip_checks"]:
            self.stdout.write("Performing system checks...\n\n")
            self.check(display_num_errors=True)
        self.check_migrations()
        for connection in connections.all():
            connection.close()
        handler = self.get_handler(**options)
        return _development.RequestLog(handler)

    def _serve_here(self, **options: Any) -> None:
        """Serves in this process, where debuggers work: it is the one that they started, and it has the terminal."""
        given = [*_command_line.arguments_of(options), *self.unknown]
        if given:
            raise CommandError(
                f"With --noreload, arctos serves with one worker in this process, and {given[0]} does not apply. "
                "Leave one of them out, or serve with manage.py runarctos."
            )
        handler = self.load(**options)
        try:
            sock = bind_and_listen(self._address(), int(self.port))
        except OSError as error:
            raise CommandError(f"Error: {BIND_ERRORS.get(error.errno or 0, error)}") from None
        self.on_bind(sock.getsockname()[1])
        try:
            server_run(sock, handler)
        except KeyboardInterrupt:
            self.stdout.write(options.get("shutdown_message") or "")
            sys.exit(0)
        finally:
            sock.close()

    def on_bind(self, server_port: int) -> None:
        """Prints what Django's command prints, without the warning that its server is not for production."""
        self.stdout.write(
            f"{datetime.now():%B %d, %Y - %X}\n"
            f"Django version {self.get_version()}, using settings {settings.SETTINGS_MODULE!r}\n"
            f"Starting arctos {__version__} for development at {self.protocol}://{self._host()}:{server_port}/\n"
            "Quit the server with CONTROL-C.\n"
        )

    def _host(self) -> str:
        """Returns the host as in a URL."""
        if self._raw_ipv6:
            return f"[{self.addr}]"
        return "0.0.0.0" if self.addr == "0" else str(self.addr)

    def _address(self) -> str:
        """Returns the host as an address to listen on: with --ipv6, a name stands for its IPv6 address."""
        if self.use_ipv6 and not self._raw_ipv6:
            try:
                return str(socket.getaddrinfo(self.addr, None, socket.AF_INET6, socket.SOCK_STREAM)[0][4][0])
            except OSError as error:
                raise CommandError(f"{self.addr!r} has no IPv6 address: {error.strerror}") from None
        return self._host().strip("[]")
