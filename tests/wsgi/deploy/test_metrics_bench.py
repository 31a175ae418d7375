"""`scripts/bench metrics`: its cases, its statistics, and a short run with a client in Python. No timing is asserted."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from support.admin_client import scrape
from support.server import ROOT
from support.waiting import wait_until

sys.path.insert(0, str(ROOT / "scripts"))

import bench_itself
import bench_report as report
import bench_rounds
import bench_servers
import bench_updates
from bench_cases import CASES, OTHER_CASES, PARTS_OF_METRICS
from bench_servers import Cpus, Run, Server

# Has the command line and the output of `load`, which only cargo can build.
LOAD = '''#!{python}
import argparse, json, resource, socket, time
parser = argparse.ArgumentParser()
parser.add_argument("task", choices=["send", "sink"])
for name, kind in [("cpu", int), ("port", int), ("kind", str), ("connections", int), ("seconds", float), ("warm-up", float),
                   ("requests", int)]:
    parser.add_argument(f"--{{name}}", type=kind)
given = parser.parse_args()
address = ("127.0.0.1", given.port)
if given.task == "sink":
    agent, datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0
    agent.bind(address)
    while True:
        datagram, sender = agent.recvfrom(65536)
        datagrams += 1
        if datagram == b"?":
            agent.sendto(json.dumps({{"datagrams": datagrams - 1, "lines": 0}}).encode(), sender)
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
connections = [socket.create_connection(address) for _ in range(given.connections)]
count, until = 0, time.monotonic() + (given.seconds or 0)
while count < (given.requests or 1) or time.monotonic() < until:
    for connection in connections:
        connection.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    for connection in connections:
        received = b""
        while not received.endswith(b"Hello, World!"):
            received += connection.recv(65536) or exit("the server closed")
    count += len(connections)
times = dict.fromkeys(["latency_p50_us", "latency_p99_us", "latency_max_us", "errors", "unanswered"], 0)
print(json.dumps({{"requests": count, "requests_in_all": count, "seconds": 1, "busy_seconds": 0, "body_bytes": 13, **times}}))
'''
CPUS = Cpus(*[min(bench_servers.os.sched_getaffinity(0))] * 2)


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Makes the scripts use this Python, a client in Python, and this directory, which it returns."""
    load = tmp_path / "load"
    load.write_text(LOAD.format(python=sys.executable))
    load.chmod(0o755)
    for module in (bench_servers, bench_rounds, bench_itself):
        for name, value in (("PLACE", tmp_path), ("LOAD", load), ("PYTHON", sys.executable)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)
    return tmp_path


# --- The cases ---


def names(variants):
    return [variant.name for variant in variants]


