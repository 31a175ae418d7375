"""Reloads of broken code under load (rows F5 to F7 of the fault table): no request is lost, and the last code
that works serves."""

import os
import signal
import time

import pytest
from support.application_code import Code
from support.server import WORKER_DIED, WORKER_LEFT, WORKER_READY, LogLine
from support.waiting import wait_until

WORKER_STARTED = "worker.started"
NOT_BOOTED = "worker.not_booted"
RELOAD_DONE = "reload.done"  # generation_in_service
RELOAD_FAILED = "reload.failed"  # generation_in_service, reason
RELOAD_HALTED = "reload.halted"  # generation

IMPORTS = {
    "raises": "raise ValueError('on purpose')",
    "hangs": "import time; time.sleep(600)",
    "crashes": "import ctypes; ctypes.string_at(0)",
}


@pytest.fixture
def code(tmp_path):
    """The application, in a temporary directory."""
    made = Code(tmp_path)
    made.good("good")
    return made


def lives(log):
    """Returns the maximum number of workers and of generations at a time, according to the log."""
    alive, most, most_generations = {}, 0, 0
    for line in log.splitlines():
        parsed = LogLine.parse(line)
        if parsed is None or "pid" not in parsed.pairs:
            continue
        if parsed.event == WORKER_STARTED:
            alive[parsed.pairs["pid"]] = parsed.pairs["generation"]
        elif parsed.event in (WORKER_LEFT, WORKER_DIED, NOT_BOOTED):
            del alive[parsed.pairs["pid"]]
        most, most_generations = max(most, len(alive)), max(most_generations, len(set(alive.values())))
    return most, most_generations


# --- F5 ---


@pytest.mark.smoke
@pytest.mark.parametrize("how", IMPORTS)
def test_a_reload_that_fails_at_import_loses_nothing_and_the_next_works(serve, code, how):
    """F5. The code raises, hangs or crashes. The workers stay the same, and the traceback is logged once."""
    server = code.serve(serve, "--boot-timeout", "1s", workers=4)
    before = server.worker_pids()
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        code.write(IMPORTS[how] + "\n")
        server.send(signal.SIGHUP)
        failed = server.wait_for(RELOAD_FAILED)
        traffic.wait_for_each()
        assert failed.pairs["generation_in_service"] == "1"
        assert server.worker_pids() == before
        assert server.log.count("Traceback (most recent call last)") == (how == "raises"), server.log
        assert len(server.events(NOT_BOOTED)) == 1 and not server.events(WORKER_DIED)
        code.good("better")
        server.send(signal.SIGHUP)
        done = server.wait_for(RELOAD_DONE)
        traffic.wait_for_each()
        last = time.monotonic()
        traffic.wait_for_each()
    traffic.assert_nothing_lost()
    assert done.pairs["generation_in_service"] == "3"
    assert {record.version for record in traffic.answered() if record.begun > last} == {"better"}
    assert {record.version for record in traffic.answered()} == {"good", "better"}
    assert not set(before) & set(server.worker_pids()) and len(server.worker_pids()) == 4
    assert lives(server.log) == (5, 2)


# --- F6 ---

# Half a second after its first request; under load, that is half a second after it is ready.
DIES = """
import os, threading
from faulty import application
good, timer = application("dying"), threading.Timer({after_s}, os._exit, [9])
def app(environ, start_response):
    if timer.ident is None:
        timer.start()
    return good(environ, start_response)
"""


def test_code_that_dies_in_probation_loses_only_the_requests_of_its_canary(serve, code):
    """F6. The canary dies 0.5 s after it is ready. The other workers are not affected."""
    server = code.serve(serve, workers=4)
    before = server.worker_pids()
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        code.write(DIES.format(after_s=0.5))
        server.send(signal.SIGHUP)
        failed = server.wait_for(RELOAD_FAILED)
        traffic.wait_for_each()
    died = server.events(WORKER_DIED)
    assert failed.pairs["generation_in_service"] == "1"
    assert [(line.pairs["generation"], line.pairs["status"]) for line in died] == [("2", "exit code 9")]
    assert "dying" in {record.version for record in traffic.answered()}
    traffic.assert_lost_with(int(died[0].pairs["pid"]))
    assert server.worker_pids() == before
    assert not server.events(WORKER_LEFT) and not server.events(RELOAD_HALTED)
    assert lives(server.log) == (5, 2)


# The first worker survives. All others boot slowly, so that the rollout lasts, and die soon after.
DIES_LATER = """
import os, threading, time
if 'DIES' in os.environ:
    try:
        os.close(os.open('first', os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        time.sleep(0.3)
        threading.Timer(0.1, os._exit, [9]).start()
"""


