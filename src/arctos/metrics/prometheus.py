"""The metrics of prometheus_client, counted by the server.

    from arctos.metrics import prometheus

    prometheus.install()

From then on, the Counter, Gauge, Histogram, Summary, Info and Enum of your application and its libraries are on the
server's `/metrics`, summed up over its workers. They survive the end of a worker, recycling, reloads and upgrades. There
is no directory and no file, and PROMETHEUS_MULTIPROC_DIR is not needed.

Call it early: in the module that the server loads, before other imports. Metrics that exist already are converted.
"""

from __future__ import annotations

import functools
import gc
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..arctos import PrometheusValue, server_metrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

__all__ = ["ServerCollector", "install"]

_lock = threading.Lock()
_collecting = threading.local()
# The server's own metrics, and those of arctos.metrics.
_OF_SERVER = "arctos_"


def install() -> None:
    """Makes the metrics of prometheus_client count in the server.

    It takes effect for the whole process and cannot be undone. A second call does nothing. Raises ImportError without
    prometheus_client 0.15 or newer; warns with RuntimeWarning of a metric that exists already and cannot be converted."""
    try:
        from prometheus_client import metrics, multiprocess, values
    except ImportError as error:
        raise ImportError("arctos.metrics.prometheus needs prometheus_client 0.15 or newer") from error
    with _lock:
        before = values.ValueClass
        if before is PrometheusValue:
            return
        values.ValueClass = PrometheusValue
        _extend(metrics.Gauge, "set_function", _after_set_function)
        _extend(metrics.Info, "info", _after_info)
        _extend(metrics.Enum, "__init__", _after_enum)
        _extend(metrics.Enum, "state", _after_state)
        _replace_collector(multiprocess.MultiProcessCollector, values)
        for metric in _existing(metrics):
            _convert(metric, before, metrics)


class ServerCollector:
    """Collects the metrics of prometheus_client from the server's page, where they are those of all workers.

        registry = CollectorRegistry()
        ServerCollector(registry)
        generate_latest(registry)

    registry: where the collector registers itself, if it is given.

    It asks the admin socket (`--admin-bind`). Outside of a server, it collects what the default registry of this process has."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        if registry is not None:
            registry.register(self)

    def describe(self) -> list[Metric]:
        """Returns nothing, because the metrics are known only once they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Returns the metrics. Raises RuntimeError if the server has no admin socket, OSError if it does not answer."""
        from prometheus_client.parser import text_string_to_metric_families

        page = server_metrics()
        if page is None:
            return _own()
        metrics = text_string_to_metric_families(page)
        return (metric for metric in metrics if not metric.name.startswith(_OF_SERVER))


# --- The metrics of this process ---


def _extend(kind: type, method: str, after: Callable[[Any], None]) -> None:
    original = getattr(kind, method)

    @functools.wraps(original)
    def extended(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        after(self)
        return result

    setattr(kind, method, extended)


def _after_set_function(gauge: Any) -> None:
    # A function has the value from now on. It is called only for a page of this process.
    gauge._value.hide()


def _after_info(info: Any) -> None:
    # Like the text format, which has no such type. The old value is removed with its object.
    info._arctos_value = None
    names, values = tuple(info._value), tuple(info._value.values())
    info._arctos_value = _gauge(info._name + "_info", info, names, values, "max")
    info._arctos_value.set(1)


def _after_enum(enum: Any) -> None:
    if enum._is_observable():
        _after_state(enum)


def _after_state(enum: Any) -> None:
    current = enum._value
    if not hasattr(enum, "_arctos_values"):
        name = enum._name
        enum._arctos_values = [_gauge(name, enum, (name,), (state,), "all") for state in enum._states]
    for index, value in enumerate(enum._arctos_values):
        value.set(index == current)


def _gauge(name: str, metric: Any, labelnames: tuple[str, ...], labelvalues: Iterable[object], mode: str) -> PrometheusValue:
    return PrometheusValue(
        "gauge",
        name,
        name,
        (*metric._labelnames, *labelnames),
        (*metric._labelvalues, *map(str, labelvalues)),
        metric._documentation,
        mode,
    )


# --- Metrics that exist already ---


def _existing(metrics: Any) -> list[Any]:
    """Returns the metrics that exist in this process, in any registry."""
    base = metrics.MetricWrapperBase
    # Not isinstance(): it asks lazy objects for their class, which sets them up.
    found = {id(item): item for item in gc.get_objects() if issubclass(type(item), base)}
    # gc.freeze() hides objects.
    for collector in list(getattr(metrics.REGISTRY, "_collector_to_names", ())):
        if issubclass(type(collector), base):
            children = list(getattr(collector, "_metrics", {}).values())
            found.update((id(item), item) for item in (collector, *children))
    return list(found.values())


def _convert(metric: Any, before: Any, metrics: Any) -> None:
    """Gives a metric new values, which go on from its old ones."""
    if not hasattr(metric, "_labelvalues") or metric._is_parent():
        return
    old = dict(vars(metric))
    try:
        if isinstance(metric, metrics.Info):
            if metric._value:
                _after_info(metric)
        elif isinstance(metric, metrics.Enum):
            _after_state(metric)
        else:
            metric._metric_init()
            # It is not created now.
            vars(metric).update({name: old[name] for name in ("_created",) if name in old})
            for name, value in old.items():
                _carry(value, getattr(metric, name), before, metric._type)
            if "_child_samples" in old:
                _after_set_function(metric)
    except Exception as error:
        vars(metric).update(old)
        warnings.warn(
            f"{metric} cannot be converted, so the server does not count it: {error}; "
            "call arctos.metrics.prometheus.install() before it is defined",
            RuntimeWarning,
            stacklevel=3,
        )


def _carry(old: Any, new: Any, before: Any, kind: str) -> None:
    if isinstance(old, list):
        for one, other in zip(old, new):
            _carry(one, other, before, kind)
    elif isinstance(old, before) and isinstance(new, PrometheusValue):
        number = old.get()
        if number:
            new.set(number) if kind == "gauge" else new.inc(number)
        exemplar = old.get_exemplar()
        if exemplar is not None:
            new.set_exemplar(exemplar)


# --- The page of the server ---


def _replace_collector(collector: type, values: Any) -> None:
    """Lets the collector of the multiprocess mode, which exporters use if PROMETHEUS_MULTIPROC_DIR is set, collect from
    the server, unless it is given a directory."""
    init, collect = collector.__init__, collector.collect  # type: ignore[attr-defined, misc]

    @functools.wraps(init)
    def new_init(self: Any, registry: Any, path: Any = None) -> None:
        self._is_of_server = path is None and values.ValueClass is PrometheusValue
        init(self, registry, path)

    @functools.wraps(collect)
    def new_collect(self: Any) -> Any:
        return ServerCollector().collect() if getattr(self, "_is_of_server", False) else collect(self)

    collector.__init__ = new_init  # type: ignore[misc]
    collector.collect = new_collect  # type: ignore[attr-defined]


def _own() -> Iterator[Metric]:
    from prometheus_client import REGISTRY

    # If the collector is in this registry, it collects itself.
    if getattr(_collecting, "own", False):
        return
    _collecting.own = True
    try:
        yield from REGISTRY.collect()
    finally:
        _collecting.own = False
