"""What the page of scripts/serve may do to its own server, and who may do it."""

import json
import os
import shutil
import socket
import stat
import subprocess
import time

import pytest
import requests
from support.demo import DEMO, Demo, prepare, short_directory
from support.server import WORKER_DIED
from support.waiting import wait_until

REFUSED = 403


@pytest.fixture(scope="module")
def demo():
    with short_directory() as base, Demo(base) as server:
        yield server


@pytest.fixture
def base():
    """A directory whose path leaves room for that of a socket, as tmp_path might not."""
    with short_directory() as path:
        yield path


def test_the_status_shows_every_worker_and_no_secret(demo):
    shown = demo.status()
    assert [worker["slot"] for worker in shown["workers"]] == [0, 1]
    assert {worker["pid"] for worker in shown["workers"]} <= set(demo.worker_pids())
    assert demo.fields["X-Demo-Token"] not in json.dumps(shown) and "admin.sock" not in json.dumps(shown)
    # The request for the status is not shown as one that occupies a worker.
    assert [worker["request"] for worker in shown["workers"]] == [None, None]


@pytest.mark.parametrize(
    "fields",
    [
        {"X-Demo-Token": ""},
        {"X-Demo-Token": "0" * 32},
        {"X-Demo-Token": "\xe4"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"Forwarded": "for=192.0.2.1"},
        {"Via": "1.1 proxy"},
    ],
    ids=lambda fields: (
        "-".join(f"{name}-{value}" for name, value in fields.items()).encode("ascii", "replace").decode()
    ),
)
def test_nobody_but_the_page_may_command(demo, fields):
    pids = demo.worker_pids()
    headers = {name: value.encode("latin-1") for name, value in fields.items()}
    for target in (f"/kill?pid={pids[0]}", "/deploy", "/deploy?broken=1"):
        answer = demo.command(target, **headers)
        assert answer.status_code == REFUSED and answer.json()["error"], target
    assert demo.worker_pids() == pids
    assert demo.status()["reload"] == {"state": "idle"}


