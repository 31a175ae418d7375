"""misuse:app, and what this interpreter holds: `/references` returns the sum of all reference counts (`null` without
`--with-pydebug`) and the number of objects of each type that the server makes.

A client that sends the same request thousands of times sees with it whether the server forgets to drop anything.
"""

import gc
import json
import sys

import misuse

COUNT = getattr(sys, "gettotalrefcount", lambda: None)


def app(environ, start_response):
    """Answers `/references` itself."""
    if environ["PATH_INFO"] != "/references":
        return misuse.app(environ, start_response)
    gc.collect()
    body = json.dumps({"references": COUNT(), "blocks": sys.getallocatedblocks()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
