"""The command line: what it refuses, and with which messages."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.server import (
    APPS,
    EXIT_CONFIGURATION,
    EXIT_DONE,
    EXIT_NOT_IMPORTABLE,
    EXIT_USAGE,
    SERVER_READY,
    Server,
    run,
)

import arctos

EXIT_NOT_BOOTED = 3
WORKER_NOT_READY = "worker.not_ready"  # slot, pid, generation, reason; the Python stack follows
SCRIPT = str(Path(sys.executable).parent / "arctos")


def test_the_version_is_that_of_the_wheel():
    assert run("--version") == (EXIT_DONE, f"arctos {arctos.__version__}\n", "")


def test_the_script_and_the_module_are_the_same():
    for program in ([SCRIPT], [sys.executable, "-m", "arctos"]):
        found = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True, timeout=60)
        assert found.stdout == f"arctos {arctos.__version__}\n"


@pytest.mark.smoke
def test_help_names_every_option_and_exits_0():
    status, output, _ = run("--help")
    assert status == EXIT_DONE
    for option in ("--bind", "--workers", "--timeout", "--graceful-timeout", "--keep-alive", "--access-logfile",
                   "--user", "--group", "--umask", "--env", "--check", "--print-config", "--chdir", "--factory"):  # fmt: skip
        assert option in output, option


WRONG = [
    (["--worker", "2", "plain:app"], ["--worker"]),
    (["--workers", "many", "plain:app"], ["--workers", "many"]),
    (["--workers", "0", "plain:app"], ["--workers", "0"]),
    (["--bind", "127.0.0.1:70000", "plain:app"], ["--bind", "127.0.0.1:70000"]),
    (["--timeout", "-1", "plain:app"], ["--timeout", "-1"]),
    (["--keep-alive", "soon", "plain:app"], ["--keep-alive", "soon"]),
    (["--log-level", "loud", "plain:app"], ["--log-level", "loud"]),
    (["--umask", "9", "plain:app"], ["--umask", "9"]),
    (["--env", "NAMEONLY", "plain:app"], ["--env", "NAMEONLY"]),
    ([], ["MODULE:ATTR"]),
    (["plain:app", "second:app"], ["second:app"]),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=lambda value: " ".join(value))
def test_a_wrong_option_or_value_exits_2_and_is_named(arguments, named):
    status, _, said = run(*arguments)
    assert status == EXIT_USAGE, said
    for word in named:
        assert word in said


NOT_IMPORTABLE = [
    ("no_such_module:app", "No module named 'no_such_module'", "no_such_module"),
    ("broken:app", "broken on purpose", "broken"),
    ("plain:no_such_attribute", "no_such_attribute", "application"),
    ("factory:number", "number", "callable"),
    ("factory:failing_factory()", "nothing to make an application of", "failing_factory"),
]


@pytest.mark.smoke
@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize(("application", "error", "hint"), NOT_IMPORTABLE, ids=lambda value: str(value))
def test_an_application_that_cannot_be_imported_exits_4_and_says_so_once(application, error, hint, workers):
    server = Server(application, workers=workers)
    try:
        assert server.wait() == EXIT_NOT_IMPORTABLE, server.log
        assert server.log.count("Traceback (most recent call last)") <= 1, server.log
        assert error in server.log and hint in server.log, server.log
        assert server.leftovers() == []
    finally:
        server.kill()


def test_the_traceback_of_a_broken_application_is_printed_once():
    server = Server("broken:app", workers=8)
    try:
        assert server.wait() == EXIT_NOT_IMPORTABLE
        assert server.log.count("RuntimeError: broken on purpose") == 1, server.log
        assert "broken.py" in server.log
    finally:
        server.kill()


def test_a_missing_attribute_is_reported_with_similar_names():
    _, _, said = run("--bind", "127.0.0.1:0", "plain:ap")
    assert re.search(r"\bapp\b", said) and re.search(r"\bapplication\b", said)


@pytest.mark.parametrize("application", ["plain", "plain:app", "plain:application", "factory:site.app", "factory:create_app()"])
def test_an_application_is_found_by(serve, connect, application):
    assert connect(serve(application)).get("/hello").response().body == b"Hello, world!\n"


def test_a_factory_is_called_when_asked_to(serve, connect):
    assert connect(serve("factory:create_app", "--factory")).get("/hello").response().status == 200


def test_chdir_and_pythonpath_and_env_reach_the_application(serve, connect, tmp_path):
    server = serve("plain:app", "--pythonpath", APPS, "--chdir", tmp_path, "--env", "PLAIN_A=1", "-e", "PLAIN_B=x=y", cwd="/")
    found = json.loads(connect(server).get("/worker").response().body)
    assert found["cwd"] == str(tmp_path)
    assert found["environment"] == {"PLAIN_A": "1", "PLAIN_B": "x=y"}


def test_a_config_file_is_found_from_the_cwd_and_its_paths_from_chdir(serve, connect, tmp_path):
    (tmp_path / "bodies").mkdir()
    (tmp_path / "shop.toml").write_text(
        f'workers = 1\nchdir = "{tmp_path}"\npythonpath = ["{APPS}"]\nbody_temp_dir = "bodies"\n'
        'access-logfile = "access.log"\n[env]\nPLAIN_A = "1"\nPLAIN_B = 2\n'
    )
    server = serve("plain:app", "--config", tmp_path.name + "/shop.toml", cwd=tmp_path.parent)
    found = json.loads(connect(server).get("/worker").response().body)
    assert found["cwd"] == str(tmp_path)
    assert found["environment"] == {"PLAIN_A": "1", "PLAIN_B": "2"}
    assert (tmp_path / "access.log").exists()


def test_a_configuration_file_that_is_wrong_or_missing_is_named(tmp_path):
    file = tmp_path / "shop.toml"
    status, _, said = run("-c", file, "plain:app")
    assert (status, str(file) in said) == (EXIT_CONFIGURATION, True), said
    file.write_text("workers = 2\nworker-class = 'gevent'\n")
    status, _, said = run("plain:app", env={"ARCTOS_CONFIG": str(file)})
    assert (status, f"{file}:2: " in said) == (EXIT_USAGE, True), said


def test_the_umask_applies_to_the_workers(serve, connect):
    server = serve("plain:app", "--umask", "027")
    assert json.loads(connect(server).get("/worker").response().body)["umask"] == 0o027


@pytest.mark.parametrize("options", [["--check"], ["--bind", "127.0.0.1:0"], ["--bind", "127.0.0.1:0", "--preload"]])
def test_an_asgi_application_is_refused_with_advice(options):
    status, _, said = run(*options, "falcon_app:make_asgi()")
    assert status == EXIT_NOT_IMPORTABLE
    assert "What the factory returned is an ASGI application" in said and "a2wsgi" in said
    settings = {"DJANGO_SETTINGS_MODULE": "django.conf.global_settings"}
    status, _, said = run(*options, "django.core.asgi:get_asgi_application()", env=settings)
    assert status == EXIT_NOT_IMPORTABLE
    assert "is an ASGI application" in said and "the module wsgi" in said


def test_check_imports_the_application_and_serves_nothing():
    status, verdict, said = run("--check", "--workers", 3, "plain:app")
    assert status == EXIT_DONE, said
    assert verdict.startswith("plain:app can be served\n")
    assert f" s, with Python {sys.version.split()[0]}" in verdict
    assert "workers    3 (command line)\n" in verdict and "bind       127.0.0.1:8000 (default)\n" in verdict
    status, output, said = run("--check", "broken:app")
    assert (status, output) == (EXIT_NOT_IMPORTABLE, "")
    assert said.count("RuntimeError: broken on purpose") == 1
    assert said.endswith("\nerror: broken:app cannot be served\n")


def test_print_config_shows_each_value_and_its_source():
    status, output, said = run("--workers", "3", "--print-config", "plain:app", env={"ARCTOS_KEEP_ALIVE": "7"})
    assert status == EXIT_DONE, said
    lines = {line.split()[0].strip("=:-"): line for line in output.splitlines() if line.split()}
    assert "3" in lines["workers"] and "command line" in lines["workers"]
    assert "7" in lines["keep-alive"] and "ARCTOS_KEEP_ALIVE" in lines["keep-alive"]
    assert "30" in lines["timeout"] and "default" in lines["timeout"]


def test_the_pid_file_names_the_supervisor_while_it_runs(serve, tmp_path):
    path = tmp_path / "arctos.pid"
    server = serve("plain:app", "--pid", path)
    assert path.read_text().strip() == str(server.pid)
    server.stop()
    assert not path.exists()


def test_an_address_that_cannot_be_bound_exits_1_and_is_named():
    status, _, said = run("--bind", "203.0.113.1:1", "plain:app")  # TEST-NET-3 (RFC 5737), which no machine has
    assert status == EXIT_CONFIGURATION
    assert "203.0.113.1:1" in said


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_the_application_is_imported_as_the_user_it_runs_as(connect):
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        (directory / "who.py").write_text(
            "import os\n"
            "AT_IMPORT = [*os.getresuid(), *os.getresgid(), *os.getgroups()]\n"
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
            "    return [repr((AT_IMPORT, [*os.getresuid(), *os.getresgid(), *os.getgroups()])).encode()]\n"
        )
        import grp
        import pwd

        user, group = pwd.getpwnam("nobody"), grp.getgrnam("nogroup")
        with Server("who:app", "-u", "nobody", "-g", "nogroup", cwd=directory) as server:
            at_import, now = eval(connect(server).get("/").response().body)
            assert at_import == now
            assert set(now[:3]) == {user.pw_uid} and set(now[3:]) == {group.gr_gid}
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("how", ["current", "--chdir", "--pythonpath"])
def test_a_directory_that_the_user_cannot_read_is_named(how):
    directory = Path(tempfile.mkdtemp())  # readable by its owner only
    try:
        shop = directory / "shop"
        shop.mkdir()
        (shop / "closed.py").write_text("from plain import app\n")
        options = [] if how == "current" else [how, shop]
        where = {"cwd": shop} if how == "current" else {"cwd": "/"}
        status, _, said = run("--user", "nobody", "--bind", "127.0.0.1:0", *options, "closed:app", **where)
        assert status in (EXIT_NOT_IMPORTABLE, EXIT_NOT_BOOTED), said
        assert f"cannot read the application's directory {shop}: it has no access to {directory}." in said
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_workers_cannot_regain_root_unless_configured_to(connect, preload):
    def status(*options):
        with Server("may:app", *options, *preload, cwd=directory) as server:
            fields = connect(server).get("/").response().body.decode().splitlines()
            return dict(field.split(":\t") for field in fields if field.startswith(("NoNewPrivs", "Cap")))

    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        (directory / "may.py").write_text(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
            "    return [open('/proc/self/status', 'rb').read()]\n"
        )
        before = status()
        nothing = "0" * len(before["CapBnd"])
        other = status("-u", "nobody")
        assert other == {**dict.fromkeys(before, nothing), "NoNewPrivs": "1"}
        allowed = status("-u", "nobody", "--allow-new-privileges")
        assert {name: allowed[name] for name in ("CapBnd", "NoNewPrivs")} == {
            name: before[name] for name in ("CapBnd", "NoNewPrivs")
        }
    finally:
        shutil.rmtree(directory)


@pytest.mark.skipif(os.getuid() != 0, reason="for others it is refused for another reason")
def test_an_unknown_user_is_refused_and_named():
    status, _, said = run("--user", "nobody-of-that-name", "--bind", "127.0.0.1:0", "plain:app")
    assert status in (EXIT_CONFIGURATION, EXIT_USAGE)
    assert "nobody-of-that-name" in said


@pytest.mark.parametrize("option", ["--bind", "--admin-bind"])
def test_an_address_that_cannot_be_bound_is_reported_with_its_option(option):
    address = "unix:/no/such/x.sock"
    status, _, said = run(option, address, *(["--bind", "127.0.0.1:0"] if option != "--bind" else []), "plain:app")
    assert status == EXIT_CONFIGURATION
    assert re.search(rf'{option}:? {address}: cannot use its directory \(No such file or directory\)', said), said


IMPORTS = {
    "raises": ("raise ValueError('on purpose')", 4),
    "exits": ("import sys; sys.exit(3)", 4),
    "leaves": ("import os; os._exit(7)", 3),
    "crashes": ("import ctypes; ctypes.string_at(0)", 3),
    "hangs": ("import time; time.sleep(600)", 3),
}


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("how", IMPORTS)
def test_an_application_that_breaks_at_import_ends_the_start(tmp_path, how, workers):
    source, expected = IMPORTS[how]
    (tmp_path / "breaks.py").write_text(source + "\n")
    # On a busy machine, any of the others might take a second, too.
    limit = ("--boot-timeout", 1) if how == "hangs" else ()
    server = Server("breaks:app", *limit, workers=workers, cwd=tmp_path)
    try:
        assert server.wait() == expected, server.log
        assert server.log.count("Traceback (most recent call last)") == (expected == 4), server.log
        assert server.leftovers() == []
        assert not server.events(SERVER_READY)
        late = [line for line in server.events(WORKER_NOT_READY) if "--boot-timeout 1s" in line.pairs["reason"]]
        assert bool(late) == (how == "hangs") == ('breaks.py", line 1 in <module>' in server.log), server.log
    finally:
        server.kill()


@pytest.mark.parametrize(
    "line, words",
    [
        ("import os; os._exit(9)", "ended with exit code 9 before it was ready"),
        ("import ctypes; ctypes.string_at(0)", "was killed by SIGSEGV before it was ready"),
        ("import time; time.sleep(60)", "was not ready within --boot-timeout (0.5 s)"),
    ],
    ids=["exit", "signal", "late"],
)
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
def test_a_worker_that_cannot_boot_is_logged_with_its_exit_cause(tmp_path, line, words, preload):
    (tmp_path / "shop.py").write_text(line + "\n")
    options = ("--bind", "127.0.0.1:0", "--workers", 1, "--boot-timeout", "500ms", *preload)
    status, _, log = run(*options, "shop:app", cwd=tmp_path)
    assert status == 3
    failed = next(line for line in log.splitlines() if "server.failed" in line)
    who = "the zygote (pid " if preload else "worker 0 (pid "
    assert f'reason="a worker could not boot: {who}' in failed and words in failed, failed
