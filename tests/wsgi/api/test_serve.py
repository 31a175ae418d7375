"""`arctos.serve()`: the supervisor from Python."""

import json
import os
import pwd
import re
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.script import SCRIPTS, Script, get
from support.server import SERVER_READY, LogLine

import arctos


@pytest.fixture
def start():
    """Starts a program that calls serve(), and kills what is left of it after the test."""
    with ExitStack() as stack:

        def begin(what, **options):
            options = {"bind": "127.0.0.1:0", "workers": 1, **options}
            environment = options.pop("environment", {})
            return stack.enter_context(Script("supervised.py", what, json.dumps(options), **environment))

        yield begin


def event(script, name):
    """Waits for the first line of an event, and returns its pairs."""
    line = script.error_line(lambda text: (found := LogLine.parse(text)) is not None and found.event == name)
    return LogLine.parse(line).pairs


def ports(script):
    """Returns the ports that it logs as its addresses."""
    return [int(port) for port in re.findall(r"http://127\.0\.0\.1:(\d+)", event(script, SERVER_READY)["listen"])]


def assert_program_goes_on(script, code=0):
    """The program printed everything once, with its signal handlers and directory restored."""
    said = []
    while (line := script.next_line()) is not None:
        said.append(line)
    assert said == ["before", f"code {code}", "hung up", f"interrupted {SCRIPTS}"]
    assert script.wait() == code, script.errors


@pytest.mark.smoke
def test_an_application_is_served_by_workers_that_were_forked_with_it(start):
    script = start("app", workers=2, env={"SHOP": "tea"}, graceful_timeout=5.5, server_header=False, chdir="/")
    (port,) = ports(script)
    assert get(port) == f"tea {script.process.pid}"
    assert event(script, SERVER_READY)["workers"] == "2"
    script.send(signal.SIGTERM)
    assert_program_goes_on(script)


def test_a_factory_is_called_in_the_worker(start):
    script = start("make_app", factory=True, env=["SHOP=coffee"])
    assert get(ports(script)[0]).startswith("coffee ")
    script.send(signal.SIGINT)
    assert_program_goes_on(script)


def test_a_path_is_imported_by_the_workers(start):
    script = start("hello:wsgi_app", bind=["127.0.0.1:0", "127.0.0.1:0"], environment={"ARCTOS_LOG_FORMAT": "text"})
    for port in ports(script):
        assert get(port, "/one") == "hello"
    script.send(signal.SIGTERM)
    assert_program_goes_on(script)


def test_environment_variables_apply_to_omitted_arguments(start):
    script = start("app", workers=None, environment={"ARCTOS_WORKERS": "3"})
    assert event(script, SERVER_READY)["workers"] == "3"
    script.send(signal.SIGTERM)
    assert_program_goes_on(script)


def test_a_reload_of_an_object_is_refused_with_the_reason(start):
    script = start("app")
    (port,) = ports(script)
    script.send(signal.SIGHUP)
    assert "module:attr" in event(script, "reload.refused")["reason"]
    assert get(port)
    script.send(signal.SIGTERM)
    assert_program_goes_on(script)


def test_the_program_keeps_its_exit_handlers_directory_and_limits():
    with Script("supervised_home.py") as script:
        theirs = Path(get(ports(script)[0]))
        assert theirs.is_dir()
        script.send(signal.SIGTERM)
        assert script.next_line() == "end of a worker True"
        assert script.next_line() == "code 0 True True"
        assert script.next_line() == "end of the program True"
        assert script.wait() == 0, script.errors
        assert not theirs.exists()


def test_a_program_without_standard_output_is_served():
    with Script("supervised_home.py", "closed") as script:
        assert get(ports(script)[0])
        script.send(signal.SIGTERM)
        assert script.next_line() == "code 0 True True"
        assert script.wait() == 0, script.errors


SERVES_ITS_OWN_SOCKET = """
import socket, arctos

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]

own = socket.create_server(("127.0.0.1", 0))
print(own.getsockname()[1], flush=True)
code = arctos.serve(app, bind=f"fd://{own.fileno()}", workers=1)
with socket.create_connection(own.getsockname()):
    own.accept()[0].close()
print("code", code, "and its own again", flush=True)
"""


SERVES_AND_TELLS_WHETHER_IT_ADOPTS = """
import ctypes, arctos

def app(environ, start_response):
    start_response("200 OK", [])
    return []

def adopts_orphans():
    found = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(37, ctypes.byref(found), 0, 0, 0) == 0  # PR_GET_CHILD_SUBREAPER
    return found.value

before = adopts_orphans()
arctos.serve(app, bind="127.0.0.1:0", workers=1, preload=True)
print(before, adopts_orphans(), flush=True)
"""


