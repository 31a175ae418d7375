"""Requests of every kind to `misuse:app`, and clients that send each many times."""

import socket
from urllib.parse import quote

from support.wire import Ended, Wire

HELLO = "start_response('200 OK', [('Content-Length', '2')])\nreturn [b'ok']"
READ = "body = environ['wsgi.input'].read()\nstart_response('200 OK', [])\nreturn [str(len(body)).encode()]"
LINES = "body = [*environ['wsgi.input'], environ['wsgi.input'].readlines()]\n" + HELLO
FILE = (
    "file = tempfile.TemporaryFile()\nfile.write(b'x' * 100_000)\nfile.seek(0)\nstart_response('200 OK', [])\n"
    "return environ['wsgi.file_wrapper'](file)"
)
BLOCKS = "start_response('200 OK', [])\nreturn environ['wsgi.file_wrapper'](io.BytesIO(b'x' * 100_000), 1000)"
GENERATOR = "start_response('200 OK', [])\nfor _ in range(10): yield b'x' * 1000"
ENDLESS = "start_response('200 OK', [])\nwhile True: yield b'x' * 100_000"
WRITTEN = "write = start_response('200 OK', [])\nfor _ in range(10): write(b'x' * 1000)\nreturn [b'end']"
ERRORS = "environ['wsgi.errors'].write('some text\\n')\nprint('more', file=environ['wsgi.errors'])\n" + HELLO
HEADERS = "start_response('200 OK', [(f'X-{number}', str(number)) for number in range(50)])\nreturn [repr(environ).encode()]"


def get(code, *fields, method="GET"):
    """A request with this code, as bytes."""
    lines = (f"{method} /case?code={quote(code)} HTTP/1.1", "Host: test", *fields)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def answered(request, method="GET"):
    """A client that sends this request and receives the answer, on a kept connection if the server keeps it."""

    def send(client):
        if client.wire is None:
            client.connect()
        client.wire.send(request)
        answer = client.wire.response(method)
        if answer.field("Connection") == "close" or not answer.is_whole:
            client.close()

    return send


def reset(request, after_bytes):
    """A client that resets the connection after so many bytes of the answer."""

    def send(client):
        client.connect()
        client.wire.send(request)
        if after_bytes:
            client.wire.exactly(after_bytes)
        client.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()

    return send


def post(code, body):
    return get(code, f"Content-Length: {len(body)}") + body


def chunked(code, *chunks):
    encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
    return get(code, "Transfer-Encoding: chunked") + encoded


# The options with which a server writes the largest of the bodies below to a file.
FILES = ["--body-memory", "500K"]

KINDS = {
    "hello": answered(get(HELLO)),
    "hello-of-1.0": answered(get(HELLO).replace(b"HTTP/1.1", b"HTTP/1.0")),
    "hello-on-a-new-connection": answered(get(HELLO, "Connection: close")),
    "head": answered(get(HELLO, method="HEAD"), "HEAD"),
    "method-that-is-not-cached": answered(get(HELLO, method="BREW")),
    "headers": answered(get(HEADERS, *(f"X-Field-{number}: {number}" for number in range(50)), "Cookie: a=1", "Cookie: b=2")),
    "request-id": answered(get(HELLO, "X-Request-Id: some-id-0123456789")),
    "query-and-path": answered(get(HELLO).replace(b"/case?", b"/caf%C3%A9/a%2Fb?q=%20&")),
    "post-small": answered(post(READ, b"x" * 100)),
    "post-gathered": answered(post(READ, b"x" * 400_000)),
    "post-to-a-file": answered(post(READ, b"x" * 600_000)),
    "post-lines": answered(post(LINES, b"a line\n" * 100)),
    "post-unread": answered(post(HELLO, b"x" * 1000)),
    "post-chunked": answered(chunked(READ, b"x" * 100, b"y" * 1000)),
    "post-chunked-lines": answered(chunked(LINES, b"one\ntwo\n" * 100, b"three")),
    "generator": answered(get(GENERATOR)),
    "generator-abandoned": answered(get(GENERATOR, method="HEAD"), "HEAD"),
    "written": answered(get(WRITTEN)),
    "file": answered(get(FILE)),
    "file-abandoned": answered(get(FILE, method="HEAD"), "HEAD"),
    "file-in-blocks": answered(get(BLOCKS)),
    "errors": answered(get(ERRORS)),
    "reset-before-the-answer": reset(get(HELLO), 0),
    "reset-in-an-endless-answer": reset(get(ENDLESS), 100_000),
    "reset-in-a-file": reset(get(FILE), 1000),
    "reset-in-a-request": reset(get(HELLO)[:100], 0),
    "refused-head": answered(b"GET / HTTP/1.1\r\nBad header\r\n\r\n"),
    "refused-framing": answered(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx"),
    "refused-chunk": answered(get(HELLO, "Transfer-Encoding: chunked") + b"x\r\n"),
}


class Client:
    """A client with at most one connection."""

    def __init__(self, port):
        self.port, self.wire = port, None

    def connect(self):
        """Opens a new connection."""
        self.close()
        self.wire = Wire(("127.0.0.1", self.port))

    def close(self):
        """Closes the connection."""
        if self.wire is not None:
            self.wire.socket.close()
            self.wire = None

    def send(self, send, count):
        """Sends the same request many times."""
        for _ in range(count):
            try:
                send(self)
            except Ended:
                self.close()
        self.close()
