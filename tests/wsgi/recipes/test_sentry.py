"""Sentry: the exceptions of requests arrive from the workers, also with --preload, and so do exceeded time limits."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests


@pytest.fixture
def receiver():
    """A server that keeps the exceptions of the events that it gets."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            for line in body.splitlines():
                event = json.loads(line)
                if "exception" in event:
                    error = event["exception"]["values"][-1]
                    self.server.errors.append((error["type"], error["value"], event["transaction"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.errors = []
        server.dsn = f"http://key@127.0.0.1:{server.server_address[1]}/1"
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("preload", [False, True])
def test_an_exception_arrives_once_from_the_worker(arctos_server, receiver, preload):
    server = arctos_server("sentry_shop:app", workers=2, preload=preload, env={"SENTRY_DSN": receiver.dsn})
    assert requests.get(f"{server.url}/broken").status_code == 500
    server.stop()  # Sentry sends what is left when the worker exits
    ((kind, text, transaction),) = receiver.errors
    assert (kind, transaction) == ("LookupError", "broken")
    assert "zygote.threads" not in server.log
    assert int(text.split()[-1]) in {int(one.fields["pid"]) for one in server.records if one.event == "worker.ready"}


def test_a_request_that_takes_too_long_arrives(arctos_server, receiver):
    server = arctos_server("sentry_shop:app", timeout="200ms", env={"SENTRY_DSN": receiver.dsn})
    assert requests.get(f"{server.url}/slow").status_code == 504
    server.stop()
    assert [(kind, transaction) for kind, _, transaction in receiver.errors] == [("RequestTimeout", "slow")]
