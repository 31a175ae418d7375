"""The page in the format of OpenMetrics: read by strict parsers, with the traces of requests as exemplars."""

import time

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support.admin_client import ask, scrape
from support.ports import free_port
from support.prometheus import Prometheus
from support.server import APPS
from support.waiting import wait_until
from support.wire import Wire

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
ACCEPT = "Accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
TRACE, OTHER_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736", "0af7651916cd43dd8448eb211c80319c"
APPLICATION = '''
import phases
import prometheus_client
from arctos import metrics
from arctos.metrics import prometheus

prometheus.install()
orders = metrics.counter("orders.placed", 'Orders "placed"\\nby anybody', tags=("channel",))
baskets = metrics.gauge("baskets", "Open baskets", aggregation="max")
prices = metrics.distribution("price", "What is paid")
library = [
    prometheus_client.Counter("visits", 'Visits by "channel"', ["channel"]),
    prometheus_client.Gauge("temperature", "How warm it is", ["worker"], multiprocess_mode="all"),
    prometheus_client.Histogram("latency_seconds", "How long it takes", ["view"]),
    prometheus_client.Summary("size_bytes", "How large it is"),
]

def app(environ, start_response):
    orders.inc(channel='a"b\\\\c\\nd')
    baskets.set(3)
    prices.observe(0.25)
    prices.observe(1e6)
    library[0].labels("web").inc()
    library[1].labels("x").set(20.5)
    library[2].labels("/").observe(0.3)
    library[3].observe(7)
    return phases.app(environ, start_response)
'''


@pytest.fixture
def path(tmp_path):
    """The path of the admin socket."""
    return str(tmp_path / "admin.sock")


def page_of(address):
    """Returns the families of the page in the format of OpenMetrics, which the parser of prometheus_client reads strictly."""
    answer = ask(address, "/metrics", "GET", ACCEPT)
    assert (answer.status, answer.field("Content-Type")) == (200, OPENMETRICS)
    return list(text_string_to_metric_families(answer.body.decode()))


def exemplars(families):
    """Returns the traces of all exemplars by the status, with what their values say of the bucket."""
    found = {}
    for family in families:
        for sample in family.samples:
            if sample.exemplar:
                assert sample.name == "arctos_request_duration_seconds_bucket"
                assert sample.exemplar.value <= float(sample.labels["le"])
                found.setdefault(sample.labels["status"], []).append(sample.exemplar)
    return found


def request(server, target, *traceparents):
    """Sends a request, after which everything about it has been noted."""
    fields = [f"traceparent: {value}" for value in traceparents]
    with Wire(("127.0.0.1", server.port)) as wire:
        answer = wire.get(target, "Connection: close", *fields).response()
        assert wire.is_closed()
    return answer.status


def serve_counting(serve, tmp_path, *options, workers=1):
    (tmp_path / "counting.py").write_text(APPLICATION)
    environment = {"ARCTOS_PYTHONPATH": f"{tmp_path},{APPS}"}
    return serve("counting:app", *options, "--zone", "eu", workers=workers, env=environment)


def test_both_formats_have_the_same_samples(serve, tmp_path, path):
    server = serve_counting(serve, tmp_path, "--admin-bind", f"unix:{path}", workers=2)
    for _ in range(10):
        assert request(server, "/work") == 200
    counted = lambda: sum(s.value for s in scrape(path) if s.name == "arctos_request_duration_seconds_count")  # noqa: E731
    wait_until(lambda: counted() == 10)
    families = page_of(path)
    types = {family.name: family.type for family in families}
    assert types["arctos_orders_placed"] == types["visits"] == types["arctos_req_done"] == "counter"
    documentation = {family.name: family.documentation for family in families}
    assert documentation["arctos_orders_placed"] == 'Orders "placed"\nby anybody'
    key = lambda sample: (sample.name, *sorted(sample.labels.items()))  # noqa: E731
    open_samples = {key(sample) for family in families for sample in family.samples}
    assert open_samples == {key(sample) for sample in scrape(path)}
    assert not exemplars(families)


def test_without_a_wish_the_page_is_in_the_text_format(serve, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    for fields in ((), ("Accept: */*",), ("Accept: application/openmetrics-text;q=0.1, text/plain",)):
        answer = ask(path, "/metrics", "GET", *fields)
        assert answer.field("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        assert b"# EOF" not in answer.body


def test_a_sampled_trace_is_the_exemplar_of_its_bucket(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}")
    before = time.time()
    assert request(server, "/work?call=20", f"00-{TRACE}-00f067aa0ba902b7-01") == 200
    wait_until(lambda: exemplars(page_of(path)))
    [exemplar] = exemplars(page_of(path))["2xx"]
    assert exemplar.labels == {"trace_id": TRACE}
    assert exemplar.value >= 0.02 and before - 0.001 <= float(exemplar.timestamp) <= time.time()
    # A trace that is not sampled, one that is not valid, and two of them: nobody could look them up.
    parent = "00f067aa0ba902b7-01"
    sampled, invalid = f"00-{OTHER_TRACE}-{parent}", f"00-{OTHER_TRACE.upper()}-{parent}"
    for values in ([f"00-{OTHER_TRACE}-00f067aa0ba902b7-00"], [invalid], [sampled, sampled], []):
        assert request(server, "/work?call=20", *values) == 200
    assert request(server, "/work?status=503+Busy", sampled) in (200, 503)
    wait_until(lambda: OTHER_TRACE in str(exemplars(page_of(path))))
    found = {e.labels["trace_id"] for e in exemplars(page_of(path))["2xx"] if e.value >= 0.02}
    assert found == {TRACE}


def test_prometheus_stores_the_exemplars(serve, tmp_path):
    port = free_port()
    server = serve_counting(serve, tmp_path, "--admin-bind", f"127.0.0.1:{port}")
    with Prometheus(tmp_path, port, "--enable-feature=exemplar-storage") as prometheus:
        assert request(server, "/work?call=5", f"00-{TRACE}-00f067aa0ba902b7-01") == 200
        query = {"query": "arctos_request_duration_seconds_bucket", "start": time.time() - 600, "end": time.time() + 600}
        wait_until(lambda: prometheus.ask("query_exemplars", **query))
        [stored] = prometheus.ask("query_exemplars", **query)
        assert stored["seriesLabels"]["status"] == "2xx"
        assert {exemplar["labels"]["trace_id"] for exemplar in stored["exemplars"]} == {TRACE}
        for name in ("arctos_orders_placed_total", "arctos_price_bucket", "visits_total", "size_bytes_count"):
            assert prometheus.query(name), name
        [target] = prometheus.ask("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
