"""`scripts/bench latency`: its client, its statistics, its picture, and a short run. No timing is asserted."""

import json
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from xml.etree import ElementTree

import pytest
from support.server import PATIENCE_S, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

import bench_latency_report as report
from bench_arrivals import MIXES, Arrival, arrivals, rate_per_second, waiting_least
from bench_open_loop import CHOICES, Client, Malformed, Outcome, Response, complete
from bench_picture import PLOT, Axis, picture

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DELAY_S = 0.02


# --- Arrivals ---


@pytest.mark.parametrize("mix", MIXES)
def test_the_same_seed_gives_the_same_arrivals_at_the_wanted_load(mix):
    found = arrivals(mix, 0.75, 4, 100, seed=3)
    assert found == arrivals(mix, 0.75, 4, 100, seed=3)
    assert found != arrivals(mix, 0.75, 4, 100, seed=4)
    assert [arrival.at_s for arrival in found] == sorted(arrival.at_s for arrival in found)
    assert 0 < found[0].at_s and found[-1].at_s < 100
    assert len(found) == pytest.approx(100 * rate_per_second(mix, 0.75, 4), rel=0.05)
    assert sum(arrival.service_us for arrival in found) / 1e6 / 4 / 100 == pytest.approx(0.75, rel=0.1)


def test_the_ideal_server_lets_requests_wait_while_all_workers_are_busy():
    due = [Arrival(0.0, 100_000), Arrival(0.0, 30_000), Arrival(0.01, 50_000), Arrival(0.5, 1000)]
    assert waiting_least(due, 2) == pytest.approx([0.1, 0.03, 0.07, 0.001])
    assert waiting_least(due, 3) == pytest.approx([0.1, 0.03, 0.05, 0.001])


# --- The client ---


