"""Calls the supervisor from a program: the first argument is what to serve, the second its options."""

import json
import os
import signal
import sys

import arctos


def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.environ.get('SHOP')} {os.getppid()}".encode()]


def make_app():
    return app


what, options = sys.argv[1], json.loads(sys.argv[2])
signal.signal(signal.SIGHUP, lambda *_: print("hung up", flush=True))
print("before")  # not flushed, and still printed only once, although processes are forked
code = arctos.serve({"app": app, "make_app": make_app}.get(what, what), **options)
print("code", code, flush=True)
# The program has its signal handlers back, and Python knows it.
os.kill(os.getpid(), signal.SIGHUP)
try:
    os.kill(os.getpid(), signal.SIGINT)
    signal.pause()
except KeyboardInterrupt:
    print("interrupted", os.getcwd(), flush=True)
sys.exit(code)
