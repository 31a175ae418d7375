"""`manage.py runarctos` and `manage.py runserver` in a project that `django-admin startproject` has made."""

import os
import re
import shutil
import signal
import sys

import pytest
from arctos.arctos import option_table
from support.frameworks import printed_options, run_program
from support.script import Script, get
from support.server import EXIT_USAGE
from support.wire import Wire

APPS = "'arctos.contrib.django', 'arctos.contrib.django.runserver', "
VIEWS = """
import os, sys
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path

def index(request):
    return HttpResponse(" ".join(["first", str(os.getpid()), str(request.META["wsgi.multiprocess"]), *sys.argv[1:]]))

urlpatterns = [path("", index), path("page", lambda request: render(request, "page.html"))]
"""


class Project:
    """A project, a copy of a new one."""

    def __init__(self, new, directory):
        self.directory = directory
        self.manage = [sys.executable, str(directory / "manage.py")]
        shutil.copytree(new, directory, dirs_exist_ok=True)
        settings = directory / "shop" / "settings.py"
        settings.write_text(settings.read_text().replace("INSTALLED_APPS = [", f"INSTALLED_APPS = [{APPS}"))
        settings.write_text(settings.read_text().replace("'DIRS': []", "'DIRS': ['templates']"))
        (directory / "templates").mkdir()
        self.add_setting("ALLOWED_HOSTS = ['test']")
        self.write("urls.py", VIEWS)

    def write(self, name, source):
        path = self.directory / "shop" / name
        before = path.stat().st_mtime
        path.write_text(source)
        os.utime(path, (before + 10, before + 10))  # so that no cached bytecode is taken for it

    def add_setting(self, line):
        settings = self.directory / "shop" / "settings.py"
        self.write("settings.py", settings.read_text() + line + "\n")

    def run(self, *words, **more):
        return run_program(*self.manage, *words, cwd=self.directory, **more)

    def serve(self, serve, *words, cwd=None, workers=1, **more):
        return serve("", bind=[], workers=workers, command=[*self.manage, *words], cwd=cwd or self.directory, **more)


@pytest.fixture(scope="module")
def new(tmp_path_factory):
    directory = tmp_path_factory.mktemp("new")
    status, said = run_program(sys.executable, "-m", "django", "startproject", "shop", ".", cwd=directory)
    assert status == 0, said
    return directory


@pytest.fixture
def project(new, tmp_path):
    return Project(new, tmp_path)


