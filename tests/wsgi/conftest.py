"""Fixtures: servers that are always stopped, and ways in which applications and tests wait."""

import os
import select
import signal
import socket
import sys
from contextlib import ExitStack

import pytest
from support.etsy_statsd import EtsyStatsd
from support.namespaces import UNSHARE, require_pid_namespace
from support.processes import children, state
from support.server import PATIENCE_S, Server
from support.statsd_sink import Sink
from support.traffic import Journal
from support.upgradable import UpgradableServer
from support.wire import Wire

# A shell starts what is in the background with SIGINT ignored, nohup(1) with SIGHUP; so would be all that starts here.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_modifyitems(items):
    """Starts the longest tests first, so that none is left over when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def serve():
    """Starts servers for one test; each is stopped after it, with exit status 0 and nothing left."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Server(*arguments, **options))


@pytest.fixture
def serve_upgradable():
    """The same for servers that can be upgraded."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(UpgradableServer(*arguments, **options))


@pytest.fixture
def first_process():
    """A server in a PID namespace of its own, and the pid that its first process has outside."""
    require_pid_namespace()
    with Server("plain:app", workers=2, command=[*UNSHARE, sys.executable, "-m", "arctos"]) as server:
        (first,) = children(server.pid)
        yield server, first
        if state(first) not in "XZ":
            os.kill(first, signal.SIGTERM)
        assert server.wait() == 0


@pytest.fixture(scope="module")
def plain():
    """One server for a module's tests: plain:app on one worker, so that what is behind an answered
    request has been done."""
    with Server("plain:app") as server:
        yield server


@pytest.fixture
def wire(plain):
    """A connection to it."""
    with Wire(("127.0.0.1", plain.port)) as connection:
        yield connection


@pytest.fixture
def connect():
    """Connections to any server, closed after the test."""
    with ExitStack() as stack:
        yield lambda server, **options: stack.enter_context(Wire(("127.0.0.1", server.port), **options))


class Gate:
    """A FIFO: the application waits at it until the test opens it."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(path)

    def open(self):
        """Lets one waiting application go on. Returns once it waits there: fifo(7) blocks until both
        ends are open."""
        os.close(os.open(self.path, os.O_WRONLY))


class Ear:
    """A unix datagram socket: the application tells, the test hears."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(PATIENCE_S)

    def hear(self):
        """The next thing told."""
        return self.socket.recv(65536).decode()

    def heard_more(self):
        """Whether there is something untold of."""
        return bool(select.select([self.socket], [], [], 0)[0])


@pytest.fixture
def make_gate(tmp_path):
    """Makes gates."""
    made = []

    def make():
        made.append(Gate(tmp_path / f"gate{len(made)}"))
        return made[-1]

    return make


@pytest.fixture
def gate(make_gate):
    """One gate."""
    return make_gate()


@pytest.fixture
def ear(tmp_path):
    """One ear."""
    heard = Ear(tmp_path / "ear")
    yield heard
    heard.socket.close()


@pytest.fixture
def make_sink():
    """Makes daemons that keep what they receive; after the test, all of it must have been sane."""
    with ExitStack() as stack:

        def make(*arguments, **options):
            sink = Sink(*arguments, **options)
            stack.callback(lambda: (sink.close(), sink.check()))
            return sink

        yield make


@pytest.fixture
def sink(make_sink):
    """One of them, over UDP."""
    return make_sink()


@pytest.fixture
def etsy(tmp_path):
    """Etsy's statsd."""
    daemon = EtsyStatsd(tmp_path)
    yield daemon
    daemon.stop()


@pytest.fixture
def journal(tmp_path):
    """What a test's clients write down."""
    return Journal(tmp_path)