def test_nobody_may_command_through_nginx_as_it_is_installed(demo):
    """By default, its proxy_pass sends HTTP/1.0 and the Host of the upstream, and says nothing about the client."""
    with socket.create_connection(("127.0.0.1", demo.port), timeout=60) as client:
        client.sendall(f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{demo.port}\r\n\r\n".encode())
        page = client.makefile("rb").read()
    assert b" 200 " in page and demo.fields["X-Demo-Token"].encode() not in page


def test_a_command_has_to_be_a_post(demo):
    for target in (f"/kill?pid={demo.worker_pids()[0]}", "/deploy"):
        assert requests.get(demo.url + target, headers=demo.fields).status_code == 405


def test_only_workers_of_this_server_can_be_killed(demo):
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        for pid in (bystander.pid, demo.pid, os.getpid(), 1, 0, -1, 2**70, "x", ""):
            assert demo.command(f"/kill?pid={pid}").status_code == REFUSED, pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_the_token_is_only_in_a_page_that_may_command(demo):
    token = demo.fields["X-Demo-Token"]
    assert token in requests.get(demo.url).text
    assert token in requests.get(demo.url, headers={"Host": f"localhost:{demo.port}"}).text
    for fields in ({"Host": "evil.example"}, {"Host": "[::1"}, {"X-Forwarded-For": "127.0.0.1"}):
        page = requests.get(demo.url, headers=fields)
        assert token not in page.text, fields
    policy = requests.get(demo.url).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'self'" in policy


def test_another_machine_may_look_but_not_command(base):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but loopback ones")
    with Demo(base, bind="0.0.0.0:0") as server:
        url = f"http://{own}:{server.port}"
        # The host of a proxy that does not say whom it speaks for.
        fields = {**server.fields, "Host": f"127.0.0.1:{server.port}"}
        assert requests.post(f"{url}/deploy", headers=fields).status_code == REFUSED
        page = requests.get(url, headers=fields)
        assert page.status_code == 200 and server.fields["X-Demo-Token"] not in page.text
        assert "own machine" in page.text
        assert requests.get(f"{url}/status").status_code == 200


def test_every_worker_can_be_killed_also_the_one_that_is_asked(base):
    with Demo(base) as server, requests.Session() as one:
        # The same worker answers all requests of this connection, as long as nothing is slow.
        own = one.get(f"{server.url}/fast").json()["pid"]
        other = next(pid for pid in server.worker_pids() if pid != own)
        for pid in (other, own):
            answer = one.post(f"{server.url}/kill?pid={pid}", headers=server.fields)
            assert (answer.status_code, answer.json()) == (200, {"pid": pid})
            assert server.wait_for(WORKER_DIED, pid=pid).pairs["status"] == "SIGKILL"
            wait_until(lambda pid=pid: pid not in [worker["pid"] for worker in server.status()["workers"]])
        wait_until(lambda: [worker["state"] for worker in server.status()["workers"]] == ["ready"] * 2)


def test_a_deployment_replaces_the_code_and_a_broken_one_nothing(base):
    with Demo(base) as server:
        version = lambda: requests.get(f"{server.url}/fast").json()["version"]  # noqa: E731
        assert version() == 1
        answer = server.command("/deploy?broken=1")
        assert answer.status_code == 200
        told = answer.json()
        assert told["has_failed"] and told["version"] == 2 and "canary-failed" in told["outcome"]
        assert "SyntaxError" in told["report"] and "release.py" in told["report"]
        assert version() == 1
        assert server.command("/deploy").json() == {"version": 2}
        server.wait_for("reload.done")
        assert {version() for _ in range(4)} == {2}
        assert "report" not in server.status()["reload"]


@pytest.mark.parametrize("env", [{}, {"DEMO_DIRECTORY": "/nowhere"}], ids=["not-prepared", "directory-gone"])
def test_without_scripts_serve_the_page_only_looks(env, serve):
    server = serve("demo:app", workers=1, cwd=DEMO, env=env)
    assert "scripts/serve" in requests.get(server.url).text
    assert requests.get(f"{server.url}/status").json() == {
        "error": "Start the server by scripts/serve to see its workers."
    }
    assert requests.post(f"{server.url}/deploy").status_code == REFUSED


# --- The private directory ---


def test_the_directory_is_private_and_made_again_for_each_start(base):
    first, second = prepare(base), prepare(base)
    assert first != second and first.parent == second.parent
    for directory in (first, first.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    tokens = [(directory / "token").read_text() for directory in (first, second)]
    assert tokens[0] != tokens[1] and len(tokens[0]) == 32


def test_directories_of_servers_that_are_gone_are_removed(base):
    over, fresh, served = prepare(base), prepare(base), prepare(base)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{served}/admin.sock")
        listener.listen()
        long_ago = time.time() - 3600
        for directory in (over, served):
            os.utime(directory, (long_ago, long_ago))
        prepare(base)
        assert [directory.exists() for directory in (over, fresh, served)] == [False, True, True]


def test_a_directory_that_others_can_enter_is_not_used(base):
    own, temporary = base / f"arctos-demo-{os.getuid()}", base / "tmp"
    temporary.mkdir()
    for taken in (own, temporary / own.name):
        taken.mkdir()
        taken.chmod(0o755)
    found = prepare(base, temporary)
    assert own not in found.parents and list(own.iterdir()) == [] == list((temporary / own.name).iterdir())
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700
    shutil.rmtree(found)


def test_a_directory_that_is_too_deep_for_a_socket_is_not_used(base):
    deep = base / ("deep" * 20)
    deep.mkdir()
    found = prepare(deep, base)
    assert deep not in found.parents and len(f"{found}/admin.sock") <= 107
    shutil.rmtree(found)
