"""scripts/endure, in small: a full run takes minutes, and CONTRIBUTING says when to make one."""

import subprocess
import sys

from support.server import PATIENCE_S, ROOT

SMALL = "--kills 12 --within 1 --reloads 2 --upgrades 1 --busy 16 --idle 40 --settle 0.5 --seed 1".split()


def test_a_storm_hangs_nothing_executes_nothing_twice_and_leaks_nothing():
    endure = [sys.executable, ROOT / "scripts/endure", "storm", "--python", sys.executable]
    command = [*endure, "--modes", "shared", *SMALL]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=4 * PATIENCE_S)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "12 workers were killed" in ended.stdout and "0 of them twice" in ended.stdout
