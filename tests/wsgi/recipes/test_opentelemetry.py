"""OpenTelemetry: each worker exports the spans of its requests, and none is lost or sent twice."""

import gzip
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@pytest.fixture
def receiver():
    """A collector that keeps the spans as (service.instance.id, path)."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {item.key: item.value.string_value for item in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        attributes = {item.key: item.value.string_value for item in span.attributes}
                        self.server.spans.append((named["service.instance.id"], attributes["http.target"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.spans = []
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


PATHS = [f"/{number}" for number in range(20)]


@pytest.fixture
def environment(receiver):
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{receiver.server_address[1]}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "shop",
    }


@pytest.fixture
def served(arctos_server, environment):
    """Serves requests with workers whose tracing a hook starts. Returns the stopped server."""

    def serve(**hook):
        server = arctos_server("opentelemetry_shop:app", workers=2, preload=True, env=environment, **hook)
        workers = set()
        while len(workers) < 2:
            answer = requests.get(f"{server.url}/")
            answer.raise_for_status()
            workers.add(answer.text)
        for path in PATHS:
            requests.get(server.url + path)
        server.stop()
        return server

    return serve


def test_every_span_arrives_once_from_a_worker_with_an_id_of_its_own(served, receiver):
    server = served(post_fork="opentelemetry_shop:start_tracing")
    assert sorted(path for _, path in receiver.spans if path != "/") == sorted(PATHS)
    assert len({instance for instance, _ in receiver.spans}) == 2
    assert "zygote.threads" not in server.log


def test_a_provider_that_the_zygote_makes_has_a_thread_there(served, receiver):
    server = served(on_start="opentelemetry_shop:start_tracing")  # with --preload, this runs in the zygote
    assert sorted(path for _, path in receiver.spans if path != "/") == sorted(PATHS)
    assert "zygote.threads" in server.log


def test_the_automatic_instrumentation_starts_in_the_worker(arctos_server, receiver, environment):
    hook = "opentelemetry_hooks:instrument"
    server = arctos_server("flask_shop:create_app()", workers=2, post_fork=hook, env=environment)
    for path in PATHS:
        requests.get(server.url + path)
    server.stop()
    assert sorted(path for _, path in receiver.spans) == sorted(PATHS)


def test_opentelemetry_instrument_is_refused_for_its_thread(environment):
    wrapper = Path(sys.executable).parent / "opentelemetry-instrument"
    command = [wrapper, sys.executable, "-m", "arctos", "--bind=127.0.0.1:0", "wsgiref.simple_server:demo_app"]
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "cannot fork: this process has threads" in ended.stderr and "--post-fork" in ended.stderr
