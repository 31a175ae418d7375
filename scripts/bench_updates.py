"""What one update of a metric costs in Python: arctos.metrics beside prometheus_client and Datadog's client.

Each client is measured in a process of its own, as a loop of updates without the loop's own cost: the median of several
rounds, in ns. prometheus_client is measured with its own values, with those of its multiprocess mode, and with those of
arctos.metrics.prometheus. Datadog's client sends to a socket that nobody reads."""

import json
import os
import statistics
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
import json, timeit
def cost(update):
    empty = min(timeit.repeat(lambda: None, number=UPDATES, repeat=ROUNDS))
    return [(round_s - empty) / UPDATES * 1e9 for round_s in timeit.repeat(update, number=UPDATES, repeat=ROUNDS)]
print(json.dumps({name: cost(update) for name, update in updates.items()}))
"""


def compare_updates(python, port):
    """Measures all clients with this Python, prints a table, and returns the medians in ns by client and update. Datadog's
    client sends to `port` of the loopback interface."""
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
            rounds = json.loads(ended.stdout)
            found[name] = {update: statistics.median(costs) for update, costs in rounds.items()}
    columns = list(next(iter(found.values()), {}))
    width = max(map(len, found), default=0)
    print(" " * width + "".join(f"{column:>15}" for column in columns) + "   (ns)")
    for name, costs in found.items():
        print(f"{name:<{width}}" + "".join(f"{costs[column]:>15.0f}" for column in columns))
    print()
    return found
