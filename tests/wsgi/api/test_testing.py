"""`arctos.testing`: real servers in the tests of users, and the pytest fixture `arctos_server`."""

import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from importlib.metadata import entry_points
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from support.processes import children, processes_with, state
from support.server import APPS, PATIENCE_S, clean_environment
from support.waiting import wait_until

from arctos.testing import ServerError, serve

VERSIONED = '''
VERSION = {version!r}

def app(environ, start_response):
    start_response("200 OK", [])
    return [VERSION.encode()]
'''


def responding(text):
    """Returns an application that is a closure, which no other process can import."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [f"{text} {os.getpid()}".encode()]

    return app


def get(server, path="/"):
    try:
        with urlopen(server.url + path, timeout=PATIENCE_S) as response:
            return response.read().decode()
    except HTTPError as error:
        error.close()
        raise


@pytest.fixture
def write_shop(tmp_path, monkeypatch):
    """Writes versions of a module that the server can import, because the test can."""
    monkeypatch.syspath_prepend(tmp_path)
    return lambda code: (tmp_path / "shop_under_test.py").write_text(code)


# --- Starting ---


@pytest.mark.smoke
def test_a_closure_is_served_by_workers_with_its_variables():
    with serve(responding("tea"), workers=2) as server:
        text, pid = get(server).split()
        assert (text, server.addresses) == ("tea", [server.url])
        assert int(pid) in children(server.pid)
        assert len(children(server.pid)) == 2


@pytest.mark.smoke
def test_a_path_is_imported_from_where_the_test_imports(write_shop):
    write_shop(VERSIONED.format(version="one"))
    with serve("shop_under_test:app") as server:
        assert get(server) == "one"


def test_other_threads_of_the_test_do_not_matter():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with serve(responding("tea")) as server:
            assert get(server).startswith("tea")
    end.set()
    thread.join()


def test_several_servers_run_at_the_same_time():
    with serve(responding("tea")) as first, serve(responding("milk")) as second:
        assert (get(first).split()[0], get(second).split()[0]) == ("tea", "milk")
        assert first.stop() == 0
        assert get(second).startswith("milk")


def test_an_application_that_cannot_be_imported_raises_its_traceback(write_shop):
    write_shop("raise LookupError('no database')")
    with pytest.raises(ServerError) as raised:
        serve("shop_under_test:app")
    assert "status 4" in str(raised.value) and "LookupError: no database" in str(raised.value)


def test_a_failing_hook_raises_its_traceback(write_shop):
    write_shop("def connect(worker): raise LookupError('no database')")
    with pytest.raises(ServerError, match="LookupError: no database"):
        serve(responding("tea"), post_fork="shop_under_test:connect")


def test_wrong_options_are_named():
    with pytest.raises(TypeError, match="'worker'; did you mean 'workers'"):
        serve(responding("tea"), worker=2)
    with pytest.raises(TypeError, match="app_or_path"):
        serve(None)
    with pytest.raises(ValueError, match="log_level"):
        serve(responding("tea"), log_level="error")
    with pytest.raises(ValueError, match="log_format"):
        serve(responding("tea"), log_format="json")
    for app in (responding("tea"), "shop:app"):
        with pytest.raises(ServerError, match="status 2:\nerror: .*timeout.*expected"):
            serve(app, timeout="soon")


def test_a_configuration_file_is_read_only_if_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "arctos.toml").write_text("worker = 3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(APPS)
    for app in (responding("tea"), "plain:app"):
        with serve(app) as server:
            assert "arctos.toml" not in server.log
        with pytest.raises(ServerError, match="arctos.toml:1: there is no option 'worker'"):
            serve(app, config="arctos.toml")


def test_a_unix_socket_has_an_address_and_no_url(tmp_path):
    with serve(responding("tea"), bind=f"unix:{tmp_path}/shop.sock") as server:
        assert (server.url, server.addresses) == ("", [f"unix:{tmp_path}/shop.sock"])


# --- Log and output ---


def test_records_have_the_fields_and_the_text_of_an_event():
    def app(environ, start_response):
        raise LookupError('no "tea"')

    with serve(app) as server:
        with pytest.raises(HTTPError, match="500"):
            get(server, "/a")
        record = server.wait_for("application.raised", method="GET")
        assert (record.level, record.fields["path"]) == ("ERROR", "/a")
        assert record.text.startswith("Traceback") and record.text.endswith("\nLookupError: no \"tea\"\n")
        assert record in server.records
        with pytest.raises(HTTPError, match="500"):
            get(server, "/b")
        assert server.wait_for("application.raised", count=2).fields["path"] == "/b"


def test_what_the_application_prints_and_logs_is_captured(capfd):
    def app(environ, start_response):
        print("printed", flush=True)
        logging.getLogger("shop").warning("logged")
        start_response("200 OK", [])
        return [b""]

    print("of the test")  # buffered in this process, and not a second time in its fork
    with serve(app) as server:
        get(server)
    assert server.output == "printed\n"
    assert "\nlogged\n" in server.log
    assert capfd.readouterr() == ("of the test\n", "")


def test_waiting_for_an_event_ends_when_the_server_does():
    with serve(responding("tea")) as server:
        with pytest.raises(ServerError, match="no worker.died in the log after 0.01 s"):
            server.wait_for("worker.died", timeout=0.01)
        server.stop()
        with pytest.raises(ServerError, match="status 0"):
            server.wait_for("worker.died")


# --- Reloading ---


def test_a_reload_loads_new_code_and_keeps_the_old_one_if_it_is_broken(write_shop):
    write_shop(VERSIONED.format(version="one"))
    with serve("shop_under_test:app", workers=2) as server:
        write_shop(VERSIONED.format(version="number two"))
        server.reload()
        assert {get(server) for _ in range(4)} == {"number two"}
        write_shop("raise LookupError('no database')")
        with pytest.raises(ServerError) as raised:
            server.reload()
        assert "LookupError: no database" in str(raised.value)
        assert get(server) == "number two"


def test_a_reload_needs_a_path():
    with serve(responding("tea")) as server:
        with pytest.raises(ServerError, match="module:attr"):
            server.reload()
        assert '"module:attr"' in server.wait_for("reload.refused").fields["reason"]
        assert get(server).startswith("tea")


# --- Stopping ---


@pytest.mark.smoke
def test_a_stop_returns_the_exit_code_and_leaves_no_process():
    server = serve(responding("tea"), workers=2)
    workers = children(server.pid)
    assert (server.stop(), server.stop()) == (0, 0)
    assert [pid for pid in (server.pid, *workers) if state(pid) != "X"] == []
    with pytest.raises(URLError):
        get(server)


def test_a_server_that_dies_in_the_block_is_an_error():
    with pytest.raises(ServerError, match="status -9"):
        with serve(responding("tea")) as server:
            os.kill(server.pid, signal.SIGKILL)
            wait_until(lambda: state(server.pid) == "X")


def test_an_exception_in_the_block_aborts_running_requests():
    def app(environ, start_response):
        environ["wsgi.errors"].write("begun\n")
        threading.Event().wait()

    with pytest.raises(LookupError, match="of the test"):
        with serve(app, timeout=0, graceful_timeout="10m") as server:
            client = threading.Thread(target=lambda: pytest.raises(OSError, get, server))
            client.start()
            server.wait_for("wsgi.errors")
            raise LookupError("of the test")
    client.join()


def test_a_stop_does_not_wait_for_processes_of_the_application():
    def app(environ, start_response):
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        start_response("200 OK", [])
        return [str(process.pid).encode()]

    with serve(app) as server:
        pid = int(get(server))
        try:
            assert server.stop() == 0
        finally:
            os.kill(pid, signal.SIGKILL)


KILLED = '''
import sys, threading
from arctos.testing import serve

def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]

server = serve({app}, workers=2)
print(server.url, flush=True)
threading.Event().wait()
'''


@pytest.mark.parametrize("app", ["app", '"plain:app"'])
def test_the_server_stops_when_the_test_runner_is_killed(app):
    mark = f"TESTING_MARK={os.getpid()}-{app}"
    name, value = mark.split("=")
    environment = {**clean_environment(), name: value, "PYTHONPATH": str(APPS)}
    runner = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(app=app)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert runner.stdout.readline().startswith("http://"), "it has started"
    assert len(processes_with(mark)) == 4
    runner.kill()
    runner.communicate()
    wait_until(lambda: processes_with(mark) == [])


# --- The pytest fixture ---

FIXTURE = '''
import os, signal
from urllib.request import urlopen

def app(environ, start_response):
    environ["wsgi.errors"].write("a note of the application\\n")
    start_response("200 OK", [])
    return [b"tea"]

def test_good(arctos_server):
    first, second = arctos_server(app), arctos_server(app, workers=2)
    assert urlopen(first.url).read() == urlopen(second.url).read() == b"tea"

def test_bad(arctos_server):
    assert urlopen(arctos_server(app).url).read() == b"milk"

def test_deadly(arctos_server):
    os.kill(arctos_server(app).pid, signal.SIGKILL)
'''


def has_entry_point():
    """A development build has none."""
    return any(point.value == "arctos.pytest_plugin" for point in entry_points(group="pytest11"))


def run_pytest(directory, *options, **variables):
    (directory / "test_shop.py").write_text(FIXTURE)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=directory, env={**clean_environment(), **variables}, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip


def test_the_fixture_shows_the_log_of_a_test_that_fails(tmp_path):
    # Plugins of other packages may warn.
    options = ["-p", "arctos.pytest_plugin", "-W", "error"]
    ended = run_pytest(tmp_path, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert "1 failed, 2 passed, 1 error" in ended.stdout
    assert ended.stdout.count("The log of arctos at http://127.0.0.1:") == 2
    assert "a note of the application" in ended.stdout
    assert "ServerError: arctos exited with status -9" in ended.stdout


def test_the_fixture_is_there_without_a_configuration(tmp_path):
    if not has_entry_point():
        pytest.skip("a development build has no entry points")
    assert "arctos_server" in run_pytest(tmp_path, "--fixtures").stdout
    assert "arctos_server" not in run_pytest(tmp_path, "--fixtures", "-p", "no:arctos").stdout
