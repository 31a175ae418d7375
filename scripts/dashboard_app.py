"""The application of scripts/dashboard: `/?ms=N` takes N milliseconds, `/fail` raises, and nothing else is found."""

import time


def app(environ, start_response):
    """Waits, as for a database, and answers."""
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("as asked")
    status = "200 OK" if environ["PATH_INFO"] == "/" else "404 Not Found"
    time.sleep(int(environ["QUERY_STRING"].removeprefix("ms=") or 0) / 1000)
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "3")])
    return [b"ok\n"]
