"""An application that holds memory from its import on, and that keeps more of it in each request that asks for it."""

import os

MIB = 1 << 20


def touched(mib):
    """Allocates memory of this size, and writes to each of its pages."""
    return bytearray(b"x" * MIB) * mib if mib else b""


IMPORTED = touched(int(os.environ.get("IMPORTED_MIB", "0")))
kept = []


def app(environ, start_response):
    """Keeps as many MiB as the query says. Answers with the pid."""
    if environ["QUERY_STRING"]:
        kept.append(touched(int(environ["QUERY_STRING"])))
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
