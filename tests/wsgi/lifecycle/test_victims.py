"""The client of a long request gets an answer if its worker dies, although the connection is not shared."""

import os
import re
import signal
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.admin_client import ask, status
from support.certificates import TlsWire, certificate, client
from support.proxies import keeping_connections, nginx
from support.server import WORKER_DIED, WORKER_READY
from support.waiting import wait_until
from support.wire import Wire

PIECE = b"x" * 65536


def sockets(pid):
    """Returns the sockets that a process has."""
    found = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return {link for link in found if link.startswith("socket:")}


class Watched:
    """A server with sticky connections, whose descriptors are known from its start."""

    def __init__(self, server, admin, address):
        self.server, self.admin, self.address = server, admin, address
        self.before = sockets(server.pid)

    def duplicates(self):
        """Returns the sockets that the supervisor has in common with a worker, except for listeners."""
        of_workers = set().union(*map(sockets, self.server.worker_pids()))
        return (sockets(self.server.pid) & of_workers) - self.before

    def wait_for_duplicate(self):
        """Waits until the supervisor has a duplicate of a connection."""
        return wait_until(self.duplicates)

    def counts(self):
        """Returns how many victims were answered, and how many requests killed."""
        families = text_string_to_metric_families(ask(self.admin, "/metrics").body.decode())
        found = {family.name: sum(sample.value for sample in family.samples) for family in families}
        return found["arctos_resp_victim"], found["arctos_req_killed"]

    def check_answer(self, wire, code, body, request_id=None):
        """The client gets a whole response without any detail but its ID, then the end; log and metrics say so."""
        answer = wire.response()
        assert (answer.status, answer.body, answer.is_whole) == (code, body, True)
        assert (answer.field("Connection"), answer.field("Content-Length")) == ("close", str(len(body)))
        found = answer.field("X-Request-Id")
        assert found == request_id if request_id else re.fullmatch("[0-9a-f]{24}", found)
        assert wire.to_end() == (b"", False)
        self.server.wait_for(WORKER_DIED, answered=code, victims=1, request_id=found)
        assert self.counts() == (1, 1)


@pytest.fixture
def watched(serve, tmp_path):
    """Starts servers with sticky connections."""

    def start(*options, application="plain:app", bind="127.0.0.1:0", workers=2):
        admin = str(tmp_path / "admin.sock")
        server = serve(application, *options, "--admin-bind", f"unix:{admin}", bind=bind, workers=workers)
        address = bind.removeprefix("unix:") if bind.startswith("unix:") else ("127.0.0.1", server.port)
        return Watched(server, admin, address)

    return start


@pytest.fixture
def open_wire():
    """Opens connections, which are closed after the test."""
    opened = []

    def open_one(address):
        opened.append(Wire(address))
        return opened[-1]

    yield open_one
    for wire in opened:
        wire.socket.close()


def wait_at(wire, gate, inbox, *fields):
    """Sends a request that waits at the gate, and returns the pid of its worker."""
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}", *fields)
    return int(inbox.receive())


# --- Death ---


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ["tcp", "unix socket", "preload", "not shared yet"])
def test_the_client_of_a_killed_request_gets_502(watched, open_wire, tmp_path, gate, inbox, kind):
    options = {"preload": ["--preload"], "not shared yet": ["--keepalive-mode", "shared"]}.get(kind, [])
    trusted = ["--forwarded-allow-ips", "127.0.0.1,unix"]
    running = watched(*options, *trusted, bind=f"unix:{tmp_path}/http" if kind == "unix socket" else "127.0.0.1:0")
    wire = open_wire(running.address)
    killed = wait_at(wire, gate, inbox, "X-Request-Id: order-66")
    running.wait_for_duplicate()
    os.kill(killed, signal.SIGKILL)
    running.check_answer(wire, 502, b"502 Bad Gateway\n", "order-66")
    wait_until(lambda: not running.duplicates())


@pytest.mark.parametrize("way", ["in Python", "in C"])
def test_the_client_of_a_request_that_hangs_gets_504(watched, open_wire, inbox, way):
    limit = ("--timeout", "1500ms", "--timeout-grace", "1s")
    running = watched(*limit, application="plain:app" if way == "in Python" else "late:app")
    wire = open_wire(running.address)
    wire.get(f"/stubborn?notify={inbox.path}" if way == "in Python" else "/in_c")
    running.check_answer(wire, 504, b"504 Gateway Timeout\n")


def test_a_response_that_had_begun_by_write_is_not_followed_by_another(watched, open_wire, gate):
    running = watched()
    wire = open_wire(running.address)
    wire.get("/slow?ms=0").response()
    wire.get(f"/written?gate={gate.path}").until(b"first\n")
    served = {pid: sockets(pid) for pid in running.server.worker_pids()}
    os.kill(max(served, key=lambda pid: len(served[pid])), signal.SIGKILL)
    assert wire.to_end() == (b"\r\n", False)
    running.server.wait_for(WORKER_DIED, answered="no")
    assert running.counts() == (0, 1)


def test_a_response_that_begins_while_the_supervisor_has_the_connection(watched, open_wire, inbox, tmp_path):
    (tmp_path / "later.py").write_text(
        "import os\nfrom plain import notify, query, wait_for_gate\n"
        "def app(environ, start_response):\n"
        "    wait_for_gate(environ)\n"
        "    start_response('200 OK', [])(b'begun')\n"
        "    notify(query(environ, 'notify'), str(os.getpid()))\n"
        "    wait_for_gate(environ)\n"
    )
    os.mkfifo(tmp_path / "wait")
    running = watched("--pythonpath", tmp_path, application="later:app")
    wire = open_wire(running.address)
    wire.get(f"/?gate={tmp_path}/wait&notify={inbox.path}")
    running.wait_for_duplicate()
    with open(tmp_path / "wait", "wb"):
        pass
    killed = int(inbox.receive())
    os.kill(killed, signal.SIGKILL)
    received, was_reset = wire.to_end()
    assert received.startswith(b"HTTP/1.1 200 OK\r\n") and received.endswith(b"5\r\nbegun\r\n") and not was_reset
    running.server.wait_for(WORKER_DIED, answered="no")
    assert running.counts() == (0, 1)


