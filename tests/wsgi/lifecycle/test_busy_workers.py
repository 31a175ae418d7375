"""A busy worker is not taken for a hung one."""

import signal
import threading
import time
from contextlib import ExitStack

from support.server import APPS, SERVER_STOPPING, WORKER_DIED
from support.wire import Wire

WORKER_HANGS = "worker.hung"

BUSY = '''
import os, time
from urllib.parse import parse_qs

class Closes:
    """An iterable whose close() takes its time."""

    def __iter__(self):
        return iter([b"closing\\n"])

    def close(self):
        time.sleep(1.5)
        os.write(2, b"CLOSED\\n")

def app(environ, start_response):
    environ["wsgi.errors"].write("runs " + environ["PATH_INFO"] + "\\n")
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if gate := query.get("gate"):
        open(gate).read()
    time.sleep(float(query.get("s", "0")))
    start_response("200 OK", [])
    return Closes() if environ["PATH_INFO"] == "/closes" else [b"done\\n"]

def leaves(worker):
    time.sleep(1.5)
    os.write(2, b"HOOKED\\n")
'''


def test_a_worker_is_not_killed_for_the_time_the_application_takes(serve, tmp_path, gate):
    """A close() of 1.5 s after a request of 11 s; another request on a connection that was kept after 10.5 s; an
    exit hook of 1.5 s after a request of more than 10 s. The times exceed the 10 s that an event loop may stall."""
    (tmp_path / "busy.py").write_text(BUSY)
    server = serve("busy:app", "--pythonpath", tmp_path, "--worker-exit", "busy:leaves", workers=3, cwd=APPS)

    def ask(wire, target, *fields):
        assert wire.get(target, *fields).response().status == 200

    with ExitStack() as wires:

        def connect():
            wire = wires.enter_context(Wire(("127.0.0.1", server.port)))
            wire.socket.settimeout(60)
            return wire

        # Each connects when the worker before is busy, so that an idle worker accepts it. Two of the requests in one worker
        # would take so long together that the first of all exceeded its time limit.
        last = connect()
        last.get(f"/last?gate={gate.path}", "Connection: close")
        server.wait_for("wsgi.errors", text="runs /last")
        threads = [threading.Thread(target=ask, args=(connect(), "/closes?s=11"), daemon=True)]
        threads[0].start()
        server.wait_for("wsgi.errors", text="runs /closes")
        kept = connect()
        ask(kept, "/kept?s=10.5")
        time.sleep(0.6)  # the event loop is idle meanwhile
        ask(kept, "/kept?s=3")
        threads[0].join()
        assert not server.events(WORKER_HANGS), server.log
        server.send(signal.SIGTERM)
        server.wait_for(SERVER_STOPPING)
        gate.open()
        assert last.response().status == 200
    server.stop()
    assert not server.events(WORKER_HANGS) and not server.events(WORKER_DIED), server.log
    assert server.log.count("CLOSED") == 1 and server.log.count("HOOKED") == 3, server.log
