"""Requests that kill or hang their worker, if they are GET. All others answer with the pid of the worker."""

import collections
import itertools
import os
import signal
import time

HOUR_S = 3600


def hold_the_lock():
    """Loops in C, without releasing the GIL or checking for signals."""
    collections.deque(itertools.repeat(None), maxlen=0)


POISON = {
    "/kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "/exit": lambda: os._exit(0),
    "/abort": os.abort,
    "/terminate": lambda: (signal.signal(signal.SIGTERM, signal.SIG_DFL), os.kill(os.getpid(), signal.SIGTERM)),
    "/sleep": lambda: time.sleep(HOUR_S),
    "/loop": hold_the_lock,
}


def stream(start_response):
    start_response("200 OK", [])
    yield b"begun"
    POISON["/kill"]()


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if environ["REQUEST_METHOD"] == "GET":
        POISON.get("/kill" if path.endswith("/kill") else path, lambda: None)()
        if path == "/stream":
            return stream(start_response)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
