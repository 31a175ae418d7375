"""Metrics while workers start and exit, while the supervisor is suspended, with many workers, and with abusive
clients of the admin socket. Sums stay exact, and the supervisor answers."""

import os
import re
import signal
import socket
import struct
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.counters import abbreviated, check_invariants
from support.processes import status_kb
from support.server import SERVER_READY, WORKER_LEFT, WORKER_READY
from support.traffic import traffic
from support.wire import Ended, Wire

DOGSTATSD = ("--statsd-interval", "100ms", "--statsd-format", "dogstatsd")
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"


def finish(server, sink):
    """Stops the server, and returns everything that was received."""
    server.stop()
    sink.close()
    return sink.check().look(lambda received: received)


def check_sums(received, journal):
    """The sums of the daemon match the journal of the clients."""
    n = abbreviated(received.counts())
    assert journal.failed() == []
    assert n["AS"] == journal.connections
    assert n["RR"] == n["RD"] == n["SD"] == len(journal.answered()) == received.spread("request.duration")[0]
    check_invariants(received.counts())


def scrape(address):
    """Returns the values with no label other than `zone` by name."""
    with Wire(address) as wire:
        page = wire.get("/metrics").response().body.decode()
    families = text_string_to_metric_families(page)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def admin_port(server):
    """Returns the TCP port of the admin socket."""
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", server.wait_for(SERVER_READY).pairs["admin"])[1])


# --- Slots ---


def test_slots_that_are_emptied_and_filled_again_keep_their_sums(serve, sink, journal):
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2, env=journal.environment)
    with traffic(server, journal=journal, clients=6) as clients:
        ready, left = 2, 0
        for number, by in ((signal.SIGTTIN, 2), (signal.SIGTTOU, 3), (signal.SIGTTIN, 3)):
            clients.wait_for_each(10)
            for _ in range(by):
                server.send(number)
                if number == signal.SIGTTIN:
                    ready += 1
                    server.wait_for(WORKER_READY, ready)
                else:
                    left += 1
                    server.wait_for(WORKER_LEFT, left)
            target = ready - left
            sink.wait_for(lambda received, target=target: received.gauge("workers.target") == target)
            sink.wait_for(lambda received, target=target: received.gauge("workers.ready") == target)
        clients.wait_for_each(10)
    received = finish(server, sink)
    check_sums(received, journal)
    assert received.tag_values("worker") == ["0", "1", "2", "3"]
    assert sum(received.count("req.done", worker=slot) for slot in range(4)) == len(journal.answered())
    # A worker that exits because it was told to is no restart.
    assert received.count("worker.restarts") == 0


def test_a_slot_counts_both_its_exiting_worker_and_the_replacement(serve, sink, journal):
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=1, env=journal.environment)
    with traffic(server, journal=journal, clients=4) as clients:
        for generation in range(3):
            clients.wait_for_each(10)
            os.kill(server.worker_pids()[0], signal.SIGTERM)
            server.wait_for(WORKER_READY, 2 + generation)
        clients.wait_for_each(10)
    received = finish(server, sink)
    check_sums(received, journal)
    assert received.tag_values("worker") == ["0"]


def test_64_workers_add_up(serve, sink, journal):
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=64, env=journal.environment)
    with traffic(server, journal=journal, clients=16) as clients:
        clients.wait_for_each(40)
    # Each worker has gauges, whether or not it got a request.
    sink.wait_for(lambda received: len(received.tag_values("worker")) == 64)
    received = finish(server, sink)
    check_sums(received, journal)


def test_counts_made_while_the_supervisor_is_suspended_come_later(serve, sink, journal):
    server = serve("counted:app", "--statsd-host", sink.option, *DOGSTATSD, workers=2, env=journal.environment)
    with traffic(server, journal=journal, clients=4) as clients:
        clients.wait_for_each(10)
        server.send(signal.SIGSTOP)
        clients.wait_for_each(300)
        server.send(signal.SIGCONT)
        clients.wait_for_each(10)
        sink.wait_for(lambda received: received.count("req.done") >= 4 * 310)
    received = finish(server, sink)
    check_sums(received, journal)
    values = [float(metric.values[0]) for metric in received.metrics if metric.name == "arctos.workers.utilization"]
    assert 0 < max(values) <= 1 and min(values) >= 0


