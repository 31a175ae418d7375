"""What scripts/wheels finds wrong in wheels, and that it finds nothing wrong in the release wheel."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from support.server import ROOT, clean_environment
from support.wheels import release_wheel


def checked(directory):
    """Returns the exit status, and the row of each wheel in the table by the wheel's release."""
    command = [sys.executable, ROOT / "scripts" / "wheels", "--check", "--out", directory]
    ran = subprocess.run([*command, sys.executable], env=clean_environment(), capture_output=True, text=True)
    assert ran.stderr == ""
    return ran.returncode, {line.split("-")[1]: line for line in ran.stdout.splitlines() if line.startswith("arctos-")}


@pytest.fixture
def wheel():
    return release_wheel()


def copy(wheel, directory, release, edit=lambda name, content: content, retag=lambda tag: tag, more=b""):
    """Writes a copy of the wheel with another release. `edit` gets the name and content of each file."""
    old, *tags = wheel.stem.split("-")[1:]
    name = f"arctos-{release}-{retag('-'.join(tags))}.whl"
    with zipfile.ZipFile(wheel) as before, zipfile.ZipFile(directory / name, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.namelist():
            after.writestr(entry.replace(f"arctos-{old}.", f"arctos-{release}."), edit(entry, before.read(entry)))
        after.writestr("arctos/more", more)


def test_the_release_wheel_is_installed_alone_and_serves(wheel, tmp_path):
    shutil.copy(wheel, tmp_path)
    status, rows = checked(tmp_path)
    assert status == 0, rows
    assert all("served on CPython" in row for row in rows.values()) and len(rows) == 1, rows


def test_wheels_that_contradict_their_names_are_refused(wheel, tmp_path):
    platform = wheel.stem.split("-")[-1]
    machine = "aarch64" if "aarch64" in platform else "x86_64"

    def depending(name, content):
        return content.replace(b"\nVersion:", b"\nRequires-Dist: requests\nVersion:") if name.endswith("METADATA") else content

    def of_another_processor(name, content):  # EM_S390, in the header of the library
        return content[:18] + b"\x16\0" + content[20:] if name.endswith(".so") else content

    def tagged_as_old(name, content):
        if not name.endswith("WHEEL"):
            return content
        lines = [line for line in content.splitlines(keepends=True) if not line.startswith(b"Tag:")]
        return b"".join(lines) + f"Tag: {old('-'.join(wheel.stem.split('-')[2:]))}\n".encode()

    def old(tag):
        return tag.replace(platform, f"manylinux_2_3_{machine}")

    copy(wheel, tmp_path, "1", depending)
    copy(wheel, tmp_path, "2", of_another_processor)
    copy(wheel, tmp_path, "3", tagged_as_old, old)
    copy(wheel, tmp_path, "4", retag=old)
    copy(wheel, tmp_path, "5", more=os.urandom(5_000_000))
    status, rows = checked(tmp_path)
    assert status == 1
    for release, reason in {
        "1": "FAILED: it depends on ['requests']",
        "2": "FAILED: its library is for IBM S/390",
        "3": "but its tag promises 2.3",
        "4": "FAILED: its name has the tags",
        "5": "more than 5000000",
    }.items():
        assert reason in rows[release], rows