def test_a_client_with_tls_gets_the_end_of_its_connection(watched, gate, inbox, tmp_path):
    pair = certificate(tmp_path, "server", "localhost")
    running = watched(*pair.options)
    with TlsWire(running.address[1], client(pair)) as wire:
        killed = wait_at(wire, gate, inbox)
        requests = lambda: [worker["request"] for worker in status(running.admin)["workers"]]  # noqa: E731
        wait_until(lambda: any(request and request["age_s"] > 2 for request in requests()))
        assert not running.duplicates()
        os.kill(killed, signal.SIGKILL)
        assert wire.to_end()[0] == b""
    running.server.wait_for(WORKER_DIED, answered="no")
    assert running.counts() == (0, 1)


def test_a_request_behind_the_one_that_ran_is_not_executed(watched, open_wire, gate, inbox):
    running = watched()
    wire = open_wire(running.address)
    killed = wait_at(wire, gate, inbox)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    running.wait_for_duplicate()
    os.kill(killed, signal.SIGKILL)
    running.check_answer(wire, 502, b"502 Bad Gateway\n")
    running.server.wait_for(WORKER_READY, count=3)
    assert not inbox.has_more()


def test_a_client_that_goes_on_sending_reads_its_502(watched, open_wire, gate, inbox):
    running = watched()
    wire = open_wire(running.address)
    killed = wait_at(wire, gate, inbox)
    wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 9999999\r\n\r\n").send(PIECE)
    running.wait_for_duplicate()
    os.kill(killed, signal.SIGKILL)
    running.server.wait_for(WORKER_DIED, answered=502)
    for _ in range(32):
        wire.send(PIECE)
    running.check_answer(wire, 502, b"502 Bad Gateway\n")


def test_nginx_passes_the_answer_on(watched, open_wire, gate, inbox, tmp_path):
    running = watched()
    with nginx(tmp_path / "nginx", keeping_connections(running.server)) as proxy:
        wire = open_wire(("127.0.0.1", proxy.port))
        assert wire.get("/slow?ms=0").response().status == 200
        killed = wait_at(wire, gate, inbox)
        running.wait_for_duplicate()
        os.kill(killed, signal.SIGKILL)
        answer = wire.response()
        assert (answer.status, answer.body) == (502, b"502 Bad Gateway\n")  # nginx would send a page of its own
        running.server.wait_for(WORKER_DIED, answered=502, request_id=answer.field("X-Request-Id"))
        assert wire.get("/slow?ms=0").response().status == 200


# --- Requests that end ---


def test_the_worker_ends_the_connection_although_it_has_a_duplicate(watched, open_wire, gate, inbox):
    running = watched()
    wire = open_wire(running.address)
    wait_at(wire, gate, inbox, "Connection: close")
    running.wait_for_duplicate()
    os.kill(running.server.pid, signal.SIGSTOP)  # so that it closes nothing
    try:
        gate.open()
        assert wire.response().status == 200
        assert wire.to_end() == (b"", False)
    finally:
        os.kill(running.server.pid, signal.SIGCONT)


def test_the_supervisor_closes_the_duplicate_and_the_connection_stays(watched, open_wire, gate, inbox):
    running = watched()
    wire = open_wire(running.address)
    for _ in range(2):
        worker = wait_at(wire, gate, inbox)
        running.wait_for_duplicate()
        gate.open()
        assert int(wire.response().body) == worker
        wait_until(lambda: not running.duplicates())
    assert int(wire.get("/slow?ms=0").response().body) == worker
    assert running.counts() == (0, 0)


def test_a_new_worker_does_not_get_the_duplicate(watched, open_wire, gate, inbox):
    running = watched()
    wire = open_wire(running.address)
    worker = wait_at(wire, gate, inbox)
    duplicates = running.wait_for_duplicate()
    running.server.send(signal.SIGTTIN)
    running.server.wait_for(WORKER_READY, count=3)
    holders = [pid for pid in running.server.worker_pids() if duplicates & sockets(pid)]
    assert holders == [worker]
    gate.open()
    assert wire.response().status == 200


def test_a_system_call_of_a_long_request_goes_on(watched, open_wire, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "reads.py").write_text(
        "import ctypes, os\n"
        f"PIPE = os.open('{tmp_path}/pipe', os.O_RDWR)\n"
        "def app(environ, start_response):\n"
        "    count = ctypes.CDLL(None).read(PIPE, ctypes.create_string_buffer(8), 8)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'%d' % count]\n"
    )
    running = watched("--pythonpath", tmp_path, application="reads:app")
    wire = open_wire(running.address)
    wire.get("/")
    running.wait_for_duplicate()
    with open(tmp_path / "pipe", "wb") as pipe:
        pipe.write(b"four")
    assert wire.response().body == b"4"


def test_an_application_that_has_reset_all_signals_is_not_killed(watched, open_wire, tmp_path):
    (tmp_path / "reset.py").write_text(
        "import signal, time\n"
        "def app(environ, start_response):\n"
        "    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:\n"
        "        signal.signal(number, signal.SIG_DFL)\n"
        "    time.sleep(2)\n"
        "    start_response('200 OK', [])\n"
        "    return [b'done']\n"
    )
    running = watched("--pythonpath", tmp_path, application="reset:app")
    assert open_wire(running.address).get("/").response().body == b"done"
