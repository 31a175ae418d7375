"""The dashboards and alert rules that arctos prints: every query has a result in a Prometheus that scrapes a running
server, every metric of the Datadog dashboard is one that this server sends, and every alert fires when it should."""

import json
import os
import re
import signal
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import pytest
import yaml
from support.ports import free_port
from support.prometheus import Prometheus, promtool
from support.server import APPS, ROOT, WORKER_READY, Server, run
from support.statsd_sink import DOGSTATSD, Sink
from support.waiting import wait_until
from support.wire import Ended, Wire

APPLICATION = """
import plain
from arctos import metrics

orders = metrics.counter("orders.placed", "Orders placed", tags=("channel",))
waiting = metrics.gauge("jobs.waiting", "Jobs that wait", aggregation="max")
query = metrics.distribution("query.seconds", "How long a query takes, in seconds")

def app(environ, start_response):
    environ["arctos.route"] = environ["PATH_INFO"]
    orders.inc(channel="web")
    waiting.set(2)
    query.observe(0.02)
    return plain.app(environ, start_response)
"""
OF_THE_APPLICATION = {
    "counter": "arctos_orders_placed_total",
    "gauge": "arctos_jobs_waiting",
    "distribution": "arctos_query_seconds_bucket",
}
VARIABLES = {
    **{"$job": "shop", "$instance": ".*", "$zone": ".*", "$worker": ".*", "$__rate_interval": "10m"},
    **{f"${name}": metric for name, metric in OF_THE_APPLICATION.items()},
}
# What has no result in the run below, and why.
EXPECTED_EMPTY = {"Failed reloads": "no reload fails"}
# Series that not every machine has: without a limit of the cgroup, there is none.
OF_THE_CGROUP = ("arctos_memory_limit_bytes", "arctos_memory_used_bytes", "arctos_memory_working_set_bytes")
# Metrics that the run does not cause, and why. Other tests cause them, and find them at a daemon.
NOT_CAUSED = {
    "conn.accept.error": "no accept fails",
    "log.dropped": "the log can be written",
    "metrics.series_dropped": "the application has few series",
    "reload.failed": "no reload fails",
    "req.abandoned": "no client leaves while its request waits",
    "req.error.read": "no client resets its connection",
    "resp.aborted": "no client leaves in a response",
    "resp.sendfile.bytes": "no file is sent",
    "resp.victim": "the worker that is killed has no request",
    "req.killed": "the worker that is killed has no request",
    "statsd.dropped": "the daemon is there",
    "worker.timeout": "no worker hangs",
}
COMPARISON = re.compile(r"\n(>|<|==|unless) ")


def printed(*words):
    code, out, error = run(*words)
    assert (code, error) == (0, "")
    return out


@pytest.fixture(scope="module")
def grafana():
    return json.loads(printed("dashboard", "grafana"))


@pytest.fixture(scope="module")
def datadog():
    return json.loads(printed("dashboard", "datadog"))


