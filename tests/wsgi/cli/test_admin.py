"""The admin socket: what it answers and to whom, while workers serve, hang or exit; and `arctos ctl`."""

import os
import re
import signal
import socket
import stat

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.server import APPS, EXIT_CONFIGURATION, EXIT_USAGE, SERVER_READY, run
from support.wire import Wire

EXIT_UNREACHABLE = 1
COUNTING = """
import plain
from arctos import metrics
from arctos.metrics import prometheus
from prometheus_client import Counter

prometheus.install()
orders = metrics.counter("orders.placed", "Orders placed", tags=("channel",))
waiting = metrics.gauge("jobs.waiting", "Jobs that wait", aggregation="max")
query = metrics.distribution("query.seconds", "How long a query takes")
mails = Counter("mails", "Mails sent", ["kind"])

def app(environ, start_response):
    environ["arctos.route"] = "/"
    orders.inc(channel="web")
    waiting.set(7)
    query.observe(0.25)
    mails.labels("welcome").inc(2)
    return plain.app(environ, start_response)
"""


def ask(address, target="/metrics", method="GET"):
    """Returns the response to one request, after which the server closes the connection."""
    with Wire(address) as wire:
        answer = wire.get(target, method=method).response(method)
        assert wire.is_closed()
    return answer


def families(address):
    """Returns all metric families by name."""
    answer = ask(address)
    assert (answer.status, answer.field("Content-Type")) == (200, "text/plain; version=0.0.4; charset=utf-8")
    read = list(text_string_to_metric_families(answer.body.decode()))
    assert len({family.name for family in read}) == len(read), "a family is not contiguous"
    return {family.name: family for family in read}


def value(found, family, name=None, **labels):
    """Returns the sum of the samples with these labels."""
    samples = [sample for sample in found[family].samples if sample.name == (name or sample.name)]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


