"""Requests that have killed or hung workers are refused for a while (`--quarantine`)."""

import json
import signal

import pytest
from support.admin_client import status
from support.server import EXIT_USAGE, WORKER_DIED, WORKER_READY, run
from support.waiting import wait_until
from support.wire import Wire

QUARANTINED = "request.quarantined"  # number, method, path, deaths, in_s
RELEASED = "request.released"  # number, method, path, cause, refused
HOUR = ("--quarantine", "3/1h")
FORM = (
    "expected off, or N/TIME such as 3/60s: a whole number from 1 to 100, and a time from 1s to 24h, in seconds or with "
    "a unit: 30, 0.5, 500ms, 30s, 2m"
)
PREFIX = "/" + "x" * 300  # longer than what the scoreboard shows of a path


@pytest.fixture
def admin(tmp_path):
    """The path of an admin socket."""
    return str(tmp_path / "admin.sock")


def ask(server, target, method="GET"):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(target, method=method).response(method)


def die(server, target):
    """Sends a request in which its worker dies, and waits for that."""
    since = server.position()
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get(target)
        server.wait_for((WORKER_DIED, "worker.exited"), since=since)
        server.wait_for(WORKER_READY, since=since)


def refused(server, target, longest_s=3600):
    """Receives a refusal on a connection that is kept. Returns its Retry-After."""
    with Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(2):
            answer = wire.get(target).response()
            assert (answer.status, answer.body) == (503, b"503 Service Unavailable\n")
            assert 1 <= int(answer.field("Retry-After")) <= longest_s
        pid = wire.get("/").response().body.decode()
        server.wait_for(WORKER_READY, pid=pid)  # a new worker may answer before its line has arrived
        assert int(pid) in server.worker_pids(), "the worker lives"
    return int(answer.field("Retry-After"))


@pytest.mark.smoke
@pytest.mark.parametrize("options", [(), ("--preload",), ("--keepalive-mode", "shared")])
def test_after_three_deaths_the_same_requests_are_refused(serve, options, tmp_path):
    log = tmp_path / "access.log"
    server = serve("poison:app", *HOUR, "--access-logfile", log, *options, workers=2)
    for target in ("/kill", "/kill?id=1", "/%6bill"):
        die(server, target)
    quarantined = server.wait_for(QUARANTINED)
    assert quarantined.has(QUARANTINED, {"number": 1, "method": "GET", "path": "/%6bill", "deaths": 3, "in_s": 3600})
    assert quarantined.level == "ERROR"
    for target in ("/kill", "/kill?id=2", "/%6b%69ll", "/kil%6c"):
        assert refused(server, target) > 3000
    assert ask(server, "/kill", "POST").status == 200, "the same path with another method"
    assert ask(server, "/KILL").status == 200, "another path"
    assert len(server.events(WORKER_DIED)) == 3 and len(server.events(QUARANTINED)) == 1
    server.stop()
    lines = [line for line in log.read_text().splitlines() if line.endswith('"such requests have killed or hung workers"')]
    assert len(lines) == 8 and all(" 503 0 " in line for line in lines)


def test_without_the_option_they_reach_the_application(serve):
    server = serve("poison:app", workers=2)
    for _ in range(5):
        die(server, "/kill")
    assert not server.events(QUARANTINED)


@pytest.mark.parametrize("way", ["/exit", "/abort", "/stream"])
def test_a_worker_that_crashes_or_exits_in_a_request_counts(serve, way):
    server = serve("poison:app", "--quarantine", "1/1h", workers=2)
    die(server, way)
    refused(server, way)


