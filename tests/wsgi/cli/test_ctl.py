"""How operators query and control a running server: the probes, `/status`, and the verbs of `arctos ctl`."""

import json
import os
import signal
from contextlib import ExitStack, contextmanager

import pytest
from support.admin_client import ask, status
from support.server import (
    APPS,
    EXIT_DONE,
    EXIT_USAGE,
    SERVER_READY,
    SERVER_STOPPING,
    WORKER_DIED,
    WORKER_LEFT,
    WORKER_READY,
    Server,
    run,
)
from support.waiting import wait_until
from support.wire import Wire

EXIT_FAILED = 1
WORKER_STARTED = "worker.started"  # slot, pid, generation: forked, and not ready yet
SERVER_SCALED = "server.scaled"  # workers

# Answers with the generation of the code.
CODE = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"{letter}\\n"]
"""
CHECKED = {
    "raises": """
def count(): raise LookupError("no stock")
def app(environ, start_response): count()
""",
    "answers 500": """
import traceback
def count(): raise LookupError("no stock")
def app(environ, start_response):
    try:
        count()
    except LookupError:
        traceback.print_exc(file=environ["wsgi.errors"])
    start_response("500 Oops", [])
    return []
""",
}
BROKEN = "import a_module_that_is_not_there\n"


@pytest.fixture
def ctl(path):
    """Runs a verb. Returns exit status, standard output and standard error."""
    return lambda *words: run("ctl", *words, "--admin", f"unix:{path}")


@pytest.fixture
def code(tmp_path):
    """Writes the module `shop`, and returns the directory that a server runs in."""

    def write(text):
        (tmp_path / "shop.py").write_text(text)
        return tmp_path

    return write


def said(answer):
    """Returns the status and the lines of the body."""
    return answer.status, answer.body.decode().splitlines()


def rows(table):
    """Returns the cells of each worker by the name of their column."""
    heads, *lines = table.split("\n\n")[1].splitlines()
    return [dict(zip(heads.split(), line.split(maxsplit=len(heads.split()) - 1), strict=True)) for line in lines]


def ready(found):
    """Returns the workers in `/status` that are ready."""
    return [worker for worker in found["workers"] if worker["state"] == "ready"]


@contextmanager
def booting(*arguments, **options):
    """A server that is not ready yet, and is killed in the end."""
    server = Server(*arguments, **options)
    try:
        server.wait_for(WORKER_STARTED)
        yield server
    finally:
        server.kill()


# --- Probes ---


def test_a_server_that_serves_is_alive_and_ready(serve, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    assert said(ask(path, "/livez")) == (200, ["alive"])
    assert said(ask(path, "/readyz")) == (200, ["ready"])
    head = ask(path, "/readyz", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert said(ask(path, "/livez", "POST"))[0] == 405


def test_a_server_that_starts_is_alive_and_not_ready(code, ctl, gate, path):
    directory = code(f"open({gate.path!r}).read()\n{CODE.format(letter='a')}")
    with booting("shop:app", "--admin-bind", f"unix:{path}", cwd=directory) as server:
        assert said(ask(path, "/livez")) == (200, ["alive"])
        assert said(ask(path, "/readyz")) == (503, ["starting", "no worker is ready"])
        assert ctl("ready") == (EXIT_FAILED, "", f"error: the server at unix:{path} answers 503: starting\n")
        found = status(path)
        assert (found["state"], found["workers_ready"]) == ("starting", 0)
        assert [worker["state"] for worker in found["workers"]] == ["starting"]
        gate.open()
        server.ready()
        assert said(ask(path, "/readyz")) == (200, ["ready"])
        assert ctl("ready") == (0, "ready\n", "")
        server.stop()


def test_a_server_that_stops_is_alive_and_not_ready(serve, connect, gate, inbox, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    server.send(signal.SIGTERM)
    server.wait_for(SERVER_STOPPING)
    assert said(ask(path, "/livez")) == (200, ["alive"])
    answered, reasons = said(ask(path, "/readyz"))
    assert answered == 503 and reasons[0] == "stopping"
    assert status(path)["state"] == "stopping"
    gate.open()
    assert wire.response().status == 200
    assert server.wait() == EXIT_DONE


def test_a_server_without_workers_is_alive_and_not_ready(serve, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    (pid,) = server.worker_pids()
    since = server.position()
    os.kill(pid, signal.SIGKILL)
    server.wait_for(WORKER_DIED, pid=pid)
    assert ask(path, "/livez").status == 200
    server.wait_for(WORKER_READY, since=since)
    wait_until(lambda: ask(path, "/readyz").status == 200)


# --- status ---


@pytest.mark.smoke
def test_status_shows_the_server_and_its_workers(serve, connect, ctl, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    wire = connect(server)
    assert wire.get("/hello").response().status == 200
    wait_until(lambda: sum(worker["requests"] for worker in ready(status(path))) == 1)
    found = status(path)
    assert (found["pid"], found["state"], found["generation"]) == (server.pid, "serving", 1)
    assert (found["workers_target"], found["workers_ready"]) == (2, 2)
    assert found["listen"] == server.addresses
    assert found["admin"] == [f"unix:{path}"]
    assert found["reload"] == {"state": "idle"}
    assert found["age_s"] > 0
    assert {worker["pid"] for worker in found["workers"]} == set(server.worker_pids())
    assert [worker["slot"] for worker in found["workers"]] == [0, 1]
    assert sum(worker["connections_open"] for worker in found["workers"]) == 1
    for worker in found["workers"]:
        assert (worker["state"], worker["generation"], worker["request"]) == ("ready", 1, None)
        assert worker["rss_bytes"] > 1_000_000 and worker["age_s"] >= 0

    exit_code, output, errors = ctl("status", "--json")
    assert (exit_code, errors) == (EXIT_DONE, "")
    assert json.loads(output).keys() == found.keys()

    exit_code, table, errors = ctl("status")
    assert (exit_code, errors) == (EXIT_DONE, "")
    assert f"pid {server.pid}, serving, up " in table and "2 of 2 ready, generation 1" in table
    shown = rows(table)
    assert [row["pid"] for row in shown] == [str(worker["pid"]) for worker in found["workers"]]
    assert {row["state"] for row in shown} == {"ready"}


def test_status_shows_the_request_that_a_worker_is_busy_with(serve, connect, ctl, gate, inbox, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    (worker,) = status(path)["workers"]
    assert worker["request"]["line"].startswith("GET /gate")
    assert worker["request"]["age_s"] >= 0
    assert "GET /gate" in rows(ctl("status")[1])[0]["request"]
    gate.open()
    assert wire.response().status == 200


def test_status_shows_the_routes_on_which_the_time_was_spent(serve, ctl, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}", workers=2)
    assert ctl("status")[1].count("\n\n") == 1
    with Wire(("127.0.0.1", server.port)) as wire:
        for target in ["/whole?route=/quick"] * 2 + ["/whole?route=/slow/{id}&call=20&status=503"]:
            wire.get(target).response()
    wait_until(lambda: sum(sum(route["requests"].values()) for route in status(path)["routes"]) == 3)
    table = ctl("status")[1]
    head, *lines = table.split("\n\n")[2].splitlines()
    assert head.split() == ["time", "requests", "mean", "p50", "p99", "5xx", "route"]
    assert [(line.split()[1], *line.split()[5:]) for line in lines] == [("1", "1", "/slow/{id}"), ("2", "0", "/quick")]
    found = json.loads(ctl("status", "--json")[1])
    assert {route["route"]: route["requests"] for route in found["routes"]} == {"/slow/{id}": {"5xx": 1}, "/quick": {"2xx": 2}}
    assert found["routes_count"] == 2


# --- scale ---


@pytest.mark.smoke
def test_scale_changes_the_number_of_workers(serve, ctl, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    assert ctl("scale", 3)[0] == EXIT_DONE
    server.wait_for(SERVER_SCALED, workers=3)
    server.wait_for(WORKER_READY, count=3)
    assert len(server.worker_pids()) == 3
    assert ctl("scale", 1)[0] == EXIT_DONE
    server.wait_for(WORKER_LEFT, count=2)
    assert wait_until(lambda: len(ready(status(path))) == 1)
    assert status(path)["workers_target"] == 1


def test_scale_to_more_than_there_is_room_for_changes_nothing(serve, ctl, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    exit_code, output, errors = ctl("scale", 60_000)
    assert (exit_code, output) == (EXIT_FAILED, "")
    assert "there is room for at most 64 workers" in errors
    assert status(path)["workers_target"] == 1


# --- dump ---


def test_dump_writes_the_stack_of_a_worker_to_the_log(serve, connect, ctl, gate, inbox, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    pid = inbox.receive()
    exit_code, output, _ = ctl("dump", 0)
    assert exit_code == EXIT_DONE and pid in output
    wait_until(lambda: "in wait_for_gate" in server.log)
    gate.open()
    assert wire.response().body.decode().strip() == pid, "it goes on"
    assert server.worker_pids() == [int(pid)]
    (asked,) = server.events("admin.command_received")
    assert asked.has("admin.command_received", {"verb": "dump", "slot": 0, "by_uid": os.getuid()})
    assert int(asked.pairs["by_pid"]) > 1
    (stacks,) = server.events("worker.stacks")
    assert stacks.pairs["pid"] == pid


def test_commands_are_logged_with_who_gave_them_and_refused_ones_are_not(serve, ctl, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    for words in (["scale", 60_000], ["dump", 7], ["status"]):
        ctl(*words)
    for words in (["scale", 2], ["reload", "--wait"], ["recycle", 0], ["stop", "--quick"]):
        exit_code, _, errors = ctl(*words)
        assert exit_code == EXIT_DONE, errors
    server.wait()
    asked = [line.pairs for line in server.events("admin.command_received")]
    assert [(pairs.pop("by_uid"), int(pairs.pop("by_pid")) > 1) for pairs in asked] == [(str(os.getuid()), True)] * 4
    assert asked == [{"verb": "scale", "workers": "2"}, {"verb": "reload", "wait": "1"}, {"verb": "recycle", "slot": "0"}, {"verb": "stop", "quick": "1"}]


def test_dump_shows_an_import_that_hangs(ctl, gate, inbox, path, tmp_path):
    (tmp_path / "hangs.py").write_text(
        "import os, socket\n"
        f"socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(str(os.getpid()).encode(), {inbox.path!r})\n"
        f"open({gate.path!r}).read()\n"
        "from plain import app\n"
    )
    server = Server("hangs:app", "--pythonpath", APPS, "--admin-bind", f"unix:{path}", cwd=tmp_path)
    try:
        pid = inbox.receive()
        exit_code, output, errors = ctl("dump", 0)
        assert exit_code == EXIT_DONE and pid in output, errors
        assert server.wait_for("worker.stacks").pairs["pid"] == pid
        gate.open()
        server.ready().stop()
    finally:
        server.kill()


def test_dump_of_an_unknown_worker_fails(serve, ctl, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    exit_code, _, errors = ctl("dump", 7)
    assert exit_code == EXIT_FAILED and "there is no worker 7" in errors


# --- recycle ---


def test_recycle_replaces_one_worker_by_another_of_the_same_generation(serve, ctl, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    before = status(path)["workers"]
    since = server.position()
    exit_code, output, errors = ctl("recycle", 1)
    assert (exit_code, errors) == (EXIT_DONE, "")
    assert f"worker 1 (pid {before[1]['pid']})" in output
    server.wait_for(WORKER_READY, since=since, slot=1)
    server.wait_for(WORKER_LEFT, since=since, pid=before[1]["pid"])
    after = wait_until(lambda: [it for it in (status(path)["workers"],) if len(it) == 2])[0]
    assert after[0]["pid"] == before[0]["pid"] and after[1]["pid"] != before[1]["pid"]
    assert [(it["generation"], it["state"], it["restarts"]) for it in after] == [(1, "ready", 0)] * 2


def test_recycle_of_an_unknown_worker_fails(serve, ctl, path):
    serve("plain:app", "--admin-bind", f"unix:{path}")
    exit_code, _, errors = ctl("recycle", 7)
    assert exit_code == EXIT_FAILED and "there is no worker 7" in errors


# --- reload ---


def letter(server):
    """Returns the letter of the code that answers."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get("/", "Connection: close").response().body.decode().strip()


