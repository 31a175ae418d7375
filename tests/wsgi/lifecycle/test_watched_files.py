"""`--reload`: the code that is on disk serves, whatever happened to its files, and broken code never does."""

import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.server import EXIT_DONE, Server
from support.waiting import wait_until

FILES_CHANGED = "reload.files_changed"  # path, files
RELOAD_DONE = "reload.done"
RELOAD_FAILED = "reload.failed"
WATCHING = "reload.watching"  # engine, directories
POLLING = "reload.polling"  # reason
CHANGE_AWAITED = "reload.change_awaited"
WATCHER_DIED = "reload.watcher_died"  # status, restarted

GOOD = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{version}"]
"""
USER_NAMESPACE = ["unshare", "--user", "--map-root-user"]


class Project:
    """The module `shop` in a directory."""

    def __init__(self, directory):
        self.directory = directory

    def write(self, name, text):
        """Writes a file in place, as many editors do."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def good(self, version, *before):
        """Writes code that works and answers with this version."""
        return self.write("shop.py", "\n".join([*before, GOOD.format(version=version)]))

    def serve(self, serve, *options, **more):
        """Starts a server that watches the project."""
        more = {"workers": None, "cwd": self.directory, **more}
        return serve("shop:app", "--reload", *options, **more)

    @contextmanager
    def starting(self):
        """A server that may not become ready."""
        server = self.serve(Server)
        try:
            yield server
            server.stop()
        finally:
            server.kill()


@pytest.fixture
def project(tmp_path):
    """A project whose code works."""
    made = Project(tmp_path / "project")
    made.good("000")
    return made


