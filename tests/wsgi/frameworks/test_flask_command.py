"""`flask arctos`, which Flask finds by the entry point of the installed wheel."""

import re
import signal

import pytest
from arctos.arctos import option_table
from support.frameworks import SCRIPTS, printed_options, run_program
from support.script import get
from support.server import EXIT_NOT_IMPORTABLE, EXIT_USAGE

FLASK = [str(SCRIPTS / "flask")]
SHOP = """
from flask import Flask

def create_app(name="no name"):
    app = Flask("shop")
    app.add_url_rule("/", view_func=lambda: f"first {name} debug={app.debug}")
    return app
"""


@pytest.fixture
def shop(tmp_path):
    """A directory with the module `shop`."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def serve_shop(serve, shop, *words, **more):
    return serve("", bind=[], command=[*FLASK, *words, "arctos", "--port", "0"], cwd=shop, **more)


def test_the_application_of_flask_run_is_served_and_reloaded(serve, shop):
    server = serve_shop(serve, shop, "--app", "shop:create_app('a name')", workers=2)
    assert server.wait_for("server.starting").pairs["pid"] == str(server.pid)
    assert get(server.port) == "first a name debug=False"
    (shop / "shop.py").write_text(SHOP.replace("first", "another"))  # of another length, so not taken from the cache
    server.send(signal.SIGHUP)
    server.wait_for("reload.done")
    assert get(server.port) == "another a name debug=False"


def test_debug_mode_reaches_the_application_and_reloads_on_changes(serve, shop):
    server = serve_shop(serve, shop, "--debug", workers=None, env={"FLASK_APP": "shop"})
    assert get(server.port) == "first no name debug=True"
    assert len(server.worker_pids()) == 1
    (shop / "shop.py").write_text(SHOP.replace("first", "another"))
    server.wait_for("reload.done")
    assert get(server.port) == "another no name debug=True"


@pytest.mark.parametrize(
    ("words", "env", "bound"),
    [
        ([], {}, "127.0.0.1:5000"),
        (["-h", "::1"], {"FLASK_RUN_PORT": "7000"}, "[::1]:7000"),
        ([], {"PORT": "7000"}, "0.0.0.0:7000"),
        ([], {"ARCTOS_BIND": ":7000"}, ":7000"),
        (["-p", "7000", "-b", ":7001"], {"ARCTOS_BIND": ":1"}, "127.0.0.1:7000, :7001"),
    ],
)
def test_the_address_is_that_of_flask_run_unless_arctos_is_given_one(shop, words, env, bound):
    found = printed_options(*FLASK, "--app", "shop", "arctos", *words, cwd=shop, env=env)
    assert " ".join(found["--bind"]).startswith(bound + " "), found["--bind"]


def test_the_command_takes_the_options_of_arctos(shop):
    words = ["arctos", "--preload", "-w", "3", "--env=A=b c", "--env=D="]
    found = printed_options(*FLASK, "--app", "shop", *words, cwd=shop)
    assert (found["--workers"][0], found["--preload"][0]) == ("3", "on")
    status, said = run_program(*FLASK, "arctos", "--help", cwd=shop)
    assert status == 0 and {row[0] for row in option_table() if not re.search(rf"--{row[0]}\b", said)} == {"factory"}


@pytest.mark.parametrize(
    ("words", "status", "answer"),
    [
        (["--app", "nowhere", "arctos"], EXIT_NOT_IMPORTABLE, "NoAppException: Could not import 'nowhere'."),
        (["arctos"], EXIT_NOT_IMPORTABLE, "Use the 'flask --app' option"),
        (["--app", "shop", "arctos", "--threads", "4"], EXIT_USAGE, "error: --threads: a worker runs one request"),
    ],
)
def test_mistakes_are_explained(shop, words, status, answer):
    ended, said = run_program(*FLASK, *words, cwd=shop, env={"ARCTOS_BIND": "127.0.0.1:0"})
    assert ended == status and answer in said, said


@pytest.mark.parametrize("name", ["shop", "__main__"])
def test_a_command_of_a_project_serves_if_its_factory_can_be_imported(shop, name):
    program = f"from {name} import create_app\nfrom flask.cli import FlaskGroup\nFlaskGroup(create_app=create_app)()\n"
    (shop / "manage.py").write_text(program if name == "shop" else SHOP + program)
    status, said = run_program(SCRIPTS / "python", "manage.py", "arctos", "--check", cwd=shop)
    if name == "shop":
        assert status == 0 and said.startswith("arctos.contrib.flask:application() can be served\n"), said
    else:
        assert status == EXIT_USAGE and "cannot import the function create_app of this program" in said, said
