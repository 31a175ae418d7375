"""What a wheel must be and do: what its files say, and whether it serves once it is installed."""

import email
import os
import re
import signal
import subprocess
import tempfile
import threading
import urllib.request
import zipfile
from typing import NamedTuple

MAX_BYTES = 5_000_000
PATIENCE_S = 60  # an emulated interpreter on a busy machine is slow; nothing should take this long
# The symbols of these libraries are the same on every system of a platform (PEP 600, PEP 656).
LIBRARIES = {
    "manylinux": {"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libgcc_s.so.1",
                  "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"},
    "musllinux": {"libc.so", "libgcc_s.so.1"},
}  # fmt: skip
APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"served"]
"""
# An emulator has threads of its own, with which arctos refuses to fork workers. There, one worker serves in the process.
IN_PROCESS = """\
import signal, sys
import arctos, hello
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
listener = arctos.listen(hello.app, "127.0.0.1", 0)
print("server.ready listen=http://127.0.0.1:%d" % listener.getsockname()[1], file=sys.stderr, flush=True)
arctos.run()
"""
READY = re.compile(r"server\.ready .*?listen=\"?https?://127\.0\.0\.1:(\d+)")


class Refused(Exception):
    """Why a wheel cannot be released."""


class Wheel:
    """One wheel, by what its name says: arctos-RELEASE-cp313-cp313-PLATFORM.PLATFORM.whl."""

    def __init__(self, path):
        self.path = path
        _, self.release, self.python_tag, self.abi_tag, platforms = path.stem.split("-")
        self.platform_tags = platforms.split(".")
        self.platform = max(self.platform_tags, key=len)
        name = re.fullmatch(r"cp3(\d+)(t?)", self.abi_tag)
        if name is None:
            raise Refused(f"{path.name}: {self.abi_tag} is no ABI of CPython 3")
        self.version = f"3.{name[1]}{name[2]}"
        self.machine = re.search(r"x86_64|aarch64", self.platform)[0]
        self.libc = "musl" if self.platform.startswith("musllinux") else "glibc"
        self._elf = None

    def runs_on(self, python):
        return (self.version, self.machine, self.libc) == (python.version, python.machine, python.libc)

    def check(self):
        """Raises `Refused` if the files contradict the name, or need more than the platform promises."""
        size = self.path.stat().st_size
        if size > MAX_BYTES:
            raise Refused(f"it has {size} bytes, more than {MAX_BYTES}")
        with zipfile.ZipFile(self.path) as files:
            info = f"arctos-{self.release}.dist-info"
            tags = email.message_from_bytes(files.read(f"{info}/WHEEL")).get_all("Tag")
            metadata = email.message_from_bytes(files.read(f"{info}/METADATA"))
        expected = {f"{self.python_tag}-{self.abi_tag}-{platform}" for platform in self.platform_tags}
        if set(tags) != expected:
            raise Refused(f"its name has the tags {expected}, its WHEEL file {tags}")
        if metadata.get_all("Requires-Dist"):
            raise Refused(f"it depends on {metadata.get_all('Requires-Dist')}")
        elf = self.elf()
        if {"x86_64": "X86-64", "aarch64": "AArch64"}[self.machine] not in elf["machine"]:
            raise Refused(f"its library is for {elf['machine']}")
        kind = self.platform.partition("_")[0]
        if kind in LIBRARIES and not elf["libraries"] <= LIBRARIES[kind]:
            raise Refused(f"its library needs {elf['libraries'] - LIBRARIES[kind]}")
        allowed = re.match(r"manylinux_2_(\d+)_", self.platform)
        if allowed and elf["glibc"] > (2, int(allowed[1])):
            raise Refused(f"its library needs glibc {'.'.join(map(str, elf['glibc']))}, but its tag promises 2.{allowed[1]}")

    def needs(self):
        """Returns what the library needs of a system, for people."""
        glibc = self.elf()["glibc"]
        return f"glibc {'.'.join(map(str, glibc))}" if glibc else "musl 1.2"

    def elf(self):
        """What readelf says of the extension module."""
        if self._elf is None:
            with zipfile.ZipFile(self.path) as files, tempfile.NamedTemporaryFile(suffix=".so") as library:
                (name,) = [name for name in files.namelist() if name.endswith(".so")]
                library.write(files.read(name))
                library.flush()
                said = subprocess.run(
                    ["readelf", "--wide", "--file-header", "--dynamic", "--version-info", library.name],
                    check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"},
                ).stdout  # fmt: skip
            versions = re.findall(r"Name: GLIBC_([\d.]+)", said)
            self._elf = {
                "machine": re.search(r"Machine: +(.*)", said)[1],
                "libraries": set(re.findall(r"\(NEEDED\) .*\[(.*)\]", said)),
                "glibc": max((tuple(map(int, version.split("."))) for version in versions), default=()),
            }
        return self._elf


def environment(path):
    """An environment in which no compiler and no variable of the user is found."""
    return {"PATH": str(path), "LANG": "C.UTF-8", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class Installed(NamedTuple):
    """An installed wheel: the commands that print its version and serve `hello:app`, and their environment."""

    version: list
    serve: list
    environ: dict


def install(path, python, directory):
    """Installs the wheel where nothing else is."""
    if len(python.command) > 1:  # venv would start the emulated interpreter as if it were of this machine
        with zipfile.ZipFile(path) as files:
            files.extractall(directory / "installed")
        alone = {**environment("/nowhere"), "PYTHONPATH": f"{directory / 'installed'}:{directory}"}
        return Installed([*python.command, "-m", "arctos", "--version"], [*python.command, "-c", IN_PROCESS], alone)
    place = directory / "venv"
    output([*python.command, "-m", "venv", str(place)], os.environ)
    alone = environment(place / "bin")
    output([str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-index", str(path)], alone)
    program = str(place / "bin" / "arctos")
    return Installed([program, "--version"], [program, "--bind", "127.0.0.1:0", "--workers", "1", "hello:app"], alone)


def output(command, environ, **options):
    ran = subprocess.run(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10 * PATIENCE_S, **options
    )
    if ran.returncode != 0:
        raise Refused(f"{' '.join(map(str, command))} ends with {ran.returncode}:\n{ran.stdout}")
    return ran.stdout.strip()


def serve(installed, directory):
    """Starts the server, sends one request, and stops it with TERM. Returns what `--version` prints."""
    (directory / "hello.py").write_text(APPLICATION)
    version = output(installed.version, installed.environ, cwd=directory)
    server = subprocess.Popen(installed.serve, env=installed.environ, cwd=directory, stderr=subprocess.PIPE, text=True)
    watchdog = threading.Timer(PATIENCE_S, server.kill)
    watchdog.start()
    log = []
    try:
        ready = None
        while ready is None:
            line = server.stderr.readline()
            log.append(line)
            ready = READY.search(line)
            if line == "":
                raise Refused("the server ended before it was ready:\n" + "".join(log))
        # No proxy: the address is this machine's.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        body = opener.open(f"http://127.0.0.1:{ready[1]}/", timeout=PATIENCE_S).read()
        server.send_signal(signal.SIGTERM)
        log += server.stderr.readlines()
        status = server.wait()
    finally:
        watchdog.cancel()
        server.kill()
        server.wait()
        server.stderr.close()
    if body != b"served" or status != 0:
        raise Refused(f"the server answered {body!r} and ended with status {status}:\n" + "".join(log))
    return version
