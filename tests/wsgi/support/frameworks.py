"""Commands of frameworks that serve with arctos, run as their users run them."""

import subprocess
import sys
from pathlib import Path

from support.server import PATIENCE_S, clean_environment

# The console scripts of the packages that are installed beside arctos.
SCRIPTS = Path(sys.executable).parent


def run_program(*words, cwd, env=None):
    """Runs a program that exits by itself. Returns its exit status and everything that it wrote."""
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**clean_environment(), **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, ended.stdout


def printed_options(*words, cwd, env=None):
    """Returns the effective options of a command that is given --print-config: a pair of value and origin for each."""
    status, said = run_program(*words, "--print-config", cwd=cwd, env=env)
    assert status == 0, said
    rows = (line.split(maxsplit=2) for line in said.splitlines())
    return {row[0]: tuple(row[1:]) for row in rows}
