"""What a measurement needs, all of it in target/bench: the servers, the load generator, and files to serve."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from bench_servers import FILE, PEERS, PLACE, PYTHON, SCRIPTS, STATIC

ROOT = SCRIPTS.parent
REQUIREMENTS = SCRIPTS / "bench-requirements.txt"


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def enter():
    """Makes the commands of this script find the sources and cargo."""
    os.chdir(ROOT)
    os.environ["CARGO_TARGET_DIR"] = str(ROOT / "target")
    os.environ["PATH"] += f"{os.pathsep}{Path.home() / '.cargo/bin'}"
    PLACE.mkdir(parents=True, exist_ok=True)


def install_servers():
    """Makes an environment with the pinned peers and a wheel of arctos."""
    wheels = ROOT / "target/wheels"
    if not list(wheels.glob("arctos-*.whl")):
        (ROOT / ".venv/arctos.sources").unlink(missing_ok=True)  # forces a build, even if nothing has changed
    subprocess.run(["scripts/install"], check=True, stdout=sys.stderr)
    wheel = next(wheels.glob("arctos-*.whl"))
    base = ROOT / ".venv/bin/python"
    version = subprocess.check_output([base, "-c", "import sys; print(sys.version, sys.base_prefix)"], text=True)
    wanted = version + REQUIREMENTS.read_text()
    stamp = PLACE / "venv/peers"
    if not stamp.exists() or stamp.read_text() != wanted:
        say("making target/bench/venv")
        shutil.rmtree(PLACE / "venv", ignore_errors=True)
        subprocess.run([base, "-m", "venv", PLACE / "venv"], check=True)
        for line in REQUIREMENTS.read_text().splitlines():
            if not line.startswith("#") and pip(line).returncode != 0:
                say(f"{line} cannot be installed here, and is left out")
        stamp.write_text(wanted)
    checksum = hashlib.sha256(wheel.read_bytes()).hexdigest()
    stamp = PLACE / "venv/wheel"
    if not stamp.exists() or stamp.read_text() != checksum:
        pip("--force-reinstall", "--no-deps", str(wheel)).check_returncode()
        stamp.write_text(checksum)


def build_load_generator():
    """Builds scripts/load, and makes the files that servers send to it."""
    subprocess.run("cargo build --quiet --release --locked --no-default-features --example load".split(), check=True)
    FILE.write_bytes(b"x" * 1048576)
    STATIC.mkdir(exist_ok=True)
    (STATIC / "small.css").write_bytes(b"x" * 4096)
    (STATIC / "large.bin").write_bytes(b"x" * 1048576)


def pip(*what):
    return subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what])


def is_installed(peer):
    needed = PEERS[peer]
    found = PYTHON.with_name(needed).exists() or (
        subprocess.run([PYTHON, "-c", f"import {needed}"], stderr=subprocess.DEVNULL).returncode == 0
    )
    if not found:
        say(f"{peer} is not installed, and left out")
    return found


def describe_machine(python=PYTHON):
    """Describes what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
    version = subprocess.check_output([python, "-c", "import platform; print(platform.python_version())"], text=True)
    system = f"Linux {platform.release()}, Python {version.strip()}"
    return f"{os.cpu_count()} CPUs ({model}), {system}; load of the machine before: {os.getloadavg()[0]:.1f}"
