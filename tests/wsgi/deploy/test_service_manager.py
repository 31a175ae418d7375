"""Notifications to systemd, received by a socket in its place: sd_notify(3), sd_watchdog_enabled(3)."""

import os
import signal
import sys
import time

import pytest
from support.server import SERVER_READY, WORKER_READY, Server

NOT_KEPT = "watchdog.not_kept"
ALIVE = {"WATCHDOG": "1"}
# The shell becomes the server, so it knows the pid of the server beforehand.
MEANT = ["sh", "-c", 'WATCHDOG_PID=$$ exec "$@"', "sh", sys.executable, "-m", "arctos"]
OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")

ENVIRONMENT = """
import os, subprocess
AT_IMPORT = sorted(os.environ)

def app(environ, start_response):
    start_response("200 OK", [])
    inherited = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    return ["\\n".join([*AT_IMPORT, *os.environ, *inherited.splitlines()]).encode()]
"""


def notification(inbox):
    """Receives the next notification, as a dict."""
    return dict(line.split("=", 1) for line in inbox.receive().splitlines())


def until(inbox, state):
    """Receives all notifications up to this state."""
    received = [notification(inbox)]
    while state not in received[-1]:
        received.append(notification(inbox))
    return received


def test_ready_reloading_and_stopping_are_sent_with_a_status(serve, inbox):
    server = serve("plain:app", workers=2, env={"NOTIFY_SOCKET": inbox.path})
    assert notification(inbox) == {"READY": "1", "STATUS": "Serving"}
    before_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    server.send(signal.SIGHUP)
    reloading = notification(inbox)
    # Type=notify-reload of systemd 253 waits for it, and accepts none that is older than its signal.
    assert before_usec <= int(reloading.pop("MONOTONIC_USEC")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert reloading == {"RELOADING": "1", "STATUS": "Reloading"}
    assert notification(inbox) == {"READY": "1", "STATUS": "Serving"}
    server.stop()
    stopping = notification(inbox)
    assert 25_000_000 <= int(stopping.pop("EXTEND_TIMEOUT_USEC")) <= 30_000_000
    assert stopping == {"STOPPING": "1", "STATUS": "Stopping"}
    assert not inbox.has_more()


def test_a_failed_reload_is_reported_as_finished(serve, inbox, tmp_path):
    code = tmp_path / "shop.py"
    code.write_text("def app(environ, start_response): ...\n")
    server = serve("shop:app", cwd=tmp_path, env={"NOTIFY_SOCKET": inbox.path})
    notification(inbox)
    code.write_text("1 / 0\n")
    server.send(signal.SIGHUP)
    assert notification(inbox)["RELOADING"] == "1"
    after = notification(inbox)
    assert after.pop("READY") == "1" and "failed" in after["STATUS"]


def test_the_watchdog_is_notified_from_start_to_stop(serve, inbox):
    server = serve("plain:app", command=MEANT, env={"NOTIFY_SOCKET": inbox.path, "WATCHDOG_USEC": "100000"})
    assert notification(inbox) == ALIVE
    server.wait_for(SERVER_READY)
    received = [notification(inbox) for _ in range(10)]
    assert {"READY": "1", "STATUS": "Serving"} in received and received.count(ALIVE) >= 8
    for number, states in ((signal.SIGHUP, ("RELOADING", "READY")), (signal.SIGTERM, ("STOPPING",))):
        server.send(number)
        for state in states:
            until(inbox, state)
    assert server.wait() == 0


def test_the_watchdog_is_notified_while_no_worker_answers(serve, inbox):
    server = serve("plain:app", env={"NOTIFY_SOCKET": inbox.path, "WATCHDOG_USEC": "100000"})
    (worker,) = server.worker_pids()
    until(inbox, "READY")
    os.kill(worker, signal.SIGSTOP)
    while inbox.has_more():
        notification(inbox)
    assert [notification(inbox) for _ in range(5)] == [ALIVE] * 5
    os.kill(worker, signal.SIGKILL)
    server.wait_for(WORKER_READY, count=2)


def test_a_watchdog_of_another_process_is_not_notified(inbox):
    env = {"NOTIFY_SOCKET": inbox.path, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    with Server("plain:app", env=env) as server:
        server.stop()
    assert [sorted(one)[-1] for one in (notification(inbox), notification(inbox))] == ["STATUS", "STOPPING"]
    assert not inbox.has_more()


@pytest.mark.parametrize(("name", "value"), [("WATCHDOG_USEC", "30s"), ("WATCHDOG_USEC", "0"), ("WATCHDOG_PID", "me")])
def test_an_invalid_watchdog_interval_is_a_warning_with_its_value(serve, inbox, name, value):
    env = {"NOTIFY_SOCKET": inbox.path, "WATCHDOG_USEC": "100000", name: value}
    server = serve("plain:app", env=env)
    (line,) = server.events(NOT_KEPT)
    assert line.level == "WARNING" and f"{name}='{value}'" in line.pairs["reason"]
    assert notification(inbox)["READY"] == "1"


def test_the_application_inherits_no_variable_of_the_service_manager(serve, inbox, tmp_path, connect):
    (tmp_path / "shop.py").write_text(ENVIRONMENT)
    env = {"NOTIFY_SOCKET": inbox.path, "WATCHDOG_USEC": "5000000", "LISTEN_FDS": "0", "LISTEN_FDNAMES": "a"}
    server = serve("shop:app", command=MEANT, cwd=tmp_path, env=env)
    found = connect(server).get("/").response().body.decode()
    assert "PATH" in found
    assert [name for name in OURS if name in found] == []
