"""No request of any kind leaves a reference or a block of memory behind in its worker.

The references of all objects can be counted only by a debug build of CPython (`--with-pydebug`), which needs an
extension module of its own: `scripts/memcheck references` makes it, and these tests take it from `target/pydebug`.
Without it, only blocks of memory are counted: an object that is never freed is at least one.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from support.misuse_table import ROWS
from support.request_kinds import FILES, KINDS, Client, answered, get
from support.server import Server
from support.wire import Wire

DEBUG = Path(__file__).parents[3] / "target" / "pydebug"
BUILDS = {"release": [sys.executable], "debug": [DEBUG / "python"]}
REQUESTS = 1000
WARM_UP = 200
# A leak has at least one for each request. Beside that, caches and free lists of the interpreter grow and shrink, which
# changes few references, but many blocks.
NOISE = {"references": REQUESTS // 20, "blocks": REQUESTS // 2}


@pytest.fixture(scope="module", params=BUILDS)
def counting(request):
    """A server with one worker, of each interpreter that there is."""
    command = [*map(str, BUILDS[request.param]), "-m", "arctos"]
    if not os.path.exists(command[0]):
        pytest.skip(f"there is no {command[0]}: run scripts/memcheck references")
    with Server("counted_references:app", *FILES, command=command) as server:
        yield server, "references" if request.param == "debug" else "blocks"


def counted(server):
    """Returns what the worker holds once it has nothing left of other connections."""
    with Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(3):
            answer = wire.get("/references").response()
    return json.loads(answer.body)


def growth(server, what, send, requests=REQUESTS):
    """Returns the growth of the worker over this number of requests."""
    client = Client(server.port)
    client.send(send, WARM_UP)
    before = counted(server)[what]
    client.send(send, requests)
    return counted(server)[what] - before


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_leaves_anything_behind(counting, kind):
    server, what = counting
    grown = growth(server, what, KINDS[kind])
    assert grown <= NOISE[what], f"{grown} {what} in {REQUESTS} requests"


@pytest.mark.slow
def test_no_violation_of_the_pep_leaves_anything_behind(counting):
    """A round of all rows, several times: each of them would add something in each round."""
    server, what = counting
    if what != "references":
        pytest.skip("a debug build of CPython is needed to see so little: run scripts/memcheck references")
    rows = {name: answered(get(code)) for name, (code, _) in ROWS.items() if "KEPT" not in code}
    client = Client(server.port)

    def rounds(count):
        for _ in range(count):
            for send in rows.values():
                client.send(send, 1)
        return counted(server)[what]

    before, count = rounds(5), 20
    grown = rounds(count) - before
    assert grown < count, f"{grown} {what} in {count} rounds"
