"""No request of any kind leaves a reference or a block of memory behind in its worker.

The references of all objects can be counted only by a debug build of CPython (`--with-pydebug`), which needs an
extension module of its own: `scripts/pydebug` makes it in `target/pydebug`, and these tests take the interpreter from
there. Without it, only blocks of memory are counted: an object that is never freed is at least one.
"""

import json
import os
import sys
from pathlib import Path

import pytest
from support.misuse_table import ROWS
from support.request_kinds import KINDS, Client, answered, get
from support.server import Server
from support.wire import Wire

DEBUG = Path(__file__).parents[3] / "target" / "pydebug"
BUILDS = {"release": [sys.executable], "debug": [DEBUG / "python"]}
REQUESTS = 1000
WARM_UP = 200
# Measuring itself has some noise: caches of the interpreter, free lists. A leak has one for each request.
NOISE = REQUESTS // 20


@pytest.fixture(scope="module", params=BUILDS)
def counting(request):
    """A server with one worker, of each interpreter that there is."""
    command = [*map(str, BUILDS[request.param]), "-m", "arctos"]
    if not os.path.exists(command[0]):
        pytest.skip(f"there is no {command[0]}: run scripts/pydebug")
    with Server("counted_references:app", command=command) as server:
        yield server, "references" if request.param == "debug" else "blocks"


def counted(server):
    """Returns what the worker holds once it has nothing left of other connections."""
    with Wire(("127.0.0.1", server.port)) as wire:
        for _ in range(3):
            answer = wire.get("/references").response()
    return json.loads(answer.body)


def growth(server, what, send, requests=REQUESTS):
    """Returns by how much the worker grows in so many requests."""
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
    assert grown <= NOISE, f"{grown} {what} in {REQUESTS} requests"


@pytest.mark.slow
def test_no_violation_of_the_pep_leaves_anything_behind(counting):
    """A round of all rows, several times: each of them would add something in each round."""
    server, what = counting
    rows = {name: answered(get(code)) for name, (code, _) in ROWS.items() if "KEPT" not in code}
    client = Client(server.port)

    def rounds(count):
        for _ in range(count):
            for send in rows.values():
                client.send(send, 1)
        return counted(server)[what]

    before, count = rounds(5), 20
    grown = rounds(count) - before
    assert grown <= NOISE, f"{grown} {what} in {count} rounds"
