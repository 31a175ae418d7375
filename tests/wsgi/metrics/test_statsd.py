"""Metrics as a statsd daemon receives them: lines, datagrams, and daemons that are absent or do not read."""

import re
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.counters import check_invariants
from support.server import MANUAL
from support.statsd_sink import DOGSTATSD, fill, finish
from support.traffic import kill_in_request, traffic
from support.wire import Wire

OFTEN = ("--statsd-interval", "200ms")
PLAIN = (*OFTEN, "--statsd-format", "plain")
PERCENTILES = ("p50", "p90", "p99", "max")
# Gauges of the server and of each worker. A server with only unix listeners has no backlog.
SERVER_GAUGES = (
    *("workers.target", "workers.ready", "workers.busy", "workers.utilization"),
    *("backlog.len", "backlog.max", "conn.shared"),
)
WORKER_GAUGES = ("conn.open", "worker.rss", "worker.pss", "worker.private")
# Gauges of the cgroup, which not every machine has.
MEMORY_GAUGES = ("memory.limit", "memory.used", "memory.working_set")


def ask(server, requests, path="/", connections=1):
    """Sends requests on some connections, each of which must be answered."""
    for _ in range(connections):
        with Wire(("127.0.0.1", server.port)) as wire:
            for _ in range(requests):
                assert wire.get(path).response().status == 200


# --- Lines ---


@pytest.mark.smoke
def test_each_line_of_a_worker_has_its_number_the_zone_and_the_static_tags(serve, sink):
    tags = ("--zone", "central-europe", "--dogstatsd-tags", "app:shop,canary")
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, *tags, workers=2)
    ask(server, 3, connections=4)
    # The last flush may be the only one, and no worker is left then that has gauges.
    sink.wait_for(lambda received: received.tag_values("worker") == ["0", "1"])
    received = finish(server, sink)
    static = {"zone:central-europe", "app:shop", "canary"}
    for metric in received.metrics:
        assert static <= metric.tags, metric
        name = metric.name.removeprefix("arctos.")
        assert name not in SERVER_GAUGES + MEMORY_GAUGES or metric.tags == static, metric
        assert name not in WORKER_GAUGES or "worker" in metric.tags.keys(), metric
    sums = [received.count("req.done", worker=slot) for slot in (0, 1)]
    assert sum(sums) == received.count("req.done") == 12
    for slot in (0, 1):
        check_invariants(received.counts(worker=slot))


def test_without_tags_only_statuses_are_marked_and_gauges_are_sums(serve, sink, connect):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, "--statsd-worker-tag", "off", workers=2)
    ask(server, 3, connections=4)
    for _ in range(5):
        connect(server)
    sink.wait_for(lambda received: received.gauge("conn.open") == 5)
    received = finish(server, sink)
    sent = Counter(metric.name for metric in received.metrics)
    assert sent["arctos.conn.open"] <= sent["arctos.workers.target"]
    by_status = {"arctos.request.count", "arctos.request.duration"}
    for metric in received.metrics:
        assert metric.tags == ({"status:2xx"} if metric.name in by_status else None), metric
    assert received.count("req.done") == 12


def test_a_counter_is_sent_when_it_rose_and_a_gauge_with_every_flush(serve, sink):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)

    def flushes(received):
        return sum(metric.name == "arctos.workers.target" for metric in received.metrics)

    ask(server, 5)
    sink.wait_for(lambda received: received.count("req.done") == 5)
    quiet = sink.look(flushes)
    sink.wait_for(lambda received: flushes(received) >= quiet + 3)
    received = finish(server, sink)
    values = [int(value) for metric in received.metrics if metric.type == "c" for value in metric.values]
    assert min(values) > 0
    assert received.count("req.done") == 5
    gauges = {metric.name.removeprefix("arctos.") for metric in received.metrics if metric.type == "g"}
    assert gauges - set(MEMORY_GAUGES) == set(SERVER_GAUGES + WORKER_GAUGES)


