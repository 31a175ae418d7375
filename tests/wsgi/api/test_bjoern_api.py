"""The API of bjoern: programs as its users write them, started as they start them."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from support.ports import free_port
from support.script import SCRIPTS, Script, get
from support.server import PATIENCE_S, run
from support.wire import Wire

import arctos


@pytest.fixture
def start():
    """Starts programs, and kills what is left of them after the test."""
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(Script(*arguments, **options))


def connected(address, script):
    """Connects as soon as the program listens."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Wire(address)
        except (ConnectionRefusedError, FileNotFoundError):
            assert script.process.poll() is None, script.errors
            assert time.monotonic() < deadline
            time.sleep(0.01)  # no event announces that another process listens


def assert_ended_by_interrupt(script):
    """KeyboardInterrupt left `run` and ended the program, with the traceback of Python."""
    assert script.wait() == -signal.SIGINT, script.errors
    assert script.errors.rstrip().endswith("KeyboardInterrupt")


# --- Programs ---


@pytest.mark.smoke
def test_a_program_serves_every_kind_of_body_and_ends_with_ctrl_c(start):
    port = free_port()
    script = start("hello.py", "127.0.0.1", port)
    with connected(("127.0.0.1", port), script) as wire:
        for path, body in [("/parts", b"hello"), ("/bytes", b"hello"), ("/generator", b"hello\n"), ("/one", b"hello")]:
            answer = wire.get(path).response()
            assert (answer.status, answer.body, answer.is_whole) == (200, body, True), path
        assert wire.post("/", b"x" * 700_000).response().body == b"x" * 700_000
        script.send()
        assert_ended_by_interrupt(script)
        assert wire.is_closed()


@pytest.mark.parametrize("host", ["localhost", ""])
def test_a_name_binds_its_ipv4_address_and_an_empty_host_binds_all(start, host):
    port = free_port()
    script = start("hello.py", host, port)
    with connected(("127.0.0.1", port), script) as wire:
        assert wire.get("/one").response().body == b"hello"
    script.send()
    assert_ended_by_interrupt(script)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_bound(start):
    sock = arctos.bind_and_listen("::1", 0)
    with sock:
        assert (sock.family, sock.getsockname()[0]) == (socket.AF_INET6, "::1")


def test_a_unix_socket_is_served_and_its_file_removed(start, tmp_path):
    path = tmp_path / "hello.sock"
    script = start("hello_unix.py", path)
    with connected(str(path), script) as wire:
        assert wire.get("/one").response().body == b"hello"
    script.send()
    assert_ended_by_interrupt(script)
    assert not path.exists()


def test_a_file_of_another_program_is_not_removed(start, tmp_path):
    path = tmp_path / "hello.sock"
    script = start("hello_unix.py", path)
    connected(str(path), script).socket.close()
    path.unlink()
    path.write_text("another's")
    script.send()
    assert_ended_by_interrupt(script)
    assert path.read_text() == "another's"


def test_an_abstract_socket_is_served(start):
    name = f"arctos-test-{os.getpid()}"
    script = start("hello_unix.py", f"@{name}")
    with connected(f"\0{name}", script) as wire:
        assert wire.get("/one").response().body == b"hello"
    script.send()
    assert_ended_by_interrupt(script)


def test_listen_and_run_can_be_called_again_after_the_end(start):
    script = start("listen.py")
    for _ in range(2):
        assert get(script.port()) == "Hello world"
        script.send()
        assert script.next_line() == "interrupted -1"
    assert script.wait() == 0


@pytest.mark.smoke
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_forked_processes_share_one_socket_and_stop_together(start, number):
    script = start("fork.py")
    port = script.port()
    pids = set()
    deadline = time.monotonic() + PATIENCE_S
    while len(pids) < 3 and time.monotonic() < deadline:
        pids.add(int(get(port)))
    assert len(pids) == 3 and script.process.pid not in pids
    if number == signal.SIGINT:
        script.send()
        assert [script.next_line() for _ in range(3)] == ["left 0"] * 3
        assert script.wait() == 0
    else:
        for pid in pids:
            os.kill(pid, number)
        assert script.wait() == 0  # the parent waits for its children and for nothing else
    with pytest.raises(ConnectionRefusedError):
        Wire(("127.0.0.1", port))


