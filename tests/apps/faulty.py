"""An application for faults: most requests work, and each of the others fails in its own way.

Answers are `PID VERSION`. The query of each request is first appended to the file `$FAULTY_BEGUN`, which shows
whether an unanswered request had reached the application.
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
    """Returns an application that answers with this version."""
    begun = os.open(BEGUN, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if BEGUN else None

    def app(environ, start_response):
        if begun is not None:
            os.write(begun, environ["QUERY_STRING"].encode() + b"\n")  # O_APPEND: lines of several workers do not mix
        WAYS[environ["PATH_INFO"]](parse_qs(environ["QUERY_STRING"]))
        body = f"{os.getpid()} {version}\n".encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def work(query):
    """Occupies its worker for `?ms=` milliseconds."""
    time.sleep(int(query.get("ms", ["0"])[0]) / 1000)


def spin(_):
    while True:
        pass


def hold_the_lock(_):
    """Loops in C, without releasing the GIL or checking for signals."""
    collections.deque(itertools.repeat(None), maxlen=0)


def wait_for_itself(_):
    """Acquires a Python lock twice: waits without the GIL."""
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def wait_in_c(_):
    """Locks a C mutex twice: waits with the GIL, like an extension that forgot to release it."""
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
