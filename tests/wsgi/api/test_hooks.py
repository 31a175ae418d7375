"""Hooks: functions of the application that the server calls. Where each runs, in which order, and what happens
if one fails."""

import os
import re
import shutil
import signal
import sys
import tempfile
from ast import literal_eval
from pathlib import Path
from typing import NamedTuple

import pytest
from support.server import EXIT_DONE, EXIT_USAGE, WORKER_LEFT, WORKER_READY, Server, run

EXIT_NOT_BOOTED = 3
HOOK_FAILED = "hook.failed"
BOOT_FAILED = "worker.boot_failed"
NOT_OPENED = "on_start.failed"
RELOAD_DONE = "reload.done"
RELOAD_FAILED = "reload.failed"
OPTIONS = ("--on-start", "--post-fork", "--worker-ready", "--worker-exit")

# Their imports are loaded already: another user may not be able to read the library of the interpreter.
HOOKS = '''
import os, sys

def report(hook, about=None):
    said = {
        "hook": hook, "pid": os.getpid(), "parent": os.getppid(), "uid": os.getuid(), "about": repr(about),
        "imported": "shop" in sys.modules, "variable": os.environ.get("SHOP"),
    }
    os.write(2, f"HOOK {said!r}\\n".encode())

def on_start(generation): report("on_start", generation)
def pre_fork(worker): report("pre_fork", worker)
def post_fork(worker): report("post_fork", worker)
def worker_ready(worker): report("worker_ready", worker)
def worker_exit(worker): report("worker_exit", worker)
def again(about): report("again", about)
def fails(about): raise RuntimeError("no such pool")
def leaves(about): sys.exit(0)
def vanishes(about): os._exit(0)
def leaves_a_helper(about):
    if not (helper := os.fork()):
        os.closerange(0, 3)
        __import__("signal").pause()
    os.write(2, f"HELPER {helper}\\n".encode())
def forks(about):
    report("forks", about)
    os.fork()
'''

SHOP = """
import atexit, hooks
hooks.report("import")
atexit.register(hooks.report, "atexit")

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        hooks.report("begun")
        open(environ["QUERY_STRING"]).read()
    start_response("200 OK", [])
    hooks.report("request")
    return [b"x"]
"""

ALL = tuple(word for name in OPTIONS for word in (name, "hooks:" + name.strip("-").replace("-", "_")))


class Report(NamedTuple):
    """What a hook reported."""

    hook: str
    pid: int
    parent: int
    uid: int
    about: str
    imported: bool
    variable: str


class Unawaited(Server):
    """A server whose start the test awaits itself."""

    def __enter__(self):
        return self


def reports(server, hook=None):
    """Returns the reports of all hooks so far, or those of one hook."""
    lines = [line[5:] for line in server.log.splitlines() if line.startswith("HOOK ")]
    said = [Report(**literal_eval(line)) for line in lines]
    return [one for one in said if hook in (None, one.hook)]


