"""Signal handlers of the program's own, which run while it serves: one counts, some raise.

The application can be made to wait: it says so, and goes on when the FIFO that it is given opens.
"""

import signal
import sys

import arctos as bjoern

count = 0


class Stop(Exception):
    """What a handler raises."""


def on_usr1(*_):
    global count
    count += 1
    print("counted", count, flush=True)


def on_usr2(*_):
    raise Stop("from the handler")


def on_term(*_):
    sys.exit(3)


def app(environ, start_response):
    path, gate = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/wait":
        print("waiting", flush=True)
        with open(gate, "rb"):
            pass
    elif path == "/raise":
        raise Stop("from the application")
    elif path == "/exit":
        sys.exit(5)
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
