"""The usual mistakes in a Django project, which Django reports at the first request, are found before a worker serves."""

import os
import signal

import pytest
from support.server import APPS, EXIT_DONE, EXIT_NOT_IMPORTABLE, run
from support.wire import Wire

BROKEN = "urlpatterns = [\n    path('broken'\n"
FILES = {
    "settings.py": "SECRET_KEY = 'only for tests'\nROOT_URLCONF = 'shop.urls'\nALLOWED_HOSTS = ['*']\n",
    "__init__.py": "",
    "wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "urls.py": "from django.urls import include, path\nurlpatterns = [path('more/', include('shop.more'))]\n",
    "more.py": "from django.urls import path\nfrom shop import views\nurlpatterns = [path('', views.index)]\n",
    "views.py": "from django.http import HttpResponse\ndef index(request): return HttpResponse('fine')\n",
}
WRAPPERS = {
    "whitenoise": "from whitenoise import WhiteNoise\napplication = WhiteNoise(application)\n",
    "a function": "inner = application\ndef application(environ, start_response): return inner(environ, start_response)\n",
    "a class": "class Sentry:\n    __slots__ = ('app',)\n    def __init__(self, app): self.app = app\n"
    "    def __call__(self, environ, start_response): return self.app(environ, start_response)\n"
    "application = Sentry(application)\n",
}


class Shop:
    """A project in a temporary directory."""

    def __init__(self, directory):
        self.directory = directory
        self.environment = {"DJANGO_SETTINGS_MODULE": "shop.settings"}
        (directory / "shop").mkdir()
        for name, source in FILES.items():
            self.write(name, source)

    def write(self, name, source):
        path = self.directory / "shop" / name
        before = path.stat().st_mtime if path.exists() else 0
        path.write_text(source)
        os.utime(path, (before + 10, before + 10))  # so that no cached bytecode is taken for it

    def add(self, name, source):
        self.write(name, FILES[name] + source)

    def serve(self, serve, *options, **more):
        return serve("shop.wsgi", *options, cwd=self.directory, env=self.environment, **more)

    def run(self, *options):
        return run(*options, "shop.wsgi", cwd=self.directory, env=self.environment)

    def is_fine(self, server):
        with Wire(("127.0.0.1", server.port)) as wire:
            return wire.get("/more/", "Connection: close").response().body == b"fine"


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.mark.parametrize("options", [[], ["--preload"], ["--check"]], ids=str)
def test_a_broken_included_urlconf_fails_the_start_with_one_traceback(shop, options):
    shop.write("more.py", BROKEN)
    bind = [] if options == ["--check"] else ["--bind", "127.0.0.1:0"]
    status, _, said = shop.run(*bind, *options)
    assert status == EXIT_NOT_IMPORTABLE
    assert "loading Django's URLconf shop.urls (ROOT_URLCONF) failed" in said
    assert said.count("SyntaxError") == 1 and "more.py" in said


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_django_is_found_behind_a_wrapper(shop, wrapper):
    shop.add("wsgi.py", WRAPPERS[wrapper])
    assert shop.run("--check")[0] == EXIT_DONE
    shop.write("urls.py", BROKEN)
    status, _, said = shop.run("--check")
    assert status == EXIT_NOT_IMPORTABLE and "ROOT_URLCONF" in said


def test_invalid_url_patterns_are_found_before_a_request(shop):
    shop.write("more.py", "urlpatterns = None\n")
    status, _, said = shop.run("--check")
    assert status == EXIT_NOT_IMPORTABLE and "ImproperlyConfigured" in said


@pytest.mark.parametrize("options", [[], ["--preload"]], ids=str)
def test_a_reload_of_a_broken_urlconf_only_shows_its_traceback(serve, shop, tmp_path, options):
    admin = f"unix:{tmp_path / 'admin'}"
    server = shop.serve(serve, "--admin-bind", admin, *options)
    before = server.worker_pids()
    shop.write("urls.py", BROKEN)
    status, _, said = run("ctl", "reload", "--wait", "--admin", admin)
    assert status == 1 and "SyntaxError" in said and "urls.py" in said
    assert server.worker_pids() == before and shop.is_fine(server)
    shop.write("urls.py", FILES["urls.py"])
    server.send(signal.SIGHUP)
    server.wait_for("reload.done")
    assert shop.is_fine(server)


@pytest.mark.parametrize("debug", [False, True])
def test_a_failed_reload_check_shows_the_error_that_django_hides(serve, shop, tmp_path, debug):
    admin = f"unix:{tmp_path / 'admin'}"
    shop.add("settings.py", f"DEBUG = {debug}\nLOGGING_CONFIG = None\n")
    server = shop.serve(serve, "--admin-bind", admin, "--reload-check", "/more/")
    shop.write("views.py", "def index(request): raise LookupError('no stock')\n")
    status, _, said = run("ctl", "reload", "--wait", "--admin", admin)
    assert status == 1 and "GET /more/ was answered 500" in said
    assert "LookupError: no stock" in said and "views.py" in said
    assert shop.is_fine(server)


def test_an_application_that_uses_only_django_models_needs_no_urlconf(serve, shop):
    shop.add("settings.py", "ROOT_URLCONF = 'nowhere'\n")
    shop.write("wsgi.py", "import django\ndjango.setup()\nimport django.core.handlers.wsgi\nfrom plain import app\n")
    assert run("--pythonpath", APPS, "--check", "shop.wsgi", cwd=shop.directory, env=shop.environment)[0] == EXIT_DONE


def test_check_fails_on_errors_of_django_checks_and_logs_their_warnings(shop):
    register = "from django.core import checks\n@checks.register\ndef look(app_configs, **_):\n    return [{}]\n"
    shop.add("wsgi.py", register.format("checks.Warning('a small thing', id='shop.W001')"))
    status, _, said = shop.run("--check")
    assert status == EXIT_DONE and "WARNING django.check_warned" in said and "(shop.W001) a small thing" in said
    shop.add("wsgi.py", register.format("checks.Error('a great thing', hint='do it', id='shop.E001')"))
    status, _, said = shop.run("--check")
    assert status == EXIT_NOT_IMPORTABLE
    assert "Django's system checks found errors" in said and "(shop.E001) a great thing" in said and "do it" in said
    shop.add("settings.py", "SILENCED_SYSTEM_CHECKS = ['shop.E001']\n")
    assert shop.run("--check")[0] == EXIT_DONE


def test_errors_of_django_checks_alone_do_not_keep_a_worker_from_serving(serve, shop):
    shop.add("wsgi.py", "from django.core import checks\n@checks.register\ndef look(**_): 1 / 0\n")
    assert shop.is_fine(shop.serve(serve))


def test_workers_do_not_share_a_connection_opened_by_importing_views(serve, shop):
    database = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(shop.directory / "db")}}
    shop.add("settings.py", f"DATABASES = {database!r}\n")
    shop.write("views.py", "from django.db import connection\nconnection.ensure_connection()\n"
               "from django.http import HttpResponse\n"
               "def index(request): return HttpResponse('open' if connection.connection else 'fine')\n")  # fmt: skip
    assert shop.is_fine(shop.serve(serve, "--preload"))