def test_gauges_show_the_workers_and_what_they_hold(serve, sink, connect):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)
    connect(server)
    connect(server)
    sink.wait_for(lambda received: received.gauge("workers.ready") == received.gauge("workers.target") == 2)
    sink.wait_for(lambda received: sum(received.gauge("conn.open", worker=slot) or 0 for slot in (0, 1)) == 2)
    assert sink.look(lambda received: received.gauge("worker.rss", worker=0)) > 1 << 20
    assert sink.look(lambda received: received.gauge("backlog.max")) > 0
    assert sink.look(lambda received: received.gauge("backlog.len")) == 0


def test_there_are_as_many_durations_as_requests(serve, sink):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD)
    ask(server, 300, connections=2)
    ask(server, 5, path="/slow?ms=40")
    received = finish(server, sink)
    durations, _ = received.spread("request.duration")
    assert durations == received.count("resp.done") == 605
    # A value is exact to 1/16.
    slow = sum(
        1 / (metric.sample_rate or 1)
        for metric in received.metrics
        if metric.name == "arctos.request.duration"
        for value in metric.values
        if float(value) >= 38
    )
    assert 5 <= slow < durations


def test_the_wait_of_each_connection_is_sent(serve, sink):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)
    ask(server, 2, connections=9)
    received = finish(server, sink)
    assert received.spread("queue.wait")[0] == received.count("conn.accept.success") == 9


def test_the_restart_of_a_worker_has_its_reason(serve, sink):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD)
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get("/hard-exit").to_end()
    server.wait_for("worker.ready", 2)
    received = finish(server, sink)
    assert received.count("worker.restarts", reason="exit") == received.count("worker.restarts") == 1
    assert received.count("req.killed") == 1


def test_each_metric_sent_is_in_the_readme_with_its_kind_and_tags(serve, sink, journal, make_gate, inbox):
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2, env=journal.environment)
    ask(server, 2)
    ask(server, 1, path="/file?bytes=10000")
    kill_in_request(server, journal, make_gate(), inbox)
    server.wait_for("worker.ready", 3)
    sink.wait_for(lambda received: received.count("worker.restarts") == 1)
    received = finish(server, sink)
    table = guide_table()
    for metric in received.metrics:
        kind, tags = table[metric.name.removeprefix("arctos.")]
        assert KINDS[metric.type] == kind, metric
        assert set(metric.tags.keys() if metric.tags else ()) == tags, metric


KINDS = {"c": "counter", "g": "gauge", "d": "distribution"}


def guide_table():
    """Returns the kind and the tags of each metric in the guide."""
    text = MANUAL
    rows = text.partition("<!-- metrics:begin -->")[2].partition("<!-- metrics:end -->")[0]
    found = {}
    for row in re.finditer(r"^\| `([a-z0-9_.]+)` \| ([a-z]+) \| ([^|]*) \|", rows, re.M):
        tags = {tag.split(":")[0].strip() for tag in row[3].split(";")} - {"", "none for the supervisor's"}
        found[row[1]] = (row[2], tags)
    return found


def test_prometheus_shows_the_values_that_statsd_was_sent(serve, sink, tmp_path):
    path = f"{tmp_path}/admin"
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, "--admin-bind", f"unix:{path}", workers=2)
    ask(server, 5, connections=4)
    ask(server, 1, path="/file?bytes=10000")
    # The server has closed the connections too, and nothing more can be counted.
    sink.wait_for(lambda received: received.count("conn.close.idle") == 5)
    with Wire(path) as wire:
        page = wire.get("/metrics").response().body.decode()
    shown, histograms = Counter(), Counter()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if family.type == "counter":
                shown[family.name, sample.labels.get("worker")] += int(sample.value)
            elif sample.name.endswith("_count"):
                histograms[family.name] += sample.value
    received = finish(server, sink)
    for slot in ("0", "1"):
        sent = {f"arctos_{name.replace('.', '_')}": count for name, count in received.counts(worker=slot).items()}
        assert sent == {name: count for (name, worker), count in (+shown).items() if worker == slot}
    assert histograms["arctos_request_duration_seconds"] == received.spread("request.duration")[0] == 21
    assert histograms["arctos_queue_wait_seconds"] == received.spread("queue.wait")[0]


