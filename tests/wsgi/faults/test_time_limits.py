"""Requests that take longer than --timeout: they get an exception, their clients a response, and their workers are replaced."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.parse import quote

import pytest
from support.server import WORKER_DIED, WORKER_READY, Server
from support.wire import Ended, Wire

TIMED_OUT = "request.timed_out"  # slot, pid, generation, reacted, request_ms, request, request_id
LIMIT = ("--timeout", "500ms")
TRUSTED = ("--forwarded-allow-ips", "127.0.0.1")  # so that the identifiers of requests are kept
PATIENT = (*LIMIT, *TRUSTED, "--timeout-grace", "60s")  # for requests that react on a busy machine
SIGNAL = signal.SIGRTMIN + 12
WAITS = ["sleep", "spin", "receive", "poll", "lock", "join", "aio", "child"]


def ask(server, target, *fields):
    with Wire(("127.0.0.1", server.port)) as wire:
        return wire.get(target, *fields).response()


def wait_for_replacement(server, pid, ready):
    """Waits until the worker is replaced. Its replacement was ready before it exited."""
    server.wait_for(WORKER_READY, ready + 1)
    exited = server.wait_for("worker.exited", pid=pid)
    log = server.log.splitlines()
    is_of = [line for line in log if f"pid={pid}" in line and "worker.exited" in line]
    last_ready = max(at for at, line in enumerate(log) if WORKER_READY in line)
    assert last_ready < log.index(is_of[0]) and exited.pairs["status"] == "exit code 0"
    assert pid not in map(str, server.worker_pids())


@contextmanager
def signals(pids):
    """Sends the signal to these processes all the time."""
    done = threading.Event()

    def shoot():
        while not done.wait(0.0005):
            for pid in pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, SIGNAL)

    thread = threading.Thread(target=shoot)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("way", WAITS)
def test_a_late_request_cleans_up_and_its_client_gets_504(serve, way):
    server = serve("late:app", *PATIENT)
    with Wire(("127.0.0.1", server.port)) as wire:
        response = wire.get(f"/{way}", "X-Request-Id: order-66").response()
        assert (response.status, response.body) == (504, b"504 Gateway Timeout\n")
        assert response.field("Connection") == "close" and response.field("Content-Length") == "20"
        assert response.field("X-Request-Id") == "order-66"
        assert wire.is_closed()
    late = server.wait_for(TIMED_OUT)
    assert late.level == "WARNING" and int(late.pairs["request_ms"]) >= 500
    assert late.has(TIMED_OUT, {"reacted": "yes", "method": "GET", "path": f"/{way}", "request_id": "order-66"})
    server.wait_for("wsgi.errors", text="cleaned up")
    (raised,) = server.events("application.raised")
    assert raised.pairs["request_id"] == "order-66"
    assert "RequestTimeout: the request exceeds its time limit of 500ms" in server.log
    wait_for_replacement(server, late.pairs["pid"], 1)
    assert not server.events(("worker.hung", WORKER_DIED))


@pytest.mark.smoke
def test_the_worker_serves_others_until_its_replacement_is_ready(serve, tmp_path, gate):
    (tmp_path / "held.py").write_text(
        "import os\nfrom late import app\n"
        f"if os.path.exists('{tmp_path}/hold'): open({gate.path!r}).read()\n"
    )
    server = serve("held:app", *PATIENT, "--pythonpath", tmp_path)
    (pid,) = server.worker_pids()
    (tmp_path / "hold").touch()
    assert ask(server, "/sleep").status == 504
    server.wait_for("worker.started", 2)
    assert ask(server, "/pid").body == str(pid).encode()
    assert not server.events("worker.exited")
    gate.open()
    wait_for_replacement(server, str(pid), 1)
    assert ask(server, "/pid").body != str(pid).encode()


def test_a_late_request_may_respond_itself(serve):
    server = serve("late:app", *PATIENT)
    response = ask(server, "/caught")
    assert (response.status, response.reason) == (503, "Busy")
    assert response.body == b"the request exceeds its time limit of 500ms"
    late = server.wait_for(TIMED_OUT, reacted="yes")
    wait_for_replacement(server, late.pairs["pid"], 1)
    assert not server.events("application.raised")


def test_an_error_of_the_cleanup_is_logged_and_answered_504(serve):
    server = serve("late:app", *PATIENT)
    assert ask(server, "/replaced").status == 504
    server.wait_for(TIMED_OUT, reacted="yes")
    assert "ValueError: cleanup failed" in server.log and "arctos.RequestTimeout" in server.log


@pytest.mark.parametrize("target", ["/swallow", "/in_c"])
def test_a_request_that_does_not_react_is_dumped_and_killed(serve, target):
    server = serve("late:app", *LIMIT, *TRUSTED, "--timeout-grace", "300ms")
    answer = ask(server, target, "X-Request-Id: order-66")
    assert (answer.status, answer.field("X-Request-Id")) == (504, "order-66")
    died = server.wait_for(WORKER_DIED, answered=504)
    request = {"method": "GET", "path": target, "request_id": "order-66"}
    (late,) = server.events(TIMED_OUT)
    assert late.level == "ERROR" and late.has(TIMED_OUT, {"reacted": "no", **request})
    (hung,) = server.events("worker.hung")
    assert hung.has("worker.hung", request) and int(hung.pairs["request_ms"]) >= 800
    assert server.events("worker.stacks") and server.events("worker.killed", reason="hangs")
    assert died.has(WORKER_DIED, request)
    assert len(server.events("wsgi.errors", text="swallowed")) == (target == "/swallow"), "it is raised once"
    server.wait_for(WORKER_READY, 2)
    assert ask(server, "/pid").status == 200


def test_without_time_to_react_no_exception_is_raised(serve):
    server = serve("late:app", *LIMIT, "--timeout-grace", "0")
    assert ask(server, "/sleep").status == 504
    server.wait_for(WORKER_DIED)
    assert not server.events(TIMED_OUT) and not server.events("wsgi.errors", text="cleaned up") and server.events("worker.hung")


def test_a_request_that_ends_while_its_worker_counts_as_hung_is_answered(serve, gate):
    server = serve("late:app", *LIMIT, "--timeout-grace", "1ms")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(server, f"/recovers?gate={gate.path}")))
    thread.start()
    server.wait_for("worker.hung")
    gate.open()
    thread.join()
    assert answers[0].body == b"late"
    pid = server.wait_for("worker.recovered").pairs["pid"]
    wait_for_replacement(server, pid, 1)


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [("/generator?first", 504, b"504 Gateway Timeout\n"), ("/generator?catch", 200, b"beguncaught"), ("/closes", 200, b"complete")],
    ids=["first item", "caught", "close"],
)
def test_a_late_item_or_close_is_interrupted(serve, target, status, body):
    server = serve("late:app", *PATIENT)
    response = ask(server, target)
    assert (response.status, response.body, response.is_whole) == (status, body, True)
    late = server.wait_for(TIMED_OUT, reacted="yes")
    server.wait_for("wsgi.errors", text="cleaned up")
    wait_for_replacement(server, late.pairs["pid"], 1)


@pytest.mark.parametrize("target", ["/generator", "/writes"])
def test_a_response_that_has_begun_ends_early(serve, target):
    server = serve("late:app", *PATIENT)
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get(target)
        assert wire.head()[0] == 200
        with pytest.raises(Ended):
            while True:
                wire.more()
        assert b"begun" in wire.held and b"504" not in wire.held and not wire.held.endswith(b"0\r\n\r\n")
    server.wait_for(TIMED_OUT, reacted="yes")


def test_a_child_of_the_request_is_not_interrupted(serve):
    server = serve("late:app", *PATIENT)
    assert ask(server, "/forks?s=2").body == b"child was not interrupted"


def test_the_signal_does_nothing_unless_a_request_is_late(serve):
    server = serve("late:app", "--timeout", "60s")
    pids = server.worker_pids()
    with signals(lambda: pids), Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(300):
            assert wire.get("/busy?s=0.001").response().status == 200
    assert server.worker_pids() == pids


def test_an_application_with_its_own_handler_is_killed(serve):
    server = serve("late:app", *LIMIT, "--timeout-grace", "300ms")
    assert ask(server, "/has_own_handler").status == 504
    server.wait_for(WORKER_DIED)
    assert server.events("wsgi.errors", text="own handler") and server.events(TIMED_OUT, reacted="no")


def test_a_handler_from_the_import_is_replaced_with_a_warning(serve, tmp_path):
    (tmp_path / "handles.py").write_text(
        "import signal\nsignal.signal(signal.SIGRTMIN + 12, lambda *_: None)\nfrom late import app\n"
    )
    server = serve("handles:app", *PATIENT, "--pythonpath", tmp_path)
    assert server.events("worker.signal_handler_replaced", signal="SIGRTMIN+12")
    assert ask(server, "/sleep").status == 504


def test_no_other_request_is_interrupted_than_the_late_one(serve):
    """Requests end at about the moment at which they are interrupted, the next one follows on the same connection, and
    signals come at every moment. The next ones have a limit that they do not exceed even on a busy machine."""
    server = serve("late:app", "--timeout", "100ms", "--timeout-for", "/brief=60s", workers=2)
    outcomes = []

    def client(number):
        for turn in range(40):
            # The supervisor looks every 250 ms, so a request is interrupted 100 to 350 ms after its start.
            seconds = 0.15 + 0.005 * ((turn * 7 + number * 10) % 40)
            with Wire(("127.0.0.1", server.port)) as wire:
                statuses = [wire.get(f"/busy?s={seconds}").response().status]
                with suppress(Ended, OSError):  # the worker is recycled between two requests
                    statuses += [wire.get("/brief?s=0.001").response().status for _ in range(3)]
            outcomes.append(statuses)

    with signals(server.worker_pids), ThreadPoolExecutor(4) as pool:
        list(pool.map(client, range(4)))
    first = [outcome[0] for outcome in outcomes]
    assert len(first) == 160 and set(first) == {200, 503}
    assert {status for outcome in outcomes for status in outcome[1:]} == {200}
    assert not server.events(("application.raised", WORKER_DIED, "application.signal_handler_raised")), server.log


def test_a_route_has_a_limit_of_its_own(serve):
    server = serve(
        "late:app", "--timeout", "60s", "--timeout-grace", "60s", "--timeout-for", "/sleep=500ms", "--timeout-for", "/busy=0", workers=2
    )
    assert ask(server, "/sleep").status == 504
    assert ask(server, "/misuse?code=timeout.remaining%20>%2050").body == b"True"
    assert ask(server, "/busy?s=1").status == 200
    server.wait_for(TIMED_OUT, path="/sleep")


def test_a_route_without_a_limit_is_not_interrupted(serve):
    server = serve("late:app", *PATIENT, "--timeout-for", "/busy=0", "--timeout-for", "/extend=60")
    assert ask(server, "/busy?s=1.2").status == 200
    assert ask(server, "/extend?s=1.2&by=1").status == 200
    assert not server.events(TIMED_OUT)


def test_a_request_gets_the_time_that_it_asks_for(serve):
    server = serve("late:app", "--timeout", "2s", "--timeout-grace", "60s")
    before, after, at_last = map(float, ask(server, "/extend?by=1&by=60&s=3").body.split())
    assert 0 < before <= 2 and before + 60 < after <= before + 61 and 0 < at_last <= after - 3
    assert not server.events(TIMED_OUT)
    assert float(ask(server, "/misuse?code=timeout.remaining").body) <= 2, "the next request has the usual limit"
    assert ask(server, "/sleep").status == 504


@pytest.mark.parametrize(
    ("code", "where", "said"),
    [
        ("timeout.extend('5')", "", "TypeError: extend() takes a number of seconds, not str"),
        ("timeout.extend(True)", "", "TypeError: extend() takes a number of seconds, not bool"),
        ("timeout.extend(0)", "", "ValueError: extend() takes a number of seconds above 0 and up to 86400, not 0"),
        ("timeout.extend(-1.5)", "", "ValueError: extend() takes a number of seconds above 0 and up to 86400, not -1.5"),
        ("timeout.extend(float('nan'))", "", "ValueError: extend() takes a number of seconds above 0 and up to 86400, not nan"),
        ("timeout.extend(10**400)", "", "ValueError: extend() takes a number of seconds above 0 and up to 86400, not 1000"),
        ("timeout.extend(86399)", "", "ValueError: extend(86399) exceeds the maximum time limit of a request, which is 86400 s"),
        ("timeout.extend()", "", "TypeError: "),
        ("timeout.extend(5)", "&thread", "RuntimeError: arctos.timeout can be used only in the thread that runs the request"),
        ("timeout.remaining", "&thread", "RuntimeError: arctos.timeout can be used only in the thread that runs the request"),
        ("timeout.extend(5)", "&fork", "RuntimeError: arctos.timeout belongs to the worker, not to a process that it forked"),
        ("timeout.remaining", "&fork", "RuntimeError: arctos.timeout belongs to the worker, not to a process that it forked"),
        ("timeout.extend(5)", "&late", "RuntimeError: the request has already exceeded its time limit"),
        ("timeout.remaining", "&late", "0.0"),
        ("arctos.Timeout()", "", "TypeError: "),
        ("timeout.remaining.__class__.__name__", "", "'float'"),
    ],
)
def test_a_wrong_request_for_time_is_refused(limited, code, where, said):
    answer = ask(limited, f"/misuse?code={quote(code)}{where}").body.decode()
    assert answer.startswith(said), answer


@pytest.fixture(scope="module")
def limited():
    with Server("late:app", "--timeout", "2s", "--timeout-grace", "60s", workers=2) as server:
        yield server


def test_a_request_without_a_limit_has_no_time_left_to_read(serve):
    server = serve("late:app", "--timeout", "0")
    assert ask(server, "/misuse?code=timeout.remaining").body == b"None"
    assert ask(server, "/misuse?code=timeout.extend(5)").body == b"None"
    assert ask(server, "/misuse?code=timeout.extend(0)").body.startswith(b"ValueError")


def test_a_worker_that_drains_still_interrupts(serve):
    server = serve("late:app", *PATIENT)
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.get("/sleep")
        server.wait_for("wsgi.errors", text="waits")
        server.send(signal.SIGTERM)
        assert wire.response().status == 504
    assert server.wait() == 0


def test_a_worker_of_a_zygote_is_interrupted(serve):
    server = serve("late:app", *PATIENT, "--preload")
    assert ask(server, "/sleep").status == 504
    wait_for_replacement(server, server.wait_for(TIMED_OUT, reacted="yes").pairs["pid"], 1)


FLASK = """
import time
import flask

