"""`arctos ctl profile`: where the time of the workers goes, while they serve."""

import json
import os
import re
import signal
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from html import unescape
from pathlib import Path

import pytest
import requests
from support.admin_client import ask
from support.browser import Browser, why_not
from support.server import APPS, PATIENCE_S, WORKER_DIED, WORKER_READY, Server, run
from support.waiting import wait_until
from support.wire import Wire

# Each path stays in C for longer than any profile of these tests takes.
STUCK = {
    "sleep": "time.sleep(60)",
    "hash": "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 60_000_000)",
    "regex": "re.match('(a+)+$', 'a' * 60 + 'b')",
    "compress": "[zlib.compress(b'abcd' * 2_000_000, 9) for _ in range(10_000)]",
}
APP = """
import hashlib, re, time, zlib


def app(environ, start_response):
    globals().get("at_" + environ["PATH_INFO"].strip("/"), int)()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def at_busy():
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass
""" + "".join(f"\n\ndef at_{name}():\n    {code}\n" for name, code in STUCK.items())
SHOP = """
import time
from arctos.contrib.flask import name_routes
from flask import Flask

app = Flask("shop")


def spin():
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass


@app.before_request
def authorize():
    spin()


name_routes(app)


@app.get("/orders/<int:number>")
def order(number):
    spin()
    return "order"


@app.get("/export")
def export():
    def lines():
        for number in range(5):
            spin()
            yield f"{number} "
    return lines()


@app.errorhandler(404)
def missing(error):
    spin()
    return "missing", 404


@app.get("/wait")
def wait():
    time.sleep(60)
"""
# It imports nothing that the user could not read.
NOBODYS = """
import time


def app(environ, start_response):
    spin()
    start_response("200 OK", [])
    return [b"ok"]


def spin():
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        pass
"""


@pytest.fixture
def address(path):
    """The address of the admin socket."""
    return f"unix:{path}"


@pytest.fixture
def app(tmp_path):
    """The directory of an application that is stuck or busy, as its path says."""
    (tmp_path / "stuck.py").write_text(APP)
    return tmp_path


@contextmanager
def clients(server, path, count=2):
    """Sends requests until the end, and returns their statuses. All of them are answered."""
    statuses, stop = [], threading.Event()

    def send():
        with requests.Session() as session:
            session.trust_env = False
            while not stop.is_set():
                statuses.append(session.get(f"{server.url}{path}", timeout=PATIENCE_S).status_code)

    with ThreadPoolExecutor(count) as pool:
        sending = [pool.submit(send) for _ in range(count)]
        try:
            yield statuses
        finally:
            stop.set()
            for one in sending:
                one.result()


def profile(address, *options, seconds=1):
    """Returns what is printed."""
    code, printed, error = run("ctl", "profile", "--seconds", seconds, *options, "--admin", address)
    assert code == 0, error
    return printed


def lines_of(collapsed):
    """The frames and the number of each stack."""
    return [(frames.split(";"), int(count)) for frames, count in re.findall(r"^(.*) (\d+)$", collapsed, re.M)]


@pytest.fixture
def django(tmp_path, address):
    """A server with the Django project."""
    directory = tmp_path / "django"
    directory.mkdir()
    env = {"DJANGO_PROJECT_DIRECTORY": str(directory), "DJANGO_SETTINGS_MODULE": "django_project.settings"}
    with Server("django_project.wsgi", "--admin-bind", address, workers=2, env=env, cwd=APPS) as server:
        server.ready()
        yield server


@pytest.mark.smoke
def test_a_flame_graph_of_django_names_its_slow_view(django, address, tmp_path):
    picture = tmp_path / "profile.svg"
    with clients(django, "/report/") as statuses:
        wait_until(lambda: statuses)
        svg = profile(address, seconds=2)
        summary = profile(address, "--output", picture)
    assert set(statuses) == {200}
    shares = {name: float(share) for name, share in re.findall(r"<title>(\S+) \(.*?: .*?, ([\d.]+)%</title>", svg)}
    assert {"report", "slow_sum"} <= set(shares), shares
    assert "django_project/notes/views.py:" in svg
    assert re.search(r"^\d+ samples in 1\.\d s", summary), summary
    if why_not():
        pytest.skip(why_not())
    with Browser() as browser:
        look_at(browser, picture)