def test_runarctos_becomes_the_server_and_a_reload_loads_new_code(serve, project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    server = project.serve(serve, "runarctos", "127.0.0.1:0", workers=2, cwd=elsewhere)
    assert server.wait_for("server.starting").pairs["pid"] == str(server.pid)
    assert get(server.port).split()[:3:2] == ["first", "True"]
    project.write("urls.py", VIEWS.replace("first", "second"))
    server.send(signal.SIGHUP)
    server.wait_for("reload.done")
    assert get(server.port).startswith("second ")


def test_runarctos_takes_the_options_of_arctos(project):
    (project.directory / "arctos.toml").write_text("header-timeout = 8\nworkers = 7\n")
    words = ["runarctos", "--preload", "8123", "-w", "3", "--env=A=b c", "--env=D=", "--settings=shop.settings"]
    found = printed_options(*project.manage, *words, cwd=project.directory, env={"ARCTOS_KEEP_ALIVE": "7s"})
    assert found["--bind"] == ("127.0.0.1:8123", "command line")
    assert found["--workers"][0] == "3" and found["--preload"][0] == "on" and found["--keep-alive"][0] == "7s"
    assert found["--header-timeout"][0] == "8s"
    assert found["MODULE:ATTR"][0] == "shop.wsgi:application"


def test_runarctos_help_has_all_options_except_those_of_django(project):
    status, said = project.run("runarctos", "--help")
    assert status == 0 and "--print-config" in said and "--check" in said
    missing = {row[0] for row in option_table() if not re.search(rf"--{row[0]}\b", said)}
    assert missing == {"factory"}


def test_runarctos_serves_what_django_does_without_wsgi_application(project):
    project.add_setting("WSGI_APPLICATION = None")
    status, said = project.run("runarctos", "--check")
    assert status == 0 and said.startswith("django.core.wsgi:get_wsgi_application() can be served\n"), said


@pytest.mark.parametrize(
    ("words", "setting", "answer"),
    [
        (["--threads", "4", "--workers", "4"], "", "error: --threads: a worker runs one request at a time; raise --workers instead\n"),
        ([], "WSGI_APPLICATION = 'wsgi'", "WSGI_APPLICATION = 'wsgi' in the settings does not name a module and an attribute."),
        ([], "ROOT_URLCONF = 'nowhere'", "No module named 'nowhere'"),
    ],
)
def test_runarctos_says_what_is_wrong(project, words, setting, answer):
    project.add_setting(setting)
    status, said = project.run("runarctos", "0", *words)
    assert status in (1, EXIT_USAGE) and answer in said, said


def test_runserver_checks_the_project_and_serves_static_files(serve, project):
    server = project.serve(serve, "runserver", "0", workers=None)
    with Wire(("127.0.0.1", server.port)) as wire:
        page = wire.get("/").response().body.decode()
        assert page.endswith(" False runserver 0"), page
        assert wire.get("/static/admin/css/base.css").response().status == 200
        assert wire.get("/missing", "Connection: close").response().status == 404
    server.stop()
    printed = ("Performing system checks...\n", "(0 silenced).\n", "unapplied migration(s)", "at http://127.0.0.1:0/")
    for line in printed:
        assert line in server.output.decode(), server.output
    assert '] "GET / HTTP/1.1" 200 ' in server.log and '"GET /missing HTTP/1.1" 404 ' in server.log


def test_runserver_reads_changed_templates_without_a_reload(serve, project):
    page = project.directory / "templates" / "page.html"
    page.write_text("first")
    server = project.serve(serve, "runserver", "0", workers=None)
    assert get(server.port, "/page") == "first"
    page.write_text("second")
    assert get(server.port, "/page") == "second"


def test_runserver_checks_and_serves_new_code_when_a_file_is_saved(serve, project):
    server = project.serve(serve, "runserver", "0", workers=None)
    project.write("urls.py", VIEWS.replace("urlpatterns =", "handler404 = 'nowhere'\nurlpatterns ="))
    server.wait_for_text("worker.boot_failed", "(urls.E008)")
    assert get(server.port).startswith("first ")
    position = server.position()
    project.write("urls.py", VIEWS.replace("first", "second"))
    server.wait_for("reload.done", since=position)
    assert get(server.port).startswith("second ")
    server.stop()
    assert server.output.decode().count("(0 silenced).") >= 2


def test_runserver_noreload_fails_with_the_errors_of_system_checks(project):
    project.add_setting("STATICFILES_DIRS = 'no list'")
    status, said = project.run("runserver", "--noreload", "0")
    assert status == 1 and "(staticfiles.E001)" in said and "Traceback" not in said, said


@pytest.mark.parametrize(
    ("words", "bound", "workers"),
    [
        (["-6"], "[::1]:8000", "1"),
        (["8001"], "127.0.0.1:8001", "1"),
        (["0:8001", "--workers", "2"], "0.0.0.0:8001", "2"),
    ],
)
def test_runserver_listens_where_that_of_django_would(project, words, bound, workers):
    (project.directory / "arctos.toml").write_text("workers = 7\n")
    found = printed_options(*project.manage, "runserver", *words, cwd=project.directory, env={"PORT": "5"})
    assert (found["--bind"][0], found["--workers"][0], found["--timeout"][0]) == (bound, workers, "0")


def test_runserver_noreload_serves_in_its_own_process(project):
    words = ["manage.py", "runserver", "--noreload", "0"]
    with Script(*words, directory=project.directory) as script:
        while not (line := script.next_line()).startswith("Starting arctos "):
            assert line is not None, script.errors
        port = int(line.rsplit(":", 1)[1].rstrip("/"))
        assert get(port).split()[1] == str(script.process.pid)
        status, said = project.run(*words[1:3], str(port))
        assert status == 1 and "That port is already in use." in said
        script.send(signal.SIGINT)
        assert script.wait() == 0
        assert '"GET / HTTP/1.1" 200 ' in script.errors


def test_a_check_warns_if_another_runserver_takes_precedence(project):
    assert project.run("check") == (0, "System check identified no issues (0 silenced).\n")
    project.add_setting("INSTALLED_APPS.remove('arctos.contrib.django.runserver')")
    project.add_setting("INSTALLED_APPS.append('arctos.contrib.django.runserver')")
    status, said = project.run("check")
    assert status == 0 and "(arctos.W001)" in said and "the command of django.contrib.staticfiles takes" in said, said


def test_runserver_noreload_refuses_options_that_do_not_apply(project):
    status, said = project.run("runserver", "--noreload", "--workers", "3")
    assert status == 1 and "--workers=3 does not apply" in said
