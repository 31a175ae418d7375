"""USR2: a new program takes over, and no client notices. Whatever is wrong with the new program, the old one
goes on (F24)."""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.activation import activated
from support.processes import children
from support.server import APPS, PATIENCE_S, SERVER_READY, WORKER_DIED, WORKER_READY
from support.traffic import traffic
from support.upgradable import SERVER_STOPPED, UPGRADE_FAILED, UPGRADE_REFUSED, UPGRADE_STARTED, UPGRADE_TAKEN_OVER
from support.waiting import wait_until
from support.wire import Ended, Wire

VERSIONED = """
import os, plain
VERSION = {version!r}
{at_import}
def app(environ, start_response):
    if environ["PATH_INFO"] == "/version":
        return plain.text(start_response, VERSION.encode())
    if environ["PATH_INFO"] == "/environ":
        return plain.as_json(start_response, dict(os.environ))
    return plain.app(environ, start_response)
"""


@pytest.fixture
def serve(serve_upgradable):
    """Starts servers that can be upgraded."""
    return serve_upgradable


@pytest.fixture
def shop(tmp_path):
    """Writes an application of this version into a directory, and returns it."""

    def write(version, at_import=""):
        (tmp_path / "shop.py").write_text(VERSIONED.format(version=version, at_import=at_import))
        return tmp_path

    return write


def get(server, path):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(path).response().body.decode()


def ask(path, question):
    """Sends a request to the admin socket at this path, and returns the body."""
    with Wire(path) as wire:
        answer = wire.get(question).response()
        assert (answer.status, answer.is_whole) == (200, True)
        return answer.body.decode()


def counters(page):
    """Returns the samples of all counters and histograms on a page of metrics."""
    lines = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines if "_total" in name or "_count" in name or "_bucket" in name}


def descriptors(pid):
    return sorted(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0] for fd in os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.smoke
@pytest.mark.parametrize("mode", ["shared", "per-slot"])
def test_an_upgrade_under_load_loses_no_request(serve, mode):
    server = serve("plain:app", "--listen-mode", mode, workers=2)
    with traffic(server, clients=16) as load:
        load.wait_for_answers(200)
        before = server.worker_pids()
        server.upgrade()
        load.wait_for_answers(200)
        server.upgrade()
        load.wait_for_answers(200)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert {record.worker for record in load.records[-100:]} == set(server.worker_pids())
    assert not set(before) & set(server.worker_pids())


def test_a_request_that_runs_during_takeover_is_finished_by_its_own_worker(serve, connect, gate, inbox):
    server = serve("plain:app", workers=1)
    wire = connect(server)
    wire.get(f"/gate?notify={inbox.path}&gate={gate.path}")
    inbox.receive()
    since = server.position()
    server.send(signal.SIGUSR2)
    server.wait_for(UPGRADE_TAKEN_OVER, since=since)
    server.main = int(server.wait_for(SERVER_READY, since=since).pairs["pid"])
    gate.open()
    assert wire.response().status == 200
    server.wait_for(SERVER_STOPPED, abandoned=0, pid=server.process.pid)


@pytest.mark.smoke
def test_new_code_and_new_configuration_are_served(serve, shop):
    directory = shop("one")
    (directory / "arctos.toml").write_text("workers = 1\n")
    server = serve("shop:app", "--config", "arctos.toml", "--pythonpath", APPS, workers=None, cwd=directory)
    assert get(server, "/version") == "one"
    shop("two")
    (directory / "arctos.toml").write_text("workers = 3\nserver-header = false\n")
    server.upgrade()
    assert get(server, "/version") == "two"
    assert len(server.worker_pids()) == 3


def test_nothing_of_the_upgrade_reaches_the_application(serve, shop):
    server = serve("shop:app", "--pythonpath", APPS, cwd=shop("one")).upgrade()
    assert not [name for name in json.loads(get(server, "/environ")) if name.startswith("ARCTOS_")]


