"""The steps of the Dockerfile, run without a container engine, and the images that come out.

The stage that compiles is not run: the wheel of scripts/install stands for its result. The base images are this
machine's system with the Python of the tests.
"""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from support.dockerfile import Engine, Image, parse, require_engine
from support.processes import children
from support.server import PATIENCE_S, ROOT
from support.waiting import wait_until
from support.wheels import release_wheel

IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
APPLICATION = """\
import os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getuid()} {os.getgid()} {os.getcwd()}".encode()]
"""
FETCH = "import urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8000/').read().decode())"


def stages():
    """Returns the instructions of each stage by its name, and which one it begins from."""
    found = {}
    for name, flags, value in parse((ROOT / "Dockerfile").read_text()):
        if name == "FROM":
            base, _, stage = value.partition(" AS ")
            found[stage] = (base, [])
        elif name != "ARG":
            found[list(found)[-1]][1].append((name, flags, value))
    return found


def link_or_copy(source, made):
    """The context is only read."""
    try:
        os.link(source, made)
    except OSError:  # on another file system
        shutil.copy2(source, made)


def copy_context(directory):
    """Copies what `COPY . .` sees."""
    names = [pattern.removeprefix("**/") for pattern in IGNORED]
    assert all("/" not in name for name in names), "this test knows no other patterns"
    shutil.copytree(ROOT, directory, ignore=shutil.ignore_patterns(*names), copy_function=link_or_copy)


@pytest.fixture
def context(tmp_path):
    copy_context(tmp_path / "arctos")
    return tmp_path / "arctos"


@pytest.fixture
def engine(tmp_path):
    require_engine()
    (tmp_path / "images").mkdir()
    made = Engine(tmp_path / "images")
    yield made
    made.close()


def build_images(engine, context):
    """Returns all images of the Dockerfile, by their stages."""
    made = {}
    for stage, (base, instructions) in stages().items():
        if base.startswith("rust:"):
            continue
        if stage == "build":
            made[stage] = Image(engine.place / "built", {})
            engine.shell(f"mkdir -p {engine.place}/built/wheels && cp {release_wheel()} {engine.place}/built/wheels/")
            continue
        if base == "scratch":
            made[stage] = engine.empty_image()
        else:
            made[stage] = made[base].derived() if base in made else engine.python_image()
        engine.build(made, stage, instructions, context)
    return made


def test_the_build_stage_has_what_it_needs(context):
    _, instructions = stages()["build"]
    runs = [value for name, _, value in instructions if name == "RUN"]
    assert runs[-1] == "scripts/wheel /wheels"
    assert any("scripts/requirements.txt" in run for run in runs)
    copied = [value.split()[0] for name, flags, value in instructions if name == "COPY" and not flags]
    assert all((context / source).exists() for source in copied), copied
    for needed in ("scripts/wheel", "scripts/sbom", "scripts/find-python", "pyproject.toml", "README.md", "LICENSE", "src/guide"):
        assert (context / needed).exists(), needed
    if shutil.which("cargo") is None:
        pytest.skip("takes cargo")
    # cargo refuses a manifest that names programs which are not there.
    cargo = ["cargo", "metadata", "--no-deps", "--offline", "--locked", "--format-version=1"]
    ran = subprocess.run(cargo, cwd=context, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_images_serve_as_their_own_user_and_stop_on_term(engine, context):
    images = build_images(engine, context)  # once, although tests run in several processes
    for stage in "slim", "distroless":
        check_service(engine, images[stage])
    check_distroless(engine, images["distroless"])


def check_service(engine, image):
    """The image's first process serves, is healthy only then, and stops."""
    assert image.user == "10001:10001", "a number, because Kubernetes compares it with runAsNonRoot"
    assert "Usage: arctos" in engine.output(engine.inside(image, image.entrypoint + image.command))
    engine.shell(f"cat >{image.root}/app/hello.py <<'END'\n{APPLICATION}END")
    assert subprocess.run(engine.inside(image, image.health), capture_output=True).returncode == 1, "nothing serves yet"
    command = engine.inside(image, [*image.entrypoint, "--workers", "1", "hello:app"])
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: "server.ready" in server.stderr.readline())
        assert engine.output([*engine.enter, sys.executable, "-c", FETCH]) == "10001 10001 /app\n"
        assert engine.output(engine.inside(image, image.health)) == "ready\n"
        with pytest.raises(AssertionError):
            engine.output(engine.inside(image, ["python3", "-c", "open('/app/hello.py', 'a')"]))
        engine.output(engine.inside(image, ["arctos", "ctl", "status"]))
        (pid,) = children(server.pid)  # nsenter waits for its child
        os.kill(pid, signal.SIGTERM)
        log = server.stderr.read()
        assert server.wait(PATIENCE_S) == 0, log
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
    assert subprocess.run(engine.inside(image, image.health), capture_output=True).returncode == 1, "nothing serves anymore"


def check_distroless(engine, image):
    """The image has the interpreter and the server, but no shell and no installer."""
    root = image.root
    found = set(engine.shell(f"cd {root} && find . -xdev -type f -perm -100 -not -name '*.so*' -not -path './proc/*'").split())
    version = "{}.{}".format(*sys.version_info[:2])
    commands = {path for path in found if "/bin/" in path or "/sbin/" in path}
    assert {f"./usr/local/bin/python{version}", "./usr/local/bin/arctos"} <= commands
    names = {path.rsplit("/", 1)[1] for path in commands}
    assert not names & {"sh", "bash", "dash", "busybox", "apt-get", "dpkg", "pip", "pip3"}, names
    assert "site-packages/pip\n" not in engine.shell(f"ls -d {root}/usr/local/lib/python3*/site-packages/*")