def test_help_lists_all_cases_and_only_those_are_accepted():
    command = [sys.executable, ROOT / "scripts/bench"]
    ended = subprocess.run([*command, "--help"], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    listed = [line.split()[0] for line in ended.stdout.partition("\ncases ")[2].splitlines()[1:] if line.startswith("  ")]
    assert listed == [*CASES, *OTHER_CASES]
    assert set(bench_itself.COMPARISONS) == set(OTHER_CASES) - {"micro"}
    assert set(PARTS_OF_METRICS) < set(bench_itself.COMPARISONS)
    ended = subprocess.run([*command, "metrics", "nonsense"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "") and "no case nonsense" in ended.stderr


def counts_of_1000(path):
    """Returns the number of requests by route, once there are 1000."""
    samples = [sample for sample in scrape(path) if sample.name == "arctos_route_duration_seconds_count"]
    counted = {sample.labels["route"]: sample.value for sample in samples if sample.value}
    return counted if sum(counted.values()) == 1000 else None


@pytest.mark.parametrize("variant", bench_itself.routes(), ids=lambda variant: variant.name)
def test_the_routes_of_a_case_are_counted(place, path, variant):
    variant = variant._replace(options=(*variant.options, "--admin-bind", f"unix:{path}"))
    with Server(variant, CASES["hello"], CPUS) as server:  # which has sent one request
        assert server.send("--requests", "999", connections=1)["requests"] == 999
        # The last response is sent before it is counted.
        counted = wait_until(lambda: counts_of_1000(path))
    expected = {"one route": (1, 0), "one of 100 routes": (100, 0), "one of 100 routes, 10 series": (11, 900)}
    assert (len(counted), counted.get("other", 0)) == expected[variant.name]


@pytest.mark.parametrize("variant", bench_itself.slow_requests(), ids=lambda variant: variant.name)
def test_slow_requests_of_a_case_are_logged(place, variant):
    with Server(variant, CASES["1000"], CPUS) as server:
        server.send("--requests", "1")
    logged = server.log.read_text().count("request.slow")
    assert (logged > 0) == (variant.name == "every request is slow")


# --- Statistics ---


def runs(*cpu_us):
    return [Run(1e6 / us, us, 1.0, 0.0, 0.5, us, us, us, 0, 0) for us in cpu_us]


def cells(text):
    """Returns the cells of all tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]


def test_a_cost_is_the_median_of_what_the_rounds_differ_by():
    cost = report.paired(runs(11, 23, 31.5, 41, 53), runs(10, 20, 30, 40, 50))
    assert cost["CPU us"] == pytest.approx(1.5)
    assert [cost[f"CPU us, {end} quartile"] for end in ("lower", "upper")] == pytest.approx([1, 3])
    assert cost["CPU"] == pytest.approx(1.06)
    assert cost["requests/s"] == pytest.approx(1 / 1.06)


def test_the_table_of_costs_has_a_row_for_everything_that_was_compared():
    cost, none = report.paired(runs(11), runs(10)), report.paired(runs(9.5), runs(10))
    found = {
        "metrics": {"over": "arctos", "ratios": {"arctos again": none, "metrics": cost}, "left out": {}, "sink": {"lines": 1}},
        "routes": {name: {"over": base, "ratios": {f"{base}: x": cost}} for name, base in (("hello", "arctos"), ("flask", "F"))},
        "updates": {"arctos": {"inc": [50, 51]}},
    }
    table = report.costs(found, {"arctos": 9000.0, "metrics": 9004.4})
    assert cells(table)[2:] == [
        ["metrics", "arctos again", "arctos", "-500", "-500 to -500", "-5.0%", "+5.3%", ""],
        ["metrics", "metrics", "arctos", "+1000", "+1000 to +1000", "+10.0%", "-9.1%", "+4"],
        ["routes", "arctos: x", "arctos", "+1000", "+1000 to +1000", "+10.0%", "-9.1%", ""],
        ["routes", "F: x", "F", "+1000", "+1000 to +1000", "+10.0%", "-9.1%", ""],
    ]


def test_the_table_of_updates_has_a_row_for_each_client():
    table = report.updates({"arctos": {"inc": [40, 50, 60], "set": [30]}, "other": {"inc": [400, 500], "set": [300]}})
    assert cells(table) == [
        ["client", "inc, ns", "±", "set, ns", "±"],
        ["---", *["---:"] * 4],
        ["arctos", "50", "20%", "30", "0%"],
        ["other", "450", "11%", "300", "0%"],
    ]


# --- A short run ---


@pytest.mark.slow
def test_a_short_run_compares_everything_and_prints_one_table(place, monkeypatch, capsys):
    monkeypatch.setattr(bench_itself, "ROUNDS_AGAINST_ITSELF", 1)
    monkeypatch.setattr(bench_itself.shutil, "which", lambda _: None)  # no valgrind, which takes minutes
    monkeypatch.setattr(bench_updates, "UPDATES", 1000)
    arguments = SimpleNamespace(rounds=1, seconds=0.1, statsd_bjoern=None)
    found = bench_itself.compare_metrics(CPUS, arguments)
    printed = capsys.readouterr().out
    assert "Without" not in printed and " 0 failed" in printed
    rows = [row[1] for row in cells(printed.partition("What all of it costs a request")[2])]
    hello = [*names(bench_itself.access_logs("")), *names(bench_itself.routes()), *names(bench_itself.slow_requests())]
    flask = ["Flask again", "Flask: name_routes", "Flask: profile"]
    assert {"what", "metrics", "arctos again", "arctos: profile", *hello, *flask} <= set(rows)
    assert found["metrics"]["sink"]["datagrams"] > 0 and found["metrics"]["scrapes"]["good"] > 0
    assert [found["profile"][name]["profiles"] for name in ("hello", "flask")] == [1, 1]
    clients = ["arctos", "prometheus_client", "prometheus_client, multiprocess", "prometheus_client on arctos"]
    assert [name for name in found["updates"] if name != "datadog"] == clients
