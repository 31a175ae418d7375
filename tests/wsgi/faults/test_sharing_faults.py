"""Faults around kept connections that workers share: lost descriptors, workers that nobody replaces, early exits."""

import json
import os
import signal
from urllib.parse import quote

import pytest
from support.admin_client import ask
from support.server import WORKER_LEFT, WORKER_READY
from support.shared_connections import assert_ends_orderly
from support.waiting import wait_until
from support.wire import Ended

EXECUTES = """
import os
from urllib.parse import unquote

import plain
from counted import app as counted


def app(environ, start_response):
    if environ["PATH_INFO"] != "/run":
        return counted(environ, start_response)
    space = {**globals(), "start_response": start_response}
    exec(unquote(environ["QUERY_STRING"]), space)
    return space["body"]
"""


@pytest.fixture
def executing(serve_sharing, tmp_path):
    """Starts servers whose application runs the code that it is sent."""
    (tmp_path / "executes.py").write_text(EXECUTES)
    return lambda *options, **more: serve_sharing("--pythonpath", tmp_path, *options, application="executes:app", **more)


def run(code):
    """Returns the target of a request that runs this code."""
    return f"/run?{quote(code)}"


# --- Groups without workers ---


def test_a_reload_to_sticky_ends_connections_that_nobody_would_serve(serve_sharing, tmp_path):
    config = tmp_path / "arctos.toml"
    config.write_text('keepalive-mode = "shared"\n')
    sharing = serve_sharing("--config", config, workers=2, mode=None)
    pool = sharing.pool(6) + sharing.silent_pool(2)
    config.write_text('keepalive-mode = "sticky"\n')
    since = sharing.server.position()
    sharing.server.send(signal.SIGHUP)
    sharing.server.wait_for(WORKER_LEFT, count=2, since=since)
    for wire in pool:
        assert_ends_orderly(wire)
    assert sharing.worker_of(sharing.connect()) in sharing.server.worker_pids()
    sharing.wait_for_shared(0, being_served=1)


def test_connections_of_a_group_without_workers_end(serve_sharing):
    sharing = serve_sharing(workers=9)  # two groups
    pool = sharing.pool(40)
    for left in range(1, 9):
        since = sharing.server.position()
        sharing.server.send(signal.SIGTTOU)
        sharing.server.wait_for(WORKER_LEFT, since=since)
    ended = 0
    for wire in pool:
        try:
            sharing.worker_of(wire)
        except (Ended, OSError):
            ended += 1
    assert 0 < ended < 40


# --- Early exits ---


def test_a_worker_that_stops_quickly_takes_no_request_of_the_others(executing):
    sharing = executing(workers=2)
    reader, *pool = sharing.pool(9)
    reader.get(run("start_response('200 OK', [('Content-Length', '50000000')])\nbody = [b'x' * 50000000]"))
    reader.more()  # and no more: its worker has to wait
    sharing.wait_for_shared(8, being_served=1)
    workers = json.loads(ask(sharing.admin, "/status").body)["workers"]
    (exiting,) = [worker["pid"] for worker in workers if worker["connections_open"]]
    os.kill(exiting, signal.SIGINT)
    for _ in range(20):
        for wire in pool:
            wire.get(sharing.named("/slow?ms=0"))
        for wire in pool:
            wire.response()
    assert os.path.exists(f"/proc/{exiting}")
    reader.socket.close()
    sharing.server.wait_for(WORKER_LEFT, pid=exiting)
    for wire in pool:
        sharing.worker_of(wire)
    sharing.assert_each_executed_once()
