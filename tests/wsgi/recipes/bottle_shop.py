"""Bottle: a streamed response must not use `bottle.request` after its first item.

`request` is a thread-local object, and a worker answers other requests between two items of a response.
"""

import bottle

app = bottle.Bottle()


@app.get("/shared")
def shared():
    yield "begin "
    yield "x" * 30_000_000  # more than the kernel buffers, so other requests run before the client has it
    yield bottle.request.query.tea


@app.get("/copied")
def copied():
    tea = bottle.request.query.tea
    yield "begin "
    yield "x" * 30_000_000
    yield tea
