"""`scripts/rollout`: a short run behind HAProxy, and the picture that it draws. No timing is asserted."""

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from support.server import EXIT_USAGE, PATIENCE_S, ROOT, clean_environment

sys.path.insert(0, str(ROOT / "scripts"))

from rollout_picture import FAILED, OUTCOMES, outcomes, picture

SVG = "{http://www.w3.org/2000/svg}"
RUN = {
    "seconds": 10.04,
    "drain_s": 2,
    "note": "a machine & its <CPUs>",
    "pods": [
        {"name": "old-1", "version": "old", "status": 0, "started": -3, "ready": -2, "term": 4, "exited": 7},
        {"name": "new-1", "version": "new", "status": None, "started": 2, "ready": 3},
    ],
    # The time of the end, and the pod.
    "requests": [(0.01, "old-1"), (3.99, "old-1"), (4.0, "old-1"), (6.5, "old-1"), (6.5, "new-1"), (9.99, ""), (10.04, "new-1")],
}


def rollout(*words, timeout=PATIENCE_S):
    """Runs `scripts/rollout`. Returns its exit status, output and errors."""
    command = [sys.executable, ROOT / "scripts" / "rollout", *map(str, words)]
    ended = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=timeout)
    return ended.returncode, ended.stdout, ended.stderr


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


# --- The picture ---


def test_requests_are_counted_by_their_end_and_by_the_pod_that_answered():
    counts = outcomes(RUN)
    assert {len(steps) for steps in counts.values()} == {101}
    found = {name: [step for step, number in enumerate(steps) if number] for name, steps in counts.items()}
    assert found == {"old": [0, 39], "stopping": [40, 65], "new": [65, 100], "failed": [99]}


def test_the_picture_has_a_lane_for_each_pod_and_a_bar_for_each_outcome():
    svg = picture(RUN)
    rectangles = list(ElementTree.fromstring(svg).iter(f"{SVG}rect"))
    # Four states and four outcomes are explained; old-1 has three states here, new-1 two; seven bars.
    assert len(rectangles) == 4 + len(OUTCOMES) + 3 + 2 + 7
    assert sum(rectangle.get("fill") == FAILED for rectangle in rectangles) == 2
    shown = texts(svg)
    assert {"7 requests, 1 failed", "a machine & its <CPUs>", "old-1", "new-1", "exit 0"} <= set(shown)
    assert {"2 by the old version", "2 by an old pod after its TERM", "2 by the new version", "1 failed"} <= set(shown)
    # No text lies outside.
    width = float(ElementTree.fromstring(svg).get("width"))
    assert all(0 <= float(element.get("x")) <= width for element in ElementTree.fromstring(svg).iter(f"{SVG}text"))


def test_the_picture_of_the_guide_is_that_of_a_run_without_failures():
    shown = texts((ROOT / "src" / "guide" / "rollout.svg").read_text())
    assert "0 failed" in shown and [one for one in shown if one.endswith(" requests, 0 failed")]
    assert [one for one in shown if one.startswith("exit")] == ["exit 0"] * 3


# --- The command ---


@pytest.mark.slow
def test_a_rollout_behind_haproxy_fails_no_request(tmp_path):
    if not shutil.which("haproxy") and not shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin"):
        pytest.skip("haproxy is not installed")
    words = ("--replicas", 1, "--workers", 3, "--rate", 40, "--import-time", 0)
    code, out, error = rollout(*words, "--python", sys.executable, "--output", tmp_path, timeout=4 * PATIENCE_S)
    assert (code, error) == (0, ""), out
    assert ", 0 failed\n" in out and "old-1: exited with 0" in out
    run = json.loads((tmp_path / "rollout.json").read_text())
    [old, new] = run["pods"]
    assert run["drain_s"] == 5 and old["term"] >= new["ready"] and old["exited"] > old["term"]
    counts = {name: sum(steps) for name, steps in outcomes(run).items()}
    assert counts["failed"] == 0 and min(counts[name] for name in ("old", "stopping", "new")) > 0
    assert (tmp_path / "rollout.svg").read_text() == picture(run)


def test_pods_that_do_not_start_end_the_rollout(tmp_path):
    words = ("--replicas", 1, "--drain-delay", "never")
    code, _, error = rollout(*words, "--python", sys.executable, "--output", tmp_path)
    assert code == 1 and "old-1 does not become ready" in error
    assert "--drain-delay" in (tmp_path / "pods.log").read_text()


def test_help_and_wrong_arguments_of_the_rollout_script():
    code, out, error = rollout("--help")
    assert (code, error) == (0, "") and out.startswith("usage: scripts/rollout ")
    for option, value in (("--replicas", "0"), ("--workers", "x"), ("--rate", "19"), ("--import-time", "x")):
        code, out, error = rollout(option, value)
        assert (code, out) == (EXIT_USAGE, "") and option in error and value in error
    code, _, error = rollout("--python", "/nonexistent/python")
    assert code == 1 and error == "scripts/rollout: /nonexistent/python is missing: run scripts/install first\n"
