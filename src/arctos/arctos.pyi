"""The extension module of arctos: the supervisor and its workers, in Rust."""

from typing import Final, final

from .in_process import WSGIApplication

__all__ = ["Statsd", "__version__", "is_serving", "main", "option_names", "serve_socket", "serve_supervised"]

__version__: Final[str]

def main() -> int:
    """Runs the `arctos` command line on `sys.argv` and returns its exit code."""

@final
class Statsd:
    """Where metrics are sent, checked: what `serve_socket` takes."""

    def __new__(cls, host: str, port: int, ns: str, tags: str) -> Statsd: ...

def serve_socket(fd: int, application: WSGIApplication, statsd: Statsd | None = None) -> None:
    """Serves `application` at a listening socket that stays the caller's. Returns when a signal handler of the
    caller's raises, by raising the same."""

def is_serving() -> bool:
    """Whether a server runs in this process; a worker is one from its boot on."""

def option_names() -> dict[str, bool]:
    """The options of the command line as keywords, and whether each can be repeated."""

def serve_supervised(application: WSGIApplication | str, options: list[tuple[str, list[str]]]) -> int:
    """Starts the supervisor with these options over the environment's; its exit code."""
