"""`arctos migrate`: real-looking configurations of gunicorn, uWSGI and Granian become files that arctos accepts."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from support.server import APPS, EXIT_CONFIGURATION, EXIT_DONE, EXIT_USAGE, PATIENCE_S, Server, run

UNIT = """
[Service]
User=www-data
WorkingDirectory=/srv/mysite
Environment="DJANGO_SETTINGS_MODULE=mysite.settings" GUNICORN_CMD_ARGS=--timeout=45
ExecStart=/srv/mysite/.venv/bin/gunicorn \\
    --access-logfile - \\
    --workers 3 \\
    --bind unix:/run/gunicorn.sock \\
    mysite.wsgi:application
ExecReload=/bin/kill -s HUP $MAINPID
"""
COOKIECUTTER = """#!/bin/bash
set -o errexit
python /app/manage.py collectstatic --noinput
exec /usr/local/bin/gunicorn config.wsgi --bind 0.0.0.0:5000 --chdir=/tmp
"""
CLOUD_RUN = """
FROM python:3.12-slim
ENV PYTHONUNBUFFERED=True
RUN pip install flask gunicorn
CMD exec gunicorn --bind :$PORT --workers 1 --threads 8 --timeout 0 main:app
"""
DOCKER_ARRAY = 'CMD ["gunicorn", "-k", "uvicorn.workers.UvicornWorker", "-w", "4", "-b", "0.0.0.0:80", "shop:app"]\n'
FILE = """
import multiprocessing
import os

bind = "0.0.0.0:%s" % os.environ.get("NO_SUCH_PORT", "8000")
workers = multiprocessing.cpu_count() * 2 + 1
timeout = 120
umask = 0o027
limit_request_line = 0
raw_env = ["A=1", 'B="two"']
forwarded_allow_ips = "10.0.0.1,10.0.0.2"
statsd_host = "localhost:8125"
statsd_prefix = "shop"
reload = False
daemon = False
pidfile = "/run/shop.pid"
print('{"settings": []}')

def post_fork(server, worker):
    server.log.info("forked")
"""
DIGITALOCEAN = """
[uwsgi]
project = firstsite
uid = www-data
base = /tmp

chdir = %(base)/%(project)
home = %(base)/Env/%(project)
module = %(project).wsgi:application

master = true
processes = 5

