"""An application that forks: the child ends by itself, comes back, or serves in its turn."""

import os

import arctos as bjoern


def inner(environ, start_response):
    start_response("200 OK", [])
    return [b"inner %d" % os.getpid()]


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/returns" and (pid := os.fork()) != 0:
        os.waitpid(pid, 0)  # it comes back from here, and must not answer, too
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

# Afterwards a child of this program has nothing to do with the server that was.
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
