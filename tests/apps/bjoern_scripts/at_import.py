"""A program for bjoern that serves at import, and that a worker imports."""

import arctos as bjoern


def app(environ, start_response):
    """Never called."""


bjoern.run(app, "127.0.0.1", 0)