@pytest.mark.smoke
def test_reload_with_wait_ends_when_all_workers_are_new(serve, ctl, code, path):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", workers=2, cwd=directory)
    before = set(server.worker_pids())
    assert letter(server) == "a"
    code(CODE.format(letter="b"))
    assert ctl("reload", "--wait") == (EXIT_DONE, "done\n", "")
    assert letter(server) == "b"
    found = status(path)
    assert found["generation"] == 2
    assert (found["reload"]["state"], found["reload"]["outcome"]) == ("ended", "done")
    assert len(ready(found)) == 2 and not before & {worker["pid"] for worker in ready(found)}


def test_reloading_broken_code_shows_its_traceback_and_changes_nothing(serve, ctl, code, path):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", workers=2, cwd=directory)
    before = server.worker_pids()
    code(BROKEN)
    exit_code, output, errors = ctl("reload", "--wait")
    assert (exit_code, output) == (EXIT_FAILED, "")
    assert errors.startswith("error: the reload failed: canary-failed: ")
    assert "Traceback" in errors and "a_module_that_is_not_there" in errors
    assert server.worker_pids() == before and letter(server) == "a"
    found = status(path)
    assert found["reload"]["outcome"] == "canary-failed"
    assert "a_module_that_is_not_there" in found["reload"]["report"]
    assert "canary-failed, " in ctl("status")[1]
    code(CODE.format(letter="b"))
    assert ctl("reload", "--wait")[0] == EXIT_DONE
    assert letter(server) == "b"


