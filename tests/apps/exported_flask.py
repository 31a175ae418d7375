"""Flask with prometheus_flask_exporter. Its metrics count in the server, unless SINGLE_PROCESS is set."""

import os

from flask import Flask, abort, request
from prometheus_flask_exporter import PrometheusMetrics

from arctos.metrics import prometheus

if "SINGLE_PROCESS" not in os.environ:
    prometheus.install()

app = Flask(__name__)
metrics = PrometheusMetrics(app, group_by="endpoint", default_labels={"shop": lambda: request.args.get("shop", "-")})
metrics.info("shop_info", "Version", version="1.2")


@app.get("/items/<int:number>")
@metrics.counter("shop_items", "Items shown", labels={"parity": lambda: request.view_args["number"] % 2})
@metrics.gauge("shop_running", "Requests that run", multiprocess_mode="sum")
@metrics.histogram("shop_length", "Duration of a view", labels={"status": lambda response: response.status_code})
def item(number):
    if number % 10 == 7:
        abort(404)
    return str(number)


@app.get("/fail")
def fail():
    raise RuntimeError("as it should")
