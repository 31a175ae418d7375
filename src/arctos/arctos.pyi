"""The extension module of arctos: the supervisor and its workers, in Rust."""

from typing import Final, final

from .in_process import WSGIApplication

__all__ = [
    "Generation",
    "Statsd",
    "Worker",
    "__version__",
    "is_serving",
    "main",
    "option_names",
    "serve_socket",
    "serve_supervised",
]

__version__: Final[str]

def main() -> int:
    """Runs the `arctos` command line on `sys.argv` and returns its exit code."""

@final
class Worker:
    """The worker that a hook is called for."""

    @property
    def slot(self) -> int:
        """Index of its place, which is also the tag `worker` of metrics."""

    @property
    def generation(self) -> int:
        """Number of its load of the code: 1, and one more with each reload."""

    @property
    def pid(self) -> int | None:
        """Its process; None before there is one, that is for `--pre-fork`."""

    @property
    def name(self) -> str:
        """What the server is called: `--name`."""

@final
class Generation:
    """The load of configuration and code that `--on-start` is called for."""

    @property
    def number(self) -> int:
        """1, and one more with each reload."""

    @property
    def name(self) -> str:
        """What the server is called: `--name`."""

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
