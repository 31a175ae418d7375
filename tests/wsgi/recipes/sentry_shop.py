"""Sentry: the exceptions of requests arrive from the workers, also with --preload, and so do exceeded time limits."""

import os
import time

import sentry_sdk
from flask import Flask

sentry_sdk.init(os.environ.get("SENTRY_DSN"))  # at import time, which is fine with --preload

app = Flask(__name__)


@app.get("/broken")
def broken():
    raise LookupError(f"no tea in {os.getpid()}")


@app.get("/slow")
def slow():
    while True:
        time.sleep(0.01)