@pytest.fixture(scope="module")
def rules():
    [group] = yaml.safe_load(printed("alerts", "prometheus"))["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


# --- A running server ---


def requests_of_all_kinds(address):
    """Sends requests after which nearly every counter is above zero."""
    with Wire(address) as wire:
        for target in ("/", "/nowhere", "/status?line=301+Moved", "/written-large"):
            wire.get(target).response()
        wire.get("/", "X_Dropped: 1").response()
        wire.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        wire.until(b"100 Continue\r\n\r\n")
        wire.send(b"ok")
        wire.response()
        wire.get("/fail").response()
        assert wire.is_closed()
    with Wire(address) as wire:
        wire.get("/").response()  # the connection ends while it is idle
    with Wire(address) as wire:
        wire.send(b"garb")
        time.sleep(0.01)  # so that it arrives in two parts
        wire.send(b"age\r\n\r\n")
        wire.to_end()


@contextmanager
def traffic(address):
    """Sends requests of all kinds until the end of the block."""
    stopped = threading.Event()

    def client():
        while not stopped.wait(0.05):
            with suppress(Ended, OSError):  # of the worker that is killed
                requests_of_all_kinds(address)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Prometheus, and what a statsd daemon received, of a server under load whose worker was killed and that was
    reloaded."""
    directory, port = tmp_path_factory.mktemp("prometheus"), free_port()
    with ExitStack() as stack:
        sink = Sink()
        stack.callback(sink.close)
        options = ("--statsd-host", sink.option, *DOGSTATSD, "--zone", "eu", "--admin-bind", f"127.0.0.1:{port}")
        (directory / "counting.py").write_text(APPLICATION)
        environment = {"ARCTOS_PYTHONPATH": f"{directory},{APPS}"}
        server = stack.enter_context(Server("counting:app", *options, workers=2, env=environment))
        prometheus = stack.enter_context(Prometheus(directory, port))
        address = ("127.0.0.1", server.port)
        scrapes = "count_over_time(arctos_workers_target[10m]) >= "
        wait_until(lambda: prometheus.query(scrapes + "2"))
        with traffic(address):
            killed = server.worker_pids()[0]
            os.kill(killed, signal.SIGKILL)
            server.wait_for(WORKER_READY, 3)
            server.send(signal.SIGHUP)
            wait_until(lambda: prometheus.query("arctos_reload_ok_total == 1"))
            wait_until(lambda: prometheus.query('sum(arctos_worker_restarts_total{reason="signal"}) == 1'))
            wait_until(lambda: prometheus.query("min(increase(arctos_resp_status_5xx_total[10m])) > 0"))
            # Of each worker, a route that fails was scraped twice.
            failing = 'arctos_route_duration_seconds_count{status="5xx"}'
            wait_until(lambda: prometheus.query(f"count(increase({failing}[10m])) == 2"))
        # The next two flushes have what was counted so far.
        flushes = lambda received: sum(metric.name == "arctos.workers.target" for metric in received.metrics)  # noqa: E731
        before = sink.look(flushes)
        sink.wait_for(lambda received: flushes(received) >= before + 2)
        yield prometheus, sink


def names_of(received):
    return {metric.name.removeprefix("arctos.") for metric in received.metrics}


# --- Grafana and Prometheus ---


def filled(expression):
    """An expression of the dashboard as Grafana sends it, with everything selected."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def panels(grafana):
    """All panels, also those in a row that is closed."""
    for panel in grafana["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]


def queries(grafana):
    """All expressions of the dashboard, each with a name."""
    for panel in panels(grafana):
        for target in panel["targets"]:
            yield f"{panel['title']}: {target['legendFormat']}", target["expr"]
    for annotation in grafana["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def is_absent(prometheus, expression):
    """Whether an expression reads what this machine does not have."""
    return any(name in expression for name in set(OF_THE_CGROUP) - prometheus.names())


def test_the_durations_of_requests_show_exemplars_once(grafana):
    shown = [target["expr"] for panel in panels(grafana) for target in panel["targets"] if target.get("exemplar")]
    assert len(shown) == 1 and "arctos_request_duration_seconds_bucket" in shown[0]


def test_every_query_of_the_dashboard_has_a_result(observed, grafana):
    prometheus, _ = observed
    found = {name: prometheus.query(filled(expression)) for name, expression in queries(grafana)}
    assert len(found) > 40
    empty = {name for name, values in found.items() if not values}
    assert {name for name in empty if not is_absent(prometheus, dict(queries(grafana))[name])} == EXPECTED_EMPTY.keys()
    assert all(value >= 0 for values in found.values() for _, value in values)


def test_every_variable_of_the_dashboard_has_values(observed, grafana):
    prometheus, _ = observed
    for variable in grafana["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            found = prometheus.ask(f"label/{label}/values", **{"match[]": filled(series)})
            # Of the application, and not of the server.
            assert found == [OF_THE_APPLICATION[variable["name"]]] if label == "__name__" else found, label


def test_the_queries_of_the_guide_have_results(observed):
    """They are for the metrics that another page of the guide defines, as this application does."""
    prometheus, sink = observed
    page = (ROOT / "src" / "guide" / "observability.md").read_text()
    rows = re.findall(r"^\| the \w+ `([a-z.]+)` \| `(.+)` \| `(.+)` \|$", page, re.M)
    assert len(rows) == 3
    for name, expression, query in rows:
        assert prometheus.query(expression), expression
        assert f":arctos.{name}{{*}}" in query and name in sink.look(names_of)


def test_a_selected_worker_hides_no_panel(observed, grafana):
    prometheus, _ = observed
    for name, expression in queries(grafana):
        if name not in EXPECTED_EMPTY and name != "Deaths of workers" and not is_absent(prometheus, expression):
            assert prometheus.query(filled(expression.replace("$worker", "1"))), name


def test_both_sides_of_every_alert_have_values(observed, rules):
    """The comparison itself has a result only if something is wrong."""
    prometheus, _ = observed
    for name, rule in rules.items():
        prometheus.query(rule["expr"])
        left, comparison, right = COMPARISON.split(rule["expr"])
        for side in (left.replace(" offset 1h", ""), right):
            is_number = re.fullmatch(r"[0-9.]+", side)
            assert is_number or is_absent(prometheus, side) or prometheus.query(side), (name, side)


# --- Alerts in promtool ---

SERVER = 'job="shop",instance="shop:9000",zone="eu"'
WORKER = SERVER + ',worker="0"'
MINUTES = 120


def of_server(name):
    return f"arctos_{name}{{{SERVER}}}"


def of_worker(name, *labels):
    return f"arctos_{name}{{{','.join((WORKER, *labels))}}}"


def restarts(reason):
    return of_worker("worker_restarts_total", f'reason="{reason}"')


def bucket(name, bound):
    status = ('status="2xx"',) if name == "request_duration" else ()
    return of_worker(f"{name}_seconds_bucket", *status, f'le="{bound}"')


# The series of a server under load that is well, with the values of each minute in the notation of promtool.
WELL = {
    of_server("workers_target"): "4",
    of_server("workers_ready"): "4",
    of_server("workers_utilization"): "0.3",
    of_server("backlog_len"): "0",
    of_server("backlog_max"): "2048",
    of_server("memory_working_set_bytes"): "300e6",
    of_server("memory_limit_bytes"): "500e6",
    of_server("reload_failed_total"): "0",
    of_server("statsd_dropped_total"): "0",
    of_server("metrics_series_dropped_total"): "0",
    of_server("log_dropped_total"): "0",
    of_worker("log_dropped_total"): "0",
    of_worker("req_done_total"): "0+600",
    of_worker("resp_status_5xx_total"): "0+1",
    **{bucket("request_duration", bound): "0+600" for bound in ("0.262144", "2.097152", "+Inf")},
    **{bucket("request_queue", bound): "0+60" for bound in ("0.008192", "1.048576", "+Inf")},
    **{restarts(reason): "0" for reason in ("boot", "exit", "signal", "timeout", "oom")},
}


class Case(NamedTuple):
    """What has other values than in a server that is well, when the alert has to fire, and with which words."""

    series: list
    values: str
    minute: int
    summary: str
    labels: dict = {}  # beside those of the server


CASES = {
    "ArctosGone": Case([*WELL], "1x20 _", 64, "No server of shop can be scraped any more"),
    "ArctosNoReadyWorker": Case(
        [of_server("workers_ready")], "4x10 0", 13, "shop:9000 has no ready worker, and answers no request"
    ),
    "ArctosTooFewWorkers": Case([of_server("workers_ready")], "4x10 3", 17, "shop:9000 has only 3 ready workers"),
    "ArctosWorkersFailToBoot": Case([restarts("boot")], "0x10 1+1x4 5", 15, "Workers of shop:9000 fail to boot"),
    "ArctosWorkersDie": Case(
        [restarts("oom")], "0x10 1+1x4 5", 15, "Workers of shop:9000 die, for the reason oom", {"reason": "oom"}
    ),
    "ArctosReloadFailed": Case(
        [of_server("reload_failed_total")], "0x10 1", 12, "A reload of shop:9000 failed, and the old code still serves"
    ),
    "ArctosErrors": Case(
        [of_worker("resp_status_5xx_total")], "0+60", 12, "10% of the responses of shop:9000 are 5xx"
    ),
    "ArctosSlow": Case(
        [bucket("request_duration", "0.262144")], "0+300", 17, "One request in a hundred takes 2.06s or longer at shop:9000"
    ),
    "ArctosRequestsWait": Case(
        [bucket("request_queue", "0.008192")], "0", 12, "Requests wait 1.038s for a worker at shop:9000"
    ),
    "ArctosBacklog": Case([of_server("backlog_len")], "0x10 1536", 13, "75% of the backlog of shop:9000 is used"),
    "ArctosMemory": Case(
        [of_server("memory_working_set_bytes")],
        "300e6x10 480e6",
        17,
        "shop:9000 uses 96% of the memory limit of its cgroup",
    ),
    "ArctosSaturated": Case(
        [of_server("workers_utilization")], "0.95", 12, "The workers of shop:9000 are in requests 95% of the time"
    ),
    "ArctosStatsdUnreachable": Case(
        [of_server("statsd_dropped_total")], "0+30", 17, "shop:9000 cannot send metrics to statsd"
    ),
    "ArctosSeriesDropped": Case(
        [of_server("metrics_series_dropped_total")],
        "0x10 7",
        12,
        "The application on shop:9000 has more series than --metrics-series",
    ),
    "ArctosLogLinesDropped": Case([of_worker("log_dropped_total")], "0x10 7", 12, "shop:9000 dropped log lines"),
}


def promtool_test(name, case, rules):
    """A test of promtool: the alert of this name fires with its words, and no other one does."""
    expected = []
    for alert, rule in rules.items():
        fires = alert == name
        labels = {"job": "shop", "instance": "shop:9000", "zone": "eu", "severity": rule["labels"]["severity"]} | case.labels
        if name == "ArctosGone":
            labels = {"job": "shop", "severity": "critical"}
        annotations = {**rule["annotations"], "summary": case.summary}
        found = [{"exp_labels": labels, "exp_annotations": annotations}] if fires else []
        expected.append({"eval_time": f"{case.minute}m", "alertname": alert, "exp_alerts": found})
    values = WELL | dict.fromkeys(case.series, case.values)
    series = [{"series": one, "values": f"{each}x{MINUTES}"} for one, each in values.items()]
    return {"name": name, "interval": "1m", "input_series": series, "alert_rule_test": expected}


def test_every_alert_fires_when_it_should_and_no_other_one_does(rules, tmp_path):
    assert CASES.keys() == rules.keys()
    (tmp_path / "arctos.rules.yml").write_text(printed("alerts", "prometheus"))
    # A server that is well, first: it expects no alert at all.
    tests = [promtool_test("", Case([], "", minute, ""), rules) for minute in (5, 64, MINUTES)]
    tests += [promtool_test(name, case, rules) for name, case in CASES.items()]
    document = {"rule_files": ["arctos.rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    assert promtool("check", "rules", tmp_path / "arctos.rules.yml")[0] == 0
    code, said = promtool("test", "rules", tmp_path / "tests.yml")
    assert code == 0, said


def test_the_series_of_these_cases_are_those_of_a_server(observed):
    prometheus, _ = observed
    assert {series.partition("{")[0] for series in WELL} <= prometheus.names() | set(OF_THE_CGROUP)


# --- Datadog ---

DATADOG_QUERY = re.compile(
    r"(?:sum|avg|count|p50|p95|p99):(?P<name>arctos\.[a-z0-9_.]+)\{(?P<scope>\$\w+(?:,\$\w+)*)(?:,status:5xx)?\}"
    r"(?: by \{[a-z]+(?:,[a-z]+)*\})?(?:\.as_(?:rate|count)\(\))?"
)


def widgets(datadog):
    return [widget["definition"] for group in datadog["widgets"] for widget in group["definition"]["widgets"]]


def datadog_names(datadog):
    """The names of all metrics on the dashboard of Datadog, without their prefix."""
    requests = [request for widget in widgets(datadog) for request in widget["requests"]]
    queries = [query["query"] for request in requests for query in request["queries"]]
    return {DATADOG_QUERY.fullmatch(query)["name"].removeprefix("arctos.") for query in queries}


def test_the_dashboard_of_datadog_has_what_its_api_requires(datadog):
    """The fields are those of Datadog's API for dashboards. With the reflow type `auto`, widgets have no layout."""
    assert (datadog["layout_type"], datadog["reflow_type"]) == ("ordered", "auto")
    variables = {f"${variable['name']}" for variable in datadog["template_variables"]}
    for group in datadog["widgets"]:
        assert group.keys() == {"definition"}
        assert group["definition"].keys() == {"type", "layout_type", "title", "widgets"}
        assert all(widget.keys() == {"definition"} for widget in group["definition"]["widgets"])
    for widget in widgets(datadog):
        assert widget["type"] == "timeseries" and widget["title"] and widget["requests"]
        for request in widget["requests"]:
            assert request["response_format"] == "timeseries"
            assert request["display_type"] in ("line", "area", "bars")
            names = [query["name"] for query in request["queries"]]
            for query in request["queries"]:
                assert query.keys() == {"data_source", "name", "query"} and query["data_source"] == "metrics"
                assert set(DATADOG_QUERY.fullmatch(query["query"])["scope"].split(",")) <= variables, query
            [formula] = request["formulas"]
            assert sorted(re.findall(r"query[0-9]+", formula["formula"])) == sorted(names)


def test_every_metric_of_the_dashboard_of_datadog_is_sent(observed, datadog):
    _, sink = observed
    sent, shown = sink.look(names_of), datadog_names(datadog)
    sent |= {name.removeprefix("arctos_").removesuffix("_bytes").replace("_", ".", 1) for name in OF_THE_CGROUP}
    assert shown - sent <= NOT_CAUSED.keys() <= shown


def test_both_dashboards_have_the_same_panels(grafana, datadog):
    shown = [panel["title"] for panel in grafana["panels"] if panel["type"] != "row"]
    assert shown == [widget["title"] for widget in widgets(datadog)]