@pytest.mark.parametrize(("grace", "way"), [("60s", "/sleep"), ("0", "/sleep"), ("100ms", "/loop")])
def test_a_request_that_takes_too_long_counts_once(serve, grace, way):
    limits = ("--timeout-for", f"{way}=500ms", "--timeout-grace", grace)  # all other calls may be slow on a busy machine
    server = serve("poison:app", "--quarantine", "2/1h", *limits, workers=2)
    for number in (1, 2):
        assert not server.events(QUARANTINED), "a request that is interrupted and then killed is one incident"
        with Wire(("127.0.0.1", server.port)) as wire:
            wire.get(way)
            if grace == "60s":
                assert wire.response().status == 504
                server.wait_for("request.timed_out", number)
                server.wait_for("worker.exited", number)  # until then, it may close a connection that it has accepted
            else:
                server.wait_for(WORKER_DIED, number)
    assert server.wait_for(QUARANTINED).has(QUARANTINED, {"method": "GET", "path": way, "deaths": 2})
    refused(server, way)


def test_a_worker_that_was_asked_to_exit_does_not_count(serve, admin):
    """By the signal of an operator, and by a reload whose time limit is over."""
    options = ("--quarantine", "1/1h", "--graceful-timeout", "1s", "--drain-delay", "0", "--admin-bind", f"unix:{admin}")
    server = serve("poison:app", *options, workers=2)
    die(server, "/terminate")
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get("/sleep")
        running = lambda: [worker["request"]["line"] for worker in status(admin)["workers"] if worker["request"]]  # noqa: E731
        wait_until(lambda: running() == ["GET /sleep"])
        server.send(signal.SIGHUP)
        server.wait_for("worker.exited", path="/sleep")
    server.wait_for("reload.done")
    assert ask(server, "/sleep", "POST").status == 200
    assert status(admin)["quarantine"] == {"active": 0, "refused": 0} and not server.events(QUARANTINED)


def test_a_path_that_the_scoreboard_cuts_does_not_stand_for_others(serve, admin):
    server = serve("poison:app", "--quarantine", "2/1h", "--admin-bind", f"unix:{admin}", workers=2)
    for target in (f"{PREFIX}/kill", f"{PREFIX}/%6bill?id=1"):
        die(server, target)
    refused(server, f"{PREFIX}/kill")
    for target in (PREFIX, f"{PREFIX}/", f"{PREFIX}/other", PREFIX[:196]):
        assert ask(server, target).status == 200, target
    (request,) = listed(admin)["requests"]
    assert request["is_path_cut"] and request["path"] == PREFIX[:196]


def test_a_prefix_that_a_proxy_may_strip_is_not_compared(serve):
    server = serve("poison:app", "--quarantine", "2/1h", "--root-path", "/shop", workers=2)
    die(server, "/shop/kill")
    die(server, "/kill")
    refused(server, "/shop/kill")
    refused(server, "/kill")
    assert ask(server, "/shops").status == 200


def listed(admin):
    """The quarantine as `arctos ctl quarantine` prints it for programs."""
    code, out, error = run("ctl", "quarantine", "--json", "--admin", f"unix:{admin}")
    assert code == 0, error
    return json.loads(out)["quarantine"]


def test_after_its_time_a_request_is_tried_again(serve):
    server = serve("poison:app", "--quarantine", "1/1s", workers=2)
    for number in (1, 2):
        die(server, "/kill")
        server.wait_for(QUARANTINED, number)
        released = server.wait_for(RELEASED, number)
        assert released.has(RELEASED, {"method": "GET", "path": "/kill", "cause": "expired"}) and released.level == "INFO"
    assert len(server.events(WORKER_DIED)) == 2