def test_paths_and_the_pid_file_belong_to_the_successor(serve, tmp_path):
    path, admin, pid_file = (tmp_path / name for name in ("socket", "admin", "pid"))
    abstract = f"arctos-{os.getpid()}-upgrade"
    binds = [f"unix:{path}", "127.0.0.1:0", f"unix:@{abstract}", "localhost:0"]
    server = serve("plain:app", "--admin-bind", f"unix:{admin}", "--pid", pid_file, bind=binds)
    addresses = server.addresses
    for _ in range(2):
        server.upgrade()
        assert server.ready().events(SERVER_READY)[-1].pairs["listen"].split() == addresses
        assert pid_file.read_text() == f"{server.pid}\n"
        assert json.loads(ask(str(admin), "/status"))["pid"] == server.pid
        for address in (str(path), f"\0{abstract}", *[("127.0.0.1", port) for port in server.ports[:1]]):
            with Wire(address) as wire:
                assert wire.get("/hello").response().status == 200
    server.stop()
    assert not path.exists() and not admin.exists() and not pid_file.exists()


def test_an_upgrade_releases_a_removed_address_and_binds_a_new_one(serve, tmp_path):
    config, pid_file = tmp_path / "arctos.toml", tmp_path / "pid"
    old, new, kept = (tmp_path / name for name in ("old", "new", "kept"))
    config.write_text(f'bind = ["127.0.0.1:0", "unix:{old}", "unix:{kept}"]\npid = "{pid_file}"\n')
    server = serve("plain:app", "--config", config, bind=[])
    config.write_text(f'bind = ["unix:{kept}", "unix:{new}", "127.0.0.1:0"]\n')
    with traffic(server, clients=4) as load:
        load.wait_for_answers(50)
        server.upgrade()
        load.wait_for_answers(50)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    for path in (kept, new):
        with Wire(str(path)) as wire:
            assert wire.get("/hello").response().status == 200
    assert not old.exists() and not pid_file.exists()


def first_line(message):
    """Returns the first line of a notification. The lines below it are for people."""
    return message.splitlines()[0]


def test_the_service_manager_learns_the_new_main_process(serve, inbox):
    server = serve("plain:app", env={"NOTIFY_SOCKET": inbox.path})
    assert first_line(inbox.receive()) == "READY=1"
    server.upgrade()
    # Two processes notify. systemd ignores the new one until MAINPID names it; what it sends before says nothing new.
    said = {first_line(inbox.receive()), first_line(inbox.receive())}
    assert said == {f"MAINPID={server.pid}", "READY=1"}
    assert not inbox.has_more(), "the old one is not the service any more, and does not stop it"
    server.stop()
    assert first_line(inbox.receive()) == "STOPPING=1"


