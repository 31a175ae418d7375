"""A server in a thread, where no signal handler runs. It ends with the program."""

import threading
import urllib.request

import arctos as bjoern


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"from a thread"]


sock = bjoern.bind_and_listen("127.0.0.1", 0)
threading.Thread(target=bjoern.server_run, args=(sock, app), daemon=True).start()
with urllib.request.urlopen("http://127.0.0.1:%d/" % sock.getsockname()[1]) as answer:
    print(answer.read().decode(), flush=True)
try:
    bjoern.server_run(sock, app)
except RuntimeError as error:
    print("refused:", error, flush=True)
