"""The configuration file that is found, and defaults that fit the place."""

import signal

from support.server import APPS


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
