"""An application that asks for time on a server without a supervisor, where no request has a time limit."""

import arctos as bjoern


def app(environ, start_response):
    timeout = environ["arctos.timeout"]
    said = [timeout.remaining, timeout.extend(60), timeout.remaining]
    try:
        timeout.extend("soon")
    except TypeError as error:
        said.append(str(error))
    try:
        raise bjoern.RequestTimeout("from the application")
    except bjoern.RequestTimeout:
        start_response("200 OK", [])
        return [repr(said).encode()]


if __name__ == "__main__":
    sock = bjoern.listen(app, "127.0.0.1", 0)
    print(sock.getsockname()[1], flush=True)
    bjoern.run()
