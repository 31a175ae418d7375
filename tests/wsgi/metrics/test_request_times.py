"""How long requests take, by their phases and by the class of their status, at every receiver."""

import socket
import time

from support.admin_client import scrape
from support.statsd_sink import DOGSTATSD, finish
from support.waiting import wait_until
from support.wire import Wire


def samples(path):
    """Returns the samples of /metrics: name and labels without the worker, and the value."""
    found = {}
    for sample in scrape(path):
        labels = sorted((name, value) for name, value in sample.labels.items() if name != "worker")
        key = (sample.name.removeprefix("arctos_"), *(f"{name}={value}" for name, value in labels))
        found[key] = found.get(key, 0) + sample.value
    return found


def ask(server, target):
    """Returns the status of one request on a connection of its own, after which everything has been counted."""
    with Wire(("127.0.0.1", server.port)) as wire:
        answer = wire.get(target, "Connection: close").response()
        assert wire.is_closed()
    return answer.status


def test_the_time_of_a_request_is_split_into_its_phases(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}")
    # Two items and the end of the iterable, in calls of their own.
    assert ask(server, "/work?call=50&item=30&close=40") == 200
    wait_until(lambda: samples(path)["request_application_seconds_count",] == 1)
    found = samples(path)
    application = found["request_application_seconds_sum",]
    duration = found["request_duration_seconds_sum", "status=2xx"]
    assert application >= 0.050 + 2 * 0.030 + 0.040
    assert 0.050 + 2 * 0.030 <= duration <= application - 0.039, "close() comes after the last byte"
    assert found["request_send_seconds_count",] == found["request_queue_seconds_count",] == 1
    assert found["request_send_seconds_sum",] <= duration - (0.050 + 2 * 0.030)


def test_the_time_of_a_slow_reader_is_spent_sending(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /whole?size=20000000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        started = time.monotonic()
        time.sleep(0.3)
        while client.recv(1 << 20):
            pass
        took = time.monotonic() - started
    wait_until(lambda: samples(path)["request_send_seconds_count",] == 1)
    found = samples(path)
    assert 0.25 <= found["request_send_seconds_sum",] <= took
    assert found["request_application_seconds_sum",] < found["request_send_seconds_sum",]


def test_a_request_waits_for_a_busy_worker_in_its_queue_time(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}")
    with Wire(("127.0.0.1", server.port)) as busy, Wire(("127.0.0.1", server.port)) as waiting:
        busy.get("/whole?call=1")
        assert busy.response().status == 200
        busy.get("/whole?call=300")
        time.sleep(0.05)
        waiting.get("/whole")
        assert waiting.response().status == busy.response().status == 200
    wait_until(lambda: samples(path)["request_queue_seconds_count",] == 3)
    assert samples(path)["request_queue_seconds_sum",] > 0.1


def test_each_class_of_status_is_counted_at_every_receiver(serve, sink, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}", "--statsd-host", sink.option, *DOGSTATSD)
    wanted = {"2xx": 3, "3xx": 1, "4xx": 2, "5xx": 2}
    for status in (200, 201, 204, 302, 404, 410, 503):
        assert ask(server, f"/whole?status={status}&size=0") == status
    assert ask(server, "/whole?fail") == 500
    found = samples(path)
    for status, count in wanted.items():
        assert found["request_count_total", f"status={status}"] == count
        assert found["request_duration_seconds_count", f"status={status}"] == count
    assert found["request_count_total", "status=none"] == 0
    received = finish(server, sink)
    for status, count in wanted.items():
        assert received.count("request.count", status=status) == count
    assert received.spread("request.duration")[0] == received.count("request.count") == 8
    for phase in ("queue", "application", "send"):
        assert received.spread(f"request.{phase}")[0] == 8
