"""prometheus_client in multiprocess mode: the application's own metrics, summed over all workers."""

import os
import re
import signal

import pytest
import requests


HOOKS = {
    "on_start": "prometheus_shop:begin",
    "worker_ready": "prometheus_shop:set_ready",
    "worker_exit": "prometheus_shop:forget",
}


def metric(server, name):
    return float(re.search(rf"^{name} (\S+)", requests.get(f"{server.url}/metrics").text, re.M)[1])


@pytest.fixture
def start(arctos_server, tmp_path):
    (tmp_path / "counter_1.db").write_bytes(b"of an earlier run")
    # prometheus_client reads the variable when it is imported, so the workers need it from their start.
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    return lambda **options: arctos_server("prometheus_shop:app", workers=2, env=environment, **{**HOOKS, **options})


def test_any_worker_answers_for_all_of_them_also_after_a_reload(start):
    server = start()
    for _ in range(10):
        requests.get(server.url)
    assert metric(server, "orders_total") == 10
    server.reload()
    requests.get(server.url)
    assert (metric(server, "orders_total"), metric(server, "ready")) == (11, 2)


def test_without_the_exit_hook_workers_that_have_ended_still_count(start):
    server = start(worker_exit=None)
    server.reload()
    assert metric(server, "ready") > 2


def test_a_killed_worker_is_forgotten_once_its_replacement_is_ready(start):
    server = start()
    killed = int(requests.get(server.url).text)
    os.kill(killed, signal.SIGKILL)
    server.wait_for("worker.ready", count=3)
    assert (metric(server, "orders_total"), metric(server, "ready")) == (1, 2)