@pytest.mark.parametrize("how", ["raises", "answers 500"])
def test_a_failed_reload_check_reports_the_error_of_the_application(serve, ctl, code, path, how):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", "--reload-check", "/health", cwd=directory)
    before = server.worker_pids()
    code(CHECKED[how])
    exit_code, _, errors = ctl("reload", "--wait")
    assert exit_code == EXIT_FAILED and "--reload-check: GET /health " in errors
    assert errors.count("LookupError: no stock") == 1 and "in count" in errors
    assert server.worker_pids() == before and letter(server) == "a"


def test_reload_without_wait_returns_at_once(serve, ctl, code, gate, path):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", cwd=directory)
    code(f"open({gate.path!r}).read()\n{CODE.format(letter='b')}")
    exit_code, output, _ = ctl("reload")
    assert exit_code == EXIT_DONE and output.startswith("reloading")
    server.wait_for(WORKER_STARTED, count=2)
    running = status(path)["reload"]
    assert (running["state"], running["step"], running["generation"]) == ("running", "canary", 2)
    assert letter(server) == "a"
    gate.open()
    wait_until(lambda: status(path)["reload"]["state"] == "ended")
    assert letter(server) == "b"


def test_a_client_waiting_for_a_reload_learns_that_the_server_stops(serve, code, gate, path):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", cwd=directory)
    code(f"open({gate.path!r}).read()\n{CODE.format(letter='b')}")
    with Wire(path) as wire:
        wire.get("/reload?wait=1", method="POST")
        server.wait_for(WORKER_STARTED, count=2)
        server.send(signal.SIGTERM)
        answer = wire.response("POST")
    assert answer.status == 409 and answer.body.startswith(b"abandoned: ")
    assert server.wait() == EXIT_DONE


