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
        super().run_from_argv(_command_line.with_switches(argv))

    def create_parser(self, *args: Any, **kwargs: Any) -> Any:
        """Returns a parser that keeps what it does not know."""
        parser = super().create_parser(*args, **kwargs)

        def parse_args(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
            found, self.unknown = parser.parse_known_args(args, namespace)
            return found

        parser.parse_args = parse_args
        return parser


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
    """Replaces this process with the server, which finds the same modules as manage.py.

    Raises CommandError if the interpreter cannot be started again.
    """
    found = [f"--pythonpath={path}" for path in _command_line.search_path()]
    try:
        _command_line.replace_process(application, found + arguments)
    except (OSError, RuntimeError) as error:
        raise CommandError(f"Cannot start arctos with {sys.executable!r}: {error}") from error
