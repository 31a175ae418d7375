"""`scripts/dashboard`: the picture that it draws, and a short run with a real Prometheus. No timing is asserted."""

import json
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from support.server import EXIT_USAGE, PATIENCE_S, ROOT, clean_environment, run

sys.path.insert(0, str(ROOT / "scripts"))

from dashboard_picture import ROWS, nice, number, picture

SVG = "{http://www.w3.org/2000/svg}"
NAN = float("nan")


def panel(title, style, *lines, unit="short"):
    shown = [{"name": f"<line {index}>", "values": list(enumerate(values))} for index, values in enumerate(lines)]
    return {"title": title, "is_row": False, "unit": unit, "style": style, "lines": shown}


def row(title):
    return {"title": title, "is_row": True, "unit": None, "style": None, "lines": []}


RUN = {
    "seconds": 3,
    "events": [("kill -9", 1.5), ("a <reload> & more", 2)],
    "panels": [
        row("Traffic"),
        panel("Lines & areas", "none", [1, NAN, 3], [0, 0, 0]),
        panel("Stacked", "normal", [1, 2, 3], [1, 1, 1], [0, 0, 0]),
        panel("Bars", "bars", [0, 1, 0], [0, 0, 0]),
        panel("Nothing", "none", unit="s"),
        row("Connections"),
        panel("Of a row that is not drawn", "none", [1]),
    ],
}


def texts(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def dashboard(*words, timeout=PATIENCE_S):
    """Runs `scripts/dashboard`. Returns its exit status, output and errors."""
    command = [sys.executable, ROOT / "scripts" / "dashboard", *map(str, words)]
    ended = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=timeout)
    return ended.returncode, ended.stdout, ended.stderr


def test_the_picture_is_well_formed_and_names_panels_lines_and_events():
    drawn = picture(RUN)
    shown = texts(drawn)
    assert {"Traffic", "Lines & areas", "Stacked", "Bars", "Nothing", "<line 0>", "2 a <reload> & more (2 s)"} <= set(shown)
    assert "Of a row that is not drawn" not in shown and "nan" not in drawn
    # A line; two areas with their outlines, none for what is always zero; a row of bars.
    colored = [path for path in ElementTree.fromstring(drawn).iter(f"{SVG}path") if path.get("stroke", "#7").startswith("#")]
    assert sum(path.get("fill-opacity") is not None for path in colored) == 2


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(0.5, "percentunit", "50 %"), (0.02, "s", "20 ms"), (2, "s", "2 s"), (2e7, "bytes", "20 MB"), (500, "cps", "500/s")],
)
def test_numbers_have_units(value, unit, shown):
    assert number(value, unit) == shown
    assert nice(value) == value and nice(value * 1.01) > value


def test_the_picture_of_the_guide_shows_panels_that_exist():
    printed = json.loads(run("dashboard", "grafana")[1])["panels"]
    shown = texts((ROOT / "src" / "guide" / "dashboard.svg").read_text())
    rows = {panel["title"] for panel in printed if panel["type"] == "row"}
    assert set(ROWS) <= rows & set(shown)
    assert len({panel["title"] for panel in printed} & set(shown)) > 10
    assert any("kill -9" in words for words in shown) and any("reload" in words for words in shown)


def test_a_short_run_draws_every_panel(tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("there is no prometheus: apt-get install prometheus")
    words = ("--seconds", 6, "--python", sys.executable, "--output", tmp_path)
    code, out, error = dashboard(*words, timeout=3 * PATIENCE_S)
    assert (code, out, error) == (0, f"{tmp_path}/dashboard.svg\n", "")
    seen = json.loads((tmp_path / "dashboard.json").read_text())
    assert [name for name, _ in seen["events"]] == ["more clients", "fewer clients", "kill -9", "reload"]
    # The log is kept, and what Prometheus stored is not.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dashboard.json", "dashboard.svg", "log", "prometheus.yml"]
    [requests] = [panel for panel in seen["panels"] if panel["title"] == "Requests by worker"]
    assert len(requests["lines"]) == 4
    assert (tmp_path / "dashboard.svg").read_text() == picture(seen)


def test_help_and_wrong_arguments_of_the_script():
    code, out, error = dashboard("--help")
    assert (code, error) == (0, "") and out.startswith("usage: scripts/dashboard ")
    assert dashboard("--seconds", "long")[0] == EXIT_USAGE
    code, _, error = dashboard("--python", "/nonexistent/python")
    assert (code, error) == (1, "scripts/dashboard: /nonexistent/python is missing: run scripts/install first\n")