def test_at_most_16_clients_wait_and_disconnected_ones_do_not_count(serve, code, gate, path):
    directory = code(CODE.format(letter="a"))
    server = serve("shop:app", "--admin-bind", f"unix:{path}", cwd=directory)
    code(f"open({gate.path!r}).read()\n{CODE.format(letter='b')}")
    with ExitStack() as stack:

        def wait():
            return stack.enter_context(Wire(path)).get("/reload?wait=1", method="POST")

        waiting = [wait() for _ in range(16)]
        assert wait().response("POST").status == 503
        waiting.pop().socket.close()
        waiting.append(wait())
        server.wait_for(WORKER_STARTED, count=2)
        server.send(signal.SIGTERM)
        answers = [wire.response("POST") for wire in waiting]
    # A request that is read after the signal is refused.
    assert {answer.status for answer in answers} == {409}
    assert {answer.body.split(b":")[0] for answer in answers} <= {b"abandoned", b"refused"}
    assert server.wait() == EXIT_DONE


# --- stop ---


@pytest.mark.parametrize("words", [["stop"], ["stop", "--quick"]], ids=" ".join)
def test_stop_ends_the_server(serve, ctl, path, words):
    server = serve("plain:app", "--admin-bind", f"unix:{path}", workers=2)
    assert ctl(*words) == (EXIT_DONE, "stopping\n", "")
    assert server.wait() == EXIT_DONE
    assert server.leftovers() == []
    assert ctl("status")[0] == EXIT_FAILED


def test_a_graceful_stop_finishes_the_running_request(serve, connect, ctl, gate, inbox, path):
    server = serve("plain:app", "--admin-bind", f"unix:{path}")
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    assert ctl("stop")[0] == EXIT_DONE
    exit_code, _, errors = ctl("reload", "--wait")
    assert exit_code == EXIT_FAILED and "the server is stopping" in errors
    gate.open()
    assert wire.response().status == 200
    assert server.wait() == EXIT_DONE


# --- Permissions ---


def posted(port, target, *fields):
    """Sends a POST over TCP, and returns the status."""
    with Wire(("127.0.0.1", port)) as wire:
        head = "".join(f"{line}\r\n" for line in (f"POST {target} HTTP/1.1", *fields, "Content-Length: 0"))
        return wire.send(head + "\r\n").response("POST").status


def test_commands_are_refused_over_tcp(serve):
    server = serve("plain:app", "--admin-bind", "127.0.0.1:0")
    port = int(server.wait_for(SERVER_READY).pairs["admin"].rsplit(":", 1)[1])
    own = f"Host: 127.0.0.1:{port}"
    assert posted(port, "/scale?workers=2", own, "Origin: http://shop.example") == 403
    assert posted(port, "/scale?workers=2", own, "Origin: null") == 403
    assert posted(port, "/scale?workers=2", "Host: shop.example") == 403
    assert ask(("127.0.0.1", port), "/scale?workers=2").status == 405
    assert posted(port, "/scale?workers=2", own) == 403


@pytest.mark.parametrize("words", [["scale"], ["scale", "0"], ["scale", "x"], ["dump"], ["recycle"], ["stop", "--wait"]], ids=" ".join)
def test_unknown_commands_exit_2(ctl, words):
    exit_code, output, errors = ctl(*words)
    assert (exit_code, output) == (EXIT_USAGE, "") and errors.startswith("error: ")