def look_at(browser, picture):
    """Opens a flame graph and uses it."""
    browser.requested()  # What the browser loads for itself at its start.
    browser.open(picture.as_uri())
    count = browser.run("return document.querySelectorAll('#frames > g').length")
    assert count > 5
    shown = "Array.from(document.querySelectorAll('#frames > g')).filter(g => g.style.display != 'none').length"
    find = "Array.from(document.querySelectorAll('#frames > g')).find(g => g.textContent.includes('slow_sum'))"
    assert browser.run(f"return {shown}") == count
    browser.run(f"{find}.dispatchEvent(new MouseEvent('click'))")
    width = browser.run(f"return Number({find}.querySelector('rect').getAttribute('width'))")
    assert width == pytest.approx(1180, abs=1), "it fills the picture"
    browser.run("document.getElementById('reset').dispatchEvent(new MouseEvent('click'))")
    assert browser.run(f"return {shown}") == count
    browser.run("search('SLOW_SUM')")
    assert browser.run("return document.querySelectorAll('#frames > g.match').length") > 0
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    light = browser.run(paper)
    browser.prefer(prefers_color_scheme="dark")
    assert browser.run(paper) != light
    assert not browser.console()
    assert {url for url in browser.requested() if url.startswith(("file:", "http"))} == {picture.as_uri()}


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["alone", "preload"])
def test_a_worker_stuck_in_c_shows_the_line_that_called_it(app, path, address, options):
    stop_at_once = ("--graceful-timeout", "1", "--timeout", "0")
    if options:
        names = ["sleep"]  # The others differ only in what the interpreter calls.
    else:
        names = list(STUCK)
    arguments = ("--chdir", app, "--admin-bind", address, *stop_at_once, *options)
    with Server("stuck:app", *arguments, workers=len(names)) as server:
        server.ready()
        with ExitStack() as waiting:
            for name in names:
                waiting.enter_context(Wire(("127.0.0.1", server.port))).get(f"/{name}")
            wait_until(lambda: busy_count(path) == len(names))
            stacks = lines_of(profile(address, "--format", "collapsed"))
        for name in names:
            line = 1 + APP.splitlines().index(f"    {STUCK[name]}")
            wanted = f"at_{name} ({short(app)}/stuck.py:{line})"
            # The innermost frame may be one of the standard library, or a comprehension.
            found = sum(count for frames, count in stacks if wanted in frames)
            assert found > 20, (wanted, stacks)
        server.kill()


def short(directory):
    """The last parts of a path, as the profile shows them."""
    return "/".join(directory.parts[-2:])


def busy_count(path):
    """The number of workers that run a request."""
    workers = json.loads(ask(path, "/status").body)["workers"]
    return sum(1 for worker in workers if worker.get("request"))


def test_the_formats_agree_and_idle_time_is_apart(app, address):
    with Server("stuck:app", "--chdir", app, "--admin-bind", address, workers=2) as server:
        server.ready()
        with clients(server, "/busy", count=1):
            collapsed = profile(address, "--format", "collapsed")
            file = json.loads(profile(address, "--format", "speedscope"))
            table = profile(address, "--format", "top", "--slot", "1")
        idle = profile(address, "--format", "top")
    assert all(frames[0] in ("worker 0", "worker 1") for frames, _ in lines_of(collapsed))
    assert "at_busy" in collapsed
    assert file["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    names = [frame["name"] for frame in file["shared"]["frames"]]
    assert "at_busy" in names
    for one in file["profiles"]:
        assert (one["type"], one["unit"]) == ("sampled", "seconds")
        assert len(one["samples"]) == len(one["weights"])
        assert all(0 <= number < len(names) for sample in one["samples"] for number in sample)
    assert "worker 1:" in table and "worker 0:" not in table
    assert "at_busy" not in idle and "100% idle" in idle


def test_samples_are_tagged_with_the_route_that_their_request_names(tmp_path, address):
    (tmp_path / "shop.py").write_text(SHOP)
    stop_at_once = ("--graceful-timeout", "1", "--timeout", "0")
    with Server("shop:app", "--chdir", tmp_path, "--admin-bind", address, *stop_at_once, workers=4) as server:
        server.ready()
        with ExitStack() as running:
            running.enter_context(Wire(("127.0.0.1", server.port))).get("/wait")
            loads = [running.enter_context(clients(server, path, 1)) for path in ("/orders/7", "/export", "/nowhere")]
            wait_until(lambda: all(loads))
            stacks = lines_of(profile(address, "--format", "collapsed"))
            table = profile(address, "--format", "top")
            file = json.loads(profile(address, "--format", "speedscope"))
            svg = profile(address)
        server.kill()
    routes = {
        "order": "route /orders/<int:number>",
        "lines": "route /export",
        "missing": "[no route]",
        "wait": "[unfinished]",
    }
    for function, route in routes.items():
        found = routes_of(stacks, function)
        assert route in found and found <= {route, "[unfinished]"}, (function, found)
    assert routes_of(stacks, "authorize") >= {"route /orders/<int:number>", "route /export", "[no route]"}
    named = {route.removeprefix("route ") for route in routes.values()}
    by_route = table.partition("   time          route\n")[2]
    assert set(re.findall(r"^ *[\d.]+% +\d+  (.+)$", by_route, re.M)) == named, table
    assert set(routes.values()) <= {frame["name"] for frame in file["shared"]["frames"]}
    assert set(routes.values()) <= {unescape(name) for name in re.findall(r"<title>(.*?): \d+ samples?, ", svg)}


def routes_of(stacks, function):
    """The routes of the stacks that have this function of the shop."""
    found = re.compile(rf"(.*\.)?{function} \(.*/shop\.py:\d+\)")
    return {frames[1] for frames, _ in stacks if any(map(found.fullmatch, frames))}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run workers as another user")
@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["alone", "preload"])
def test_workers_of_another_user_are_profiled(address, preload):
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        (directory / "nobodys.py").write_text(NOBODYS)
        options = ("--chdir", directory, "--admin-bind", address, "--user", "nobody", *preload)
        with Server("nobodys:app", *options) as server:
            server.ready()
            assert {os.stat(f"/proc/{pid}").st_uid for pid in server.worker_pids()} != {0}
            with clients(server, "/"):
                stacks = lines_of(profile(address, "--format", "collapsed"))
    finally:
        shutil.rmtree(directory)
    assert any("spin (" in frame for frames, _ in stacks for frame in frames), stacks


