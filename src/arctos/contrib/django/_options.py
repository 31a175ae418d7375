"""The options of arctos in a command of manage.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from .. import _command_line

TAKEN = ("pythonpath", "factory")
"""Options that Django's commands also have, or that concern the name of the application. What Django's `--pythonpath`
adds to the search path of manage.py is passed on."""


class TakesOptions(BaseCommand):  # type: ignore[misc]
    """A command that takes the options of arctos. It passes on what neither Django nor the table knows, because arctos
    has advice for options of other servers."""

    unknown: Sequence[str] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Parses the command line."""
        words = _command_line.with_switches(argv)
        _, self.unknown = self.create_parser(words[0], words[1]).parse_known_args(words[2:])
        super().run_from_argv([word for word in words if word not in self.unknown])


def add_options(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """Adds the options of arctos to the parser of a command, under the headings of `arctos --help`."""
    parser.usage = "%(prog)s [addrport] [options]"
    groups: dict[str, Any] = {}
    for option in _command_line.options([*TAKEN, *without]):
        if option.heading not in groups:
            groups[option.heading] = parser.add_argument_group(f"arctos: {option.heading}")
        names = [f"--{option.long}"]
        if option.short and f"-{option.short}" not in parser._option_string_actions:
            names.insert(0, f"-{option.short}")
        action = "append" if option.is_repeatable else "store"
        text = option.help.replace("%", "%%")
        groups[option.heading].add_argument(
            *names, action=action, dest=option.keyword, metavar=option.value, help=text
        )
    instead = parser.add_argument_group("arctos: Instead of serving")
    for name, text in _command_line.INSTEAD.items():
        instead.add_argument(f"--{name}", action="store_true", help=text)


def replace_process(application: str, arguments: list[str]) -> None:
    """Becomes the server, which finds the same modules as manage.py.

    Raises CommandError if the interpreter cannot be started again.
    """
    found = [f"--pythonpath={path}" for path in _command_line.search_path()]
    try:
        _command_line.replace_process(application, found + arguments)
    except (OSError, RuntimeError) as error:
        raise CommandError(f"Cannot start arctos with {sys.executable!r}: {error}") from error