def test_the_program_does_not_adopt_orphans_afterwards(tmp_path):
    (tmp_path / "adopts.py").write_text(SERVES_AND_TELLS_WHETHER_IT_ADOPTS)
    with Script("adopts.py", directory=tmp_path) as script:
        event(script, SERVER_READY)
        script.send(signal.SIGTERM)
        assert script.next_line() == "0 0"
        assert script.wait() == 0, script.errors


def test_the_program_gets_its_socket_back_afterwards(tmp_path):
    (tmp_path / "own.py").write_text(SERVES_ITS_OWN_SOCKET)
    with Script("own.py", directory=tmp_path) as script:
        assert get(script.port()) == "hello"
        event(script, SERVER_READY)
        script.send(signal.SIGTERM)
        assert script.next_line() == "code 0 and its own again"
        assert script.wait() == 0, script.errors


STARTS_A_THREAD_IN_EVERY_CHILD = """
import os, threading, arctos

found = []

def look():
    with open("/proc/thread-self/status") as status:
        fields = dict(line.rstrip().split(":", 1) for line in status)
    found.append(" ".join(fields[name].split()[0] for name in ("Uid", "CapBnd", "NoNewPrivs")))

def start_thread():
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

def app(environ, start_response):
    start_response("200 OK", [])
    return [found[0].encode()]

os.register_at_fork(after_in_child=start_thread)
arctos.serve(app, bind="127.0.0.1:0", workers=1, user="nobody")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_a_thread_that_starts_in_a_new_worker_has_no_privileges(tmp_path):
    (tmp_path / "threads.py").write_text(STARTS_A_THREAD_IN_EVERY_CHILD)
    with Script("threads.py", directory=tmp_path) as script:
        uid, bounding_set, no_new_privileges = get(ports(script)[0]).split()
        assert (int(uid), int(bounding_set, 16), no_new_privileges) == (pwd.getpwnam("nobody").pw_uid, 0, "1")
        script.send(signal.SIGTERM)
        assert script.wait() == 0, script.errors


def test_other_threads_are_named():
    is_over = threading.Event()
    other = threading.Thread(target=is_over.wait, name="the other one")
    other.start()
    try:
        with pytest.raises(RuntimeError, match="serve[(][)] forks.*the other one"):
            arctos.serve(app, bind="127.0.0.1:0", workers=1)
    finally:
        is_over.set()
        other.join()


@pytest.mark.parametrize(("what", "code"), [("no_such_module:app", 4), ("hello:nothing", 4)])
def test_a_failed_start_returns_an_exit_code(start, what, code):
    assert_program_goes_on(start(what), code)


def app(environ, start_response):
    """Never called."""


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"worker": 2}, TypeError, "serve() has no option 'worker'; did you mean 'workers'?"),
        ({"graceful-timeout": 2}, TypeError, "serve() has no option 'graceful-timeout'; did you mean 'graceful_timeout'?"),
        ({"app": "x:y"}, TypeError, "serve() has no option 'app'"),
        ({"qqqq": "x:y"}, TypeError, "serve() has no option 'qqqq'"),
        ({"workers": "many"}, ValueError, "workers='many': expected a whole number"),
        ({"workers": 0}, ValueError, "workers='0': expected a whole number"),
        ({"workers": [1]}, TypeError, "workers must be str, int, float or bool, not list"),
        ({"bind": 1.5}, ValueError, "bind='1.5': expected"),
        ({"bind": [None]}, TypeError, "bind must be str, int, float or bool, not NoneType"),
        ({"graceful_timeout": "soon"}, ValueError, "graceful_timeout='soon': expected"),
        ({"log_level": "loud"}, ValueError, "log_level='loud': expected debug, info"),
        ({"env": {"A": 1}}, TypeError, "env must have str"),
        ({"env": {"A=B": "c"}}, ValueError, "env must have names without '=', not 'A=B'"),
        ({"env": {"A": "b\0"}}, ValueError, "env='A=b\\x00': expected text without NUL"),
        ({"bind": ["\0"]}, ValueError, "bind='\\x00': expected text without NUL"),
        ({"chdir": "/no/such"}, ValueError, "chdir='/no/such': cannot use the directory /no/such"),
    ],
)
def test_a_wrong_option_is_named(options, error, words):
    with pytest.raises(error, match=re.escape(words)):
        arctos.serve(app, **options)


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        (7, TypeError, "app_or_path must be 'module:attr' or callable, not int"),
        ("shop.py", ValueError, "app_or_path='shop.py': expected a module"),
        ("shop:a b", ValueError, "expected MODULE:ATTR"),
    ],
)
def test_an_object_that_cannot_be_served_is_named(what, error, words):
    with pytest.raises(error, match=re.escape(words)):
        arctos.serve(what)