# --- Names and tags from outside ---


def test_a_long_prefix_stands_before_every_name(serve, make_sink):
    prefix = "shop." + 85 * "x"
    sink = make_sink(prefix=prefix)
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, "--statsd-prefix", prefix)
    ask(server, 2)
    received = finish(server, sink)
    assert all(metric.name.startswith(f"{prefix}.") for metric in received.metrics)
    assert received.count("req.done") == 2


def test_an_empty_prefix_leaves_names_alone(serve, make_sink):
    sink = make_sink(prefix="")
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, "--statsd-prefix", "")
    ask(server, 2)
    assert finish(server, sink).count("req.done") == 2


@pytest.mark.parametrize("hostile", ["a|c\nevil:1|c", "a,b#c:1|c|#d", "\t a\r\nb\x7f", "zürich.中"])
def test_a_hostile_value_neither_makes_a_metric_nor_a_tag(serve, make_sink, hostile):
    sink = make_sink(prefix="")
    options = ("--statsd-prefix", hostile, "--zone", hostile, "--dogstatsd-tags", f"app:{hostile},last:one")
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, *options)
    ask(server, 2)
    received = finish(server, sink)
    dones = [metric for metric in received.metrics if metric.name.endswith(".req.done")]
    assert sum(int(metric.values[0]) for metric in dones) == 2
    for metric in received.metrics:
        keys = {tag.partition(":")[0] for tag in metric.tags}
        of_commas = {"b_c"} if "," in hostile else set()  # in a list, a comma separates tags
        assert keys - {"worker", "reason", "status"} == {"zone", "app", "last"} | of_commas, metric
        assert metric.tags["last"] == {"one"}
        assert len(metric.tags["zone"]) == 1
    if hostile == "zürich.中":
        assert received.tag_values("zone") == [hostile]


# --- Datagrams ---


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_datagrams_are_full_of_lines_and_within_the_limit(serve, make_sink, tmp_path, kind):
    sink = make_sink(tmp_path / "socket" if kind == "unix" else None)
    tags = ",".join(f"tag-{number}:{20 * 'v'}" for number in range(24))
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, "--dogstatsd-tags", tags, workers=4)
    ask(server, 5, connections=8)
    ask(server, 3, path="/slow?ms=5")
    received = finish(server, sink)
    sizes = [len(datagram) for datagram in received.datagrams]
    # With tags of 700 bytes, most datagrams have no room for another line, and few are that short.
    assert max(sizes) > sink.limit_bytes - 900
    assert max(sizes) <= sink.limit_bytes
    assert len(received.metrics) / len(sizes) > (1.5 if kind == "udp" else 5)
    assert received.count("req.done") == 43


def test_one_datagram_carries_many_lines(serve, sink):
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)
    ask(server, 5, connections=8)
    received = finish(server, sink)
    assert len(received.metrics) > 8 * len(received.datagrams)
    assert not any(datagram.endswith(b"\n") for datagram in received.datagrams)


# --- Absent and stalled daemons ---


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_counts_made_while_the_daemon_was_away_are_not_lost(serve, make_sink, tmp_path, kind):
    sink = make_sink(tmp_path / "socket" if kind == "unix" else None)
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)
    ask(server, 5)
    sink.close()
    ask(server, 7, connections=3)
    server.wait_for("statsd.unreachable")  # a flush has failed
    ask(server, 4)
    sink.open()
    sink.wait_for(lambda received: received.count("req.done") == 30)
    finish(server, sink)


@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_the_last_flush_finds_a_daemon_that_was_restarted_just_before(serve, make_sink, tmp_path, kind):
    sink = make_sink(tmp_path / "socket" if kind == "unix" else None)
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2)
    ask(server, 5)
    sink.wait_for(lambda received: received.count("req.done") == 5)
    sink.close()
    ask(server, 1)
    sink.open()
    assert finish(server, sink).count("req.done") == 6


