"""The contents of the release wheel."""

import json
import re
import struct
import zipfile

import pytest
from support.server import ROOT
from support.wheels import release_wheel

# The path of a source file, as panic messages have it.
CRATE = re.compile(rb"/cargo/registry/src/[^/]+/([A-Za-z0-9_-]+)-(\d+\.\d+\.\d+[^/]*)/")


@pytest.fixture(scope="module")
def wheel():
    """The files of the wheel by name. The name of its library begins with `arctos/arctos.`."""
    with zipfile.ZipFile(release_wheel()) as files:
        return {name: files.read(name) for name in files.namelist()}


@pytest.fixture(scope="module")
def library(wheel):
    (name,) = [name for name in wheel if name.endswith(".so")]
    return wheel[name]


@pytest.fixture(scope="module")
def bill(wheel):
    (name,) = [name for name in wheel if ".dist-info/sboms/" in name]
    return json.loads(wheel[name])


def section_names(library):
    """Returns the string table of the section names of a 64-bit ELF file (elf(5))."""
    (headers,) = struct.unpack_from("<Q", library, 0x28)
    size, _, index = struct.unpack_from("<3H", library, 0x3A)
    begin, length = struct.unpack_from("<2Q", library, headers + index * size + 0x18)
    return library[begin : begin + length].split(b"\0")


def test_the_wheel_has_function_names_and_no_debug_information(library):
    names = section_names(library)
    assert b".debug_info" not in names and b".debug_line" not in names, names
    assert b".symtab" in names, names


def test_the_wheel_has_no_paths_of_its_builder(library):
    assert CRATE.search(library), "no path at all: have panic messages changed?"
    assert str(ROOT).encode() not in library
    assert b"/.cargo/registry" not in library


def test_the_bill_of_materials_has_the_versions_of_cargo_lock(bill):
    lock = (ROOT / "Cargo.lock").read_text()
    locked = re.findall(r'^name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"$', lock, re.M)
    listed = {
        (part["name"], part["version"], part["hashes"][0]["content"])
        for part in bill["components"]
        if part["name"] != "arctos-worker"
    }
    assert len(listed) > 40 and listed <= set(locked), listed - set(locked)


def test_the_bill_of_materials_lists_every_crate_of_the_library(library, bill):
    found = {(name.decode(), version.decode()) for name, version in CRATE.findall(library)}
    listed = {(part["name"], part["version"]) for part in bill["components"] if part["scope"] == "required"}
    assert len(found) > 10 and found <= listed, found - listed


def test_the_bill_of_materials_has_no_crate_of_the_tests_alone(bill):
    names = {part["name"] for part in bill["components"]}
    assert {"proptest", "clap_derive"} & names == set()
    assert all(part["licenses"][0]["expression"] for part in bill["components"])