def test_a_forked_process_that_stops_leaves_the_socket_to_the_others(start):
    script = start("fork.py")
    port = script.port()
    gone = int(get(port))
    os.kill(gone, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE_S
    while os.path.exists(f"/proc/{gone}") and time.monotonic() < deadline:
        get(port)
    assert {int(get(port)) for _ in range(30)}.isdisjoint({gone})


def test_receive_steering_spreads_connections_over_processes(start):
    port = free_port()
    scripts = [start("reuse_port.py", port) for _ in range(2)]
    pids = set()
    deadline = time.monotonic() + PATIENCE_S
    while len(pids) < 2 and time.monotonic() < deadline:
        with connected(("127.0.0.1", port), scripts[0]) as wire:
            pids.add(int(wire.get("/").response().body))
    assert pids == {script.process.pid for script in scripts}
    for script in scripts:
        script.send(signal.SIGTERM)
        assert script.wait() == -signal.SIGTERM


@pytest.mark.parametrize("kind", ["object", "number"])
def test_a_socket_that_the_program_opened_stays_open(start, kind):
    script = start("own_socket.py", kind)
    port = script.port()
    assert get(port) == str(port)
    script.send()
    assert script.next_line() == "interrupted True"
    assert script.wait() == 0


# --- Metrics ---


def received(sock, name):
    """Receives datagrams until one has this metric, and returns its line."""
    sock.settimeout(PATIENCE_S)
    while True:
        for line in sock.recv(65536).decode().splitlines():
            if line.startswith(f"{name}:"):
                return line


@pytest.mark.parametrize(
    ("tags", "line"),
    [
        ((), r"bjoern\.resp\.done:1\|c"),
        (("app:shop,zone:central-europe",), r"bjoern\.resp\.done:1\|c\|#zone:central-europe,app:shop"),
    ],
)
def test_metrics_are_sent_with_the_tags_that_were_given(start, tags, line):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        script = start("statsd.py", daemon.getsockname()[1], *tags)
        assert get(script.port()) == "counted"
        assert re.fullmatch(line, received(daemon, "bjoern.resp.done"))


def test_the_last_counts_are_sent_at_the_end(start):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        script = start("statsd.py", daemon.getsockname()[1])
        assert get(script.port()) == "counted"
        script.send()
        assert_ended_by_interrupt(script)
        assert received(daemon, "bjoern.resp.done") == "bjoern.resp.done:1|c"


# --- Signals ---


def test_ctrl_c_during_a_request_lets_it_end(start):
    script = start("interrupt_during_request.py")
    assert script.next_line() == "b'chunk1chunk2chunk3'"
    assert script.next_line() == "interrupted"
    assert script.wait() == 0, script.errors


def served(script):
    """Opens a connection and sends a request on it: only then is it certain that the program serves."""
    wire = Wire(("127.0.0.1", script.port()))
    assert wire.get("/").response().status == 200
    return wire


def waiting_request(script, make_gate):
    """Sends a request whose application waits. Returns the connection and the gate."""
    gate = make_gate()
    wire = served(script)
    wire.get(f"/wait?{gate.path}")
    assert script.next_line() == "waiting"
    return wire, gate


def test_ctrl_c_while_the_application_waits_lets_the_request_end(start, make_gate):
    script = start("signals.py")
    wire, gate = waiting_request(script, make_gate)
    with wire:
        script.send()
        gate.open()
        assert wire.response().status == 200
        assert wire.is_closed()
    assert script.next_line() == "interrupted"
    assert script.wait() == 0


def test_a_second_ctrl_c_ends_the_request(start, make_gate):
    script = start("signals.py")
    wire, _ = waiting_request(script, make_gate)
    with wire:
        script.send()
        script.send(signal.SIGUSR1)  # Two equal signals at once become one; this one shows that the first has arrived.
        assert script.next_line().startswith("counted")
        script.send()
        assert script.next_line() == "interrupted"
        assert wire.response().status == 500
    assert script.wait() == 0


def test_a_handler_that_returns_does_not_disturb_the_server(start):
    script = start("signals.py")
    port = script.port()
    for count in range(3):
        assert get(port) == f"{count} times"
        script.send(signal.SIGUSR1)
        assert script.next_line() == f"counted {count + 1}"
    script.send()
    assert script.next_line() == "interrupted"
    assert script.wait() == 0


@pytest.mark.parametrize("is_in_request", [False, True])
def test_an_exception_of_a_signal_handler_leaves_run(start, make_gate, is_in_request):
    script = start("signals.py")
    wire = waiting_request(script, make_gate)[0] if is_in_request else served(script)
    with wire:
        script.send(signal.SIGUSR2)
        assert script.next_line() == "stopped from the handler"
        if is_in_request:
            assert wire.response().status == 500
    assert script.wait() == 0


@pytest.mark.parametrize("is_in_request", [False, True])
def test_a_handler_that_exits_ends_the_program(start, make_gate, is_in_request):
    script = start("signals.py")
    wire = waiting_request(script, make_gate)[0] if is_in_request else served(script)
    with wire:
        script.send(signal.SIGTERM)
        assert script.wait() == 3, script.errors


@pytest.mark.parametrize(("path", "status"), [("/told", 500), ("/length", 200)])
def test_an_exception_of_a_handler_leaves_run_from_any_python_call(start, path, status):
    script = start("signals.py")
    with Wire(("127.0.0.1", script.port())) as wire:
        assert wire.get(path).response().status == status
    assert script.next_line() == "stopped from the handler"
    assert script.wait() == 0


def test_an_exception_of_the_application_is_only_a_500(start):
    script = start("signals.py")
    port = script.port()
    for path in ("/raise", "/exit", "/count-and-exit"):
        with Wire(("127.0.0.1", port)) as wire:
            assert wire.get(path).response().status == 500
    assert script.next_line() == "counted 1"
    assert get(port) == "1 times"
    script.send()
    assert script.next_line() == "interrupted"
    assert script.wait() == 0
    assert "Stop: from the application" in script.errors
    assert "SystemExit: 5" in script.errors


def test_no_request_has_a_time_limit(start):
    script = start("time_limit.py")
    assert get(script.port()) == "[None, None, None, 'extend() takes a number of seconds, not str']"
    script.send()
    assert_ended_by_interrupt(script)


# --- Processes and threads ---


def test_children_of_the_application_and_of_the_program_are_on_their_own(start):
    script = start("forks_in_request.py")
    port = script.port()
    assert get(port, "/returns") == str(script.process.pid)
    inner = int(get(port, "/serves"))
    pid = int(get(inner).removeprefix("inner "))
    assert pid != script.process.pid
    os.kill(pid, signal.SIGINT)
    assert get(port) == str(script.process.pid)
    script.send()
    assert script.next_line() == "interrupted"
    later = script.port()
    pid = int(get(later).removeprefix("inner "))
    os.kill(pid, signal.SIGINT)
    assert re.fullmatch("left [07]", script.next_line())
    assert script.wait() == 0, script.errors


def test_an_application_that_starts_a_server_is_refused_and_still_served(start, tmp_path):
    path = tmp_path / "nested.sock"
    script = start("nested.py", path)
    for _ in range(2):
        with connected(str(path), script) as wire:
            refusals = wire.get("/").response().body.decode().splitlines()
            assert refusals == ["a server is already running in this process"] * 3
    script.send()
    assert_ended_by_interrupt(script)


def test_a_program_that_serves_when_it_is_imported_is_refused_in_a_worker():
    status, _, errors = run("at_import:app", "--bind", "127.0.0.1:0", "--workers", "1", cwd=SCRIPTS)
    assert status == 4
    assert "RuntimeError: a server is already running in this process" in errors


def test_a_subinterpreter_is_refused():
    inner = "try:\n    import arctos\nexcept ImportError as error:\n    print(error)"
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    outer = f"import {module} as them; them.run_string(them.create(), {inner!r})"
    ended = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert "subinterpreter" in ended.stdout


def test_a_server_in_a_thread_ends_with_the_program_and_excludes_another(start):
    script = start("in_thread.py")
    assert script.next_line() == "from a thread"
    assert script.next_line() == "refused: a server is already running in this process"
    assert script.wait() == 0, script.errors


# --- Refused arguments ---


def app(environ, start_response):
    """Never called."""


def test_there_is_one_server_at_a_time():
    with pytest.raises(RuntimeError, match=r"call listen\(wsgi_app, host"):
        arctos.run()
    sock = arctos.listen(app, "127.0.0.1", 0)
    try:
        with pytest.raises(RuntimeError, match="only one can listen"):
            arctos.listen(app, "127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="only one can listen"):
            arctos.run(app, "127.0.0.1", 0)
    finally:
        # A server that failed to run does not count as running.
        sock.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            arctos.run()
    with pytest.raises(RuntimeError, match=r"call listen\(wsgi_app, host"):
        arctos.run()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((app, ("127.0.0.1", 80)), TypeError, "host must be str, not tuple"),
        ((app, None), TypeError, "host must be str, not NoneType"),
        ((app, "127.0.0.1"), TypeError, "port is missing: host '127.0.0.1'"),
        ((app, "127.0.0.1", "80"), TypeError, "port must be int, not str"),
        ((app, "127.0.0.1", True), TypeError, "port must be int, not bool"),
        ((app, "127.0.0.1", 65536), ValueError, "port must be from 0 to 65535, not 65536"),
        ((app, "127.0.0.1", 0, 1024), TypeError, "reuse_port must be bool, not int"),
        ((app, "127.0.0.1", 0, "no"), TypeError, "reuse_port must be bool, not str"),
        ((app, "127.0.0.1", 0, False, "9"), TypeError, "listen_backlog must be int, not str"),
        ((app, "127.0.0.1", 0, False, -1), ValueError, "listen_backlog must be from 0 to 2147483647, not -1"),
        ((app, "127.0.0.1", 0, False, 2**31), ValueError, "listen_backlog must be from 0 to 2147483647"),
        ((app, "unix:/tmp/a\0b"), ValueError, "has a NUL"),
        ((app, "unix:\0a"), ValueError, "has a NUL"),
        ((app, "unix:"), ValueError, "host 'unix:' names no unix socket"),
        ((app, "unix:@"), ValueError, "host 'unix:@' names no unix socket"),
        ((7, "127.0.0.1", 0), TypeError, "wsgi_app must be callable, not int"),
        ((app,), TypeError, "host"),
    ],
)
def test_an_invalid_argument_is_named(arguments, error, words):
    for call in (arctos.listen, arctos.run):
        with pytest.raises(error, match=re.escape(words)):
            call(*arguments)
    with pytest.raises(RuntimeError):
        arctos.run()