@contextmanager
def serving(answer):
    """Accepts connections, each in a thread that calls `answer(connection, path)` for each request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(connection):
            with connection:
                while request := connection.recv(65536):
                    if not answer(connection, request.split(b" ")[1]):
                        return

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=[connection], daemon=True).start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join()


def slowly(connection, _path):
    time.sleep(DELAY_S)
    connection.sendall(ANSWER)
    return True


@pytest.mark.parametrize("choice", CHOICES)
def test_a_request_waits_for_a_connection_and_its_latency_says_so(choice):
    with serving(slowly) as port:
        client = Client(port, [Arrival(0.0, 0)] * 6, pool=2, choice=choice)
        outcomes = client.run()
    assert [outcome.loss for outcome in outcomes] == [None] * 6
    # Each of two connections carries three requests, one after the other.
    latencies = sorted(outcome.latency_s for outcome in outcomes)
    assert all(latency >= (1 + number // 2) * DELAY_S for number, latency in enumerate(latencies))
    assert client.closed_by_server == 0


def test_new_connections_wait_for_none():
    seen = []

    def note(connection, path):
        seen.append(connection)
        while len(seen) < 5 and time.monotonic() < until:
            time.sleep(0.001)
        return slowly(connection, path)

    until = time.monotonic() + PATIENCE_S
    with serving(note) as port:
        outcomes = Client(port, [Arrival(0.001 * number, 0) for number in range(5)]).run()
    assert [outcome.loss for outcome in outcomes] == [None] * 5
    assert len(set(map(id, seen))) == 5


def test_what_has_no_response_is_lost_and_not_repeated():
    seen = []

    def answer(connection, path):
        seen.append(path)
        if path.endswith(b"/1"):
            return False
        if path.endswith(b"/2"):
            connection.sendall(ANSWER[:-1])
            return False
        status = b"503 Service Unavailable" if path.endswith(b"/3") else b"200 OK"
        connection.sendall(ANSWER.replace(b"200 OK", status))
        return True

    due = [Arrival(0.01 * number, number % 4) for number in range(8)]
    for pool in (1, None):
        seen.clear()
        with serving(answer) as port:
            outcomes = Client(port, due, pool).run()
        assert [outcome.loss for outcome in outcomes] == [None, "closed", "closed", "status 503"] * 2
        assert [outcome.latency_s is None for outcome in outcomes] == [False, True, True, True] * 2
        assert len(seen) == 8


def test_a_server_that_is_gone_loses_all_requests():
    with serving(slowly) as port:
        pass
    for pool in (2, None):
        outcomes = Client(port, [Arrival(0.0, 0)] * 4, pool).run()
        assert [outcome.loss for outcome in outcomes] == ["ECONNREFUSED"] * 4


def test_an_idle_connection_that_the_server_closes_costs_no_request():
    may_close = threading.Event()

    def answer(connection, path):
        connection.sendall(ANSWER)
        may_close.wait(PATIENCE_S)
        return False

    with serving(answer) as port, closing(Client(port, [Arrival(0.0, 0)], pool=1)) as client:
        client.begun = time.perf_counter()
        client.send_all()
        client.drain()
        assert len(client.idle) == 1
        may_close.set()
        while client.connections:
            client.turn(PATIENCE_S)
    assert (client.idle, client.losses, client.closed_by_server) == ([], {}, 1)


def test_a_response_is_read_as_a_whole():
    for end in range(len(ANSWER)):
        assert complete(ANSWER[:end]) is None
    assert complete(ANSWER) == Response(200, closes=False)
    assert complete(ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: Close\r\n\r\n")).closes
    assert complete(ANSWER.replace(b"1.1", b"1.0")).closes
    kept = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    assert not complete(kept.replace(b"1.1 ", b"1.0 ")).closes
    for wrong in (ANSWER + b"x", ANSWER.replace(b"Length", b"Type"), b"nonsense\r\n\r\n"):
        with pytest.raises(Malformed):
            complete(wrong)


# --- Statistics ---


def test_a_percentile_is_the_smallest_value_that_few_enough_exceed():
    hundred = list(range(1, 101))
    assert [report.percentile(hundred, percent) for percent in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert [report.percentile([1, 2, 3, 4], percent) for percent in (25, 26, 50, 90)] == [1, 2, 2, 4]
    assert report.percentile([7], 50) == report.percentile([7], 99) == 7
    assert report.percentile(list(range(1, 701)), 99) == 693  # 0.99 * 700 is more than 693 in floating point


def test_the_warm_up_and_lost_requests_are_in_no_percentile():
    outcomes = [
        Outcome(0.5, 1000, 0.0, 9.0, None),  # in the warm-up
        Outcome(1.0, 1000, 0.001, 0.002, None),
        Outcome(1.5, 100_000, 0.0, 0.1, None),
        Outcome(2.5, 1000, 0.0, None, "closed"),
    ]
    found = report.measured("short-long", outcomes, warm_up_s=1, seconds=2)
    assert (found["requests"], found["lost"], found["losses"]) == (3, 1, {"closed": 1})
    assert (found["all"]["p50"], found["all"]["max"], found["short"]["max"]) == (2, 100, 2)
    assert (found["arrivals per second"], found["late max"]) == (1.5, 1)
    assert found["latencies_us"] == [2000, None]
    nothing = report.measured("exponential", [], 1, 2)
    assert (nothing["requests"], nothing["all"]) == (0, {})


def test_a_client_that_cannot_keep_up_shows_in_its_arrivals():
    outcomes = [Outcome(0.1 * number, 1000, 0.1 * number, 1.0, None) for number in range(10)]
    found = report.measured("short-long", outcomes, 0, 1)
    assert found["due per second"] == 10
    assert found["arrivals per second"] == pytest.approx(10 / 1.8)
    assert "(late)" in report.table([cell("arctos-shared", "new", 1, **found)])


def cell(server, connections, p90, mix="short-long", **more):
    times = {"p50": p90 / 2, "p90": p90, "p99": p90 * 2, "max": p90 * 3}
    counts = {"requests": 10, "arrivals per second": 5.0, "late p99": 0.1, "lost": 0, "losses": {}, "latencies_us": []}
    return {
        "mix": mix,
        "load": 0.5,
        "server": server,
        "connections": connections,
        "all": times,
        "short": times,
        **counts,
        **more,
    }


CELLS = [
    cell("arctos-shared", "16", 2.2),
    cell("arctos-shared", "64", 2.4),
    cell("arctos-shared", "new", 2.0),
    cell("nginx/arctos-sticky", "16", 100, lost=3, losses={"status 502": 2, "closed": 1}),
    cell("nginx/arctos-sticky", "new", 2.0),
    cell("gunicorn", "16", 1.0, mix="exponential", short={}),
    cell("gunicorn", "new", 2.0, mix="exponential", short={}),
    cell("granian", "16", 1.0, all={}, short={}, lost=10, losses={"closed": 10}),
    cell("ideal", "new", 1.5),
]
report.compare(CELLS)


def test_the_table_has_a_row_for_each_cell_and_a_ratio_to_new_ones():
    rows = [[word.strip() for word in line.split("|")[1:-1]] for line in report.table(CELLS).splitlines()]
    assert len({len(line) for line in report.table(CELLS).splitlines()}) == 1
    assert rows[0][-4:] == ["lost", "p90, 1 ms", "x new", "95 %"]
    assert [row[2:4] + row[-4:-1] for row in rows[2:]] == [
        ["arctos-shared", "16", "0", "2.2", "1.10"],
        ["arctos-shared", "64", "0", "2.4", "1.20"],
        ["arctos-shared", "new", "0", "2", "–"],
        ["nginx/arctos-sticky", "16", "3", "100", "50.00"],
        ["nginx/arctos-sticky", "new", "0", "2", "–"],
        ["gunicorn", "16", "0", "–", "0.50"],
        ["gunicorn", "new", "0", "–", "–"],
        ["granian", "16", "10", "–", "–"],
        ["ideal", "new", "0", "1.5", "–"],
    ]
    assert (rows[2][-1], rows[4][-1]) == ("1.10–1.10", "–")
    assert "`ideal` is computed" in report.legend(CELLS) and "`ideal`" not in report.legend(CELLS[:5])
    assert "lost 2 x status 502, 1 x closed" in report.legend(CELLS)


def test_the_verdict_names_the_worst_cell_of_each_arctos():
    _, *lines = report.verdicts(CELLS).splitlines()
    assert lines == [
        "- arctos-shared: at most 1.20 x (load 50%, 64 connections; 95 %: 1.20 to 1.20): 1.2 x holds",
        "- nginx/arctos-sticky: at most 50.00 x (load 50%, 16 connections; 95 %: 50.00 to 50.00): 1.2 x does not hold",
    ]
    assert report.verdicts([]) == report.verdicts(CELLS[2:3]) == ""


def test_the_interval_of_a_ratio_is_narrow_only_if_the_cells_vary_alike():
    draw = random.Random(5)
    base = [round(draw.expovariate(1 / 10_000)) for _ in range(3000)]
    alike = [latency_us * 2 for latency_us in base]
    other = [round(draw.expovariate(1 / 20_000)) for _ in range(3000)]
    new, kept, unlike = (
        cell("arctos-auto", kind, report.percentile(sorted(found), 90) / 1e3, latencies_us=found)
        for kind, found in (("new", base), ("16", alike), ("64", other))
    )
    report.compare([new, kept, unlike])
    assert "x new" not in new
    assert kept["x new"] == pytest.approx({"ratio": 2, "low": 2, "high": 2}, rel=0.001)
    found = unlike["x new"]
    assert 1.6 < found["low"] < found["ratio"] < found["high"] < 2.5
    # A lost request has no latency, but keeps its place, so that the blocks of both cells are of the same arrivals.
    some_lost = [None if number % 7 == 0 else latency_us for number, latency_us in enumerate(alike)]
    lossy = cell("arctos-auto", "16", 20, latencies_us=some_lost)
    report.compare([new, lossy])
    assert lossy["x new"]["low"] == pytest.approx(2, rel=0.1)


# --- The picture ---


def test_the_picture_is_well_formed_and_names_every_server():
    drawn = ElementTree.fromstring(picture(CELLS, "a <fast> & quiet machine"))
    texts = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <fast> & quiet machine", "3 lost", "10 lost", "latency in ms", "100"} <= set(texts)
    assert {one["server"] for one in CELLS} <= set(texts)
    assert {"16 kept connections", "64 kept connections", "new connections"} <= set(texts)
    width, height = float(drawn.get("width")), float(drawn.get("height"))
    for element in drawn.iter():
        xs = [float(element.get(key)) for key in ("x", "x1", "x2", "cx") if element.get(key)]
        ys = [float(element.get(key)) for key in ("y", "y1", "y2", "cy") if element.get(key)]
        assert all(0 <= x <= width for x in xs) and all(0 <= y <= height for y in ys)
    # Of eight cells with responses, and of three explanations.
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}circle"))) == 8 + 3


def test_the_axis_begins_and_ends_at_a_tick_around_all_values():
    assert Axis([3, 40], 0).ticks == [2, 5, 10, 20, 50]
    assert Axis([0.9999, 100.2], 0).ticks == [1, 2, 5, 10, 20, 50, 100]
    assert Axis([7], 0).ticks == Axis([5, 10], 0).ticks == [5, 10]
    assert Axis([10, 10], 0).ticks == [10, 20]
    axis = Axis([1, 100], 50)
    assert [axis.x(ms) for ms in (0.9999, 1, 10, 100)] == pytest.approx([50, 50, 50 + PLOT / 2, 50 + PLOT])


def test_a_picture_of_nothing_but_losses_is_well_formed():
    ElementTree.fromstring(picture(CELLS[-2:-1]))


# --- The script ---


def bench(*arguments):
    return subprocess.run(
        [sys.executable, ROOT / "scripts/bench", "latency", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
    )


def test_a_short_run_measures_arctos_alone_and_behind_proxies(tmp_path):
    proxies = [name for name in ("nginx", "haproxy") if shutil.which(name) or shutil.which(name, path="/usr/sbin")]
    servers = ["ideal", "arctos-auto", *(f"{proxy}/arctos-shared" for proxy in proxies)]
    files = ["--json", tmp_path / "found.json", "--picture", tmp_path / "found.svg"]
    tiny = "--mixes short-long --loads 0.5 --pools 2,new --workers 2 --seconds 0.5 --warm-up 0.2".split()
    ended = bench("--python", sys.executable, "--servers", ",".join(servers), *tiny, *files)
    assert ended.returncode == 0, ended.stderr
    cells = json.loads((tmp_path / "found.json").read_text())["cells"]
    assert [(one["server"], one["connections"]) for one in cells] == [
        ("ideal", "new"),
        *((server, connections) for server in servers[1:] for connections in ("2", "new")),
    ], ended.stderr
    assert all(one["requests"] > 10 and one["lost"] == 0 and one["all"]["max"] >= 1 for one in cells), cells
    assert len({one["requests"] for one in cells}) == 1
    assert "arctos-auto: at most" in ended.stdout
    drawn = (tmp_path / "found.svg").read_text()
    ElementTree.fromstring(drawn)

    (tmp_path / "found.svg").unlink()
    again = bench("--redraw", tmp_path / "found.json", *files)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == ended.stdout and (tmp_path / "found.svg").read_text() == drawn


@pytest.mark.parametrize(
    "words",
    [["--servers", "arctos-auto,nonsense"], ["--servers", "apache/gunicorn"], ["--loads", "1.5"], ["--pools", "0"]],
    ids=" ".join,
)
def test_a_wrong_argument_is_refused(words):
    ended = bench(*words)
    assert ended.returncode == 2
    assert words[0] in ended.stderr
