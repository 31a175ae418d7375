"""prometheus_client: application metrics, summed over all workers."""

import os

from arctos.metrics import prometheus
from prometheus_client import CollectorRegistry, Counter, Gauge, make_wsgi_app

prometheus.install()

orders = Counter("orders", "Orders so far")
ready = Gauge("ready", "Workers that are ready", multiprocess_mode="sum")
ready.set(1)

everything = CollectorRegistry()
prometheus.ServerCollector(everything)
metrics = make_wsgi_app(everything)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/metrics":
        return metrics(environ, start_response)
    orders.inc()
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]