@pytest.mark.smoke
def test_metrics_are_what_prometheus_reads(serve, connect, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", "--zone", "central-europe", workers=2)
    for _ in range(7):
        with Wire(("127.0.0.1", server.port)) as wire:
            assert wire.get("/hello", "Connection: close").response().status == 200
            assert wire.is_closed()
    found = families(path)
    assert value(found, "arctos_conn_accept_success") == 7
    assert value(found, "arctos_resp_status_2xx") == 7
    assert {sample.labels["zone"] for family in found.values() for sample in family.samples} == {"central-europe"}
    accepted = found["arctos_conn_accept_success"]
    assert accepted.type == "counter" and accepted.documentation == "Connections accepted."
    assert {sample.labels["worker"] for sample in accepted.samples} == {"0", "1"}
    reasons = {sample.labels["reason"] for sample in found["arctos_worker_restarts"].samples}
    assert reasons == {"boot", "exit", "signal", "timeout", "oom"}
    assert [sample.labels.get("worker") for sample in found["arctos_statsd_dropped"].samples] == [None]


def test_gauges_are_of_the_server_or_of_a_worker(serve, connect, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    held = connect(server)
    assert held.get("/hello").response().status == 200
    found = families(path)
    assert value(found, "arctos_workers_target") == value(found, "arctos_workers_ready") == 2
    assert value(found, "arctos_conn_open") == 1
    rss = found["arctos_worker_rss_bytes"]
    assert rss.type == "gauge" and all(sample.value > 1_000_000 for sample in rss.samples)


def test_histograms_are_cumulative_and_add_up(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    with Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(4):
            assert wire.get("/hello").response().status == 200
        # Once a connection is closed, everything on it has been counted.
        assert wire.get("/hello", "Connection: close").response().status == 200
        assert wire.is_closed()
    found = families(path)
    for family in ("arctos_request_duration_seconds", "arctos_queue_wait_seconds"):
        assert found[family].type == "histogram"
        buckets = [sample for sample in found[family].samples if sample.name == f"{family}_bucket"]
        bounds = [float(sample.labels["le"]) for sample in buckets]
        counts = [sample.value for sample in buckets]
        assert bounds == sorted(bounds) and bounds[-1] == float("inf")
        assert counts == sorted(counts)
        assert counts[-1] == value(found, family, f"{family}_count")
    assert value(found, "arctos_request_duration_seconds", "arctos_request_duration_seconds_count") == 5
    assert 0 < value(found, "arctos_request_duration_seconds", "arctos_request_duration_seconds_sum") < 60


def test_it_answers_while_all_workers_are_stopped(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    workers = server.worker_pids()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert value(families(path), "arctos_workers_target") == 2
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


def test_a_path_is_for_the_owner_alone_and_removed_at_the_end(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", "--umask", "0")
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    server.stop()
    assert not os.path.exists(path)


def test_tcp_is_served_and_the_log_names_all_addresses(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", "--admin-bind", "127.0.0.1:0")
    by_path, by_tcp = server.wait_for(SERVER_READY).pairs["admin"].split()
    assert by_path == f"unix:{path}"
    port = int(re.fullmatch(r"http://127\.0\.0\.1:([0-9]+)", by_tcp)[1])
    assert port != server.port
    assert "arctos_workers_target" in families(("127.0.0.1", port))


def test_without_the_option_there_is_none(serve):
    server = serve("plain:app")
    assert "admin" not in server.wait_for(SERVER_READY).pairs


def test_a_malformed_request_is_refused_with_the_reason(serve, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    head = ask(path, method="HEAD")
    assert head.status == 200 and int(head.field("Content-Length")) > 1000
    assert ask(path, "/nothing").status == 404
    for method, allowed in (("POST", "GET, HEAD"), ("DELETE", "GET, HEAD, POST")):
        answer = ask(path, method=method)
        assert (answer.status, answer.field("Allow")) == (405, allowed)
    assert ask(path).field("Cache-Control") == "no-store"
    with Wire(path) as wire:
        assert wire.send("GET /metrics HTTP/1.1\n\n").response().status == 400


def test_an_address_in_use_is_refused(serve, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    status, _, said = run("--bind", "127.0.0.1:0", "--admin-bind", f"unix:{path}", "plain:app")
    assert status == EXIT_CONFIGURATION
    assert path in said and "--admin-bind" in said


def test_silent_connections_do_not_keep_others_out(serve, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    silent = [Wire(path) for _ in range(64)]
    try:
        assert "arctos_workers_target" in families(path)
    finally:
        for wire in silent:
            wire.socket.close()


# --- arctos ctl ---


def rows(table):
    """Returns the cells by the name of their row."""
    lines = (re.split(r"  +", line) for line in table.splitlines() if line)
    return {name: cells for name, *cells in lines}


def test_ctl_metrics_shows_a_table(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/hello", "Connection: close").response().status == 200
        assert wire.is_closed()
    for given in ({"ARCTOS_ADMIN_BIND": f"unix:{path}, 127.0.0.1:1"}, {}):
        words = [] if given else ["--admin", f"unix:{path}"]
        status, table, said = run("ctl", "metrics", *words, env=given)
        assert (status, said) == (0, "")
        found = rows(table)
        assert found["counters"] == ["total", "w0", "w1"]
        assert found["conn.accept.success"][0] == "1"
        assert found["workers.target"] == ["2"]
        assert found["worker.rss"][0].endswith("M")
        assert found["request.duration count"][0] == "1"
        assert re.fullmatch(r"[0-9.]+(us|ms|s)", found["request.duration p99"][0])


def test_ctl_metrics_shows_what_the_application_counts(serve, path, tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    environment = {"ARCTOS_PYTHONPATH": f"{tmp_path},{APPS}"}
    server = serve("counting:app", "--admin-bind", f"unix:{path}", "--zone", "eu", workers=2, env=environment)
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/hello", "Connection: close").response().status == 200
        assert wire.is_closed()
    status, table, said = run("ctl", "metrics", "--admin", f"unix:{path}")
    assert (status, said) == (0, "")
    found = rows(table)
    assert found["counters of the application"] == ["total", "w0", "w1"]
    assert found['arctos_orders_placed_total{channel="web"}'] == ["1", "1"]
    assert found['mails_total{kind="welcome"}'] == ["2"]
    assert found["arctos_jobs_waiting"] == ["7"]
    assert found["distributions of the application"] == ["count", "mean", "p50", "p90", "p99"]
    assert found["arctos_query_seconds"][:2] == ["1", "250ms"]
    assert found['arctos_route_duration_seconds{route="/",status="2xx"}'][0] == "1"


@pytest.mark.parametrize("name", ["arctos.toml", "pyproject.toml"])
def test_ctl_finds_the_address_in_the_file_of_its_directory(serve, path, tmp_path, name):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    table = "[tool.arctos]\n" if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(f'{table}admin-bind = ["unix:{path}", "127.0.0.1:1"]\n')
    assert run("ctl", "ready", cwd=tmp_path)[0] == 0
    directory, socket_name = os.path.split(path)
    (tmp_path / name).write_text(f'{table}chdir = "{directory}"\nadmin-bind = "unix:{socket_name}"\n')
    assert run("ctl", "ready", cwd=tmp_path)[0] == 0
    (tmp_path / name).write_text(f'{table}\nadmin-bind = "::1"\n')
    status, _, said = run("ctl", "ready", cwd=tmp_path)
    assert status == EXIT_USAGE and f"{name}:" in said and "admin-bind '::1': expected brackets" in said


def test_ctl_names_the_server_that_it_cannot_reach(path):
    status, output, said = run("ctl", "metrics", "--admin", f"unix:{path}")
    assert (status, output) == (EXIT_UNREACHABLE, "")
    assert said == f"error: cannot reach the server at unix:{path}: No such file or directory\n"


def test_ctl_tells_the_applications_port_from_the_admin_socket(serve):
    server = serve("plain:app")
    status, _, said = run("ctl", "metrics", "--admin", f"127.0.0.1:{server.port}")
    assert status == EXIT_UNREACHABLE
    assert f"127.0.0.1:{server.port}" in said


def test_ctl_gives_up_on_a_silent_server(path):
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        status, _, said = run("ctl", "metrics", "--admin", f"unix:{path}")
    assert status == EXIT_UNREACHABLE
    assert said == f"error: the server at unix:{path} does not answer: nothing within 5 s\n"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["ctl"], ["metrics"]),
        (["ctl", "dance"], ["dance", "metrics"]),
        (["ctl", "metrics"], ["--admin", "ARCTOS_ADMIN_BIND"]),
        (["ctl", "metrics", "--admin", "nowhere"], ["--admin 'nowhere'"]),
    ],
    ids=lambda words: " ".join(words),
)
def test_ctl_says_what_is_wrong_and_exits_2(words, named):
    status, _, said = run(*words)
    assert status == EXIT_USAGE
    for word in named:
        assert word in said


def test_help_lists_ctl():
    assert "arctos ctl VERB" in run("--help")[1]
    for words in (["ctl", "--help"], ["ctl", "metrics", "--help"]):
        status, output, _ = run(*words)
        assert status == 0 and "--admin" in output
