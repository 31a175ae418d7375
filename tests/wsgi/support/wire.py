"""An HTTP client that exposes every byte it receives and how the connection ended."""

import socket
from typing import NamedTuple

PATIENCE_S = 20


class Response(NamedTuple):
    """One response with its decoded body."""

    status: int
    reason: str
    fields: list
    body: bytes
    is_whole: bool

    def field(self, name):
        """Returns the value of the only field of this name, or `None`."""
        values = self.values(name)
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def values(self, name):
        """Returns all values of a field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


class Ended(Exception):
    """The server closed the connection before the awaited bytes had come."""

    def __init__(self, held, was_reset):
        super().__init__(f"ended ({'reset' if was_reset else 'closed'}) after {held[:200]!r}")
        self.held = held
        self.was_reset = was_reset


class Wire:
    """One connection."""

    def __init__(self, address, receive_buffer_bytes=None):
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.held = b""
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends all of `data`."""
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def get(self, target, *fields, method="GET"):
        """Sends a request without a body."""
        head = "".join(f"{line}\r\n" for line in (f"{method} {target} HTTP/1.1", "Host: test", *fields))
        return self.send(head + "\r\n")

    def post(self, target, body, *fields):
        """Sends a request with a body of known length."""
        head = "".join(f"{line}\r\n" for line in (f"POST {target} HTTP/1.1", "Host: test", *fields))
        return self.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)

    def more(self):
        """Receives the next bytes."""
        try:
            came = self.socket.recv(256 * 1024)
        except ConnectionResetError:
            raise Ended(self.held, True) from None
        if not came:
            raise Ended(self.held, False)
        self.held += came

    def until(self, mark):
        """Returns everything up to and including `mark`."""
        end = -1
        while (end := self.held.find(mark, max(0, end))) < 0:
            end = len(self.held) - len(mark) + 1  # what was searched is not searched again
            self.more()
        end += len(mark)
        found, self.held = self.held[:end], self.held[end:]
        return found

    def exactly(self, count):
        """Returns `count` bytes."""
        while len(self.held) < count:
            self.more()
        found, self.held = self.held[:count], self.held[count:]
        return found

    def to_end(self):
        """Returns everything until the server closes, and whether it reset the connection."""
        try:
            while True:
                self.more()
        except Ended as ended:
            found, self.held = self.held, b""
            return found, ended.was_reset

    def head(self):
        """Returns the status, the reason and the fields."""
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        version, status, reason = lines[0].split(" ", 2)
        assert version == "HTTP/1.1", lines[0]
        return int(status), reason, [tuple(line.split(": ", 1)) for line in lines[1:]]

    def response(self, method="GET"):
        """Returns one response; `is_whole` is false if the server aborted it."""
        status, reason, fields = self.head()
        found = Response(status, reason, fields, b"", True)
        coding, length = found.field("Transfer-Encoding"), found.field("Content-Length")
        if method == "HEAD" or status in (204, 304) or status < 200:
            return found
        body = bytearray()
        try:
            if coding is not None:
                assert coding == "chunked" and length is None
                self._chunks(body)
                return found._replace(body=bytes(body))
            if length is not None:
                return found._replace(body=self.exactly(int(length)))
        except Ended as ended:
            return found._replace(body=bytes(body) or ended.held, is_whole=False)
        body, was_reset = self.to_end()
        return found._replace(body=body, is_whole=not was_reset)

    def _chunks(self, body):
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            assert self.exactly(2) == b"\r\n"
        assert self.exactly(2) == b"\r\n", "unexpected trailers"

    def is_closed(self):
        """Waits for the end of the connection. Whether no byte came before it."""
        return self.to_end()[0] == b""


def fetch(wire, target, *fields, method="GET"):
    """Sends a request without a body, and returns its response."""
    return wire.get(target, *fields, method=method).response(method)