def test_a_daemon_that_comes_after_the_server_gets_all(serve, make_sink, tmp_path):
    sink = make_sink(tmp_path / "socket")
    sink.close()
    (tmp_path / "socket").unlink()
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD)
    ask(server, 7)
    server.wait_for("statsd.unreachable")
    sink.open()
    sink.wait_for(lambda received: received.count("req.done") == 7)
    finish(server, sink)


def test_a_daemon_that_does_not_read_delays_no_request(serve, make_sink, tmp_path):
    sink = make_sink(tmp_path / "socket")
    sink.close()
    sink.open(reading=False)
    fill(sink.path)
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD)
    ask(server, 400)
    server.wait_for("statsd.unreachable")
    ask(server, 400)
    sink.read()
    sink.wait_for(lambda received: received.count("req.done") == 800)
    ask(server, 10)
    assert finish(server, sink).count("req.done") == 810


def test_a_stop_does_not_wait_for_a_daemon_that_does_not_read(serve, make_sink, tmp_path):
    sink = make_sink(tmp_path / "socket")
    sink.close()
    sink.open(reading=False)
    fill(sink.path)
    server = serve("plain:app", "--statsd-host", sink.option, *DOGSTATSD)
    ask(server, 10)
    server.stop()
    assert server.events("statsd.last_flush_cut")


@pytest.mark.parametrize("target", ["statsd.invalid", "127.0.0.1:1", "unix:///nowhere/at/all", "[::1]:1"])
def test_an_absent_daemon_costs_no_request(serve, journal, target):
    server = serve("counted:app", "--statsd-host", target, *DOGSTATSD, workers=2, env=journal.environment)
    with traffic(server, journal=journal, clients=4):
        journal.wait_for_answers(200)
    assert journal.failed() == []
    server.stop()


def test_a_host_name_is_resolved(serve, sink):
    server = serve("plain:app", "--statsd-host", f"localhost:{sink.port}", *DOGSTATSD)
    ask(server, 7)
    sink.wait_for(lambda received: received.count("req.done") == 7)
    finish(server, sink)


# --- Plain statsd: Etsy's daemon ---


def test_etsys_statsd_adds_up_to_what_the_clients_counted(serve, etsy, journal):
    server = serve("counted:app", "--statsd-host", etsy.option, *PLAIN, workers=2, env=journal.environment)
    with traffic(server, journal=journal) as clients:
        clients.wait_for_each(50)
    # The clients are idle: all counts have been sent, and only gauges can fall into the gap.
    etsy.wait_for(lambda: etsy.counters["arctos.req.done"] == len(journal.answered()))
    etsy.wait_for(lambda: etsy.counters["arctos.conn.close.idle"] == journal.left_open)
    etsy.stop()
    with traffic(server, journal=journal) as clients:
        clients.wait_for_each(20)
    etsy.start()
    with traffic(server, journal=journal) as clients:
        clients.wait_for_each(20)
    server.stop()
    etsy.drain().stop()
    assert journal.failed() == []
    assert etsy.count("arctos.conn.accept.success") == journal.connections
    assert etsy.count("arctos.req.done") == len(journal.answered())
    assert etsy.count("arctos.resp.done") == len(journal.answered())
    assert etsy.count("arctos.conn.close.idle") == journal.left_open
    assert etsy.count("statsd.bad_lines_seen") == 0
    ours = [name for name in etsy.counters | etsy.gauges if name.startswith("arctos.")]
    assert not any(";" in name or "=" in name for name in ours)
    check_invariants(Counter({name.removeprefix("arctos."): count for name, count in etsy.counters.items()}))
    found = [etsy.gauges[f"arctos.request.duration.{which}"] for which in PERCENTILES]
    assert found == sorted(found) and found[0] > 0
    assert etsy.gauges["arctos.workers.target"] == 2


def test_etsys_statsd_reads_the_counters_of_dogstatsd_too(serve, etsy):
    tags = ("--zone", "central", "--statsd-worker-tag", "off")
    server = serve("plain:app", "--statsd-host", etsy.option, *DOGSTATSD, *tags, workers=2)
    ask(server, 5, connections=4)
    server.stop()
    etsy.drain().stop()
    assert etsy.count("arctos.req.done;zone=central") == 20