socket = /run/uwsgi/%(project).sock
chown-socket = %(uid):www-data
chmod-socket = 660
vacuum = true
"""
THINGS_TO_KNOW = """
[uwsgi]
strict = true
master = true
enable-threads = true
vacuum = true
single-interpreter = true
die-on-term = true
need-app = true
disable-logging = true
log-4xx = true
log-5xx = true
harakiri = 60
max-requests = 1000
max-worker-lifetime = 3600
reload-on-rss = 2048
worker-reload-mercy = 60
cheaper-algo = busyness
processes = 128
cheaper = 8
cheaper-overload = 1
auto-procname = true
procname-prefix = shop-
py-callos-afterfork = true
http-socket = 127.0.0.1:8080
wsgi-file = /tmp/shop/wsgi.py
callable = app
env = LANG=en_US.UTF-8
env = A=1,2
static-map = /static=/tmp
include = /dev/null.ini
"""
DIRECTORY = """
[uwsgi]
ini = :base
touch-reload = %p
pidfile = %d%n.pid
[base]
http = :9090
mount = /app=app.py
manage-script-name = true
if-env = DEBUG
py-autoreload = 1
endif =
"""
# Name, arguments, files, and parts of the output.
CORPUS = {
    "a gunicorn file": (
        ["gunicorn", "gunicorn.conf.py"],
        {"gunicorn.conf.py": FILE},
        ['bind = "0.0.0.0:8000"', "multiprocessing.cpu_count() * 2 + 1", 'umask = "0027"', '"B=\\"two\\""',
         'limit-request-line = "1M"', "# post-fork = ", 'forwarded-allow-ips = ["10.0.0.1", "10.0.0.2"]',
         'forwarded-headers = ["x-forwarded-proto"]', 'statsd-prefix = "shop"', "graceful_timeout: 30 s"],
    ),
    "gunicorn in a unit": (
        ["gunicorn", "mysite.service"],
        {"mysite.service": UNIT},
        ['app = "mysite.wsgi:application"', "workers = 3", 'timeout = "45s"', "GUNICORN_CMD_ARGS is set",
         'forwarded-allow-ips = ["127.0.0.1", "::1", "unix"]', "ExecStart=/srv/mysite/.venv/bin/arctos --config",
         "ExecReload=/srv/mysite/.venv/bin/arctos ctl reload --wait", '#   admin-bind = "unix:', "DJANGO_SETTINGS_MODULE"],
    ),
    "cookiecutter-django": (
        ["gunicorn", "start.sh"],
        {"start.sh": COOKIECUTTER},
        ['app = "config.wsgi:application"', 'bind = "0.0.0.0:5000"', 'chdir = "/tmp"'],
    ),
    "a Dockerfile for Cloud Run": (
        ["gunicorn", "Dockerfile"],
        {"Dockerfile": CLOUD_RUN},
        ['app = "main:app"', "whenever PORT is set", "workers = 8", "1 * 8 = 8", 'timeout = "0"',
         '#   CMD ["arctos", "--config", "arctos.toml"]', '#   admin-bind = "unix:'],
    ),
    "uvicorn's worker": (
        ["gunicorn", DOCKER_ARRAY],
        {},
        ["a2wsgi.ASGIMiddleware(app)", "workers = 4"],
    ),
    "words of a command line": (
        ["gunicorn", "shop.wsgi", "-w", "4", "-k", "gevent", "--worker-connections", "1000", "--colour"],
        {},
        ["workers = 4", "requests per second * seconds per request", "--max-connections", "--colour"],
    ),
    "a command that starts another": (
        ["gunicorn", "A=1 newrelic-admin run-program gunicorn 'shop:create_app()' --preload -D --reload"],
        {},
        ["newrelic-admin run-program arctos", "preload = true", "reload = true", "'shop:create_app()'"],
    ),
    "an application with arguments": (
        ["gunicorn", "gunicorn 'shop:create_app(\"x\")'"],
        {},
        ["# app = ", "arctos refuses this"],
    ),
    "uWSGI behind nginx": (
        ["uwsgi", "firstsite.ini"],
        {"firstsite.ini": DIGITALOCEAN},
        ['app = "firstsite.wsgi:application"', 'bind = "unix:/run/uwsgi/firstsite.sock"', "proxy_pass",
         'unix-socket-mode = "0660"', "/tmp/Env/firstsite/bin/arctos", 'forwarded-allow-ips = ["unix"]',
         "lazy-apps: uWSGI loads"],
    ),
    "a production configuration of uWSGI": (
        ["uwsgi", "uwsgi.ini"],
        {"uwsgi.ini": THINGS_TO_KNOW.replace("include = /dev/null.ini\n", "")},
        ['app = "wsgi:app"', 'chdir = "/tmp/shop"', 'timeout = "60s"', 'max-rss = "2G"', 'max-lifetime = "3600s"',
         'graceful-timeout = "60s"', '"A=1,2"', "py-callos-afterfork", 'static = ["/static=/tmp"]'],
    ),
    "sections and variables of uWSGI": (
        ["uwsgi", "--ini", "shop.ini"],
        {"shop.ini": DIRECTORY},
        ['bind = "0.0.0.0:9090"', 'root-path = "/app"', 'app = "app:application"', "shop.pid", "if-env = "],
    ),
    "a command line of uWSGI": (
        ["uwsgi", "uwsgi --http :8000 --wsgi-file foobar.py -p 4 --threads 2 --stats 127.0.0.1:9191"],
        {},
        ['app = "foobar:application"', "workers = 8", 'admin-bind = ["127.0.0.1:9191"]'],
    ),
    "a format of the access log": (
        ["gunicorn", "formats.py", "shop:app"],
        {"formats.py": "accesslog = '-'\naccess_log_format = '%(h)s \"%(r)s\" %(s)s %({x-id}i)s'\n"},
        ['access-logfile = "-"', r'access-logformat = "%(h)s \"%(r)s\" %(s)s %({x-id}i)s"', "an unknown atom is an error"],
    ),
    "a format of the access log with an unknown atom": (
        ["gunicorn", "--access-logfile", "-", "--access-logformat", "%(h)s %(x)s", "shop:app"],
        {},
        ["# arctos refuses this: --access-logformat", 'not "%(x)s" at character 7', "\n# access-logformat ="],
    ),
    "Granian": (
        ["granian", "granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "80", "--workers", "2",
         "--blocking-threads", "2", "--workers-lifetime", "1h30m", "--access-log", "shop.wsgi:application"],
        {},
        ['bind = "0.0.0.0:80"', "workers = 4", 'max-lifetime = "5400s"', 'access-logfile = "-"'],
    ),
    "Granian with variables": (
        ["granian", "GRANIAN_INTERFACE=wsgi GRANIAN_PORT=81 uv run granian shop/wsgi.py --metrics"],
        {},
        ['app = "shop.wsgi:app"', "127.0.0.1:81", "uv run arctos", 'admin-bind = ["127.0.0.1:9090"]'],
    ),
}  # fmt: skip


SOCKET_UNIT = UNIT.replace("\n[Service]", "\n[Unit]\nRequires=gunicorn.socket\n\n[Service]")


def migrate(directory, *arguments, files=None, **env):
    for name, text in (files or {}).items():
        (directory / name).write_text(text)
    return run("migrate", *arguments, cwd=directory, env=env)


@pytest.mark.parametrize("name", CORPUS)
def test_a_configuration_becomes_a_file_that_arctos_accepts(name, tmp_path):
    arguments, files, parts = CORPUS[name]
    status, out, error = migrate(tmp_path, *arguments, files=files)
    assert status == EXIT_DONE, error
    assert re.fullmatch(r"arctos migrate: \d+ settings? of \w+: .*\.\n", error), error
    unwrapped = re.sub(r"\n# +", " ", out)
    missing = [part for part in parts if part not in out and part not in unwrapped]
    assert missing == [], out
    settings = re.findall(r"^([a-z-]+) = ", out, re.M)
    (tmp_path / "result.toml").write_text(out)
    # Users and directories are those of another machine.
    ours = ["--user=root", "--group=root", "--chdir=/", "--pid=/tmp/x", "--admin-bind=1", "--static=/s=/tmp"]
    replaced = [word for word in ours if word.split("=")[0].strip("-") in settings]
    app = [] if "app" in settings else ["shop:app"]
    status, _, error = run("--config", "result.toml", "--print-config", *replaced, *app, cwd=tmp_path)
    assert status == EXIT_DONE, error


def test_the_command_line_at_the_end_means_the_same_as_the_file(tmp_path):
    line = ["gunicorn", "shop.wsgi", "-w", "3", "-e", "A=b c", "--preload", "-t", "5", "--max-requests", "100"]
    _, out, _ = migrate(tmp_path, "gunicorn", *line)
    (tmp_path / "arctos.toml").write_text(out)
    end = re.search(r"# The same as a command line:\n((?:#.*\n?)+)", out)[1]
    program, *options = shlex.split(re.sub(r"^#", "", end, flags=re.M).replace("\\\n", " "))
    assert program == "arctos"

    def effective(*arguments):
        status, out, error = run(*arguments, "--print-config", cwd=tmp_path, env={"ARCTOS_CONFIG": ""})
        assert status == EXIT_DONE, error
        rows = (re.match(r"(\S+) +(.*?)(?: {2,}.*)?$", row) for row in out.splitlines())
        return {row[1]: row[2] for row in rows if row[1] != "--config"}

    file = effective("--config", "arctos.toml")
    (tmp_path / "arctos.toml").unlink()
    assert effective(*options) == file


def test_a_migrated_server_serves(tmp_path):
    config = f"bind = '127.0.0.1:0'\nworkers = 1\nchdir = {str(APPS)!r}\nwsgi_app = 'plain:app'\ndaemon = True\n"
    _, out, _ = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files={"gunicorn.conf.py": config})
    (tmp_path / "arctos.toml").write_text(out)
    with Server(None, "--config", tmp_path / "arctos.toml", workers=None, bind=[]) as server:
        with urlopen(f"http://127.0.0.1:{server.port}/") as response:
            assert response.status == 200


def test_hooks_are_set_if_arctos_can_call_them(tmp_path):
    hooks = "def fits(worker):\n    pass\n\ndef does_not(server, worker):\n    pass\n"
    config = "from shophooks import fits as post_fork, does_not as worker_exit\n"
    files = {"shophooks.py": hooks, "gunicorn.conf.py": config}
    _, out, _ = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files=files)
    assert '\npost-fork = ["shophooks:fits"]\n' in out
    assert '\n# worker-exit = ["shophooks:does_not"]\n' in out


def test_names_that_gunicorn_ignores_are_said_only_if_nothing_uses_them(tmp_path):
    config = "import os\nbase = '/srv'\nchdir = '/' or base\nmax_request = 5\n_private = 1\ndef helper(): pass\n"
    _, out, _ = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files={"gunicorn.conf.py": config})
    assert "# max_request: gunicorn has no such setting and ignores it; did you mean max_requests?" in out
    assert "# base" not in out and "_private" not in out and "helper" not in out


BROKEN = {
    "syntax": ("workers = 2 +\n", ":1: SyntaxError"),
    "an exception": ("a = 1\nraise KeyError('REDIS_URL')\n", ":2: KeyError: 'REDIS_URL'"),
    "an exit": ("import sys\nsys.exit('no')\n", ":2: SystemExit: no"),
    "the end of the interpreter": ("import os\nos._exit(0)\n", "ended the interpreter"),
    "too much": ("raw_env = ['A=' + 'x' * 9000] * 200\n", "longer than 1048576 bytes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_cannot_be_read_exits_with_1(name, tmp_path):
    text, reason = BROKEN[name]
    status, out, error = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files={"gunicorn.conf.py": text})
    assert (status, out) == (EXIT_CONFIGURATION, "")
    assert error.startswith("error: gunicorn.conf.py") and reason in error, error


def test_files_beside_the_configuration_do_not_replace_the_library(tmp_path):
    shadows = {f"{name}.py": "raise RuntimeError('imported')" for name in ("ast", "inspect", "json", "signal")}
    files = {**shadows, "own.py": "WORKERS = 3", "gunicorn.conf.py": "import own\nworkers = own.WORKERS\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    # Not `python -m arctos`, which itself imports what the current directory has.
    command = [Path(sys.executable).with_name("arctos"), "migrate", "gunicorn", "gunicorn.conf.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == EXIT_DONE and "\nworkers = 3\n" in ended.stdout, ended.stderr


def test_an_error_of_the_file_cannot_command_the_terminal(tmp_path):
    files = {"gunicorn.conf.py": "raise ValueError('\\x1b]0;title\\x07\\n')"}
    status, _, error = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files=files)
    assert status == EXIT_CONFIGURATION and "\x1b" not in error and error.count("\n") == 1, error


def test_a_file_that_does_not_exist_is_named(tmp_path):
    for arguments in (["gunicorn", "none.py"], ["gunicorn", "-c", "none.py", "shop"], ["uwsgi", "none.ini"]):
        status, out, error = migrate(tmp_path, *arguments)
        assert (status, out) == (EXIT_CONFIGURATION, "")
        assert "none." in error and "No such file" in error, error
    status, _, error = migrate(tmp_path, "uwsgi", "uwsgi.yaml")
    assert status == EXIT_CONFIGURATION and "only ini files" in error


@pytest.mark.slow
def test_a_file_that_does_not_end_is_killed_with_what_it_started(tmp_path):
    config = "import subprocess, time\nchild = subprocess.Popen(['sleep', '3600'])\n"
    config += "open('pid', 'w').write(str(child.pid))\ntime.sleep(3600)\n"
    status, _, error = migrate(tmp_path, "gunicorn", "gunicorn.conf.py", files={"gunicorn.conf.py": config})
    assert status == EXIT_CONFIGURATION and "longer than 10 s" in error
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_the_default_file_and_the_variable_of_gunicorn_are_included(tmp_path):
    files = {"gunicorn.conf.py": "workers = 2\ntimeout = 7\nthreads = 1\n"}
    _, out, _ = migrate(tmp_path, "gunicorn", "-w", "4", "shop", files=files, GUNICORN_CMD_ARGS="-w 3 -t 8")
    assert "It includes gunicorn.conf.py" in out and "GUNICORN_CMD_ARGS is set" in out
    assert "\nworkers = 4\n" in out and '\ntimeout = "8s"\n' in out


def test_the_address_of_a_socket_that_systemd_opens_is_left_out(tmp_path):
    status, out, error = migrate(tmp_path, "gunicorn", "mysite.service", files={"mysite.service": SOCKET_UNIT})
    assert status == EXIT_DONE, error
    assert "\nbind = " not in out and "systemd passes the socket" in re.sub(r"\n# +", " ", out)
    assert 'forwarded-allow-ips = ["127.0.0.1", "::1", "unix"]' in out


def test_a_wrong_command_line_exits_with_2():
    for arguments in ([], ["apache", "x"], ["gunicorn"]):
        status, out, error = run("migrate", *arguments)
        assert (status, out) == (EXIT_USAGE, "")
        assert "gunicorn, uwsgi, granian" in error
    status, out, error = run("migrate", "--help")
    assert (status, error) == (EXIT_DONE, "") and "arctos migrate uwsgi" in out
