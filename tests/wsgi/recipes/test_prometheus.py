"""prometheus_client: application metrics, summed over all workers."""

import os
import re
import signal

import pytest
import requests


def metric(server, name):
    return float(re.search(rf"^{name} (\S+)", requests.get(f"{server.url}/metrics").text, re.M)[1])


@pytest.fixture
def server(arctos_server):
    return arctos_server("prometheus_shop:app", workers=2, admin_bind="127.0.0.1:0")


def test_any_worker_answers_for_all_of_them_also_after_a_reload(server):
    for _ in range(10):
        requests.get(server.url)
    assert metric(server, "orders_total") == 10
    server.reload()
    requests.get(server.url)
    assert (metric(server, "orders_total"), metric(server, "ready")) == (11, 2)


def test_the_orders_of_a_killed_worker_remain(server):
    killed = int(requests.get(server.url).text)
    os.kill(killed, signal.SIGKILL)
    server.wait_for("worker.ready", count=3)
    assert (metric(server, "orders_total"), metric(server, "ready")) == (1, 2)
