"""Fixtures: servers that are always stopped, connections, and synchronization with applications."""

import os
import select
import signal
import socket
import sys
from contextlib import ExitStack
from importlib.metadata import entry_points

import pytest
from support.etsy_statsd import EtsyStatsd
from support.namespaces import UNSHARE, require_pid_namespace
from support.processes import children, state
from support.server import PATIENCE_S, Server
from support.shared_connections import SharingServer
from support.statsd_sink import Sink
from support.traffic import Journal
from support.upgradable import UpgradableServer
from support.wire import Wire

# A development build has no entry points, by which pytest finds the fixture of the package otherwise.
if not any(point.value == "arctos.pytest_plugin" for point in entry_points(group="pytest11")):
    pytest_plugins = ["arctos.pytest_plugin"]

# A shell starts background jobs with SIGINT ignored, nohup(1) with SIGHUP. Servers of the tests would inherit that.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """Starts the longest tests first, so that none is left over when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def path(tmp_path):
    """A path for the admin socket of a server."""
    return str(tmp_path / "admin.sock")


@pytest.fixture
def serve():
    """Starts servers for one test. Afterwards each must exit with status 0 and leave no process."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Server(*arguments, **options))


@pytest.fixture
def serve_upgradable():
    """Starts servers that can be upgraded, like `serve`."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(UpgradableServer(*arguments, **options))


@pytest.fixture
def serve_sharing(tmp_path):
    """Starts servers whose workers share kept connections, like `serve`."""
    with ExitStack() as stack:
        yield lambda *options, **more: stack.enter_context(SharingServer(tmp_path, *options, **more))


@pytest.fixture
def first_process():
    """A server that is the first process of a PID namespace, and the pid of this process outside."""
    require_pid_namespace()
    with Server("plain:app", workers=2, command=[*UNSHARE, sys.executable, "-m", "arctos"]) as server:
        (first,) = children(server.pid)
        yield server, first
        if state(first) not in "XZ":
            os.kill(first, signal.SIGTERM)
        assert server.wait() == 0


@pytest.fixture(scope="module")
def plain():
    """A server for all tests of a module: plain:app on one worker, which has finished a request before it answers
    the next one."""
    with Server("plain:app") as server:
        yield server


@pytest.fixture
def server(plain):
    """The server of `wire`: `plain`, unless a module has one of its own."""
    return plain


@pytest.fixture
def wire(server):
    """A connection to `server`."""
    with Wire(("127.0.0.1", server.port)) as connection:
        yield connection


@pytest.fixture
def connect():
    """Opens connections to any server, and closes them after the test."""
    with ExitStack() as stack:
        yield lambda server, **options: stack.enter_context(Wire(("127.0.0.1", server.port), **options))


class Gate:
    """A FIFO at which the application waits until the test opens it."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(path)

    def open(self):
        """Lets one application continue, once it waits: fifo(7) blocks until both ends are open."""
        os.close(os.open(self.path, os.O_WRONLY))


class Inbox:
    """A unix datagram socket on which the test receives messages of the application."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE_S)

    def receive(self):
        """Waits for the next message, and returns it."""
        return self.socket.recv(65536).decode()

    def has_more(self):
        """Whether another message has arrived."""
        return bool(select.select([self.socket], [], [], 0)[0])


@pytest.fixture
def make_gate(tmp_path):
    """Creates gates."""
    made = []

    def make():
        made.append(Gate(tmp_path / f"gate{len(made)}"))
        return made[-1]

    return make


@pytest.fixture
def gate(make_gate):
    """A gate."""
    return make_gate()


@pytest.fixture
def inbox(tmp_path):
    """An inbox."""
    made = Inbox(tmp_path / "inbox")
    yield made
    made.socket.close()


@pytest.fixture
def make_sink():
    """Creates statsd sinks; after the test, everything they received must have been well-formed."""
    with ExitStack() as stack:

        def make(*arguments, **options):
            sink = Sink(*arguments, **options)
            stack.callback(lambda: (sink.close(), sink.check()))
            return sink

        yield make


@pytest.fixture
def sink(make_sink):
    """A statsd sink over UDP."""
    return make_sink()


@pytest.fixture
def etsy(tmp_path):
    """The statsd daemon of Etsy."""
    daemon = EtsyStatsd(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def journal(tmp_path):
    """The journal of the requests of a test."""
    return Journal(tmp_path)
