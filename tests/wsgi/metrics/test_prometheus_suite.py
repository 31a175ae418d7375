"""The tests of prometheus_client itself, with the value class of arctos."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from support.server import APPS, PATIENCE_S, ROOT, clean_environment
from support.wire import Wire

TESTS = ROOT / "target" / f"prometheus_client-{version('prometheus_client')}" / "tests"
# Those about values and exposition, without those of TLS and of clients for a push gateway.
SUITE = f"{TESTS}/test_core.py {TESTS}/test_multiprocess.py {TESTS}/test_exposition.py -k not(TLS)and(not(Gateway))"


@pytest.fixture
def environment():
    if not TESTS.exists():
        pytest.fail(f"{TESTS} is missing: scripts/test gets it", pytrace=False)
    return {"SUITE": SUITE}


def test_the_tests_of_prometheus_client_pass_without_a_server(environment):
    ended = subprocess.run(
        [sys.executable, "prometheus_suite.py"],
        cwd=APPS,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout


def test_the_tests_of_prometheus_client_pass_in_a_worker(serve, environment):
    server = serve("prometheus_suite:app", env=environment)
    with Wire(("127.0.0.1", server.port)) as wire:
        status = wire.get("/").response().body
    server.stop()
    assert status == b"0", server.output.decode()
    assert b" passed" in server.output
