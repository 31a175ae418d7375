"""Django with WhiteNoise: static files, database connections with --preload, and mistakes that fail the start."""

import pytest
import requests

from arctos.testing import ServerError

PROJECT = {
    "__init__.py": "",
    "settings.py": """
from pathlib import Path

BASE_DIR = Path(__file__).parent
SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "shop.urls"
MIDDLEWARE = ["whitenoise.middleware.WhiteNoiseMiddleware"]
STATIC_URL = "/static/"
STATIC_ROOT = BASE_DIR / "collected"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db", "CONN_MAX_AGE": 600}}
""",
    "wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.backends.signals import connection_created

def remember(connection, **_):
    connection.opened_by = os.getpid()  # so that the test sees it

connection_created.connect(remember)
application = get_wsgi_application()
connection.ensure_connection()  # as a query at import time does
""",
    "urls.py": """
import os
from django.db import connection
from django.http import HttpResponse
from django.urls import path

def index(request):
    connection.ensure_connection()
    return HttpResponse(f"{os.getpid()} {connection.opened_by}")

urlpatterns = [path("", index)]
""",
}


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """A project, which the server imports from where this test imports."""
    project = tmp_path / "shop"
    (project / "collected").mkdir(parents=True)
    for name, text in PROJECT.items():
        (project / name).write_text(text)
    (project / "collected" / "shop.css").write_text("body { color: green }")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "shop.settings")
    return project


def test_whitenoise_serves_static_files(arctos_server, shop):
    server = arctos_server("shop.wsgi")
    assert "color: green" in requests.get(f"{server.url}/static/shop.css").text


def test_without_whitenoise_arctos_can_serve_them(arctos_server, shop):
    settings = shop / "settings.py"
    settings.write_text(settings.read_text().replace('"whitenoise.middleware.WhiteNoiseMiddleware"', ""))
    path = "/static/shop.css"
    assert requests.get(arctos_server("shop.wsgi").url + path).status_code == 404
    server = arctos_server("shop.wsgi", static=f"/static={shop}/collected")
    assert "color: green" in requests.get(server.url + path).text


def test_with_preload_each_worker_has_a_database_connection_of_its_own(arctos_server, shop):
    server = arctos_server("shop.wsgi", workers=2, preload=True)
    opened = {}
    while len(opened) < 2:
        answer = requests.get(server.url)
        answer.raise_for_status()
        pid, opened_by = answer.text.split()
        opened[pid] = opened_by
    assert all(pid == opened_by for pid, opened_by in opened.items())


def test_a_mistake_in_the_urlconf_fails_the_start(arctos_server, shop):
    (shop / "urls.py").write_text("from shop import views")
    with pytest.raises(ServerError, match="cannot import name 'views'"):
        arctos_server("shop.wsgi")
