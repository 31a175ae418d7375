"""A program for bjoern that a worker imports although it serves when it is imported."""

import arctos as bjoern


def app(environ, start_response):
    """Never called."""


bjoern.run(app, "127.0.0.1", 0)
