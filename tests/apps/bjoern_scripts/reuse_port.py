"""Receive steering: each process has a socket of its own at the same address."""

import os
import sys

import arctos as bjoern


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]


bjoern.run(app, "127.0.0.1", int(sys.argv[1]), True)
