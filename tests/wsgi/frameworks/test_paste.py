"""`use = egg:arctos#main`, which PasteDeploy finds by the entry point of the installed wheel."""

import os
import signal
import sys

import pytest
from support.frameworks import SCRIPTS, run_program
from support.script import get
from support.waiting import wait_until

PSERVE = [str(SCRIPTS / "pserve")]
SHOP = """
import logging
from pyramid.config import Configurator
from pyramid.response import Response

def main(global_config, **settings):
    config = Configurator(settings=settings)
    config.add_route("index", "/")
    config.add_view(view, route_name="index")
    return config.make_wsgi_app()

def view(request):
    logging.getLogger("shop").info("a request of %s", request.path)
    word, environ = request.registry.settings["greeting"], request.environ
    return Response(f"first {word} {environ['SCRIPT_NAME']} {environ['wsgi.multiprocess']}")
"""
INI = """
[app:main]
use = call:shop:main
greeting = %(word)s

[app:other]
use = call:shop:main
greeting = other

[server:main]
use = egg:arctos#main
host = 127.0.0.1
port = 0
workers = 2
root-path = /shop
env =
    A = b c
    D = e

[loggers]
keys = root
[handlers]
keys = stderr
[formatters]
keys = plain
[logger_root]
level = INFO
handlers = stderr
[handler_stderr]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = logged: %(message)s
"""
PROGRAM = """
from paste.deploy import loadapp, loadserver
uri, conf = "config:shop.ini", {"word": "own"}
if %s:
    import threading
    threading.Thread(target=threading.Event().wait, daemon=True).start()
loadserver(uri, relative_to=".", global_conf=conf)(loadapp(uri, relative_to=".", global_conf=conf))
"""


class Shop:
    """A directory with the module `shop` and its configuration file."""

    def __init__(self, directory):
        self.directory = directory
        (directory / "shop.py").write_text(SHOP)
        (directory / "shop.ini").write_text(INI)

    def replace(self, name, old, new):
        path = self.directory / name
        before = path.stat().st_mtime
        path.write_text(path.read_text().replace(old, new))
        os.utime(path, (before + 10, before + 10))  # so that no cached bytecode is taken for it

    def program(self, has_threads=False):
        (self.directory / "program.py").write_text(PROGRAM % has_threads)
        return [sys.executable, "program.py"]

    def serve(self, serve, *words, **more):
        return serve("", bind=[], workers=None, command=words, cwd=self.directory, env={"PYTHONPATH": "."}, **more)

    def run(self, *words):
        return run_program(*words, cwd=self.directory, env={"PYTHONPATH": "."})


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_pserve_becomes_the_server_and_a_reload_loads_new_code(serve, shop):
    server = shop.serve(serve, *PSERVE, "shop.ini", "word=hi")
    assert server.wait_for("server.starting").pairs["pid"] == str(server.pid)
    assert get(server.port, "/shop/") == "first hi /shop True"
    shop.replace("shop.py", "first", "second")
    shop.replace("shop.ini", "greeting = ", "greeting = new ")
    server.send(signal.SIGHUP)
    server.wait_for("reload.done")
    assert get(server.port, "/shop/") == "second new hi /shop True"
    server.stop()
    assert server.log.count("logged: a request of /shop/\n") == 2


def test_pserve_serves_another_section_of_its_file(serve, shop):
    server = shop.serve(serve, *PSERVE, "--app-name", "other", "shop.ini", "word=hi")
    assert get(server.port, "/shop/") == "first other /shop True"


def test_pserve_reload_starts_again_with_new_code(serve, shop):
    server = shop.serve(serve, *PSERVE, "--reload", "shop.ini", "word=hi")
    assert get(server.port, "/shop/") == "first hi /shop True"
    position = server.position()
    # The reloader learns only after a while which files it should watch.
    wait_until(lambda: shop.replace("shop.py", "first", "second") or server.events("server.stopped", since=position))
    server.addresses = server.wait_for("server.ready", since=position).pairs["listen"].split()
    assert get(server.port, "/shop/") == "second hi /shop True"
    server.send(signal.SIGTERM)
    server.wait()  # with the status of the reloader, which depends on its version
    assert server.leftovers() == []
    assert len(server.events("server.stopped")) == 2, server.log


def test_an_application_of_another_program_is_inherited_by_the_workers(serve, shop):
    server = shop.serve(serve, *shop.program())
    assert get(server.port, "/shop/") == "first own /shop True"
    server.send(signal.SIGHUP)
    server.wait_for("reload.refused")


def test_the_setting_app_lets_workers_load_the_application_of_any_program(serve, shop):
    shop.replace("shop.ini", "workers = 2", "workers = 2\napp = main")
    shop.replace("shop.ini", "host = 127.0.0.1\nport = 0", "listen = 127.0.0.1:0 *:0")
    server = shop.serve(serve, *shop.program(has_threads=True))
    assert len(server.ports) >= 2, server.addresses
    assert get(server.port, "/shop/") == "first own /shop True"


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("threads = 4", "error: --threads: a worker runs one request at a time; raise --workers instead\n"),
        ("keep_alive = x", "error: --keep-alive 'x': expected"),
    ],
)
def test_pserve_says_which_setting_is_wrong(shop, setting, answer):
    shop.replace("shop.ini", "workers = 2", setting)
    status, said = shop.run(*PSERVE, "shop.ini", "word=hi")
    assert status == 2 and answer in said, said


def test_other_programs_learn_why_nothing_is_served(shop):
    status, said = shop.run(*shop.program(has_threads=True))
    assert status == 1 and "RuntimeError: this process has other threads" in said and "app = main" in said, said
    shop.replace("shop.ini", "call:shop:main", "call:shop:nothing")
    status, said = shop.run(*PSERVE, "shop.ini", "word=hi")
    assert status == 1 and "nothing" in said, said
