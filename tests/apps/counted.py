"""plain:app, which first writes down each request that it is given: one line, its query, at the end of
the file `$COUNTED_BEGUN`. The file outlives the worker that was killed in the request."""

import os

import plain

BEGUN = os.open(os.environ["COUNTED_BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def app(environ, start_response):
    os.write(BEGUN, environ["QUERY_STRING"].encode() + b"\n")  # O_APPEND: whole, wherever others write
    return plain.app(environ, start_response)
