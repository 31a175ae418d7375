"""plain:app, which first appends the query of each request to the file `$COUNTED_BEGUN`, one line each. The file
survives a worker that is killed in the request."""

import os

import plain

BEGUN = os.open(os.environ["COUNTED_BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def app(environ, start_response):
    os.write(BEGUN, environ["QUERY_STRING"].encode() + b"\n")  # O_APPEND: lines of several workers do not mix
    return plain.app(environ, start_response)