def test_a_rollout_whose_workers_die_rolls_back_and_loses_only_their_own(serve, code):
    """F6. The workers after the canary die. Their configuration kills them, so that the old one works again: both
    share the code on disk."""
    configuration = code.directory / "shop.toml"
    configuration.write_text("workers = 4\n")
    code.good("good", DIES_LATER)
    server = code.serve(serve, "--config", configuration, workers=None)
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        configuration.write_text('workers = 4\n[env]\nDIES = "yes"\n')
        server.send(signal.SIGHUP)
        halted = server.wait_for(RELOAD_HALTED)
        failed = server.wait_for(RELOAD_FAILED)
        # A slot whose worker died twice is filled again after a backoff.
        serving = wait_until(lambda: len(pids := server.worker_pids()) == 4 and pids)
        position = server.position()
        traffic.wait_for_each()
    assert (halted.pairs["generation"], failed.pairs["generation_in_service"]) == ("2", "1")
    died = [*server.events(WORKER_DIED), *server.events(NOT_BOOTED)]
    # A worker that had already been told to exit when it died is logged as such.
    died += [line for line in server.events(WORKER_LEFT) if line.pairs["status"] == "exit code 9"]
    assert len(died) >= 2 and {line.pairs["generation"] for line in died} == {"2"}
    traffic.assert_lost_with(*(int(line.pairs["pid"]) for line in died))
    # All workers are of the old generation again, and stay.
    assert len(serving) == 4 and not server.events(WORKER_DIED, since=position)
    ready = {int(line.pairs["pid"]): line.pairs["generation"] for line in server.events(WORKER_READY)}
    assert {ready[pid] for pid in serving} == {"1"}
    most, most_generations = lives(server.log)
    assert most <= 5 and most_generations == 2


# --- F27 ---


def test_a_hup_during_probation_cuts_no_connection_of_the_canary(serve, code, connect):
    """F27. The canary serves already, so it drains like any worker: a half-sent upload is answered, and so is a
    late request on an open connection."""
    server = code.serve(serve, workers=1)
    old = server.worker_pids()[0]
    os.kill(old, signal.SIGSTOP)  # the new worker gets all connections
    try:
        server.send(signal.SIGHUP)
        canary = server.wait_for(WORKER_READY, generation=2).pairs["pid"]
        upload, opened = connect(server), connect(server)
        upload.send(b"POST /work HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        upload.until(b"\r\n\r\n")
        opened.send(b"GET /work HTTP/1.1\r\n")
        server.send(signal.SIGHUP)
        server.wait_for("signal.received", 2, signal="SIGHUP")
        upload.send(b"abcd")
        opened.send(b"Host: a\r\n\r\n")
        answers = [upload.response(), opened.response()]
    finally:
        os.kill(old, signal.SIGCONT)
    assert [(answer.status, answer.body.split()[0]) for answer in answers] == [(200, canary.encode())] * 2
    server.wait_for(RELOAD_DONE)
    assert not server.events("worker.abandoned") and not server.events("worker.killed")


# --- F7 ---


def test_50_reloads_in_a_second_lose_nothing_and_the_last_one_counts(serve, code):
    """F7. There are never more than two generations and one extra worker."""
    server = code.serve(serve, workers=2)
    with code.traffic(server) as traffic:
        traffic.wait_for_each()
        for number in range(50):
            code.good(str(number))
            server.send(signal.SIGHUP)
            time.sleep(0.02)  # the fault itself
        # All signals of a second may become one reload, plus one for those that came during a rollout.
        wait_until(lambda: traffic.records[-1].version == "49")
        wait_until(lambda: lives_of_one_generation(server))
        traffic.wait_for_each()
        last = time.monotonic()
        traffic.wait_for_each()
    traffic.assert_nothing_lost()
    assert {record.version for record in traffic.answered() if record.begun > last} == {"49"}
    most, most_generations = lives(server.log)
    assert most == 3 and most_generations == 2
    assert not server.events(RELOAD_FAILED) and not server.events(WORKER_DIED)
    assert 1 <= len(server.events(RELOAD_DONE)) <= 3


def lives_of_one_generation(server):
    """Whether the latest event is the end of a reload."""
    events = [parsed.event for line in server.log.splitlines() if (parsed := LogLine.parse(line))]
    return events[-1] == RELOAD_DONE


# --- 100 of them ---


@pytest.mark.slow
def test_100_reloads_under_load_lose_nothing_and_the_last_good_code_serves(serve, code):
    """F5. Code that works, raises, hangs and crashes, in turn. Each answer comes from code in service during the
    request: the last that works, or its predecessor during the rollout."""
    code.good("0")
    server = code.serve(serve, "--boot-timeout", "1s", workers=2)
    served = {"0": [0.0, float("inf")]}  # version -> the time in which it may have answered
    generation = last_good = 1
    latest = "0"
    with code.traffic(server, clients=6) as traffic:
        traffic.wait_for_each()
        for number in range(1, 101):
            kind = ("good", "raises", "hangs", "crashes")[number % 4]
            since = server.position()
            generation += 1
            if kind == "good":
                code.good(str(number))
                served[str(number)] = [time.monotonic(), float("inf")]
            else:
                code.write(IMPORTS[kind] + "\n")
            server.send(signal.SIGHUP)
            if kind == "good":
                ended = server.wait_for(RELOAD_DONE, since=since)
                served[latest][1] = time.monotonic()
                latest, last_good = str(number), generation
            elif kind == "hangs" and number % 20 != 2:
                # The next reload does not wait for this one.
                server.wait_for(WORKER_STARTED, since=since, generation=generation)
                continue
            else:
                ended = server.wait_for(RELOAD_FAILED, since=since)
            assert int(ended.pairs["generation_in_service"]) == last_good, server.log
        traffic.wait_for_each()
    traffic.assert_nothing_lost()
    for record in traffic.answered():
        begin, end = served[record.version]
        assert begin <= record.ended and record.begun <= end, (record, served[record.version])
    # All versions that work have answered.
    assert {record.version for record in traffic.answered()} == served.keys()
    assert len(server.events(RELOAD_DONE)) == 25 and not server.events(WORKER_DIED)
    assert lives(server.log) == (3, 2)
