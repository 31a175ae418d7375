"""Where the server listens: TCP, unix sockets and inherited descriptors, several at once, with one owner each."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import uuid

import pytest
from support.activation import activated
from support.server import (
    APPS,
    EXIT_CONFIGURATION,
    EXIT_USAGE,
    PATIENCE_S,
    WORKER_READY,
    Server,
    clean_environment,
    run,
)
from support.traffic import traffic
from support.wire import Wire


def answers(address):
    with Wire(address) as wire:
        return wire.get("/hello").response().body == b"Hello, world!\n"


@pytest.mark.smoke
def test_a_unix_socket_is_served_and_removed(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve("plain:app", bind=f"unix:{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert answers(str(path))
    found = subprocess.run(
        ["curl", "-sS", "--unix-socket", path, "http://localhost/hello"], capture_output=True, check=True, timeout=60
    )
    assert found.stdout == b"Hello, world!\n"
    server.stop()
    assert not path.exists()


def test_an_environ_of_a_unix_socket_has_strings_where_the_pep_wants_them(serve, tmp_path):
    path = str(tmp_path / "socket")
    serve("plain:app", bind=f"unix:{path}")
    with Wire(path) as wire:
        found = json.loads(wire.get("/headers").response().body)
    assert isinstance(found["REMOTE_ADDR"], str) and found["SERVER_NAME"] and isinstance(found["SERVER_PORT"], str)


def test_a_stale_unix_socket_is_replaced(serve, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)  # closed without unlink, as a killed server leaves it
    serve("plain:app", bind=f"unix:{path}")
    assert answers(path)


def test_a_unix_socket_in_use_and_a_file_of_another_kind_are_left_alone(serve, tmp_path):
    path = str(tmp_path / "socket")
    serve("plain:app", bind=f"unix:{path}")
    status, _, said = run("--bind", f"unix:{path}", "plain:app")
    assert (status, path in said) == (EXIT_CONFIGURATION, True)
    assert answers(path)
    file = tmp_path / "file"
    file.write_text("mine")
    assert run("--bind", f"unix:{file}", "plain:app")[0] == EXIT_CONFIGURATION
    assert file.read_text() == "mine"


def test_a_socket_that_another_process_has_bound_is_not_removed(serve, tmp_path):
    path = tmp_path / "socket"
    server = serve("plain:app", bind=f"unix:{path}")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        server.stop()
        assert path.exists()


def test_an_abstract_socket_is_served(serve):
    name = f"arctos-test-{uuid.uuid4()}"
    serve("plain:app", bind=f"unix:@{name}")
    assert answers(f"\0{name}")


def test_two_addresses_are_served_by_the_same_workers(serve, connect, tmp_path):
    path = str(tmp_path / "socket")
    server = serve("plain:app", bind=["127.0.0.1:0", f"unix:{path}", "127.0.0.1:0"], workers=1)
    ports = server.ports
    assert len(set(ports)) == 2
    assert all(answers(address) for address in [("127.0.0.1", ports[0]), ("127.0.0.1", ports[1]), path])


def test_ipv6_is_served(serve):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    server = serve("plain:app", bind="[::1]:0")
    with socket.create_connection(("::1", server.port)) as client:
        client.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"Hello, world!\n")


def test_a_name_is_resolved(serve):
    assert answers(("127.0.0.1", serve("plain:app", bind="localhost:0").port))


@pytest.mark.smoke
def test_an_inherited_descriptor_is_served(serve):
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        port = inherited.getsockname()[1]
        serve("plain:app", bind=f"fd://{inherited.fileno()}", pass_fds=[inherited.fileno()])
        assert answers(("127.0.0.1", port))


def test_a_descriptor_that_is_no_listening_socket_exits_1_and_is_named():
    status, _, said = run("--bind", "fd://77", "plain:app")
    assert status in (EXIT_CONFIGURATION, EXIT_USAGE)
    assert "77" in said


def test_a_missing_descriptor_is_named_even_if_the_log_takes_its_number(tmp_path):
    command = [sys.executable, "-m", "arctos", "--bind", "fd://3", "plain:app"]
    with open(tmp_path / "log", "wb") as log:
        ended = subprocess.run(command, cwd=APPS, env=clean_environment(), stderr=log, timeout=PATIENCE_S)
    assert ended.returncode == EXIT_CONFIGURATION
    assert "fd://3: no such descriptor was inherited" in (tmp_path / "log").read_text()


def test_systemds_sockets_are_served(serve):
    """systemd(1) passes descriptors from 3 on, and names the process they are for (sd_listen_fds(3))."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        port, fd = inherited.getsockname()[1], inherited.fileno()
        command = activated(fd, sys.executable, "-m", "arctos")
        serve("plain:app", bind=[], command=command, pass_fds=[fd])
        assert answers(("127.0.0.1", port))


def test_a_second_server_on_the_port_exits_1_and_the_first_goes_on(serve, connect):
    server = serve("plain:app")
    status, _, said = run("--bind", f"127.0.0.1:{server.port}", "plain:app", cwd=APPS)
    assert status == EXIT_CONFIGURATION
    assert f"127.0.0.1:{server.port}" in said and "in use" in said
    assert connect(server).get("/hello").response().status == 200


def test_a_second_server_may_share_the_port_when_it_is_asked_to(serve, connect):
    first = serve("plain:app")
    second = serve("plain:app", "--reuse-port", bind=f"127.0.0.1:{first.port}")
    first.stop()
    assert connect(second).get("/hello").response().status == 200


def test_one_socket_per_slot_loses_no_connection_when_a_worker_dies(serve):
    server = serve("plain:app", "--listen-mode", "per-slot", workers=2)
    with traffic(server, clients=8) as load:
        load.wait_for_answers(100)
        since = server.position()
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_for(WORKER_READY, since=since)
        load.wait_for_answers(100)
    new = [record for record in load.failed() if not record.is_kept]
    assert load.summary()["REFUSED"] == 0 and len(new) <= load.connecting, load.summary()


def test_a_server_can_be_started_again_at_once_on_its_port():
    with Server("plain:app") as first:
        port = first.port
        assert answers(("127.0.0.1", port))
    with Server("plain:app", bind=f"127.0.0.1:{port}"):
        assert answers(("127.0.0.1", port))