def get(server):
    """Returns the body of a response, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status == 200, body
        return body
    finally:
        connection.close()


def wait_for_version(server, version):
    """Waits until a response has this version."""
    wait_until(lambda: get(server) == version)


@contextmanager
def constant_client(server):
    """Requests all the time. Afterwards, no request has failed; yields the versions of the responses."""
    is_over, failures, versions = threading.Event(), [], set()

    def run():
        while not is_over.is_set():
            try:
                versions.add(get(server))
            except (OSError, http.client.HTTPException, AssertionError) as error:
                failures.append(error)
            time.sleep(0.005)

    client = threading.Thread(target=run)
    client.start()
    try:
        yield versions
    finally:
        is_over.set()
        client.join()
    assert failures == []


class Editor:
    """Edits a project as people and their tools do: some edits break it."""

    def __init__(self, project, seed):
        self.project, self.dice = project, random.Random(seed)

    def edit(self, number):
        """Makes one edit; returns whether the code works afterwards."""
        broken = ["def app(:\n", "import no_such_module\n", "1 / 0\n", "app = 5\n"]
        kind = self.dice.randrange(10)
        if kind < 3:
            self.project.write("shop.py", self.dice.choice(broken))
            return False
        if kind == 3:
            (self.project.directory / "shop.py").unlink(missing_ok=True)
            return False
        if kind == 4:  # a new file beside the module, and a package
            self.project.write(f"helpers/part{number}.py", f"NUMBER = {number}\n")
            self.project.write("helpers/__init__.py", f"from helpers.part{number} import NUMBER\n")
            self.project.good(f"{number:03}", "import helpers")
        elif kind == 5:  # a file that is written elsewhere and renamed
            new = self.project.write(".shop.py.new", GOOD.format(version=f"{number:03}"))
            os.replace(new, self.project.directory / "shop.py")
        else:  # as many bytes as before, most likely within the same second
            self.project.good(f"{number:03}")
        return True


@pytest.mark.smoke
def test_200_edits_never_stop_the_service_and_the_last_good_code_serves(serve, project):
    server = project.serve(serve).ready()
    editor = Editor(project, seed=13)
    with constant_client(server) as versions:
        for number in range(1, 201):
            is_good = editor.edit(number)
            if number % 20 == 0:
                if not is_good:
                    project.good(f"{number:03}")
                wait_for_version(server, f"{number:03}")
            else:
                time.sleep(editor.dice.random() * 0.03)  # paces the edits, so that reloads begin between them
    # The client may miss the last version, and those that nobody waited for.
    assert get(server) == "200" and len(versions) > 5
    assert server.events(RELOAD_DONE), server.log


def test_one_worker_serves_by_default_with_a_reason(project):
    printed = subprocess.run(
        [sys.executable, "-m", "arctos", "--reload", "--print-config", "shop:app"],
        cwd=project.directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = {line.split()[0]: line for line in printed.splitlines()}
    assert lines["--workers"].split()[1:] == ["1", "because", "of", "--reload"]
    assert lines["--graceful-timeout"].split()[1:] == ["3s", "because", "of", "--reload"]


def test_a_syntax_error_is_shown_and_the_next_edit_tries_again(serve, project):
    server = project.serve(serve).ready()
    project.write("shop.py", "def app(environ, start_response):\n    return [b'x'\n")
    server.wait_for(RELOAD_FAILED)
    shown = server.wait_for_text("worker.boot_failed", "SyntaxError").text
    assert 'shop.py", line 2' in shown and "return [b'x'" in shown and "^" in shown, shown
    assert get(server) == "000"
    project.good("001")
    wait_for_version(server, "001")


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
def test_an_edit_of_the_same_size_and_second_is_not_hidden_by_bytecode(serve, project, options):
    second = int(time.time())
    os.utime(project.good("000"), (second, second))
    server = project.serve(serve, *options).ready()
    for number in range(1, 4):
        os.utime(project.good(f"{number:03}"), (second, second))
        wait_for_version(server, f"{number:03}")


def test_directories_without_code_are_ignored_and_new_ones_are_watched(serve, project):
    project.write("env/pyvenv.cfg", "")
    server = project.serve(serve).ready()
    server.wait_for(WATCHING)
    for name in ("__pycache__/a.py", ".git/b.py", "node_modules/c.py", "env/d.py", "notes.txt", ".#shop.py", "4913"):
        project.write(name, "")
    project.good("001", "import views.pages")
    project.write("views/pages.py", "")
    wait_for_version(server, "001")
    # On a busy machine, the first edit may be reported together with those before it, under the name of shop.py.
    for number in range(5):
        since = server.position()
        project.write("views/pages.py", f"EDITED = {number}")
        changed = server.wait_for(FILES_CHANGED, since=since).pairs["path"]
        server.wait_for(RELOAD_DONE, since=since)
        if changed == "views/pages.py":
            break
    assert changed == "views/pages.py", server.log
    named = {line.pairs["path"] for line in server.events(FILES_CHANGED)}
    assert named <= {"shop.py", "views/pages.py"}, server.log


def test_packages_elsewhere_and_extra_files_are_watched(serve, project, tmp_path):
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.write("sibling/__init__.py", "")
    project.write("templates/page.html", "old")
    project.good("000", "import sibling")
    extra = ("--reload-extra", "templates")
    server = project.serve(serve, *extra, env={"PYTHONPATH": str(elsewhere.directory)}).ready()
    for write, path in [
        (lambda: elsewhere.write("sibling/__init__.py", "EDITED = True"), "sibling/__init__.py"),
        (lambda: project.write("templates/page.html", "new"), "templates/page.html"),
    ]:
        since = server.position()
        write()
        assert server.wait_for(FILES_CHANGED, since=since).pairs["path"].endswith(path)
        server.wait_for(RELOAD_DONE, since=since)


def test_polling_notices_edits_new_files_and_removed_ones(serve, project):
    server = project.serve(serve, "--reload-engine", "poll").ready()
    assert server.wait_for(WATCHING).pairs["engine"] == "poll"
    project.write("helper.py", "")
    project.good("001", "import helper")
    wait_for_version(server, "001")
    (project.directory / "helper.py").unlink()
    server.wait_for(RELOAD_FAILED)
    project.good("002")
    wait_for_version(server, "002")


def test_files_are_polled_where_the_kernel_has_no_watches_left(project):
    limit = "echo 1 > /proc/sys/user/max_inotify_watches"
    namespace = [*USER_NAMESPACE, "sh", "-c"]
    if subprocess.run([*namespace, limit], capture_output=True).returncode != 0:
        pytest.skip("this machine grants no user namespace")
    project.write("package/__init__.py", "")
    command = [*namespace, f'{limit} && exec "$@"', "sh", sys.executable, "-m", "arctos"]
    with Server("shop:app", "--reload", workers=None, command=command, cwd=project.directory) as server:
        assert "max_user_watches" in server.wait_for(POLLING).pairs["reason"]
        server.ready()
        project.good("001")
        wait_for_version(server, "001")


def test_a_start_with_broken_code_waits_for_a_change(project):
    project.write("shop.py", "def app(:\n")
    with project.starting() as server:
        server.wait_for(CHANGE_AWAITED)
        project.write("shop.py", "import no_such_module\n")
        server.wait_for(CHANGE_AWAITED, count=2)
        project.good("001")
        server.ready()
        assert get(server) == "001"


def test_ctrl_c_ends_a_server_that_waits_for_a_change(project):
    project.write("shop.py", "def app(:\n")
    with project.starting() as server:
        server.wait_for(CHANGE_AWAITED)
        server.send(signal.SIGINT)
        assert server.wait() == EXIT_DONE


def test_a_watcher_that_dies_is_replaced_and_nothing_is_missed(serve, project):
    server = project.serve(serve).ready()
    server.wait_for(WATCHING)
    kill_watcher(server)
    project.good("001")
    assert server.wait_for(WATCHER_DIED).pairs["restarted"] == "yes"
    wait_for_version(server, "001")
    project.good("002")
    wait_for_version(server, "002")


def test_a_watcher_that_dies_while_the_server_waits_is_replaced(project):
    project.write("shop.py", "def app(:\n")
    with project.starting() as server:
        server.wait_for(CHANGE_AWAITED)
        kill_watcher(server)
        assert server.wait_for(WATCHER_DIED).pairs["restarted"] == "yes"
        project.good("001")
        server.ready()
        assert get(server) == "001"


def kill_watcher(server):
    """Kills the process that watches files."""
    time.sleep(1.1)  # one that dies at once is not replaced
    comm = {pid: Path(f"/proc/{pid}/comm").read_text() for pid in server.leftovers()}
    (watcher,) = (pid for pid, name in comm.items() if "watcher" in name)
    os.kill(watcher, signal.SIGKILL)


def test_an_application_object_cannot_be_reloaded(tmp_path):
    program = "import arctos, sys\nsys.exit(arctos.serve(lambda environ, start: [], reload=True, bind='127.0.0.1:0'))\n"
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1 and "--reload: serve() was given an application object" in ended.stderr, ended
