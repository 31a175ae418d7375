"""`scripts/memory`: what it measures of a small application, and what it refuses."""

import re
import subprocess
import sys

from support.server import APPS, EXIT_USAGE, PATIENCE_S, ROOT, clean_environment


def memory(*words):
    """Runs `scripts/memory`. Returns its exit status, output and errors."""
    command = [sys.executable, ROOT / "scripts" / "memory", *map(str, words)]
    ended = subprocess.run(command, cwd=APPS, env=clean_environment(), capture_output=True, text=True, timeout=2 * PATIENCE_S)
    return ended.returncode, ended.stdout, ended.stderr


def test_memory_is_measured_with_and_without_preload():
    words = ("flask_app:app", "--workers", 2, "--requests", 20, "--path", "/", "--path", "/whoami", "--option=--preload-x")
    code, out, error = memory(*words)
    assert code == 1 and "does not start" in error and "--preload-x" in error and out.count("\n") == 2
    code, out, error = memory(*words[:-1])
    assert (code, error) == (0, "")
    assert out.startswith("flask_app:app: 2 workers, 20 requests each, Python ")
    rows = re.findall(r"^(without|--preload) +([\d.]+) +([\d.]+) +([\d.]+)$", out, re.M)
    assert [row[0] for row in rows] == ["without", "--preload"]
    (alone, shared, total), (alone_preload, shared_preload, total_preload) = [map(float, row[1:]) for row in rows]
    assert 0 < alone_preload < alone and 0 < shared < shared_preload
    assert 2 * alone < total and 2 * alone_preload < total_preload


def test_an_application_that_answers_with_an_error_is_not_measured():
    code, _, error = memory("flask_app:app", "--workers", 1, "--path", "/fail")
    assert (code, error) == (1, "scripts/memory: /fail answers 500; name paths that answer 200 with --path\n")


def test_help_and_wrong_arguments_of_the_memory_script():
    code, out, error = memory("--help")
    assert (code, error) == (0, "") and out.startswith("usage: scripts/memory ")
    for words in ([], ["plain:app", "--workers", "0"], ["plain:app", "--requests", "x"], ["plain:app", "more"]):
        code, out, error = memory(*words)
        assert (code, out) == (EXIT_USAGE, ""), words
