"""valgrind finds no access to memory that is not the worker's, no use of a value that was never set, and no lost block.

CPython allocates by malloc(3) here (PYTHONMALLOC), so that the memory of each of its objects is checked as well. Its own
findings do not count: `int.from_bytes()` compares a digit that is not set, and valgrind follows that number everywhere.
"""

import re
import shutil
import sys

import pytest
from support.misuse_table import ROWS
from support.request_kinds import FILES, KINDS, Client, answered, get
from support.server import SERVER_READY, Server

# Everything takes thirty times as long.
PATIENT = ["--boot-timeout", "240s", "--timeout", "120s"]
SLOW_S = 240
# What is wrong wherever it happens, and what may be a finding in CPython.
WRONG = re.compile(r"Invalid (read|write|free)|Mismatched free|Source and destination overlap|Syscall param")
DOUBTFUL = re.compile(r"uninitialised value")
LOST = re.compile(r"in ([\d,]+) blocks are definitely lost")
REPEATED = 5  # each kind of request; what a process allocates once and keeps to its end is no leak
INNERMOST = 6  # frames that say whose code it is

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no valgrind: apt-get install valgrind"),
]


def findings(text):
    """Returns the findings of one process that are about this server."""
    found = []
    for block in re.split(r"\n==\d+== \n", text):
        lines = [re.sub(r"^==\d+== ", "", line) for line in block.splitlines()]
        is_own = any(re.search(r"\.rs:\d+\)", line) for line in lines[1 : 1 + INNERMOST])
        is_wrong = any(WRONG.search(line) for line in lines)
        is_doubtful = any(DOUBTFUL.search(line) for line in lines)
        lost = sum(int(count.replace(",", "")) for line in lines for count in LOST.findall(line))
        if is_wrong or is_own and (is_doubtful or lost >= REPEATED):
            found.append("\n".join(lines))
    return found


def test_findings_are_those_of_this_server():
    of_python = "Conditional jump depends on uninitialised value(s)\n==7==    at 0x4D1313: maybe_small_long (longobject.c:71)"
    of_server = "Conditional jump depends on uninitialised value(s)\n==7==    at 0x4D1313: arctos::run (drive.rs:71)"
    kept = "4 bytes in 1 blocks are definitely lost\n==7==    at 0x4D1313: new (log.rs:71)"
    lost = "4,000 bytes in 1,000 blocks are definitely lost\n==7==    at 0x4D1313: new (log.rs:71)"
    wrong = "Invalid read of size 8\n==7==    at 0x4D1313: list_item (listobject.c:71)"
    text = "==7== Memcheck\n" + "".join(f"==7== \n==7== {one}\n" for one in (of_python, of_server, kept, lost, wrong))
    assert [found.splitlines()[0] for found in findings(text)] == [one.splitlines()[0] for one in (of_server, lost, wrong)]


def test_valgrind_finds_nothing_in_requests_of_every_kind(tmp_path, monkeypatch):
    monkeypatch.setattr("support.wire.PATIENCE_S", SLOW_S)
    valgrind = ["valgrind", f"--log-file={tmp_path}/%p.valgrind", "--num-callers=30", "--leak-check=full"]
    command = [*valgrind, "--show-leak-kinds=definite", "--keep-debuginfo=yes", sys.executable, "-m", "arctos"]
    server = Server("misuse:app", *PATIENT, *FILES, command=command, env={"PYTHONMALLOC": "malloc"})
    try:
        try:
            server.wait_for(SERVER_READY, timeout=SLOW_S)
        except AssertionError:
            if any("which is mandatory for this platform" in path.read_text() for path in tmp_path.glob("*.valgrind")):
                pytest.skip("valgrind needs the symbols of the C library of this Python (Debian: libc6-dbg)")
            raise
        server.ready()
        client = Client(server.port)
        for send in KINDS.values():
            client.send(send, REPEATED)
        for code, _ in ROWS.values():
            client.send(answered(get(code)), 1)
        server.stop(timeout=SLOW_S)
    finally:
        server.kill()
    logs = {path.name: path.read_text() for path in tmp_path.glob("*.valgrind")}
    assert len(logs) >= 2 and all("ERROR SUMMARY" in text for text in logs.values())
    found = [one for text in logs.values() for one in findings(text)]
    assert not found, "\n\n".join(found)
