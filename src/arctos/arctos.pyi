"""The extension module of arctos: the supervisor and its workers, in Rust."""

from typing import Final

__version__: Final[str]

def main() -> int:
    """Runs the `arctos` command line on `sys.argv` and returns its exit code."""