@pytest.fixture
def shop(tmp_path):
    """A directory with an application and hooks."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "hooks.py").write_text(HOOKS)
    return tmp_path


@pytest.mark.smoke
def test_each_hook_runs_in_its_process_and_at_its_time(serve, shop):
    server = serve("shop:app", *ALL, "--name", "till", "--env", "SHOP=open", workers=2, cwd=shop)
    workers = set(server.worker_pids())
    server.stop()
    (start,) = reports(server, "on_start")
    assert start.pid not in {server.pid, *workers} and start.parent == server.pid
    assert (start.about, start.imported) == ('Generation(number=1, name="till")', False)
    assert reports(server)[0] == start, "before the first worker"
    for pid in workers:
        mine = [one for one in reports(server) if one.pid == pid]
        assert [one.hook for one in mine] == ["post_fork", "import", "worker_ready", "worker_exit", "atexit"]
        abouts = {one.about for one in mine if one.about != "None"}
        assert len(abouts) == 1 and f'generation=1, pid={pid}, name="till")' in abouts.pop()
        assert [one.imported for one in mine] == [False, True, True, True, True]
        assert {one.parent for one in mine} == {server.pid}
    assert {one.variable for one in reports(server)} == {"open"}, "--env is set before"
    slots = {one.about.split(",")[0] for one in reports(server, "post_fork")}
    assert slots == {"Worker(slot=0", "Worker(slot=1"}


def test_a_worker_becomes_ready_after_its_hook(serve, shop, make_gate):
    gate = make_gate()
    (shop / "waits.py").write_text(f"def ready(worker):\n    open({gate.path!r}).read()\n")
    with Unawaited("shop:app", "--worker-ready", "waits:ready", cwd=shop) as server:
        server.wait_for("worker.started")
        gate_end = os.open(gate.path, os.O_WRONLY)  # returns once the hook waits at the other end
        assert server.events(WORKER_READY) == []
        os.close(gate_end)
        server.ready()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_hooks_run_without_root_privileges():
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        for name, source in (("shop.py", SHOP), ("hooks.py", HOOKS)):
            (directory / name).write_text(source)
        with Server("shop:app", *ALL, "-u", "nobody", "-g", "nogroup", cwd=directory) as server:
            server.stop()
            hooks = {one.hook for one in reports(server)}
            assert hooks == {"on_start", "post_fork", "import", "worker_ready", "worker_exit", "atexit"}
            assert {one.uid for one in reports(server)} == {65534}
    finally:
        shutil.rmtree(directory)


def test_a_repeated_option_runs_all_its_hooks_in_order(serve, shop):
    options = [word for name in OPTIONS for word in (name, "hooks:again")]
    server = serve("shop:app", *options, *ALL, cwd=shop).stop()
    hooks = [one.hook for one in reports(server) if one.hook not in ("import", "atexit")]
    pairs = [["again", name.strip("-").replace("-", "_")] for name in OPTIONS]
    assert hooks == sum(pairs, [])


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("option", OPTIONS[:3])
def test_a_hook_that_fails_at_the_first_start_ends_it_with_one_traceback(shop, option, workers):
    words = ["--bind", "127.0.0.1:0", "--workers", workers, option, "hooks:fails", "shop:app"]
    status, _, log = run(*words, cwd=shop)
    assert status == EXIT_NOT_BOOTED, log
    assert log.count("RuntimeError: no such pool") == 1
    assert log.count(f"The hook {option} hooks:fails failed:") == 1
    assert (NOT_OPENED if option == "--on-start" else BOOT_FAILED) in log


@pytest.mark.parametrize("option", OPTIONS[:3])
def test_a_hook_that_calls_sys_exit_has_failed(shop, option):
    status, _, log = run("--bind", "127.0.0.1:0", option, "hooks:leaves", "shop:app", cwd=shop)
    assert status == EXIT_NOT_BOOTED, log
    assert "SystemExit: 0" in log


@pytest.mark.parametrize("name", ["nowhere:hook", "hooks:nothing"])
@pytest.mark.parametrize("option", OPTIONS[:3])
def test_a_hook_that_does_not_exist_has_failed(shop, option, name):
    status, _, log = run("--bind", "127.0.0.1:0", option, name, "shop:app", cwd=shop)
    assert status == EXIT_NOT_BOOTED, log
    assert log.count(f"The hook {option} {name} failed:") == 1


def test_a_failing_exit_hook_does_not_change_how_a_worker_exited(serve, shop):
    server = serve("shop:app", "--worker-exit", "hooks:fails", cwd=shop).stop()
    (line,) = server.events(HOOK_FAILED)
    assert (line.pairs["option"], line.pairs["hook"]) == ("--worker-exit", "hooks:fails")
    assert "RuntimeError: no such pool" in line.text and line.pairs["slot"] == "0"
    assert server.events(WORKER_LEFT)[0].pairs["status"] == "exit code 0"
    assert reports(server, "atexit"), "exit handlers run all the same"


def test_the_exit_hook_runs_after_the_last_request(serve, shop, connect, gate):
    server = serve("shop:app", *ALL, cwd=shop)
    wire = connect(server).get(f"/wait?{gate.path}")
    gate_end = os.open(gate.path, os.O_WRONLY)  # returns once the application waits at the other end
    server.send(signal.SIGTERM)
    server.wait_for("server.stopping")
    os.close(gate_end)
    assert wire.response().status == 200
    server.stop()
    assert [one.hook for one in reports(server)][-4:] == ["begun", "request", "worker_exit", "atexit"]


def test_a_child_that_a_hook_leaves_behind_is_no_second_worker(serve, shop, connect):
    options = [word for name in OPTIONS for word in (name, "hooks:forks")]
    server = serve("shop:app", *options, *ALL, cwd=shop)
    assert connect(server).get("/").response().status == 200
    server.stop()
    assert len(reports(server, "forks")) == 4
    for hook in ("on_start", "post_fork", "import", "worker_ready", "worker_exit", "atexit"):
        assert len(reports(server, hook)) == 1, hook
    server.wait_for(WORKER_READY)
    assert len(server.events(WORKER_READY)) == 1


def test_a_hanging_start_is_ended_by_the_boot_timeout(shop):
    (shop / "hangs.py").write_text("import time\ndef hook(generation):\n    time.sleep(1000)\n")
    words = ["--bind", "127.0.0.1:0", "--boot-timeout", "500ms", "--on-start", "hangs:hook", "shop:app"]
    status, _, log = run(*words, cwd=shop)
    assert status == EXIT_NOT_BOOTED, log
    assert "not done within --boot-timeout" in log


def test_a_reload_reads_hooks_and_their_code_again(serve, shop):
    config = shop / "shop.toml"
    config.write_text('on-start = "hooks:on_start"\npost-fork = ["hooks:post_fork", "hooks:again"]\n')
    server = serve("shop:app", "--config", config, workers=2, cwd=shop)
    assert len(reports(server, "again")) == 2
    config.write_text('on-start = "hooks:on_start"\nworker-ready = "hooks:fresh"\n')
    (shop / "hooks.py").write_text(HOOKS + 'def fresh(worker): report("fresh", worker)\n')
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_DONE)
    assert [one.about[:19] for one in reports(server, "on_start")] == ["Generation(number=1", "Generation(number=2"]
    assert len(reports(server, "again")) == 2
    assert ["generation=2" in one.about for one in reports(server, "fresh")] == [True, True]


@pytest.mark.parametrize("option", OPTIONS[:3])
def test_a_reload_whose_hook_fails_changes_nothing(serve, shop, connect, option):
    config = shop / "shop.toml"
    config.write_text("")
    server = serve("shop:app", "--config", config, workers=2, cwd=shop)
    before = set(server.worker_pids())
    config.write_text(f'{option.strip("-")} = "hooks:fails"\n')
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_FAILED)
    assert server.log.count("RuntimeError: no such pool") == 1
    assert set(server.worker_pids()) == before
    config.write_text(f'{option.strip("-")} = "hooks:again"\n')
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_DONE)
    assert connect(server).get("/").response().status == 200
    assert len(reports(server, "again")) == (1 if option == "--on-start" else 2)


def test_a_replaced_worker_runs_its_hooks_but_not_those_of_a_code_load(serve, shop):
    server = serve("shop:app", *ALL, cwd=shop)
    since = server.position()
    os.kill(server.worker_pids()[0], signal.SIGKILL)
    server.wait_for(WORKER_READY, since=since)
    counts = {hook: len(reports(server, hook)) for hook in ("on_start", "post_fork", "worker_ready", "worker_exit")}
    assert counts == {"on_start": 1, "post_fork": 2, "worker_ready": 2, "worker_exit": 0}


def test_check_looks_up_hooks_and_calls_none(shop):
    status, output, log = run("--check", *ALL, "shop:app", cwd=shop)
    assert status == EXIT_DONE and output.startswith("shop:app can be served\n"), log
    assert [literal_eval(line[5:])["hook"] for line in log.splitlines()] == ["import", "atexit"]
    status, _, log = run("--check", *ALL, "--worker-exit", "hooks:nothing", "shop:app", cwd=shop)
    assert status == EXIT_NOT_BOOTED
    assert "The hook --worker-exit hooks:nothing failed:" in log


def test_print_config_shows_hooks_and_their_sources(shop):
    env = {"ARCTOS_POST_FORK": "hooks:post_fork,hooks:again"}
    status, output, _ = run("--print-config", *ALL[:2], "shop:app", cwd=shop, env=env)
    assert status == EXIT_DONE
    shown = {line.split()[0]: line.split(maxsplit=1)[1] for line in output.splitlines()}
    assert shown["--on-start"].split("  ")[0] == "hooks:on_start"
    assert "hooks:post_fork, hooks:again" in shown["--post-fork"]
    assert shown["--post-fork"].endswith("environment ARCTOS_POST_FORK")


def test_a_pre_fork_hook_requires_preload(shop):
    status, _, log = run("--pre-fork", "hooks:pre_fork", "shop:app", cwd=shop)
    assert status == EXIT_USAGE
    assert "--pre-fork 'hooks:pre_fork'" in log and "--preload" in log


def test_serve_takes_hooks_as_keywords(shop):
    program = (
        "import sys, arctos; sys.exit(arctos.serve('shop:app', bind='127.0.0.1:0', workers=1, "
        "on_start='hooks:on_start', post_fork=['hooks:post_fork', 'hooks:again'], worker_exit='hooks:worker_exit'))"
    )
    with Server(None, bind=[], workers=None, command=[sys.executable, "-c", program], cwd=shop) as server:
        (worker,) = server.worker_pids()
        server.stop()
    assert [one.hook for one in reports(server)] == [
        "on_start", "post_fork", "again", "import", "worker_exit", "atexit",
    ]  # fmt: skip
    assert {one.pid for one in reports(server)[1:]} == {worker}
    assert reports(server)[0].pid != server.pid


# --- With --preload ---


@pytest.fixture
def preload(shop):
    """Starts servers with a zygote."""
    made = []

    def start(*options, workers=2):
        server = Unawaited("shop:app", "--preload", *options, workers=workers, cwd=shop)
        made.append(server)
        return server

    yield start
    for server in made:
        server.kill()


def test_with_preload_the_zygote_runs_the_hooks_of_load_and_fork(preload):
    server = preload(*ALL, "--pre-fork", "hooks:pre_fork").ready()
    workers = set(server.worker_pids())
    server.stop()
    zygote = reports(server)[0].pid
    assert zygote not in {server.pid, *workers}
    mine = [one for one in reports(server) if one.pid == zygote]
    assert [one.hook for one in mine] == ["on_start", "import", "pre_fork", "pre_fork"]
    assert [one.imported for one in mine] == [False, True, True, True]
    assert {one.about for one in mine[2:]} == {
        'Worker(slot=0, generation=1, pid=None, name="arctos")',
        'Worker(slot=1, generation=1, pid=None, name="arctos")',
    }
    for pid in workers:
        mine = [one for one in reports(server) if one.pid == pid]
        assert [one.hook for one in mine] == ["post_fork", "worker_ready", "worker_exit", "atexit"]
        assert all(one.imported and f"pid={pid}" in one.about for one in mine[:3])


def test_a_failing_pre_fork_hook_is_logged_and_the_fork_goes_on(preload, connect):
    server = preload("--pre-fork", "hooks:fails", workers=1).ready()
    (line,) = server.events(HOOK_FAILED)
    assert (line.pairs["option"], line.pairs["hook"]) == ("--pre-fork", "hooks:fails")
    assert "RuntimeError: no such pool" in line.text
    assert connect(server).get("/").response().status == 200
    server.stop()


@pytest.mark.parametrize("option", OPTIONS[:3])
def test_with_preload_a_hook_that_fails_at_the_first_start_ends_it(preload, option):
    server = preload(option, "hooks:fails", workers=4)
    assert server.wait() == EXIT_NOT_BOOTED
    assert server.log.count("RuntimeError: no such pool") == 1
    assert server.leftovers() == []


def test_an_on_start_process_that_vanishes_has_failed(shop):
    status, _, log = run("--on-start", "hooks:vanishes", "--bind", "127.0.0.1:0", "shop:app", cwd=shop)
    assert status == EXIT_NOT_BOOTED and "ended without a report" in log


def test_a_process_started_by_pre_fork_does_not_hold_the_port(preload, serve):
    server = preload("--pre-fork", "hooks:leaves_a_helper", workers=1).ready()
    helper = int(re.search(r"HELPER (\d+)", server.log)[1])
    try:
        server.send(signal.SIGTERM)
        assert server.process.wait(30) == EXIT_DONE
        os.kill(helper, 0)
        assert serve("plain:app", bind=f"127.0.0.1:{server.port}").stop()
    finally:
        os.kill(helper, signal.SIGKILL)
