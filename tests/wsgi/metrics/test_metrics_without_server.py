"""arctos.metrics in programs that have no server, and in those that become one."""

import os
import subprocess
import sys

import pytest
from support.server import PATIENCE_S

PROGRAM = """
import os, sys, time
from arctos import metrics

ORDERS = metrics.counter("orders.placed", "Orders placed", tags=("channel",))
WAITING = metrics.gauge("jobs.waiting", "Jobs that wait")
TOOK = metrics.distribution("took", "How long it took")
ORDERS.inc(2, channel="web")
{before}
ORDERS.inc(0.5, channel="app")
WAITING.set(7)
TOOK.observe(3)
{after}
"""


def run(directory, *, before="", after="", **environment):
    """Runs the program, and returns its exit status and what it wrote to standard error."""
    return run_code(directory, PROGRAM.format(before=before, after=after), **environment)


def run_code(directory, code, **environment):
    """Runs another program."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ARCTOS_")}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return ended.returncode, ended.stderr


def sums(sink):
    """Closes the sink, and returns the sums of the program's metrics."""
    sink.close()

    def look(received):
        counter = received._captured.get_count("arctos.orders.placed", tags={})
        return counter.total(), received.gauge("jobs.waiting"), received.spread("took")[0]

    return sink.check().look(look)


def test_without_a_server_updates_go_nowhere(sink, tmp_path):
    assert run(tmp_path, ARCTOS_STATSD_HOST=sink.option) == (0, "")
    sink.close()
    assert sink.look(lambda received: received.datagrams) == []


def test_a_program_that_asks_for_it_sends_all_it_has_counted(sink, tmp_path):
    environment = {"ARCTOS_STATSD_HOST": sink.option, "ARCTOS_STATSD_FORMAT": "dogstatsd"}
    assert run(tmp_path, before="metrics.send(); metrics.send()", **environment) == (0, "")
    assert sums(sink) == (2.5, 7, 1)


def test_the_address_may_be_in_the_configuration_file(sink, tmp_path):
    (tmp_path / "arctos.toml").write_text(f'statsd-host = "{sink.option}"\nstatsd-interval = "100ms"\n')
    wait = "time.sleep(0.3)"
    assert run(tmp_path, before="metrics.send()", after=wait) == (0, "")
    sink.close()
    names = sink.look(lambda received: {metric.name for metric in received.metrics})
    assert {"arctos.orders.placed", "arctos.jobs.waiting"} <= names
    assert not any(name.startswith("arctos.worker") for name in names), names


@pytest.mark.parametrize(
    "environment, message",
    [
        ({}, "set ARCTOS_STATSD_HOST, or statsd-host in arctos.toml"),
        ({"ARCTOS_STATSD_HOST": "a:b"}, "ARCTOS_STATSD_HOST"),
        ({"ARCTOS_STATSD_HOST": "127.0.0.1", "ARCTOS_METRICS_SERIES": "0"}, "ARCTOS_METRICS_SERIES"),
    ],
)
def test_without_an_address_or_with_a_wrong_one_send_says_so(tmp_path, environment, message):
    status, error = run(tmp_path, before="metrics.send()", **environment)
    assert status == 1
    assert "ValueError" in error and message in error, error


def test_a_child_of_the_program_sends_nothing_twice(sink, tmp_path):
    after = "pid = os.fork()\nORDERS.inc(channel='child')\nif pid: os.waitpid(pid, 0)\n"
    environment = {"ARCTOS_STATSD_HOST": sink.option, "ARCTOS_STATSD_FORMAT": "dogstatsd"}
    status, _ = run(tmp_path, before="metrics.send()", after=after, **environment)
    assert status == 0
    total, *_ = sums(sink)
    assert total == 4.5  # Both processes count in the same memory, and the parent sends it.


def test_what_is_counted_after_send_is_sent_if_nothing_was_before(sink, tmp_path):
    environment = {"ARCTOS_STATSD_HOST": sink.option, "ARCTOS_STATSD_FORMAT": "dogstatsd"}
    code = "from arctos import metrics\norders = metrics.counter('orders.placed', 'Orders')\nmetrics.send()\norders.inc(3)\n"
    assert run_code(tmp_path, code, **environment) == (0, "")
    sink.close()
    assert sink.check().look(lambda received: received._captured.get_count("arctos.orders.placed", tags={})).total() == 3


def test_a_program_that_ends_while_its_metrics_are_sent_exits_cleanly(sink, tmp_path):
    environment = {"ARCTOS_STATSD_HOST": sink.option}
    code = "from arctos import metrics\nmetrics.send()\n"
    assert [run_code(tmp_path, code, **environment) for _ in range(20)] == [(0, "")] * 20


def test_children_that_send_each_send_their_own(sink, tmp_path):
    before = """
for _ in range(3):
    if os.fork() == 0:
        metrics.send()
        ORDERS.inc(10, channel="child")
        sys.exit()
for _ in range(3): os.wait()
sys.exit()
"""
    environment = {"ARCTOS_STATSD_HOST": sink.option, "ARCTOS_STATSD_FORMAT": "dogstatsd"}
    assert run(tmp_path, before=before, **environment) == (0, "")
    total, *_ = sums(sink)
    assert total == 30  # The parent, which sends nothing, has counted 2 before.


def test_an_embedded_server_begins_with_what_was_counted_before(sink, tmp_path):
    host, port = sink.option.rsplit(":", 1)
    after = f"""
import arctos, signal, threading
def app(environ, start_response): start_response("200 OK", []); return [b""]
threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,)).start()
try: arctos.run(app, "127.0.0.1", 0, statsd={{"enable": True, "host": "{host}", "port": {port}, "ns": "arctos"}})
except KeyboardInterrupt: pass
ORDERS.inc(100, channel="after")
"""
    status, error = run(tmp_path, after=after)
    assert status == 0, error
    sink.close()
    lines = sink.look(lambda received: {metric.name for metric in received.metrics})
    assert {"arctos.orders.placed.web", "arctos.orders.placed.app", "arctos.took.p50"} <= lines
    assert "arctos.orders.placed.after" not in lines


def test_embedded_servers_do_not_report_what_their_parent_counted(sink, tmp_path):
    host, port = sink.option.rsplit(":", 1)
    after = f"""
import arctos, signal, threading, urllib.request

def app(environ, start_response):
    ORDERS.inc(10, channel="web")
    start_response("200 OK", [])
    return [b""]

def request(url):
    urllib.request.urlopen(url).close()
    signal.raise_signal(signal.SIGINT)

for _ in range(3):
    if os.fork() == 0:
        address = arctos.listen(app, "127.0.0.1", 0).getsockname()
        threading.Thread(target=request, args=("http://%s:%d" % address,)).start()
        try: arctos.run(statsd={{"enable": True, "host": "{host}", "port": {port}, "ns": "arctos"}})
        except KeyboardInterrupt: pass
        os._exit(0)
for _ in range(3): assert os.wait()[1] == 0
"""
    assert run(tmp_path, after=after) == (0, "")
    sink.close()
    counts, waiting = sink.look(lambda received: (received.counts(), received.gauge("jobs.waiting")))
    # The parent has counted before, and reports to nobody.
    assert (counts["orders.placed.web"], counts["orders.placed.app"], waiting) == (30, 0, None)
