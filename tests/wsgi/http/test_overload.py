"""Requests that wait for a busy worker: too long (`--max-queue-time`), or while their client leaves; and `/readyz` meanwhile."""

import os
import signal
import socket
import time

import pytest
from support.admin_client import ask, status
from support.server import APPS, EXIT_USAGE, run
from support.waiting import wait_until
from support.wire import Wire

MAX_QUEUE_TIME_S = 2  # on a busy machine, a worker may need a moment to accept
TOO_LONG_S = 3
FIN_WAIT2 = 5  # tcp_info.tcpi_state of linux/tcp.h: the peer's kernel has acknowledged the end of the stream


class Held:
    """A server of one worker, which is in a request until the `with` block ends."""

    def __init__(self, server, gate, inbox):
        self.server, self.gate, self.inbox = server, gate, inbox
        self.wire = Wire(("127.0.0.1", server.port))

    def __enter__(self):
        self.wire.get(f"/gate?gate={self.gate.path}&notify={self.inbox.path}")
        self.inbox.receive()

    def __exit__(self, *_):
        self.gate.open()
        assert self.wire.response().status == 200
        self.wire.socket.close()


def overloaded(wire, method="GET"):
    """Receives the refusal, after which the connection is open."""
    answer = wire.response(method)
    assert (answer.status, answer.reason) == (503, "Service Unavailable")
    assert (answer.field("Retry-After"), answer.field("Connection")) == ("1", None)
    assert answer.body == (b"" if method == "HEAD" else b"503 Service Unavailable\n")
    assert wire.get("/hello").response().status == 200


@pytest.mark.smoke
def test_requests_that_wait_too_long_are_503_and_keep_their_connections(serve, connect, make_gate, inbox, tmp_path):
    gate, never, log = make_gate(), make_gate(), tmp_path / "access.log"
    options = ["--max-queue-time", MAX_QUEUE_TIME_S, "--access-logfile", log, "--body-memory", 1000]
    server = serve("plain:app", *options, workers=1)
    kept = connect(server)
    assert kept.get("/hello").response().status == 200
    with Held(server, gate, inbox):
        target = f"/gate?gate={never.path}&notify={inbox.path}"
        kept.get(target)
        new, posted, head = (connect(server) for _ in range(3))
        new.get(target)
        posted.send("POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        posted.send("4000\r\n" + "x" * 0x4000 + "\r\n0\r\n\r\n")  # goes to a file
        head.get("/hello", method="HEAD")
        time.sleep(TOO_LONG_S)  # the wait that is too long
    for wire in (kept, new, posted):
        overloaded(wire)
    overloaded(head, "HEAD")
    assert not inbox.has_more(), "no request that waited too long has reached the application"
    server.stop()
    refused = [line for line in log.read_text().splitlines() if line.endswith('"the request waited for too long"')]
    assert len(refused) == 4 and all(" 503 0 " in line for line in refused)
    logged = server.events("request.refused")
    assert {(line.level, line.pairs["status"], line.pairs["reason"]) for line in logged} == {
        ("INFO", "503", "the request waited for too long")
    }


def test_without_a_limit_a_request_may_wait_as_long_as_it_must(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    with Held(server, gate, inbox):
        waiting = connect(server).get("/hello")
        time.sleep(TOO_LONG_S)
    assert waiting.response().status == 200


def test_readyz_answers_while_requests_are_refused(serve, connect, gate, inbox, tmp_path):
    admin = str(tmp_path / "admin.sock")
    server = serve("plain:app", "--max-queue-time", MAX_QUEUE_TIME_S, "--admin-bind", f"unix:{admin}", workers=1)
    with Held(server, gate, inbox):
        waiting = connect(server).get("/hello")
        time.sleep(TOO_LONG_S)
        assert ask(admin, "/readyz").status == 200
    overloaded(waiting)


def readyz(admin):
    """The status and the reasons of `/readyz`."""
    answer = ask(admin, "/readyz")
    return answer.status, answer.body.decode().splitlines()


def test_readyz_is_503_from_a_long_backlog_until_half_of_it_is_gone(serve, connect, make_gate, inbox, tmp_path):
    admin = str(tmp_path / "admin.sock")
    server = serve("plain:app", "--admin-bind", f"unix:{admin}", "--ready-max-backlog", 4, workers=1)
    gates = [make_gate() for _ in range(6)]
    assert readyz(admin) == (200, ["ready"])
    with Held(server, gates[0], inbox):
        waiting = []
        for gate in gates[1:]:
            waiting.append(connect(server).get(f"/gate?gate={gate.path}&notify={inbox.path}"))
        wait_until(lambda: status(admin)["backlog"]["len"] == 5)
        assert readyz(admin) == (503, ["too many connections wait: 5 of at most 4"])
    seen = []
    for left in (4, 3, 2):  # a worker takes the next connection when it has answered the previous one
        inbox.receive()
        wait_until(lambda left=left: status(admin)["backlog"]["len"] == left)
        seen.append(readyz(admin))
        gates[len(seen)].open()
    assert seen == [
        (503, ["too many connections wait: 4, ready again at 2"]),
        (503, ["too many connections wait: 3, ready again at 2"]),
        (200, ["ready"]),
    ]
    for gate in gates[4:]:
        inbox.receive()
        gate.open()
    assert [wire.response().status for wire in waiting] == [200] * 5


def test_readyz_is_503_while_too_few_workers_are_ready(serve, tmp_path):
    admin, holds = str(tmp_path / "admin.sock"), tmp_path / "holds"
    (tmp_path / "shop.py").write_text(
        f"import os, time\nwhile os.path.exists({str(holds)!r}): time.sleep(0.02)\nfrom plain import app\n"
    )
    options = ["--pythonpath", APPS, "--admin-bind", f"unix:{admin}", "--ready-min-workers", 2]
    server = serve("shop:app", *options, workers=3, cwd=tmp_path)
    assert readyz(admin) == (200, ["ready"])
    holds.touch()
    killed, other, _ = server.worker_pids()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: status(admin)["workers_ready"] == 2)
    assert readyz(admin) == (200, ["ready"])
    os.kill(other, signal.SIGKILL)
    wait_until(lambda: readyz(admin) == (503, ["too few workers are ready: 1 of at least 2"]))
    holds.unlink()
    wait_until(lambda: readyz(admin) == (200, ["ready"]))


@pytest.mark.parametrize("option", ["on", "off"])
def test_a_half_closed_client_is_abandoned_if_the_option_is_on(serve, connect, make_gate, inbox, option):
    gate, brief_gate = make_gate(), make_gate()
    server = serve("plain:app", f"--abandon-on-half-close={option}", workers=1)
    with Held(server, gate, inbox):
        brief = connect(server).get(f"/gate?gate={brief_gate.path}&notify={inbox.path}")
        brief.socket.shutdown(socket.SHUT_WR)
        wait_until(lambda: brief.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == FIN_WAIT2)
    if option == "on":
        assert brief.is_closed()
        assert not inbox.has_more(), "the application was not called"
    else:
        inbox.receive()
        brief_gate.open()
        assert brief.response().status == 200


def test_the_limit_is_printed_and_a_wrong_one_is_named():
    code, out, _ = run("--max-queue-time", "250ms", "--print-config", "plain:app")
    assert code == 0 and "250ms" in out
    code, _, error = run("--max-queue-time", "soon", "plain:app")
    assert code == EXIT_USAGE and "--max-queue-time 'soon'" in error
