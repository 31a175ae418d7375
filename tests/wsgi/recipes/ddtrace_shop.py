"""Datadog's ddtrace: traces of the requests of every worker."""

import ddtrace
from flask import Flask

app = Flask(__name__)


@app.get("/<tea>")
def index(tea):
    with ddtrace.tracer.trace("brew", resource=tea):
        return tea
