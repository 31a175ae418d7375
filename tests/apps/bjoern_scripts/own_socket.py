"""A socket that the program opened, passed as an object and as a number, stays open afterwards."""

import socket
import sys

import arctos as bjoern


def app(environ, start_response):
    start_response("200 OK", [])
    return [environ["SERVER_PORT"].encode()]


sock = socket.socket()
sock.bind(("127.0.0.1", 0))
sock.listen(16)
print(sock.getsockname()[1], flush=True)
try:
    bjoern.server_run(sock.fileno() if sys.argv[1] == "number" else sock, app)
except KeyboardInterrupt:
    print("interrupted", sock.fileno() >= 0, flush=True)
