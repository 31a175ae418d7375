"""Operators give every command in any order and at any time (row F27 of the fault table), and no request is lost."""

import os
import random
import signal
import time

from support.application_code import Code
from support.server import SERVER_READY, WORKER_DIED, run
from support.upgradable import SERVER_STOPPED, UPGRADE_REFUSED, UPGRADE_STARTED, UPGRADE_TAKEN_OVER
from support.waiting import wait_until

RELOAD_FAILED = "reload.failed"
WORKERS = 3
STEPS = 24


def test_any_order_of_reload_pause_scale_recycle_upgrade_loses_nothing(serve_upgradable, tmp_path):
    """F27. Commands also come during the probation of a canary, and while another command is carried out."""
    seed = int(os.environ.get("ARCTOS_TEST_SEED", random.randrange(1 << 32)))
    print(f"replay with ARCTOS_TEST_SEED={seed}")
    dice = random.Random(seed)
    code, admin = Code(tmp_path), tmp_path / "admin"
    code.good("0")
    server = code.serve(serve_upgradable, "--admin-bind", f"unix:{admin}", workers=WORKERS)

    def rest():
        since = server.position()
        server.send(signal.SIGWINCH)
        server.wait_for("signal.received", since=since, signal="SIGWINCH")  # the kernel delivers HUP before WINCH
        time.sleep(dice.choice([0, 0.05]))  # workers have exited, or are exiting
        server.send(signal.SIGHUP)

    def recycle():
        run("ctl", "recycle", dice.randrange(WORKERS), "--admin", f"unix:{admin}")

    hup, more, fewer = (
        lambda number=number: server.send(number) for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
    )

    def press_keys(keys, steps):
        for _ in range(steps):
            dice.choice(keys)()
            time.sleep(dice.choice([0, 0.01, 0.1, 0.4]))  # the fault itself

    def upgrade():
        since, before = server.position(), server.pid

        def begins():  # It is refused while another command is carried out.
            server.send(signal.SIGUSR2)
            return wait_until(lambda: server.events((UPGRADE_REFUSED, UPGRADE_STARTED), since=since))[-1].event == UPGRADE_STARTED

        wait_until(begins)
        press_keys([recycle, more, fewer], 2)
        server.wait_for(UPGRADE_TAKEN_OVER, since=since, predecessor=before)
        server.main = int(server.wait_for(SERVER_READY, since=since).pairs["pid"])
        server.wait_for(SERVER_STOPPED, since=since, pid=before)

    with code.traffic(server, clients=6) as traffic:
        traffic.wait_for_each()
        press_keys([hup, hup, hup, rest, recycle, more, fewer], STEPS)
        upgrade()
        press_keys([hup, rest, recycle, more, fewer], STEPS // 4)
        code.good("last")
        hup()
        wait_until(lambda: traffic.records[-1].version == "last")
        traffic.wait_for_each()
    traffic.assert_nothing_lost()
    assert not server.events(RELOAD_FAILED) and not server.events(WORKER_DIED)
    assert not server.events("worker.abandoned") and not server.events("worker.killed")