def test_systemds_sockets_are_inherited(serve):
    """This includes sockets that no option names: LISTEN_PID is the pid of the first process."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        port, fd = inherited.getsockname()[1], inherited.fileno()
        command = activated(fd, sys.executable, "-m", "arctos")
        server = serve("plain:app", bind=[], command=command, pass_fds=[fd])
        for _ in range(2):
            server.upgrade()
            assert server.ready().ports == [port]
            assert get(server, "/hello") == "Hello, world!\n"


def test_metrics_never_fall_and_add_up_over_two_upgrades(serve, sink, journal, tmp_path):
    admin = str(tmp_path / "admin")
    options = ("--admin-bind", f"unix:{admin}", "--statsd-host", sink.option, "--statsd-interval", "200ms")
    format_ = ("--statsd-format", "dogstatsd")
    server = serve("counted:app", *options, *format_, workers=2, env=journal.environment)
    pages, done = [], threading.Event()

    def look():
        while not done.is_set():
            # On a busy machine, the predecessor may accept a connection and exit before its request arrives.
            with contextlib.suppress(BrokenPipeError, Ended):
                pages.append(counters(ask(admin, "/metrics")))

    looker = threading.Thread(target=look)
    looker.start()
    try:
        with traffic(server, journal=journal) as clients:
            for _ in range(2):
                clients.wait_for_each(10)
                server.upgrade()
            clients.wait_for_each(10)
    finally:
        done.set()
        looker.join(PATIENCE_S)
    assert journal.failed() == []
    falls = [
        (name, before[name], after.get(name))
        for before, after in zip(pages, pages[1:])
        for name in before
        if after.get(name, -1) < before[name]
    ]
    assert falls == []
    last = counters(ask(admin, "/metrics"))
    total = sum(value for name, value in last.items() if name.startswith("arctos_resp_done_total"))
    assert total == len(journal.answered())
    durations = sum(value for name, value in last.items() if name.startswith("arctos_request_duration_seconds_count"))
    assert durations == len(journal.answered())
    server.stop()
    sink.close()
    received = sink.check().look(lambda received: received)
    assert received.count("resp.done") == received.count("req.success.read") == len(journal.answered())
    assert received.count("conn.accept.success") == journal.connections
    assert received.spread("request.duration")[0] == len(journal.answered())


STATSD = ("--statsd-interval", "200ms", "--statsd-format", "dogstatsd")


@pytest.mark.parametrize("tag", [(), ("--statsd-worker-tag", "off")], ids=["per-worker", "summed"])
@pytest.mark.parametrize("kind", ["udp", "unix"])
def test_the_successor_sends_the_metrics_its_predecessor_could_not(serve, make_sink, tmp_path, kind, tag):
    """The agent is absent from before the upgrade until after it."""
    sink, admin = make_sink(tmp_path / "socket" if kind == "unix" else None), str(tmp_path / "admin")
    server = serve("plain:app", "--statsd-host", sink.option, *STATSD, *tag, "--admin-bind", f"unix:{admin}")
    for _ in range(5):
        get(server, "/hello")
    sink.wait_for(lambda received: received.count("req.done") == 5)
    sink.close()
    for _ in range(7):
        get(server, "/hello")
    server.upgrade()
    for _ in range(3):
        get(server, "/hello")
    sink.open()
    sink.wait_for(lambda received: received.count("req.done") == 15)
    page = counters(ask(admin, "/metrics"))
    assert sum(value for name, value in page.items() if name.startswith("arctos_req_done_total")) == 15
    assert sum(value for name, value in page.items() if name.startswith("arctos_request_duration_seconds_count")) == 15
    server.stop()
    sink.close()
    received = sink.check().look(lambda received: received)
    assert received.count("req.done") == received.spread("request.duration")[0] == 15


# The first worker becomes ready, and the second never does.
HALF = """
try:
    os.close(os.open("first", os.O_CREAT | os.O_EXCL))
except FileExistsError:
    import time; time.sleep(1000)
