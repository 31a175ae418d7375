"""Datadog's ddtrace: traces of the requests of every worker."""

import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests


@pytest.fixture
def agent():
    """An agent that counts the traces that it gets."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.path.endswith("/traces"):
                self.server.traces += int(self.headers["X-Datadog-Trace-Count"])
                self.server.body += body
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        do_POST = do_GET = do_PUT

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.traces, server.body = 0, b""
        server.environment = {
            "DD_TRACE_AGENT_URL": f"http://127.0.0.1:{server.server_address[1]}",
            "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
            "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        }
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


def test_each_request_is_a_trace_once(arctos_server, agent):
    server = arctos_server(
        "ddtrace_shop:app", workers=2, post_fork="ddtrace_hooks:start_tracing", env=agent.environment
    )
    for number in range(20):
        assert requests.get(f"{server.url}/tea{number}").status_code == 200
    while agent.traces < 20:  # ddtrace sends them once a second
        time.sleep(0.05)
    assert server.stop() == 0
    assert agent.traces == 20
    assert all(b"tea%d" % number in agent.body for number in range(20))


def test_ddtrace_run_is_refused_because_its_threads_cannot_fork(agent):
    command = [Path(sys.executable).parent / "ddtrace-run", sys.executable, "-m", "arctos", "--bind=127.0.0.1:0"]
    environment = {**os.environ, **agent.environment}
    ended = subprocess.run([*command, "wsgiref.simple_server:demo_app"], env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "cannot fork: this process has threads" in ended.stderr and "--post-fork" in ended.stderr