def test_an_asgi_application_is_refused_with_advice():
    async def asks(scope, receive, send):
        pass

    with pytest.raises(TypeError, match="is an ASGI application.*a2wsgi"):
        arctos.run(asks, "127.0.0.1", 0)


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="enable_statsd"):
        arctos.run(app, "127.0.0.1", 0, enable_statsd=True)


def test_arguments_without_meaning_for_a_unix_socket_warn_at_the_call(tmp_path):
    with pytest.warns(UserWarning, match="port has no meaning for the unix socket") as port:
        arctos.bind_and_listen(f"unix:{tmp_path}/a", 80).close()
    with pytest.warns(UserWarning, match="reuse_port has no meaning") as reuse_port:
        arctos.bind_and_listen(f"unix:{tmp_path}/b", reuse_port=True).close()
    with pytest.warns(UserWarning, match="port has no meaning") as listened:
        arctos.listen(app, f"unix:{tmp_path}/c", 80).close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        arctos.run()
    assert {warning.filename for warning in [*port, *reuse_port, *listened]} == {__file__}


@pytest.mark.parametrize(
    ("sock", "error", "words"),
    [
        ("socket", TypeError, "sock must be a socket or a descriptor, not str"),
        (True, TypeError, "not bool"),
        (-1, OSError, r"^\[Errno 9\] Bad file descriptor$"),
    ],
)
def test_an_object_that_is_no_socket_is_refused(sock, error, words):
    with pytest.raises(error, match=words):
        arctos.server_run(sock, app)


