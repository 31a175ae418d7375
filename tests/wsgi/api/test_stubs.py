"""The annotations and docstrings of the Python package match what is installed."""

import inspect
import os
import subprocess
import sys

import arctos
import arctos.arctos
import arctos.pytest_plugin
import arctos.testing


def run(*arguments, directory, **environment):
    """Runs a Python module that must exit with status 0."""
    ended = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_stubtest_finds_no_difference(tmp_path):
    # arctos.contrib imports frameworks. Some of them have no annotations, and Django wants settings.
    (tmp_path / "shop_settings.py").write_text("")
    names = ("django", "paste", "plaster", "pyramid")
    sections = "".join(f"[mypy-{name}.*]\nignore_missing_imports = true\n" for name in names)
    (tmp_path / "mypy.ini").write_text(f"[mypy]\nstrict = true\ndisallow_subclassing_any = false\n{sections}")
    run("mypy.stubtest", "arctos", "--mypy-config-file", "mypy.ini", directory=tmp_path, DJANGO_SETTINGS_MODULE="shop_settings")


def test_a_program_that_uses_the_package_passes_a_strict_type_check(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    run("mypy", "--strict", str(program), directory=tmp_path)


def test_every_public_name_has_a_docstring():
    for module in (arctos, arctos.arctos, arctos.testing, arctos.pytest_plugin):
        for name, value in vars(module).items():
            is_own = getattr(value, "__module__", "").startswith(("arctos", "builtins"))
            if not name.startswith("_") and is_own and (inspect.isroutine(value) or inspect.isclass(value)):
                assert inspect.getdoc(value), f"{module.__name__}.{name}"


PROGRAM = '''
from typing import Any, Callable, Iterable

import arctos
import arctos.testing
from arctos.pytest_plugin import StartServer


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [b"hello"]


def worker_ready(worker: arctos.Worker) -> tuple[int, int, int | None, str]:
    return worker.slot, worker.generation, worker.pid, worker.name


def on_start(generation: arctos.Generation) -> tuple[int, str]:
    return generation.number, generation.name


arctos.run(app, "127.0.0.1", 8000, statsd={"enable": True, "port": 8125, "tags": "app:shop"})
arctos.run(app, "unix:/run/shop", reuse_port=False)
sock = arctos.listen(app, "127.0.0.1", port=8000, listen_backlog=16)
arctos.run()
arctos.run(statsd=None)
arctos.server_run(sock, app)
arctos.server_run(sock.fileno(), app, {"enable": False})
code: int = arctos.serve("shop:app", bind=["127.0.0.1:8000"], workers=4, graceful_timeout=30, env={"A": "b"})
code = arctos.serve(app, bind="127.0.0.1:8000", factory=False, post_fork=["shop.hooks:connect"])

with arctos.testing.serve(app, workers=2, timeout="5s", env={"A": "b"}) as server:
    url: str = server.url + "/health"
    record: arctos.testing.Record = server.wait_for("worker.ready", slot=1)
    pid: int = int(record.fields["pid"])
    server.reload()
    code = server.stop(timeout=5)


def test_shop(arctos_server: StartServer) -> None:
    assert arctos_server("shop:app", preload=True).log
'''
