"""The application that scripts/endure serves: each path does one thing that a server has to survive."""

import os
import time

# The file to which each request for /named appends its name when it begins.
EXECUTIONS = os.environ.get("ENDURE_EXECUTIONS")
EXECUTIONS_FD = os.open(EXECUTIONS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600) if EXECUTIONS else None
BIG = b"x" * (1 << 20)
PIECE = b"y" * 16384


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/upload":
        return upload(environ["wsgi.input"], start_response)
    if path == "/named":
        return named(environ["QUERY_STRING"], start_response)
    if path == "/raise":
        raise RuntimeError("as requested")
    if path == "/breaks":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "100000")])
        return breaks()
    if path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (PIECE for _ in range(8))
    body = BIG if path == "/big" else b"hello"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def upload(body, start_response):
    length = 0
    while piece := body.read(65536):
        length += len(piece)
    answer = b"%d bytes" % length
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def named(query, start_response):
    """Appends the name to the file, which survives a worker that is killed, and takes as long as it should."""
    values = dict(field.split("=") for field in query.split("&"))
    os.write(EXECUTIONS_FD, values["id"].encode() + b"\n")  # O_APPEND: lines of several workers do not mix
    time.sleep(int(values["ms"]) / 1000)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"named"]


def breaks():
    yield PIECE
    raise RuntimeError("as requested, in the middle of a response")
