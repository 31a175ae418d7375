"""What one update of a metric costs in Python: arctos.metrics beside prometheus_client and Datadog's client.

Each client is measured in a process of its own, in several rounds: the CPU time of a loop of updates without that of the
loop itself. prometheus_client is measured with its own values, with those of its multiprocess mode, and with those of
arctos.metrics.prometheus."""

import json
import os
import subprocess
import sys
import tempfile

UPDATES = 200_000
ROUNDS = 7

# Each defines functions that take nothing and make one update; their names are the rows of the table.
CLIENTS = {
    "arctos": """
from arctos import metrics
counter, tagged = metrics.counter("bench.plain", "x"), metrics.counter("bench.tagged", "x", tags=("channel",))
gauge, distribution = metrics.gauge("bench.gauge", "x"), metrics.distribution("bench.values", "x")
updates = {"inc": lambda: counter.inc(), "inc, one tag": lambda: tagged.inc(channel="web"),
           "set": lambda: gauge.set(3.0), "observe": lambda: distribution.observe(0.25)}
""",
    "prometheus_client": """
import prometheus_client
counter = prometheus_client.Counter("bench_plain", "x")
tagged = prometheus_client.Counter("bench_tagged", "x", ["channel"])
gauge, histogram = prometheus_client.Gauge("bench_gauge", "x"), prometheus_client.Histogram("bench_values", "x")
updates = {"inc": lambda: counter.inc(), "inc, one tag": lambda: tagged.labels(channel="web").inc(),
           "set": lambda: gauge.set(3.0), "observe": lambda: histogram.observe(0.25)}
""",
    "datadog": """
from datadog.dogstatsd import DogStatsd
statsd = DogStatsd(host="127.0.0.1", port=PORT, disable_telemetry=True)
updates = {"inc": lambda: statsd.increment("bench.plain"),
           "inc, one tag": lambda: statsd.increment("bench.tagged", tags=["channel:web"]),
           "set": lambda: statsd.gauge("bench.gauge", 3.0),
           "observe": lambda: statsd.distribution("bench.values", 0.25)}
""",
}
MEASURE = """
import json, time, timeit
def times(update):
    return timeit.repeat(update, number=UPDATES, repeat=ROUNDS, timer=time.process_time)
def cost(update):
    empty = min(times(lambda: None))
    return [(cpu_s - empty) / UPDATES * 1e9 for cpu_s in times(update)]
print(json.dumps({name: cost(update) for name, update in updates.items()}))
"""


def measure_updates(python, port):
    """Measures all clients with this Python, and returns the rounds in ns by client and update. Datadog's client sends to
    `port` of the loopback interface."""
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, client, environment in [
            ("arctos", "arctos", {}),
            ("prometheus_client", "prometheus_client", {}),
            ("prometheus_client, multiprocess", "prometheus_client", {"PROMETHEUS_MULTIPROC_DIR": directory}),
            ("prometheus_client on arctos", "prometheus_client", {"ON_ARCTOS": "1"}),
            ("datadog", "datadog", {}),
        ]:
            first = "from arctos.metrics import prometheus; prometheus.install()\n" if "ON_ARCTOS" in environment else ""
            code = f"PORT, UPDATES, ROUNDS = {port}, {UPDATES}, {ROUNDS}\n{first}{CLIENTS[client]}{MEASURE}"
            ended = subprocess.run(
                [python, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
            )
            if ended.returncode:
                print(f"{name} is left out: {ended.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found[name] = json.loads(ended.stdout)
    return found
