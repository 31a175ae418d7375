"""The extension module of arctos: the supervisor and its workers, in Rust."""

from collections.abc import Sequence
from typing import Any, Final, final

from .in_process import WSGIApplication

__all__ = [
    "Counter",
    "Distribution",
    "Gauge",
    "Generation",
    "PrometheusValue",
    "RequestTimeout",
    "Statsd",
    "Stop",
    "Timeout",
    "Worker",
    "__version__",
    "_counter",
    "_distribution",
    "_gauge",
    "_is_of_server",
    "_Sender",
    "given_options",
    "is_serving",
    "main",
    "option_names",
    "option_table",
    "serve_socket",
    "serve_supervised",
    "server_metrics",
    "stop_with_parent",
]

__version__: Final[str]

def main() -> int:
    """Runs the `arctos` command line on `sys.argv` and returns its exit code."""

@final
class Worker:
    """The worker that a hook is called for."""

    @property
    def slot(self) -> int:
        """The index of its slot, which is also the tag `worker` of metrics."""

    @property
    def generation(self) -> int:
        """The number of its generation: 1 at the start, and one more with each reload."""

    @property
    def pid(self) -> int | None:
        """Its pid; None in hooks of `--pre-fork`, when there is no process yet."""

    @property
    def name(self) -> str:
        """The name of the server (`--name`)."""

@final
class Generation:
    """The generation, a load of configuration and code, that `--on-start` is called for."""

    @property
    def number(self) -> int:
        """1, and one more with each reload."""

    @property
    def name(self) -> str:
        """The name of the server (`--name`)."""

@final
class Counter:
    """A metric that only increases."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    def inc(self, amount: float = 1, /, **tags: object) -> None:
        """Adds to the series with these tags.

        Raises ValueError for a negative amount, or one that is not finite; TypeError for missing or unknown tags."""

@final
class Gauge:
    """A metric that has a value at any time."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    def set(self, value: float, /, **tags: object) -> None:
        """Sets the value of the series with these tags.

        Raises ValueError for a number that is not finite; TypeError for missing or unknown tags."""

    def inc(self, amount: float = 1, /, **tags: object) -> None:
        """Adds to the value of the series with these tags. Raises the errors of `set`."""

    def dec(self, amount: float = 1, /, **tags: object) -> None:
        """Subtracts from the value of the series with these tags. Raises the errors of `set`."""

@final
class Distribution:
    """A metric of many values, of which the distribution counts."""

    @property
    def name(self) -> str:
        """The name of the metric."""

    def observe(self, value: float, /, **tags: object) -> None:
        """Records a value in the series with these tags.

        Raises ValueError for a number that is not finite; TypeError for missing or unknown tags."""

def _counter(name: str, help: str, tags: list[str]) -> Counter: ...
def _gauge(name: str, help: str, tags: list[str], aggregation: str) -> Gauge: ...
def _distribution(name: str, help: str, tags: list[str]) -> Distribution: ...
def _is_of_server(name: str) -> bool: ...
@final
class _Sender:
    def __new__(cls) -> _Sender: ...
    def turn(self) -> float | None: ...
    def finish(self) -> None: ...

class RequestTimeout(BaseException):
    """Raised in a request that takes longer than --timeout, so that it can clean up and respond.

    It is no Exception, so that frameworks do not take it for a failure of the view."""

@final
class Timeout:
    """The time limit of the running request: `environ["arctos.timeout"]`."""

    def extend(self, seconds: float) -> None:
        """Gives the running request more time: adds to the time limit of the call that runs now.

        Raises TypeError or ValueError for a wrong number; RuntimeError outside of a request, in another thread or
        process, and once the limit is exceeded."""

    @property
    def remaining(self) -> float | None:
        """The seconds until the running call exceeds its time limit, 0.0 afterwards; None if it is unlimited.

        Raises RuntimeError outside of a request, and in another thread or process."""

@final
class Statsd:
    """The validated destination of metrics, for `serve_socket`."""

    def __new__(cls, host: str, port: int, ns: str, tags: str) -> Statsd: ...

@final
class Stop:
    """Ends the server that it was given to, as the first Ctrl-C does."""

    def __new__(cls) -> Stop: ...
    def set(self) -> None:
        """Lets the server end. A running request may finish. May be called in any thread, and before the server
        begins."""

def serve_socket(
    fd: int, application: WSGIApplication, statsd: Statsd | None = None, stop: Stop | None = None
) -> None:
    """Serves `application` at a listening socket that the caller keeps. Ends when a signal handler of the caller
    raises, by raising the same exception, or returns once another thread calls `stop.set()`."""

@final
class PrometheusValue:
    """A number of a metric of prometheus_client, which the server's page shows, too."""

    _multiprocess: bool

    def __new__(
        cls,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str | None = None,
        multiprocess_mode: str = "",
        **_kwargs: object,
    ) -> PrometheusValue: ...
    def inc(self, amount: float) -> None:
        """Adds to the number."""

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replaces the number."""

    def get(self) -> float:
        """Returns the number as this process has counted it."""

    def set_exemplar(self, exemplar: object) -> None:
        """Keeps the exemplar for the page of this process."""

    def get_exemplar(self) -> Any:
        """Returns the last exemplar, or None."""

    def hide(self) -> None:
        """Removes the number from the server's page, because something else has the value of the metric."""

def is_serving() -> bool:
    """Whether a server runs in this process. A worker counts as one from its boot on."""

def option_names() -> dict[str, bool]:
    """Returns the options of the command line as keywords, and whether each can be repeated."""

def option_table() -> list[tuple[str, str | None, str, str, str, str]]:
    """Returns all options of the command line, in the order of its help: long name, short name, placeholder of the
    value, "once", "switch" or "many", heading, help."""

def given_options(arguments: list[str]) -> list[str]:
    """Returns the long names of the options that these arguments, the environment or the configuration file give;
    none if these are wrong, which arctos then reports."""

def serve_supervised(application: WSGIApplication | str, options: list[tuple[str, list[str]]]) -> int:
    """Runs the supervisor with these options, which override the environment, and returns its exit code."""

def server_metrics() -> str | None:
    """Returns the page of all metrics of the server that this process belongs to; None if it belongs to none.

    Raises RuntimeError if the server has no admin socket, OSError if it does not answer."""

def stop_with_parent(parent: int) -> None:
    """Asks the kernel to send SIGTERM to this process when the thread of `parent` that forked it ends.

    Raises ProcessLookupError if `parent` has already ended."""