"""


def test_the_counts_of_a_failed_successor_are_not_lost(serve, sink, shop, tmp_path):
    admin = str(tmp_path / "admin")
    options = ("--pythonpath", APPS, "--boot-timeout", "1s", "--statsd-host", sink.option, *STATSD)
    server = serve("shop:app", *options, "--admin-bind", f"unix:{admin}", workers=2, cwd=shop("one"))
    with traffic(server, clients=8, target="/slow?ms=2") as load:
        load.wait_for_answers(50)
        shop("half", HALF)
        server.send(signal.SIGUSR2)
        server.wait_for(UPGRADE_FAILED)
        load.wait_for_answers(50)
    answered = sum(record.outcome.name == "ANSWERED" for record in load.records)
    new = {line.pairs["pid"] for line in server.events(WORKER_READY)} - set(map(str, server.worker_pids()))
    assert any(str(record.worker) in new for record in load.records), "the successor has served nothing"

    def done():
        page = counters(ask(admin, "/metrics"))
        return sum(value for name, value in page.items() if name.startswith("arctos_resp_done_total"))

    wait_until(lambda: done() >= answered)  # a worker counts a response after its client has it
    assert done() == answered
    server.stop()
    sink.close()
    assert sink.check().look(lambda received: received.count("resp.done")) == answered


# --- F24: the new program is broken ---

BROKEN = {
    "raises": "raise RuntimeError('no')",
    "hangs": "import time; time.sleep(1000)",
    "segfaults": "import ctypes; ctypes.string_at(0)",
    "dies when it serves": "import threading; threading.Timer(0.5, os._exit, [7]).start()",
}


def test_the_old_server_goes_on_whatever_is_wrong_with_the_new_one(serve, shop, tmp_path):
    # The interpreter is started through a link, so that it can disappear.
    environment, venv = tmp_path / "venv", Path(sys.prefix)
    (environment / "bin").mkdir(parents=True)
    shutil.copy(venv / "pyvenv.cfg", environment)
    (environment / "lib").symlink_to(venv / "lib")
    program = environment / "bin" / "python3"
    program.symlink_to(os.path.realpath(sys.executable))
    config = tmp_path / "arctos.toml"
    config.write_text("workers = 2\n")
    pid_file, path = tmp_path / "pid", tmp_path / "socket"
    options = ["--config", config, "--boot-timeout", 2, "--pythonpath", APPS, "--pid", pid_file]
    binds = ["127.0.0.1:0", f"unix:{path}"]
    command = [str(program), "-m", "arctos"]
    directory = shop("one")
    options += ["--keepalive-mode", "sticky"]  # so that the supervisor holds none of the clients' connections
    server = serve("shop:app", *options, workers=None, bind=binds, command=command, cwd=directory)
    pids, open_before = sorted(server.worker_pids()), descriptors(server.pid)

    def fails():
        since = server.position()
        server.send(signal.SIGUSR2)
        line = server.wait_for(UPGRADE_FAILED, since=since)
        assert (sorted(server.worker_pids()), descriptors(server.pid)) == (pids, open_before)
        assert sorted(children(server.pid)) == pids, "reaped"
        assert pid_file.read_text() == f"{server.pid}\n"
        assert path.exists()
        return line

    with traffic(server, clients=8) as load:
        load.wait_for_answers(50)
        for at_import in BROKEN.values():
            shop("broken", at_import)
            assert fails().pairs["status"] in ("exit code 3", "exit code 4")
            load.wait_for_answers(50)
        shop("two")
        config.write_text("wrokers = 2\n")
        assert fails().pairs["status"] == "exit code 2"
        config.write_text("workers = 2\n")
        aside = program.rename(program.with_name("gone"))
        assert "No such file" in fails().pairs["reason"]
        program.write_text("no program")
        fails()
        program.unlink()
        aside.rename(program)
        load.wait_for_answers(50)
        server.upgrade()
        load.wait_for_answers(50)
    # Workers that die lose the request they run: at most one of each client.
    lost = sum(record.outcome.name != "ANSWERED" for record in load.records)
    assert lost <= 8, load.summary()
    assert get(server, "/version") == "two"


@pytest.mark.parametrize("at_import", [BROKEN[name] for name in ("raises", "hangs", "segfaults")])
def test_a_successor_that_never_serves_costs_nothing(serve, shop, tmp_path, at_import):
    """Nor is the queue, which it inherited, shorter afterwards."""
    directory, admin = shop("one"), str(tmp_path / "admin")
    options = ("--boot-timeout", 1, "--pythonpath", APPS, "--admin-bind", f"unix:{admin}")
    server = serve("shop:app", *options, workers=2, cwd=directory)
    longest = [line for line in ask(admin, "/metrics").splitlines() if line.startswith("arctos_backlog_max")]
    with traffic(server, clients=8) as load:
        load.wait_for_answers(50)
        shop("broken", at_import)
        server.send(signal.SIGUSR2)
        assert server.wait_for(UPGRADE_FAILED).pairs["status"] in ("exit code 3", "exit code 4")
        load.wait_for_answers(50)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()
    assert longest and longest[0] in ask(admin, "/metrics").splitlines()


def test_a_program_that_is_no_server_is_ended_when_it_is_not_ready_in_time(serve, tmp_path):
    """The deadline is twice the boot timeout plus 10 s."""
    start = tmp_path / "start.py"
    start.write_text("from arctos import main\nraise SystemExit(main())\n")
    server = serve("plain:app", "--boot-timeout", "2s", "--pythonpath", APPS, command=[sys.executable, str(start)])
    start.write_text("import time\ntime.sleep(1000)\n")
    server.send(signal.SIGUSR2)
    line = server.wait_for(UPGRADE_FAILED)
    assert "not ready in time" in line.pairs["reason"]
    assert get(server, "/hello") == "Hello, world!\n"
    assert len(children(server.pid)) == 1


# --- What happens meanwhile ---


@pytest.fixture
def waiting(serve, shop, make_gate, tmp_path):
    """A server whose successor waits in its import, the pid of the successor, and a function that releases it."""
    gate = make_gate()
    with ExitStack() as stack:

        def begin(*options, **popen):
            server = serve("shop:app", "--pythonpath", APPS, *options, workers=1, cwd=shop("one"), **popen)
            shop("two", f"open({gate.path!r}).read()")
            server.send(signal.SIGUSR2)
            end = os.open(gate.path, os.O_WRONLY)  # returns once the worker of the successor imports
            release = stack.enter_context(ExitStack())
            release.callback(os.close, end)
            return server, int(server.wait_for(UPGRADE_STARTED).pairs["pid"]), release.close

        yield begin


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_a_stop_ends_a_successor_that_is_not_ready(waiting, number, tmp_path):
    server, successor, _ = waiting("--pid", tmp_path / "pid")
    server.stop(number, timeout=30)
    assert not os.path.exists(f"/proc/{successor}")
    assert not (tmp_path / "pid").exists()


def test_a_second_usr2_starts_over_with_the_current_program(waiting, shop):
    server, successor, _ = waiting()
    shop("three")
    server.upgrade()
    assert server.pid != successor
    assert get(server, "/version") == "three"
    assert not os.path.exists(f"/proc/{successor}")


def test_a_killed_successor_takes_nothing_with_it(waiting, tmp_path):
    server, successor, _ = waiting()
    with traffic(server, clients=4) as load:
        load.wait_for_answers(20)
        os.kill(successor, signal.SIGKILL)
        assert "SIGKILL" in server.wait_for(UPGRADE_FAILED).pairs["status"]
        load.wait_for_answers(50)
    assert set(load.summary()) == {"ANSWERED"}, load.summary()


def test_a_successor_killed_in_probation_leaves_the_sockets_alone(serve):
    """Its workers serve by then, and survive it."""
    server = serve("plain:app", workers=2)
    for _ in range(3):
        since = server.position()
        server.send(signal.SIGUSR2)
        successor = int(server.wait_for(UPGRADE_STARTED, since=since).pairs["pid"])
        server.wait_for(WORKER_READY, count=2, since=since)
        os.kill(successor, signal.SIGKILL)
        server.wait_for(UPGRADE_FAILED, since=since)
        server.wait_for("worker.orphaned", count=2, since=since)
        for _ in range(20):
            assert get(server, "/hello") == "Hello, world!\n"
    server.upgrade()


def test_a_successor_goes_on_when_its_predecessor_is_killed(waiting, shop, tmp_path):
    admin, pid_file, path = str(tmp_path / "admin"), tmp_path / "pid", tmp_path / "socket"
    server, successor, release = waiting("--admin-bind", f"unix:{admin}", "--pid", pid_file, "--bind", f"unix:{path}")
    [orphan] = server.worker_pids()
    orphan_ends = os.pidfd_open(orphan)
    server.send(signal.SIGKILL)
    server.wait_for(UPGRADE_TAKEN_OVER)
    server.main = successor
    release()
    server.wait_for(SERVER_READY, pid=successor)
    server.ready()
    assert pid_file.read_text() == f"{successor}\n"
    assert json.loads(ask(admin, "/status"))["pid"] == successor
    # A worker of the predecessor shares the queues. It may notice late that it is orphaned, and it answers
    # what it finds in them then. It does both before it exits.
    assert select.select([orphan_ends], [], [], PATIENCE_S)[0], "the orphan leaves"
    os.close(orphan_ends)
    assert get(server, "/version") == "two"
    with Wire(str(path)) as wire:
        assert wire.get("/version").response().body == b"two"
    assert server.process.wait() == -signal.SIGKILL
    server.stop()
    assert not path.exists() and not pid_file.exists()


@pytest.mark.parametrize("order", [signal.SIGWINCH, signal.SIGHUP])
def test_an_upgrade_is_refused_while_the_server_is_paused_or_reloads(serve, shop, make_gate, order):
    gate = make_gate()
    server = serve("shop:app", "--pythonpath", APPS, cwd=shop("one"))
    end = None
    if order == signal.SIGHUP:
        shop("two", f"open({gate.path!r}).read()")
        server.send(order)
        end = os.open(gate.path, os.O_WRONLY)  # its canary imports
    else:
        server.send(order)
        server.wait_for("worker.exited")
    server.send(signal.SIGUSR2)
    reason = server.wait_for(UPGRADE_REFUSED).pairs["reason"]
    assert ("is paused" if order == signal.SIGWINCH else "reload") in reason
    if end is not None:
        os.close(end)
    assert server.events(UPGRADE_STARTED) == []


def test_an_upgrade_of_process_1_is_refused(first_process):  # noqa: F811
    server, first = first_process
    os.kill(first, signal.SIGUSR2)
    assert "process 1" in server.wait_for(UPGRADE_REFUSED).pairs["reason"]


def test_an_upgrade_of_a_program_that_called_serve_is_refused(serve, tmp_path):
    (tmp_path / "program.py").write_text(
        "import sys, arctos\nsys.path.insert(0, sys.argv.pop())\n"
        "sys.exit(arctos.serve('plain:app', bind=['127.0.0.1:0'], workers=1))\n"
    )
    server = serve(None, str(APPS), bind=[], workers=None, command=[sys.executable, str(tmp_path / "program.py")])
    server.send(signal.SIGUSR2)
    assert "serve()" in server.wait_for(UPGRADE_REFUSED).pairs["reason"]


@pytest.fixture
def crashes():
    """Sends requests to `/crash`, one after the other, until the test ends."""
    with ExitStack() as stack:

        def begin(server):
            done = threading.Event()

            def crash():
                while not done.wait(0.1):
                    try:
                        with Wire(("127.0.0.1", server.port)) as wire:
                            wire.get("/crash").to_end()
                    except OSError:
                        pass  # it was reset during the write

            thread = threading.Thread(target=crash, daemon=True)
            thread.start()
            stack.callback(lambda: (done.set(), thread.join(PATIENCE_S)))

        yield begin


def test_an_upgrade_succeeds_although_a_request_keeps_crashing_workers(serve, crashes):
    """An application that crashes all the time must be replaceable, although the same requests reach the new one."""
    server = serve("faulty:app", workers=2)
    crashes(server)
    server.wait_for(WORKER_DIED, 20)
    since = server.position()
    server.send(signal.SIGUSR2)
    server.wait_for(UPGRADE_TAKEN_OVER, since=since)
    server.main = int(server.wait_for(SERVER_READY, since=since).pairs["pid"])
    server.wait_for(SERVER_STOPPED, since=since, pid=server.process.pid)
    assert server.process.wait(PATIENCE_S) == 0
    server.wait_for(WORKER_DIED, 20, since=server.position())
    since = server.position()
    server.send(signal.SIGHUP)
    server.wait_for("reload.done", since=since)
    assert not server.events((UPGRADE_FAILED, "reload.failed"))