def test_a_datadog_agent_and_its_tags_are_found_in_the_environment(serve):
    # Not the sink of the tests, whose parser does not know the field `|e:`.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.setblocking(False)
        environment = {
            "DD_AGENT_HOST": "127.0.0.1",
            "DD_DOGSTATSD_PORT": str(agent.getsockname()[1]),
            "DD_ENV": "prod",
            "DD_SERVICE": "shop",
            "DD_VERSION": "1.2|c\nevil:1",
            "DD_TAGS": "team:web canary",
            "DD_ENTITY_ID": "9d1b",
            "DD_EXTERNAL_ENV": "it-false,cn-app,pu-1",
        }
        server = serve("plain:app", "--statsd", "auto", "--zone", "x", env=environment)
        with Wire(("127.0.0.1", server.port)) as wire:
            assert wire.get("/").response().status == 200
        server.stop()
        lines = []
        try:
            while True:
                lines += agent.recv(65536).decode().split("\n")
        except BlockingIOError:
            pass
    static = "zone:x,env:prod,service:shop,version:1.2_c_evil:1,dd.internal.entity_id:9d1b,team:web,canary"
    end = "|e:it-false,cn-app,pu-1"
    assert f"arctos.req.done:1|c|#worker:0,{static}{end}" in lines
    for line in lines:
        line = line.replace(",status:2xx|", "|")
        assert line.endswith((f"#{static}{end}", f",{static}{end}")), line


# --- Abusive clients of the admin socket ---


@pytest.fixture
def pestered(serve, tmp_path):
    """A server with an admin socket at a path and one on TCP. It must have lost nothing afterwards."""
    path = str(tmp_path / "admin.sock")
    server = serve("plain:app", "--admin-bind", "127.0.0.1:0", "--admin-bind", f"unix:{path}", workers=2)
    before_kb = status_kb(server.pid, "VmRSS")
    server.admin_path, server.admin_port = path, admin_port(server)
    yield server
    assert scrape(path)["arctos_workers_ready"] == 2
    assert scrape(("127.0.0.1", server.admin_port))["arctos_workers_ready"] == 2
    assert len(os.listdir(f"/proc/{server.pid}/fd")) < 200
    assert status_kb(server.pid, "VmRSS") < before_kb + (8 << 10)
    assert "panic" not in server.log


def test_a_thousand_foreign_connections_do_not_lock_out_the_owner(pestered):
    crowd = []
    try:
        for number in range(1000):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", pestered.admin_port))
            crowd.append(one)
            if number % 50 == 0:
                assert scrape(pestered.admin_path)["arctos_workers_target"] == 2
        assert scrape(pestered.admin_path)["arctos_workers_target"] == 2
    finally:
        for one in crowd:
            one.close()


def test_clients_that_do_not_read_reset_or_talk_nonsense_change_nothing(pestered):
    address = ("127.0.0.1", pestered.admin_port)
    nonsense = [
        REQUEST * 1000,
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 1_000_000,
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 50_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 16,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n",
        b"\0" * 5000,
    ]
    for piece in nonsense * 4:
        for resets in (False, True):
            with socket.create_connection(address) as one:
                try:
                    one.sendall(piece)
                except OSError:
                    pass  # it was refused before it was complete
                if resets:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert scrape(pestered.admin_path)["arctos_workers_target"] == 2


def test_many_concurrent_requests_are_all_answered(pestered):
    good, failed = [], []

    def ask():
        for _ in range(20):
            try:
                good.append(scrape(("127.0.0.1", pestered.admin_port))["arctos_workers_target"])
            except (Ended, OSError) as error:
                failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and good == [2] * 320


def test_a_page_in_a_browser_cannot_command_over_tcp(pestered):
    post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.test\r\nContent-Length: 0\r\n\r\n"
    for address, status in ((("127.0.0.1", pestered.admin_port), 403), (pestered.admin_path, 405)):
        with Wire(address) as wire:
            assert wire.send(post).response().status == status
