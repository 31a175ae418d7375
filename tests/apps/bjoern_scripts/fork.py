"""Several processes serve one socket that was opened before they were forked."""

import os
import signal

import arctos as bjoern

NUM_WORKERS = 3
worker_pids = []


def app(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    yield b"%d" % os.getpid()


sock = bjoern.listen(app, "127.0.0.1", 0)
for _ in range(NUM_WORKERS):
    pid = os.fork()
    if pid == 0:
        try:
            bjoern.run()
        except KeyboardInterrupt:
            pass
        raise SystemExit
    worker_pids.append(pid)
print(sock.getsockname()[1], flush=True)

try:
    for _ in worker_pids:
        os.wait()
except KeyboardInterrupt:
    for pid in worker_pids:
        os.kill(pid, signal.SIGINT)
    for pid in worker_pids:
        print("left", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
