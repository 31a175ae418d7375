"""Celery beside arctos: a request enqueues a task, and a Celery worker, a service of its own, runs it."""

import os
from pathlib import Path

import celery
from flask import Flask

directory = Path(os.environ.get("SHOP_QUEUE", "queue"))
tasks = celery.Celery(__name__, broker="filesystem://", backend=f"file://{directory}/results")
tasks.conf.broker_transport_options = {
    "data_folder_in": directory / "messages",
    "data_folder_out": directory / "messages",
    "control_folder": directory / "control",
}


@tasks.task
def brew(tea):
    return f"{tea} tea by {os.getpid()}"


app = Flask(__name__)


@app.post("/orders/<tea>")
def order(tea):
    return brew.delay(tea).id  # at once: never wait for a task in a request


@app.get("/orders/<order_id>/result")
def result(order_id):
    return brew.AsyncResult(order_id).result or ""
