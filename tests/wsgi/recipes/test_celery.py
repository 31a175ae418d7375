"""Celery beside arctos: a request enqueues a task, and a Celery worker, a service of its own, runs it."""

import os
import subprocess
import sys
import time

import pytest
import requests


@pytest.fixture
def queue(tmp_path, monkeypatch):
    for name in ("messages", "control", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SHOP_QUEUE", str(tmp_path))


@pytest.fixture
def celery_worker(queue):
    command = [sys.executable, "-m", "celery", "--app", "celery_shop:tasks", "worker", "--pool", "solo"]
    search = os.pathsep.join(sys.path)
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": search}, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def test_a_task_runs_in_the_worker_of_celery_whatever_arctos_does(arctos_server, celery_worker):
    server = arctos_server("celery_shop:app", workers=2, preload=True)
    order_id = requests.post(f"{server.url}/orders/green").text
    server.reload()
    while not (answer := requests.get(f"{server.url}/orders/{order_id}/result").text):
        time.sleep(0.05)
    assert answer == f"green tea by {celery_worker.pid}"
