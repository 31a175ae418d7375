"""The memory of workers and of the cgroup: what is reported, and how `--max-rss` judges it."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys

import pytest
from support.admin_client import scrape, status
from support.memory_groups import joining, limit_file, memory_group
from support.processes import status_kb
from support.server import APPS, EXIT_DONE, EXIT_USAGE, WORKER_LEFT, WORKER_READY, clean_environment, run
from support.statsd_sink import DOGSTATSD
from support.waiting import wait_until
from support.wire import Wire

LIMIT_REACHED = "worker.limit_reached"  # slot, pid, generation, limit, value
TOO_LOW = "worker.max_rss_too_low"  # slot, pid, generation, limit, value, new_limit
UNREADABLE = "worker.memory_unreadable"  # reason, effect
RELOAD_DONE = "reload.done"
CHOSEN = "config.default_chosen"  # option, value, reason
# Those that allow root to look into the processes of others. Newer kernels accept CAP_PERFMON, too.
CAPABILITIES = "-sys_ptrace,-perfmon,-sys_admin"
MIB = 1 << 20
GROUP_BYTES = 448 * MIB


@pytest.fixture
def admin(tmp_path):
    """The path of the admin socket."""
    return str(tmp_path / "admin")


def keep(server, mib):
    """Lets a worker keep more memory. Returns its pid."""
    with Wire(("127.0.0.1", server.port)) as wire:
        return int(wire.get(f"/?{mib}", "Connection: close").response().body)


def gauges(admin):
    """Returns the gauges about memory: those of the cgroup by name, those of workers by name and slot."""
    return {
        (sample.name.removeprefix("arctos_"), *sample.labels.values()): sample.value
        for sample in scrape(admin)
        if sample.name.startswith(("arctos_memory_", "arctos_worker_")) and sample.name.endswith("_bytes")
    }


def test_workers_are_recycled_for_what_is_theirs_not_for_what_all_share(serve, tmp_path, admin):
    """Resident memory alone would exceed the limit in every worker. A reload sets the limit."""
    file = tmp_path / "arctos.toml"
    file.write_text('max-rss = "0"\n')
    options = ["--config", file, "--preload", "--admin-bind", f"unix:{admin}"]
    server = serve("memory:app", *options, workers=4, env={"IMPORTED_MIB": "80"})
    keep(server, 120)
    file.write_text('max-rss = "80M"\n')
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_DONE)
    assert not server.events(LIMIT_REACHED), "no limit was set"
    workers = server.worker_pids()
    assert all(status_kb(pid, "VmRSS") > 80 << 10 for pid in workers)
    wait_until(lambda: all(worker["pss_bytes"] for worker in status(admin)["workers"]))
    for worker in status(admin)["workers"]:
        assert worker["rss_bytes"] > 80 * MIB > 60 * MIB > worker["pss_bytes"] > worker["private_bytes"] > 0
    since = server.position()
    # By the time at which this worker is recycled, all have been measured as often.
    leaking = keep(server, 100)
    reached = server.wait_for(LIMIT_REACHED, since=since)
    assert (reached.pairs["pid"], reached.pairs["limit"]) == (str(leaking), "--max-rss")
    assert int(reached.pairs["value"]) > 100 * MIB
    server.wait_for(WORKER_LEFT, since=since, pid=leaking)
    assert {line.pairs["pid"] for line in server.events(LIMIT_REACHED)} == {str(leaking)}
    assert set(workers) - {leaking} < set(server.worker_pids())
    assert not server.events(TOO_LOW)


def test_resident_memory_counts_without_preload(serve):
    server = serve("memory:app", "--max-rss", "100M", env={"IMPORTED_MIB": "40"})
    leaking = keep(server, 80)
    reached = server.wait_for(LIMIT_REACHED, pid=leaking)
    assert 120 * MIB < int(reached.pairs["value"]) < 200 * MIB
    server.wait_for(WORKER_LEFT, pid=leaking)


def test_a_worker_that_starts_above_the_limit_is_not_recycled_for_it(serve):
    """Its replacement would be as large. It is recycled when it has grown by half."""
    server = serve("memory:app", "--max-rss", "20M", workers=2, env={"IMPORTED_MIB": "40"})
    warned = server.wait_for(TOO_LOW)
    assert (warned.level, warned.pairs["limit"]) == ("WARNING", str(20 * MIB))
    assert int(warned.pairs["new_limit"]) == int(warned.pairs["value"]) * 3 // 2
    since = server.position()
    leaking = keep(server, 200)
    server.wait_for(LIMIT_REACHED, since=since)
    assert [line.pairs["pid"] for line in server.events(LIMIT_REACHED)] == [str(leaking)]
    server.wait_for(WORKER_READY, since=since)
    assert len(server.events(TOO_LOW)) == 1, "it is logged once for each generation"


@pytest.fixture
def group():
    """A memory cgroup that is removed after the server of the test has exited."""
    with memory_group(GROUP_BYTES) as made:
        yield made


def test_auto_divides_the_limit_of_the_cgroup(group, serve, admin):
    options = ["--preload", "--max-rss", "auto", "--admin-bind", f"unix:{admin}"]
    server = serve("memory:app", *options, workers=4, command=joining(group, sys.executable, "-m", "arctos"))
    # 448 MB less an eighth, for 4 workers and a replacement.
    chosen = server.wait_for(CHOSEN, option="max-rss")
    assert chosen.pairs["value"] == "78M"
    reason = "the cgroup has 448M of memory, 1/8 of it in reserve, for 4 workers and a replacement"
    assert chosen.pairs["reason"] == reason
    memory = status(admin)["memory"]
    assert (memory["limit_bytes"], memory["limit_file"]) == (GROUP_BYTES, str(limit_file(group)))
    assert 0 < memory["working_set_bytes"] <= memory["used_bytes"] < GROUP_BYTES
    found = gauges(admin)
    assert found[("memory_limit_bytes",)] == GROUP_BYTES
    assert 0 < found[("memory_working_set_bytes",)] <= found[("memory_used_bytes",)] < GROUP_BYTES
    before = found[("memory_used_bytes",)]
    leaking = keep(server, 100)
    # It is read at most once a second. The worker is recycled after two samples, each two seconds after the last.
    wait_until(lambda: gauges(admin)[("memory_used_bytes",)] > before + 90 * MIB)
    server.wait_for(LIMIT_REACHED, pid=leaking)
    server.wait_for(WORKER_LEFT, pid=leaking)


def test_the_terminal_shows_the_limits(group):
    command = [*joining(group, sys.executable, "-m", "arctos"), "--bind", "127.0.0.1:0", "--workers", "1"]
    shown = in_terminal([*command, "--max-rss", "auto", "plain:app"])
    assert f"  Memory       448 MB  {limit_file(group)}\n" in shown
    reason = "command line, auto: the cgroup has 448M of memory, 1/8 of it in reserve, for 1 worker and a replacement"
    assert f"  Per worker   196M  --max-rss: {reason}\n" in shown


def in_terminal(command):
    """Runs a server in a terminal, until it is ready. Returns what it shows, with narrow columns."""
    ours, theirs = pty.openpty()
    environment = {**clean_environment(), "NO_COLOR": "1"}
    process = subprocess.Popen(command, cwd=APPS, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        shown = b""
        while b"Press Ctrl-C" not in shown:
            shown += os.read(ours, 65536)
    finally:
        process.terminate()
        process.wait(60)
        os.close(ours)
    return re.sub("(?<=[0-9A-Z]) {2,}", "  ", shown.decode().replace("\r", ""))


@pytest.mark.parametrize(
    ("mib", "expected"),
    [
        (448, "196M  command line, auto: the cgroup has 448M of memory, 1/8 of it in reserve, for 1 worker and a"),
        (None, "0  command line, auto: off, because the cgroup has no memory limit"),
    ],
)
def test_auto_is_shown_by_print_config(mib, expected):
    with memory_group(mib * MIB if mib else -1) as group:
        command = joining(group, sys.executable, "-m", "arctos", "--max-rss", "auto", "--workers", "1")
        command += ["--print-config", "plain:app"]
        done = subprocess.run(command, cwd=APPS, env=clean_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("--max-rss"))
    if mib is None and "no memory limit" not in line:
        pytest.skip(f"this process already has a memory limit: {line}")
    assert expected in re.sub(" {2,}", "  ", line)


@pytest.mark.parametrize("value", ["automatic", "512", "-1", "1X", "50%"])
def test_a_wrong_limit_names_option_value_and_accepted_form(value):
    code, _, error = run("--max-rss", value, "plain:app")
    assert code == EXIT_USAGE
    assert f"--max-rss '{value}': expected auto, 0, or a size from 1M to" in error


def test_without_permission_resident_memory_is_reported_and_said_once(serve, admin):
    """As in most containers, in which root may not trace the processes of others."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can drop capabilities, by setpriv(1)")
    command = ["setpriv", "--bounding-set", CAPABILITIES, sys.executable, "-m", "arctos"]
    options = ["--user", "nobody", "--preload", "--max-rss", "100M", "--admin-bind", f"unix:{admin}"]
    server = serve("memory:app", *options, workers=2, command=command)
    for worker in status(admin)["workers"]:
        assert worker["rss_bytes"] > MIB
        assert worker["pss_bytes"] is worker["private_bytes"] is None
    said = server.wait_for(UNREADABLE)
    assert said.level == "WARNING" and "--max-rss limits resident memory" in said.pairs["effect"]
    found = gauges(admin)
    assert ("worker_rss_bytes", "0") in found and ("worker_pss_bytes", "0") not in found
    server.send(signal.SIGHUP)
    server.wait_for(RELOAD_DONE)
    status(admin)
    assert len(server.events(UNREADABLE)) == 1


def test_ctl_and_statsd_have_the_same_numbers(serve, sink, admin):
    options = ["--admin-bind", f"unix:{admin}", "--statsd-host", sink.option, *DOGSTATSD]
    server = serve("memory:app", *options, "--preload", workers=2, env={"IMPORTED_MIB": "50"})
    sink.wait_for(lambda received: received.gauge("worker.private", worker=1))
    rss, pss, private = (
        sink.look(lambda received, name=name: received.gauge(name, worker=1))
        for name in ("worker.rss", "worker.pss", "worker.private")
    )
    assert 0 < private < pss < rss - 25 * MIB
    table = ctl(admin, "status")
    assert re.search(r"^memory +(-|[0-9.]+[KMG] of [0-9.]+G|[0-9.]+[KMG], no limit)$", table, re.M), table
    assert "  open    rss    pss  private  request" in table
    assert len(server.worker_pids()) == 2


def ctl(admin, verb):
    code, out, error = run("ctl", "--admin", f"unix:{admin}", verb)
    assert code == EXIT_DONE, error
    return out
