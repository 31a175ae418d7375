"""Removes the debug information from the library in a wheel, and keeps the names of its functions.

zig's linker can only keep both or remove both: it takes `--strip-debug` for `--strip-all`. perf(1) and backtraces need
the names.

usage: scripts/wheel_strip.py WHEEL
"""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


def main():
    (path,) = map(Path, sys.argv[1:])
    with zipfile.ZipFile(path) as wheel:
        files = [(entry, wheel.read(entry)) for entry in wheel.infolist()]
    ((library, content),) = [(entry.filename, content) for entry, content in files if entry.filename.endswith(".so")]
    replaced = {library: stripped(content)}
    ((record, lines),) = [(entry.filename, content) for entry, content in files if entry.filename.endswith("/RECORD")]
    digest = base64.urlsafe_b64encode(hashlib.sha256(replaced[library]).digest()).rstrip(b"=").decode()
    replaced[record] = "".join(
        f"{library},sha256={digest},{len(replaced[library])}\n" if line.startswith(f"{library},") else line
        for line in lines.decode().splitlines(keepends=True)
    ).encode()
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        made = Path(directory) / path.name
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as wheel:
            for entry, content in files:  # with their order, permissions and times
                wheel.writestr(entry, replaced.get(entry.filename, content), zipfile.ZIP_DEFLATED, 9)
        made.replace(path)


def objcopy():
    """Returns a program that knows all processors, and the variables of environ that it needs: that of the Rust
    toolchain, which has always the same version as it, else LLVM's."""
    sysroot = subprocess.run(["rustc", "--print", "sysroot"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    found = sorted(Path(sysroot).glob("lib/rustlib/*/bin/rust-objcopy"))
    if not found:
        return "llvm-objcopy", os.environ
    # It looks for LLVM beside itself only, where rustup puts it with the component llvm-tools; rustc has it, too.
    libraries = [f"{sysroot}/lib", *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return str(found[0]), {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}


def stripped(library):
    with tempfile.TemporaryDirectory() as directory:
        before, after = Path(directory) / "before.so", Path(directory) / "after.so"
        before.write_bytes(library)
        program, environment = objcopy()
        subprocess.run([program, "--strip-debug", before, after], check=True, env=environment)
        return after.read_bytes()


if __name__ == "__main__":
    main()
