"""Ctrl-C while a request runs: it is completed, then `run` raises."""

import http.client
import os
import signal
import threading

import arctos as bjoern

request_completed = False


def application(environ, start_response):
    start_response("200 ok", [])
    yield b"chunk1"
    os.kill(os.getpid(), signal.SIGINT)
    yield b"chunk2"
    yield b"chunk3"
    global request_completed
    request_completed = True


def requester(address):
    connection = http.client.HTTPConnection(*address)
    connection.request("GET", "/")
    print(connection.getresponse().read(), flush=True)


sock = bjoern.listen(application, "127.0.0.1", 0)
thread = threading.Thread(target=requester, args=(sock.getsockname(),))
thread.start()
try:
    bjoern.run()
except KeyboardInterrupt:
    assert request_completed
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1
    print("interrupted", flush=True)
else:
    raise RuntimeError("run() returned")
