"""An application that starts a server while it is served, which is refused, and goes on."""

import sys

import arctos as bjoern


def app(environ, start_response):
    refusals = []
    for start in (bjoern.run, lambda: bjoern.run(app, "127.0.0.1", 0), lambda: bjoern.serve(app)):
        try:
            start()
        except RuntimeError as error:
            refusals.append(str(error))
    start_response("200 OK", [])
    return ["\n".join(refusals).encode()]


if __name__ == "__main__":
    bjoern.run(app, "unix:" + sys.argv[1])
