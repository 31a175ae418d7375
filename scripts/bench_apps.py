"""The measured applications, each with as little Python as possible."""

import itertools
import os
import time

PLAIN = ("Content-Type", "text/plain")
GREETING = b"Hello, World!"
BODY_10K = b"x" * 10240
BODY_1M = b"x" * 1048576
ITEM = b"x" * 100
FILE = os.environ.get("BENCH_FILE", "")
ROUTES = itertools.cycle([f"/shop/{n}/{{id}}" for n in range(100)])


def hello(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "13")])
    return [GREETING]


def one_route(environ, start_response):
    environ["arctos.route"] = "/shop/orders/{id}"
    start_response("200 OK", [PLAIN, ("Content-Length", "13")])
    return [GREETING]


def one_of_100_routes(environ, start_response):
    environ["arctos.route"] = next(ROUTES)
    start_response("200 OK", [PLAIN, ("Content-Length", "13")])
    return [GREETING]


def body_10k(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "10240")])
    return [BODY_10K]


def body_1m(environ, start_response):
    start_response("200 OK", [PLAIN, ("Content-Length", "1048576")])
    return [BODY_1M]


def post(environ, start_response):
    """Reads the whole request body."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    if len(body) != int(environ["CONTENT_LENGTH"]):
        raise ValueError("a part of the body is missing")
    start_response("200 OK", [PLAIN, ("Content-Length", "13")])
    return [GREETING]


def file_1m(environ, start_response):
    """Returns a file, with wsgi.file_wrapper if the server has one."""
    start_response("200 OK", [PLAIN, ("Content-Length", "1048576")])
    opened = open(FILE, "rb")
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is not None:
        return wrapper(opened, 65536)
    return iter(lambda: opened.read(65536), b"")


def items(environ, start_response):
    """Yields 100 items without a length: PEP 3333 requires each to be sent before the next is requested."""
    start_response("200 OK", [PLAIN])
    for _ in range(100):
        yield ITEM


def sleep(environ, start_response):
    """Sleeps for the microseconds that the path ends with. The body is the process that has served the request."""
    time.sleep(int(environ["PATH_INFO"].rpartition("/")[2]) / 1e6)
    body = b"%d" % os.getpid()
    start_response("200 OK", [PLAIN, ("Content-Length", str(len(body)))])
    return [body]


def flask_hello():
    """Makes the Flask application on demand, because only one case needs Flask."""
    from flask import Flask

    application = Flask(__name__)

    @application.get("/")
    @application.get("/catalogue/shoes/<item>")
    def greet(item=None):
        return "Hello, World!"

    return application


def flask_routes():
    """The same application, whose requests have routes."""
    from arctos.contrib.flask import name_routes

    return name_routes(flask_hello())


def static_files():
    """Makes the application that serves static files on demand, because only two cases need WhiteNoise."""
    from whitenoise import WhiteNoise

    return WhiteNoise(hello, root=os.environ["BENCH_STATIC"], prefix="/static")


def __getattr__(name):
    makers = {"flask": flask_hello, "flask_with_routes": flask_routes, "whitenoise": static_files}
    if name not in makers:
        raise AttributeError(name)
    return globals().setdefault(name, makers[name]())