app = flask.Flask(__name__)

@app.errorhandler(Exception)
def swallow(error):
    return "swallowed", 200

@app.teardown_request
def end(error):
    print("teardown", type(error).__name__, flush=True)

@app.get("/sleep")
def sleep():
    try:
        time.sleep(3600)
    except Exception:
        return "swallowed"
"""

DJANGO = """
import time
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

settings.configure(SECRET_KEY="only for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[__name__ + ".middleware"])

def middleware(get_response):
    def call(request):
        try:
            return get_response(request)
        finally:
            print("teardown", flush=True)
    return call

def sleep(request):
    try:
        time.sleep(3600)
    except Exception:
        return HttpResponse("swallowed")

urlpatterns = [path("sleep", sleep)]
handler500 = lambda request: HttpResponse("swallowed")
app = get_wsgi_application()
"""


@pytest.mark.parametrize("source", [FLASK, DJANGO], ids=["flask", "django"])
def test_frameworks_do_not_swallow_the_exception(serve, tmp_path, source):
    (tmp_path / "site_app.py").write_text(source)
    server = serve("site_app:app", *PATIENT, "--pythonpath", tmp_path)
    assert ask(server, "/sleep").status == 504
    late = server.wait_for(TIMED_OUT, reacted="yes")
    wait_for_replacement(server, late.pairs["pid"], 1)
    server.stop()
    assert b"teardown" in server.output
