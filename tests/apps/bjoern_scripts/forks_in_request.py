"""An application that forks: the child exits, returns, or serves itself."""

import os

import arctos as bjoern


def inner(environ, start_response):
    start_response("200 OK", [])
    return [b"inner %d" % os.getpid()]


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/returns" and (pid := os.fork()) != 0:
        os.waitpid(pid, 0)  # it returns from here, and must not answer as well
    if path == "/serves":
        mine = bjoern.bind_and_listen("127.0.0.1", 0)
        if os.fork() == 0:
            try:
                bjoern.server_run(mine, inner)
            except KeyboardInterrupt:
                os._exit(0)
        start_response("200 OK", [])
        return [b"%d" % mine.getsockname()[1]]
    start_response("200 OK", [])
    return [b"%d" % os.getpid()]


sock = bjoern.listen(app, "127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
try:
    bjoern.run()
except KeyboardInterrupt:
    print("interrupted", flush=True)

# Afterwards, a child of this program is independent of the former server.
reader, writer = os.pipe()
if os.fork() == 0:
    again = bjoern.listen(inner, "127.0.0.1", 0)
    os.write(writer, b"%d" % again.getsockname()[1])
    try:
        bjoern.run()
    except KeyboardInterrupt:
        os._exit(7)
print(os.read(reader, 16).decode(), flush=True)
print("left", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
