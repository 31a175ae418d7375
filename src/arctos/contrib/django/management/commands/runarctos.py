"""`manage.py runarctos [addrport] [options of arctos]`: serves the project in production."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from ... import _options
from ...._command_line import arguments_of


class Command(_options.TakesOptions):
    """Replaces this process with `python -m arctos` for the application of `settings.WSGI_APPLICATION`."""

    help = (
        "Serves settings.WSGI_APPLICATION with arctos, a server for production. It takes the options of arctos, which "
        "can also be set in its environment variables and its configuration file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Adds the address and the options of arctos."""
        parser.add_argument("addrport", nargs="?", help="Address to listen on, for --bind: PORT, HOST:PORT, unix:/path")
        _options.add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Replaces this process with the server."""
        if options["addrport"]:
            options["bind"] = [options["addrport"], *(options["bind"] or [])]
        _options.replace_process(application(), [*arguments_of(options), *self.unknown])


def application() -> str:
    """Returns the name of the project's WSGI application, as arctos takes it.

    Raises CommandError if the setting is no dotted name.
    """
    path = getattr(settings, "WSGI_APPLICATION", None)
    if path is None:
        return "django.core.wsgi:get_wsgi_application()"  # what Django's own runserver serves then
    module, dot, attribute = str(path).rpartition(".")
    if not module:
        raise CommandError(
            f"WSGI_APPLICATION = {path!r} in the settings does not name a module and an attribute. "
            "Name the module and the variable in it, such as 'mysite.wsgi.application'."
        )
    return f"{module}:{attribute}"
