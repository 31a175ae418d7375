"""Django's live server tests over arctos: `manage.py test` runs TESTS, written as for Django's own classes."""

import sys

import pytest
from support.frameworks import run_program

TESTS = """
import http.client, socket, threading, urllib.request
from django.contrib.auth.models import Group
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from arctos.contrib.django.testing import LiveServerTestCase, StaticLiveServerTestCase

@csrf_exempt
def groups(request):
    if request.method == "POST":
        Group.objects.create(name=request.body.decode())
    return HttpResponse(",".join(Group.objects.order_by("name").values_list("name", flat=True)))

def server(request):
    return HttpResponse(f"{request.META['SERVER_SOFTWARE']} {threading.current_thread() is threading.main_thread()}")

urlpatterns = [path("groups/", groups), path("server/", server)]


class Shared:
    def open(self, path):
        with urllib.request.urlopen(self.live_server_url + path, timeout=60) as answer:
            return answer.read().decode()

    def test_arctos_serves_in_a_thread(self):
        server, is_main = self.open("/server/").split()
        self.assertTrue(server.startswith("arctos/"))
        self.assertEqual(is_main, "False")

    def test_the_test_and_the_server_see_what_the_other_has_written(self):
        Group.objects.create(name="made")
        connection = http.client.HTTPConnection("localhost", self.server_thread.port, timeout=60)
        connection.request("POST", "/groups/", "posted")
        self.assertEqual(connection.getresponse().read(), b"made,posted")
        sock = connection.sock
        Group.objects.filter(name="posted").delete()
        connection.request("GET", "/groups/")
        self.assertEqual(connection.getresponse().read(), b"made")
        self.assertIs(connection.sock, sock)
        # The connection stays open: the end of the class closes it.

    def test_each_test_begins_without_the_data_of_the_others(self):
        self.assertEqual(self.open("/groups/"), "")


class First(Shared, LiveServerTestCase):
    pass


class Second(Shared, StaticLiveServerTestCase):
    def test_static_files_are_served_without_collectstatic(self):
        self.assertEqual(self.open("/static/shop.css"), "body {}")


class Third(LiveServerTestCase):
    def test_a_process_has_one_live_server(self):
        class Other(LiveServerTestCase):
            pass

        with self.assertRaisesRegex(RuntimeError, "already runs in this process"):
            Other.setUpClass()
        Other.doClassCleanups()


with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]


class Fourth(Shared, LiveServerTestCase):
    port = PORT


class Fifth(Fourth):
    "Serves the same port after the connections of Fourth."
"""
SETTINGS = """
SECRET_KEY = "only for tests"
ROOT_URLCONF = "tests"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.staticfiles"]
STATIC_URL = "/static/"
STATICFILES_DIRS = ["files"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db", "TEST": {"NAME": %s}}}
"""


@pytest.mark.parametrize("database", ["memory", "file"])
def test_live_server_tests_pass_without_changes(tmp_path, database):
    name = repr(str(tmp_path / "test-db")) if database == "file" else "None"
    (tmp_path / "settings.py").write_text(SETTINGS % name)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "shop.css").write_text("body {}")
    (tmp_path / "tests.py").write_text(TESTS)
    command = [sys.executable, "-m", "django", "test", "--settings=settings", "--pythonpath=."]
    status, said = run_program(*command, cwd=tmp_path)
    assert status == 0 and "Ran 14 tests" in said, said