def test_a_second_profile_and_wrong_ones_are_refused(app, path, address):
    with Server("stuck:app", "--chdir", app, "--admin-bind", address) as server:
        server.ready()
        with Wire(path) as first:
            first.get("/profile?seconds=600", method="POST")
            wait_until(lambda: ask(path, "/profile?seconds=1", "POST").status == 409)
            code, _, error = run("ctl", "profile", "--seconds", 1, "--admin", address)
            assert (code, "another profile is running" in error) == (1, True), error
        # Its client is gone, so it has ended.
        wait_until(lambda: run("ctl", "profile", "--seconds", 1, "--admin", address)[0] == 0)
        code, _, error = run("ctl", "profile", "--slot", 7, "--admin", address)
        assert (code, "there is no worker 7" in error) == (1, True), error
        assert ask(path, "/profile?seconds=601", "POST").status == 400


def test_two_hundred_profiles_leave_nothing_behind(app, path, address):
    with Server("stuck:app", "--chdir", app, "--admin-bind", address, workers=2) as server:
        server.ready()
        workers = server.worker_pids()
        before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (server.pid, *workers)]
        with clients(server, "/") as statuses:
            for _ in range(200):
                with Wire(path) as wire:
                    wire.get("/profile?seconds=600", method="POST")
                    taken = len(statuses)
                    wait_until(lambda taken=taken: len(statuses) > taken)
            wait_until(lambda: ask(path, "/profile?seconds=1", "POST").status == 200)
        assert set(statuses) == {200}
        assert server.worker_pids() == workers
        wait_until(lambda: [len(os.listdir(f"/proc/{pid}/fd")) for pid in (server.pid, *workers)] == before)


def test_a_worker_that_is_killed_loses_only_its_last_samples(app, path, address):
    arguments = ("--chdir", app, "--admin-bind", address)
    with Server("stuck:app", *arguments, workers=2) as server:
        server.ready()
        command = [sys.executable, "-m", "arctos", "ctl", "profile", "--seconds", "3", "--format", "collapsed"]
        waiting = subprocess.Popen([*command, "--admin", address], stdout=subprocess.PIPE, text=True)
        since = server.position()
        with Wire(("127.0.0.1", server.port)) as wire:
            wire.get("/sleep")
            victim = wait_until(lambda: stuck_worker(path))
            time.sleep(0.5)  # Samples of the worker that is about to die.
            os.kill(victim, signal.SIGKILL)
            server.wait_for(WORKER_DIED, since=since)
        server.wait_for(WORKER_READY, since=since)
        with clients(server, "/busy") as statuses:
            wait_until(lambda: len(statuses) > 5)
            printed = waiting.communicate(timeout=PATIENCE_S)[0]
        assert waiting.returncode == 0
        assert "at_sleep" in printed and "at_busy" in printed, printed
        assert set(statuses) == {200}


def stuck_worker(path):
    """The process that runs a request, if there is one."""
    workers = json.loads(ask(path, "/status").body)["workers"]
    return next((worker["pid"] for worker in workers if worker.get("request")), None)
