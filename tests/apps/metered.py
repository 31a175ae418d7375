"""counted:app, which also counts each request in metrics of its own, before it may wait or be killed. The file
`$METERED_AS` can have the word `tiers`, which changes a definition."""

import os
from pathlib import Path

import counted
import plain
from arctos import metrics

HAS_TIERS = "METERED_AS" in os.environ and Path(os.environ["METERED_AS"]).read_text() == "tiers"

imports = metrics.counter("shop.imports", "Imports of the application")
orders = metrics.counter("shop.orders", "Orders", tags=("channel", "tier") if HAS_TIERS else ("channel",))
values = metrics.counter("shop.values", "Requests by a tag with too many values", tags=("value",))
sizes = metrics.distribution("shop.size", "Length of the query, in bytes")
running = metrics.gauge("shop.running", "Requests that are running")
lowest = metrics.gauge("shop.lowest", "The lowest pid", aggregation="min")
highest = metrics.gauge("shop.highest", "The highest pid", aggregation="max")
imports.inc()


def app(environ, start_response):
    """Counts, and answers as plain:app does. `/values?FIRST-END` counts with each of these values of a tag, and
    `/names?FIRST-END` in a metric for each of these numbers."""
    if environ["PATH_INFO"] in COUNTS:
        return count_each(COUNTS[environ["PATH_INFO"]], environ["QUERY_STRING"], start_response)
    os.write(counted.BEGUN, environ["QUERY_STRING"].encode() + b"\n")
    orders.inc(channel="web", **({"tier": "gold"} if HAS_TIERS else {}))
    sizes.observe(len(environ["QUERY_STRING"]))
    lowest.set(os.getpid())
    highest.set(os.getpid())
    running.inc()
    response = plain.app(environ, start_response)
    running.dec()
    return response


def count_each(count, numbers, start_response):
    """Counts once for each number."""
    begin, _, end = numbers.partition("-")
    for number in range(int(begin), int(end)):
        count(number)
    start_response("200 OK", [("Content-Length", "0")])
    return []


COUNTS = {
    "/values": lambda number: values.inc(value=number),
    "/names": lambda number: metrics.counter(f"shop.generated.{number}", "A metric of a generated name").inc(),
}
