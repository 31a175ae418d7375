"""The configuration file that is found or written, defaults that fit the place, completions and the man page."""

import shutil
import signal
import subprocess
import sys

import pytest
from support.server import APPS, EXIT_CONFIGURATION, EXIT_DONE, PATIENCE_S, run


def test_arctos_alone_serves_the_application_in_its_file(serve, tmp_path):
    file = tmp_path / "arctos.toml"
    file.write_text(f"app = 'plain:app'\nworkers = 2\nchdir = '{APPS}'\n")
    server = serve(None, cwd=tmp_path, workers=None)
    (read,) = server.events("config.file_read")
    assert read.pairs == {"path": str(file), "origin": "default: found in the current directory"}
    assert len(server.worker_pids()) == 2
    # A reload reads it again. It would apply other workers, and refuses a mistake.
    file.write_text("app = 'plain:app'\nworker = 1\n")
    server.send(signal.SIGHUP)
    refused = server.wait_for("reload.refused")
    assert refused.pairs["reason"] == f"{file}:2: there is no option 'worker'; did you mean 'workers'?"


def test_the_log_says_which_of_two_files_is_ignored(serve, tmp_path):
    (tmp_path / "arctos.toml").write_text("name = 'ours'\n")
    (tmp_path / "pyproject.toml").write_text("[tool.arctos]\nname = 'theirs'\n")
    server = serve("plain:app", "--chdir", APPS, cwd=tmp_path)
    (ignored,) = server.events("config.file_ignored")
    assert str(tmp_path / "pyproject.toml") in ignored.text
    assert not serve("plain:app", "--chdir", APPS, "--config", "off", cwd=tmp_path).events("config.file_read")


def test_the_log_says_why_a_default_was_chosen_here(serve):
    server = serve("plain:app", env={"DYNO": "web.1"})
    (chosen,) = server.events("config.default_chosen", option="keep-alive")
    assert chosen.pairs["value"] == "95s"
    assert chosen.pairs["reason"] == "DYNO is set, and Heroku's router keeps idle connections for 90s"


def test_init_writes_a_file_with_which_arctos_serves(serve, tmp_path):
    shutil.copy(APPS / "plain.py", tmp_path / "app.py")
    status, said, error = run("init", cwd=tmp_path)
    assert (status, error) == (EXIT_DONE, "")
    assert said.startswith('Wrote arctos.toml with app = "app:app", found in app.py.\n')
    status, verdict, error = run("--check", cwd=tmp_path)
    assert status == EXIT_DONE, error
    assert f"file       {tmp_path}/arctos.toml (found in the current directory)" in verdict
    serve(None, cwd=tmp_path)
    before = (tmp_path / "arctos.toml").read_text()
    status, _, error = run("init", cwd=tmp_path)
    assert status == EXIT_CONFIGURATION and "overwrites nothing" in error
    assert run("init", "-", cwd=tmp_path) == (EXIT_DONE, before, "")


def test_init_leaves_no_part_of_a_file_that_it_cannot_write(tmp_path):
    command = ["bash", "-c", 'ulimit -f 0; "$0" -m arctos init', sys.executable]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == EXIT_CONFIGURATION and "cannot write arctos.toml: File too large" in ended.stderr, ended
    assert not list(tmp_path.iterdir())


# Calls the function of the script as bash does when somebody presses the tabulator.
COMPLETE = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
[ "$(complete -p arctos)" ] || exit 1
_arctos arctos "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(script, *words):
    """Returns what bash offers for the last of these words."""
    ended = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", script, *words], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    return ended.stdout.split()


def test_bash_completes_options_values_and_verbs(tmp_path):
    script = tmp_path / "arctos.bash"
    script.write_text(run("completions", "bash")[1])
    assert completed(script, "arctos", "--work") == ["--workers", "--worker-ready", "--worker-exit"]
    assert completed(script, "arctos", "--log-format", "") == ["text", "json"]
    assert completed(script, "arctos", "ctl", "rel") == ["reload", "release"]
    assert completed(script, "arctos", "help", "kub") == ["kubernetes"]
    assert "init" in completed(script, "arctos", "i")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completions_of_a_shell_have_its_syntax(shell, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    script = tmp_path / "script"
    script.write_text(run("completions", shell)[1])
    assert script.stat().st_size > 10_000
    ended = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_man_page_is_shown_without_a_warning(tmp_path):
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("there is no man here")
    page = tmp_path / "arctos.1"
    page.write_text(run("man")[1])
    command = ["man", "--local-file", "--warnings", page]
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "MANWIDTH": "100", "MANPAGER": "cat"}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "-w, --workers <N>" in shown.stdout and "ARCTOS_GRACEFUL_TIMEOUT" in shown.stdout
