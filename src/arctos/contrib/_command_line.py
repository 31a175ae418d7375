"""The command line of arctos inside the command of a framework: its options, and the start of the server.

The framework parses the options of its command, which come from the table that `arctos --help` shows. Then
`replace_process` replaces the process with `python -m arctos`, as if that had been typed: the server can fork, reload
and upgrade itself, because nothing of the framework has been imported there before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from ..arctos import given_options, option_table


class Option(NamedTuple):
    """An option of arctos."""

    long: str
    short: str | None
    value: str
    takes: str
    heading: str
    help: str

    @property
    def keyword(self) -> str:
        """The name of its value in Python."""
        return self.long.replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether it may be given without a value."""
        return self.takes == "switch"

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be given several times."""
        return self.takes == "many"


INSTEAD = {
    "check": "Check the configuration, load the application, and report whether both work.",
    "print-config": "Print the effective value of each option and where it comes from.",
}
"""Options that do something instead of serving, and their help."""


def options(without: Collection[str] = ()) -> list[Option]:
    """Returns the options in the order of the help, without those that have these long names."""
    return [option for option in map(Option._make, option_table()) if option.long not in without]


def arguments_of(values: Mapping[str, object]) -> list[str]:
    """Returns the command line for the values of options, by their keywords. None and an empty list mean that an option
    is not given."""
    arguments = []
    for option in options():
        value = values.get(option.keyword)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                arguments.append(f"--{option.long}={one}")
    return arguments + [f"--{name}" for name in INSTEAD if values.get(name.replace("-", "_"))]


def with_switches(words: Iterable[str]) -> list[str]:
    """Writes `--switch` as `--switch=on`. The parsers of Python would take the next word for its value."""
    switches = {f"--{option.long}" for option in options() if option.is_switch}
    return [f"{word}=on" if word in switches else word for word in words]


def with_defaults(arguments: list[str], defaults: Mapping[str, str]) -> list[str]:
    """Adds options of arctos that are given neither here nor in its environment variables nor in its configuration
    file. Names that this version does not have are left out."""
    known = {option.long for option in options()}
    given = set(given_options(arguments))
    added = [f"--{name}={value}" for name, value in defaults.items() if name in known and name not in given]
    return arguments + added


def search_path() -> list[str]:
    """Returns the directories that this program has added to `sys.path`, so that the server finds the same modules."""
    import site  # here, because Flask imports the entry points of all its commands
    import sysconfig

    own = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    own.update(site.getsitepackages(), [site.getusersitepackages()])
    own.update(os.path.join(path, "lib-dynload") for path in list(own) if path)
    minor = f"python{sys.version_info[0]}{sys.version_info[1]}.zip"
    paths = [path for path in map(os.fspath, sys.path) if path not in own and os.path.basename(path) != minor]
    added = map(os.path.abspath, paths)
    return [path for path in dict.fromkeys(added) if os.path.isdir(path) or os.path.isfile(path)]


def command(application: str, arguments: Iterable[str], program: Sequence[str] = ("-m", "arctos")) -> list[str]:
    """Returns the command that serves this application with this interpreter.

    program: what the interpreter runs.

    Raises RuntimeError if the interpreter does not know its own path.
    """
    import subprocess

    if not sys.executable:
        raise RuntimeError("sys.executable is empty, so arctos cannot be started with this Python")
    flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [sys.executable, *flags, *program, *arguments, application]


def replace_process(application: str, arguments: Iterable[str]) -> NoReturn:
    """Replaces this process with the server. The environment, the current directory and the process ID stay the same;
    open files of Python are closed."""
    words = command(application, arguments)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os.execv(words[0], words)
