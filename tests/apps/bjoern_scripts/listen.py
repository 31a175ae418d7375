"""`listen`, then `run` without arguments, and both again afterwards."""

import arctos as bjoern


def app(environ, start_response):
    start_response("200 OK", [])
    yield b"Hello world"
    yield b""


for _ in range(2):
    sock = bjoern.listen(app, "127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    try:
        bjoern.run()
    except KeyboardInterrupt:
        print("interrupted", sock.fileno(), flush=True)