def test_a_socket_that_does_not_listen_is_refused():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ValueError, match=r"not a listening stream socket: call listen\(\)"):
            arctos.server_run(sock, app)


GOOD = {"enable": False, "host": "127.0.0.1", "port": 8125, "ns": "", "tags": "app:shop"}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"prefix": "x"}, ValueError, "statsd has no key 'prefix'; its keys are enable, host, port, ns, tags"),
        ({"enable": "yes"}, TypeError, "statsd['enable'] must be bool, not str"),
        ({"enable": None}, TypeError, "statsd['enable'] must be bool, not NoneType"),
        ({"enable": 2}, TypeError, "statsd['enable'] must be bool, not int"),
        ({"ns": "\udc80"}, ValueError, "statsd['ns'] must be text that UTF-8 can encode"),
        ({"host": 7}, TypeError, "statsd['host'] must be str, not int"),
        ({"host": "a/b"}, ValueError, "statsd['host'] and ['port'] 'a/b:8125': expected HOST"),
        ({"port": "8125"}, TypeError, "statsd['port'] must be int, not str"),
        ({"port": True}, TypeError, "statsd['port'] must be int, not bool"),
        ({"port": 0}, ValueError, "statsd['port'] must be from 1 to 65535, not 0"),
        ({"ns": b"x"}, TypeError, "statsd['ns'] must be str, not bytes"),
        ({"ns": "x" * 201}, ValueError, "statsd['ns']: expected a text of at most 200 characters"),
        ({"tags": ["app:shop"]}, TypeError, "statsd['tags'] must be str, not list"),
        ({"tags": ",".join(f"tag{n}:{n:0100}" for n in range(20))}, ValueError, "statsd['tags']: expected at most"),
    ],
)
def test_an_invalid_statsd_argument_is_refused_even_if_disabled(change, error, words):
    with pytest.raises(error, match=re.escape(words)):
        arctos.run(app, "127.0.0.1", 0, statsd={**GOOD, **change})
    with socket.socket() as sock, pytest.raises(error, match=re.escape(words)):
        arctos.server_run(sock, app, {**GOOD, **change})


def test_a_statsd_without_enable_is_refused():
    with pytest.raises(ValueError, match=re.escape("statsd['enable'] is missing")):
        arctos.run(app, "127.0.0.1", 0, statsd={"host": "127.0.0.1"})
    with pytest.raises(TypeError, match="statsd must be a dict, not bool"):
        arctos.run(app, "127.0.0.1", 0, statsd=True)


@pytest.mark.parametrize("statsd", [None, {}, GOOD, {"enable": True}, {**GOOD, "host": None, "ns": None, "tags": None}])
def test_a_valid_statsd_argument_is_accepted(statsd):
    with socket.socket() as sock, pytest.raises(ValueError, match="not a listening stream socket"):
        arctos.server_run(sock, app, statsd)
