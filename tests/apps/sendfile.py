"""An application whose responses name files: the query is the header, the path and the rest of the response."""

import os
from urllib.parse import parse_qs

CLOSED = []


class Body:
    """An iterable that records that it was closed."""

    def __iter__(self):
        yield b"not "
        yield b"sent"

    def close(self):
        CLOSED.append(True)


def app(environ, start_response):
    """Answers `/closed` with the number of closed bodies, and everything else with a file."""
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", [])
        return [str(len(CLOSED)).encode()]
    headers = [("Content-Type", "text/x-own"), (query["header"], query["file"]), ("Content-Length", "8")]
    write = start_response(query.get("status", "200 OK"), headers)
    if "write" in query:
        write(b"not sent")
    return Body() if "list" not in query else [b"not sent"]


def flask():
    """A Flask application that has the server send files."""
    from flask import Flask, send_file

    application = Flask(__name__)
    application.use_x_sendfile = True
    application.add_url_rule("/<name>", view_func=lambda name: send_file(f"{os.environ['FILES']}/{name}"), endpoint="f")
    return application
