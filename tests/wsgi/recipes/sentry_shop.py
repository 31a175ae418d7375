"""Sentry: the exceptions of requests arrive from the workers, also with --preload, and so do exceeded time limits."""

import os
import time

import sentry_sdk
from flask import Flask

# At import time, which is fine with --preload. At its exit, a worker takes up to 10 s to send what is left.
sentry_sdk.init(os.environ.get("SENTRY_DSN"), shutdown_timeout=10)

app = Flask(__name__)


@app.get("/broken")
def broken():
    raise LookupError(f"no tea in {os.getpid()}")


@app.get("/slow")
def slow():
    while True:
        time.sleep(0.01)
