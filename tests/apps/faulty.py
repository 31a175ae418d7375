"""An application for faults: most requests work, and each of the others is a way to fail.

Answers are `PID VERSION`. The query of each request is appended to the file `$FAULTY_BEGUN` before
anything else is done, so that it is known of a request without an answer whether anybody had it.
"""

import collections
import ctypes
import itertools
import os
import threading
import time
from urllib.parse import parse_qs

BEGUN = os.environ.get("FAULTY_BEGUN")


def application(version):
    """One that answers with this version."""
    begun = os.open(BEGUN, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if BEGUN else None

    def app(environ, start_response):
        if begun is not None:
            os.write(begun, environ["QUERY_STRING"].encode() + b"\n")  # O_APPEND: whole, wherever others write
        WAYS[environ["PATH_INFO"]](parse_qs(environ["QUERY_STRING"]))
        body = f"{os.getpid()} {version}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def work(query):
    """Keeps its worker for `?ms=` milliseconds."""
    time.sleep(int(query.get("ms", ["0"])[0]) / 1000)


def spin(_):
    while True:
        pass


def hold_the_lock(_):
    """A loop in C, which neither gives the interpreter's lock away nor looks for signals."""
    collections.deque(itertools.repeat(None), maxlen=0)


def wait_for_itself(_):
    """A lock of Python's, taken twice: waits without the interpreter's lock."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_in_c(_):
    """A mutex of C's, taken twice: waits with the interpreter's lock, as extensions do that forgot it."""
    libc = ctypes.PyDLL(None)
    mutex = ctypes.create_string_buffer(64)  # all zero: PTHREAD_MUTEX_INITIALIZER
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


def crash(_):
    ctypes.string_at(0)


WAYS = {
    "/work": work,
    "/spin": spin,
    "/hold-the-lock": hold_the_lock,
    "/wait-for-itself": wait_for_itself,
    "/wait-in-c": wait_in_c,
    "/crash": crash,
}

app = application("0")
