"""Signal handlers of the program that run while it serves: one counts, some raise.

The application can be made to wait: it reports that, and continues when its FIFO opens. A signal can also come
while the application or the server runs Python code.
"""

import os
import select
import signal
import sys
import traceback

import arctos as bjoern

count = 0


class Stop(Exception):
    """The exception of a handler."""


def on_usr1(*_):
    global count
    count += 1
    print("counted", count, flush=True)


def on_usr2(*_):
    raise Stop("from the handler")


def on_term(*_):
    sys.exit(3)


class Sized:
    """An iterable of one item, during whose `__len__` a signal comes."""

    def __iter__(self):
        return iter([b"sized"])

    def __len__(self):
        os.kill(os.getpid(), signal.SIGUSR2)
        return 1


def stopped_while_told(*error):
    os.kill(os.getpid(), signal.SIGUSR2)
    return []


def app(environ, start_response):
    path, gate = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/wait":
        waiting = os.open(gate, os.O_RDONLY | os.O_NONBLOCK)
        print("waiting", flush=True)
        # CPython 3.14 does not look for signals between a call and the next one, which would wait forever if the
        # signal came just before it.
        while not select.select([waiting], [], [], 0.05)[0]:
            pass
        os.close(waiting)
    elif path == "/raise":
        raise Stop("from the application")
    elif path == "/exit":
        sys.exit(5)
    elif path == "/count-and-exit":
        os.kill(os.getpid(), signal.SIGUSR1)
        sys.exit(5)
    elif path == "/told":
        traceback.format_exception = stopped_while_told
        raise ValueError
    elif path == "/length":
        start_response("200 OK", [])
        return Sized()
    start_response("200 OK", [])
    return [b"%d times" % count]


signal.signal(signal.SIGUSR1, on_usr1)
signal.signal(signal.SIGUSR2, on_usr2)
signal.signal(signal.SIGTERM, on_term)
sock = bjoern.listen(app, "127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
try:
    bjoern.run()
except Stop as stop:
    print("stopped", stop, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