def test_arctos_ctl_lists_and_releases(serve, admin):
    server = serve("poison:app", "--quarantine", "1/1h", "--admin-bind", f"unix:{admin}", workers=2)
    ctl = lambda *words: run("ctl", *words, "--admin", f"unix:{admin}")  # noqa: E731
    assert "No requests are in quarantine." in ctl("quarantine")[1]
    for target in ("/kill", "/exit", "/abort"):
        die(server, target)
    server.wait_for(QUARANTINED, 3)
    refused(server, "/exit")
    document = listed(admin)
    assert (document["deaths"], document["within_s"], document["refused"]) == (1, 3600, 2)
    requests = {request["number"]: request for request in document["requests"]}
    paths = {number: (request["method"], request["path"]) for number, request in requests.items()}
    assert paths == {1: ("GET", "/kill"), 2: ("GET", "/exit"), 3: ("GET", "/abort")}
    assert [requests[number]["refused"] for number in (1, 2, 3)] == [0, 2, 0]
    assert all(3000 < request["ends_in_s"] <= 3600 and request["deaths"] == 1 for request in requests.values())
    code, out, _ = ctl("quarantine")
    assert code == 0 and out.count("  GET /") == 3 and "refused  2 requests\n" in out
    assert status(admin)["quarantine"] == {"active": 3, "refused": 2}
    assert "\nquarantine  3 requests, 2 refused so far: see arctos ctl quarantine\n" in ctl("status")[1]
    top = run("top", "--once", "--interval", "0.1", "--admin", f"unix:{admin}")[1]
    assert "  3 requests in quarantine  " in top.splitlines()[1]

    assert ctl("release", "2")[:2] == (0, "released quarantine 2\n")
    assert server.wait_for(RELEASED).has(RELEASED, {"number": 2, "path": "/exit", "cause": "released", "refused": 2})
    code, _, error = ctl("release", "2")
    assert code == 1 and "there is no quarantine 2" in error
    die(server, "/exit")
    refused(server, "/kill")
    assert ctl("release")[:2] == (0, "released 3 quarantines\n")
    assert listed(admin)["requests"] == [] and status(admin)["quarantine"] == {"active": 0, "refused": 4}
    assert "quarantine" not in ctl("status")[1]
    assert ctl("release")[:2] == (0, "released 0 quarantines\n")
    die(server, "/kill")


def test_a_server_without_the_option_says_so(serve, admin):
    serve("poison:app", "--admin-bind", f"unix:{admin}")
    assert run("ctl", "quarantine", "--admin", f"unix:{admin}")[:2] == (0, "The server has no --quarantine.\n")
    assert listed(admin) is None and status(admin)["quarantine"] is None


def test_a_reload_ends_every_quarantine_and_applies_the_option(serve, tmp_path):
    file = tmp_path / "arctos.toml"
    file.write_text('quarantine = "1/1h"\n')
    server = serve("poison:app", "--config", file, workers=2)
    die(server, "/kill")
    refused(server, "/kill")
    file.write_text('quarantine = "off"\n')
    server.send(signal.SIGHUP)
    assert server.wait_for(RELEASED).has(RELEASED, {"path": "/kill", "cause": "reloaded"})
    server.wait_for("reload.done")
    die(server, "/kill")
    file.write_text('quarantine = "2/1h"\n')
    server.send(signal.SIGHUP)
    server.wait_for("reload.done", 2)
    die(server, "/kill")
    die(server, "/kill")
    refused(server, "/kill")
    file.write_text('quarantine = "soon"\n')
    server.send(signal.SIGHUP)
    assert "quarantine" in server.wait_for("reload.refused").pairs["reason"]
    refused(server, "/kill")


def test_the_successor_of_an_upgrade_starts_with_an_empty_quarantine(serve_upgradable):
    server = serve_upgradable("poison:app", "--quarantine", "1/1h", workers=2)
    die(server, "/kill")
    refused(server, "/kill")
    server.upgrade()
    since = server.position()
    die(server, "/kill")
    server.wait_for(QUARANTINED, since=since)
    refused(server, "/kill")


@pytest.mark.parametrize("value", ["3", "0/60s", "3/500ms", "on", ""])
def test_a_wrong_value_is_refused_with_what_is_accepted(value):
    code, _, error = run("--quarantine", value, "poison:app")
    assert code == EXIT_USAGE and f"--quarantine '{value}': {FORM}" in error
    code, out, _ = run("--quarantine", "3/60s", "--print-config", "plain:app")
    assert code == 0 and "--quarantine" in out
