"""The metrics of your application, through the server's own emitter.

    from arctos import metrics

    orders = metrics.counter("orders.placed", "Orders placed", tags=("channel",))
    orders.inc(channel="web")

Define a metric where a module is imported, and update it anywhere: before and after a fork, and in any thread. The
server adds up what its workers count, loses nothing when one of them dies, and sends it to statsd and to Prometheus
with its own metrics, prefix and tags. Without a server (in tests, a shell, a management command), updates do nothing.

An update takes about 50 ns: no lock, no system call.
"""

import atexit
import os
import re
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from time import perf_counter
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from ..arctos import Counter, Distribution, Gauge, _counter, _distribution, _gauge, _is_of_server, _Sender, is_serving

__all__ = ["Counter", "Distribution", "Gauge", "counter", "distribution", "gauge", "send", "timer"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*", re.ASCII)
_TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MAX_NAME = 200
_MAX_HELP = 1000
_MAX_TAGS = 20
# So that the series `other` of a metric with the longest names still has a description (MAX_BYTES in description.rs).
_MAX_TAG = 80
# The server has tags with these names, or Prometheus gives them a meaning.
_RESERVED = frozenset(("worker", "zone", "le", "quantile"))
_AGGREGATIONS = ("sum", "max", "min", "last")
# What Prometheus appends to the name of a metric for the names of its samples.
_SUFFIXES: dict[type, tuple[str, ...]] = {Counter: ("total",), Gauge: (), Distribution: ("bucket", "sum", "count")}

_lock = threading.Lock()
_sending: int | None = None
_defined: dict[str, tuple[Any, tuple[Any, ...]]] = {}
# The names that a metric and its samples have in Prometheus -> its name.
_claimed: dict[str, str] = {}


def counter(name: str, help: str, *, tags: Iterable[str] = ()) -> Counter:
    """Returns the counter `name`, which only increases: how many orders were placed.

    `tags` are the names of its tags; each update gives all of them a value. The same definition returns the same
    object. Raises ValueError for a wrong name, or another definition of the same metric."""
    metric: Counter = _define(Counter, name, help, tags, _counter)
    return metric


def gauge(
    name: str,
    help: str,
    *,
    tags: Iterable[str] = (),
    aggregation: Literal["sum", "max", "min", "last"] = "sum",
) -> Gauge:
    """Returns the gauge `name`, which has a value at any time: how many jobs are queued.

    Each worker has a value of its own. `aggregation` says how they make that of the server: "sum", "max", "min", or
    "last", which is the one that was set last. The value of a worker that ended no longer counts."""
    if aggregation not in _AGGREGATIONS:
        raise ValueError(f"{name}: aggregation is one of {', '.join(_AGGREGATIONS)}, not {aggregation!r}")
    metric: Gauge = _define(Gauge, name, help, tags, _gauge, aggregation)
    return metric


def distribution(name: str, help: str, *, tags: Iterable[str] = ()) -> Distribution:
    """Returns the distribution `name`, which counts many values: how long a query takes, in seconds, or how many rows it
    has. The server keeps 16 buckets per power of two."""
    metric: Distribution = _define(Distribution, name, help, tags, _distribution)
    return metric


def send() -> None:
    """Sends what this process counts, from now on and once more at its end, if it has no server: in a management command,
    a cron job or a Celery worker. The options `--statsd-host` and those beside it say where, from the environment
    (`ARCTOS_STATSD_HOST`) or from arctos.toml, as for a server that is started in the current directory.

    In a server, this does nothing, because the server sends. Raises ValueError for wrong options, or without an
    address."""
    global _sending
    with _lock:
        if is_serving() or _sending == os.getpid():
            return
        sender, ended = _Sender(), threading.Event()
        thread = threading.Thread(target=_send, args=(sender, ended), name="arctos.metrics", daemon=True)
        thread.start()
        _sending = os.getpid()
    atexit.register(_finish, sender, thread, ended, _sending)


def _send(sender: _Sender, ended: threading.Event) -> None:
    while (pause := sender.turn()) is not None and not ended.wait(pause):
        pass


def _finish(sender: _Sender, thread: threading.Thread, ended: threading.Event, pid: int) -> None:
    if os.getpid() == pid:  # A child of this process sends nothing, unless it calls send(), too.
        # Up to 3.13, CPython ends a thread that returns from turn() after the exit handlers by unwinding its stack,
        # which crashes in Rust code.
        ended.set()
        thread.join()
        sender.finish()


class timer:
    """Records how long a `with` block or a function takes, in seconds, in a distribution. Threads that share a `with`
    block need a timer each.

        with metrics.timer(queries, table="orders"): ...

        @metrics.timer(queries, table="orders")
        def query(): ..."""

    __slots__ = ("_distribution", "_starts", "_tags")

    def __init__(self, distribution: Distribution, /, **tags: object) -> None:
        self._distribution = distribution
        self._tags = tags
        self._starts: list[float] = []

    def __enter__(self) -> "timer":
        self._starts.append(perf_counter())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._distribution.observe(perf_counter() - self._starts.pop(), **self._tags)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        observe, tags = self._distribution.observe, self._tags

        @wraps(function)
        def timed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            start = perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                observe(perf_counter() - start, **tags)

        return timed


def _define(kind: type, name: str, help: str, tags: Iterable[str], make: Callable[..., Any], *options: str) -> Any:
    if not isinstance(name, str) or len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for a metric: it has letters, digits, underscores and single dots, begins with a letter, "
            f"and has at most {_MAX_NAME} characters, like orders.placed"
        )
    if _is_of_server(name):
        raise ValueError(f"the server has a metric {name}; choose another name")
    if not isinstance(help, str) or len(help.encode()) > _MAX_HELP:
        raise ValueError(f"{name}: the help is a text of at most {_MAX_HELP} bytes, not {help!r:.100}")
    if isinstance(tags, str):
        raise ValueError(f"{name}: tags is a tuple of names, like ({tags!r},), not a text")
    tags = tuple(tags)
    if len(tags) > _MAX_TAGS or len(set(tags)) != len(tags):
        raise ValueError(f"{name}: there are at most {_MAX_TAGS} tags, each once, not {tags!r}")
    for tag in tags:
        if not isinstance(tag, str) or len(tag) > _MAX_TAG or not _TAG.fullmatch(tag) or tag.startswith("__"):
            raise ValueError(
                f"{name}: {tag!r:.100} is no name for a tag: it has letters, digits and underscores, and at most {_MAX_TAG} "
                "characters, like channel"
            )
        if tag in _RESERVED:
            raise ValueError(f"{name}: the tag {tag!r} belongs to the server; choose another name")
    # Dots and underscores are the same in Prometheus.
    key = name.replace(".", "_")
    definition = (kind.__name__.lower(), name, help, tags, *options)
    claimed = [key, *(f"{key}_{suffix}" for suffix in _SUFFIXES[kind])]
    with _lock:
        if key not in _defined:
            for taken in claimed:
                if taken in _claimed:
                    raise ValueError(
                        f"{name} and {_claimed[taken]} would both have the name {taken} in Prometheus; choose another one"
                    )
            _defined[key] = (make(name, help, list(tags), *options), definition)
            _claimed.update(dict.fromkeys(claimed, name))
        metric, known = _defined[key]
    if known != definition:
        raise ValueError(f"the metric {name} is defined twice, as {known} and as {definition}")
    return metric
