"""The contents of the release wheel."""

import struct
import zipfile

from support.server import ROOT

WHEELS = ROOT / "target" / "wheels"


def section_names(library):
    """Returns the string table of the section names of a 64-bit ELF file (elf(5))."""
    (headers,) = struct.unpack_from("<Q", library, 0x28)
    size, _, index = struct.unpack_from("<3H", library, 0x3A)
    begin, length = struct.unpack_from("<2Q", library, headers + index * size + 0x18)
    return library[begin : begin + length].split(b"\0")


def test_the_wheel_has_function_names_and_no_debug_information():
    (wheel,) = WHEELS.glob("arctos-*.whl")
    with zipfile.ZipFile(wheel) as files:
        (library,) = [name for name in files.namelist() if name.endswith(".so")]
        names = section_names(files.read(library))
    assert b".debug_info" not in names and b".debug_line" not in names, names
    assert b".symtab" in names, names
