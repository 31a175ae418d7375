"""The interpreters that wheels can be run with: those of this machine, and those of other systems under an emulator."""

import json
import os
import shutil
import subprocess
from pathlib import Path

OLDEST = (3, 10)
DESCRIBE = """if 1:
    import json, os, platform, sys, sysconfig
    kind = sysconfig.get_config_var("SOABI") or ""
    print(json.dumps({
        "executable": sys.executable, "numbers": sys.version_info[:3], "is_cpython": platform.python_implementation() == "CPython",
        "is_free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "machine": os.uname().machine,
        "libc": "musl" if "musl" in kind + (sysconfig.get_config_var("HOST_GNU_TYPE") or "") else "glibc",
        "is_virtual": sys.prefix != sys.base_prefix,
    }))
"""


class Python:
    """One CPython, asked what it is: `version` is 3.13, or 3.14t without the interpreter's lock."""

    def __init__(self, program, emulator=()):
        self.command = [*emulator, str(program)]
        said = subprocess.run(
            [*self.command, "-I", "-c", DESCRIBE], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        facts = json.loads(said.stdout)
        self.executable = facts["executable"]
        self.numbers, self.machine, self.libc = tuple(facts["numbers"]), facts["machine"], facts["libc"]
        self.version = "{}.{}{}".format(*self.numbers[:2], "t" if facts["is_free_threaded"] else "")
        self.is_usable = facts["is_cpython"] and self.numbers >= OLDEST and not facts["is_virtual"]
        self.described = f"CPython {'.'.join(map(str, self.numbers))}" + ("t" if facts["is_free_threaded"] else "")


class Emulated(Python):
    """A CPython for another processor, in the directory that has its system."""

    def __init__(self, program, emulator):
        super().__init__(program, emulator)
        self.described += f" for {self.machine} under {Path(emulator[0]).name}"

    @classmethod
    def of(cls, root):
        """Returns the interpreters of a system. Its programs are run in place, so it needs no chroot(2) and no root."""
        found = []
        for program in sorted((root / "usr" / "bin").glob("python3.*")):
            if program.name.removeprefix("python3.").rstrip("t").isdigit():
                found.append(cls(program.resolve(), [emulator_for(program), "-L", str(root.resolve())]))
        return found


def emulator_for(program):
    """Returns qemu for the processor of an ELF file: its field `e_machine` (elf(5))."""
    machine = int.from_bytes(program.read_bytes()[18:20], "little")
    name = {183: "aarch64", 62: "x86_64"}.get(machine, f"<processor {machine}>")
    found = shutil.which(f"qemu-{name}-static") or shutil.which(f"qemu-{name}")
    if found is None:
        raise SystemExit(f"scripts/wheels: {program} needs qemu-{name}-static. Debian: apt-get install qemu-user-static")
    return found


def discover():
    """Returns every CPython of this machine that arctos supports, the newest of each version, oldest version first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    places = [Path(place) for place in os.environ.get("PATH", "").split(":") if place and "/shims" not in place]
    programs = sorted(pyenv.glob("versions/*/bin/python3"))
    for place in places:
        programs += sorted(place.glob("python3.[0-9]*"))
    newest = {}
    for program in programs:
        if program.name.endswith("-config") or not os.access(program, os.X_OK):
            continue
        try:
            python = Python(program)
        except (OSError, ValueError, subprocess.CalledProcessError):
            continue  # a pyenv shim, or a script such as python3.13-gdb.py
        if python.is_usable and python.numbers > getattr(newest.get(python.version), "numbers", ()):
            newest[python.version] = python
    return sorted(newest.values(), key=lambda python: (python.numbers, python.version))
