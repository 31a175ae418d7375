"""Independent readers of HTTP/1.1 requests, and what a WSGI application would get from each.

llhttp is the parser of Node.js, by way of httptools. h11 shares no code and no design with it.
"""

from typing import NamedTuple

import h11
import httptools


class Message(NamedTuple):
    """One request as a reader sees it. Names of fields are in lower case."""

    method: bytes
    target: bytes
    version: str
    fields: tuple
    body: bytes


class Request(NamedTuple):
    """One request as a WSGI application sees it."""

    method: str
    target: str
    version: str
    fields: dict
    body: bytes


class View(NamedTuple):
    """What one reader sees in a stream: complete requests, and why there are no more of them."""

    requests: list
    # `open`: it waits for more bytes; `closed`: it reads no further; otherwise the words of its refusal.
    end: str


# Fields that never reach an application: the body is decoded, and HTTP_PROXY is a variable of HTTP clients.
WITHHELD = (b"transfer-encoding", b"proxy")


def as_wsgi(message):
    """Returns what PEP 3333 and RFC 3875 make of a message."""
    fields = {}
    for name, value in message.fields:
        if b"_" in name or name in WITHHELD:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        separator = "; " if name == b"cookie" else ","
        text = value.decode("latin-1")
        fields[key] = fields[key] + separator + text if key in fields else text
    if any(name == b"transfer-encoding" for name, _ in message.fields):
        fields["CONTENT_LENGTH"] = str(len(message.body))
    scheme, mark, rest = message.target.partition(b"://")
    if mark and scheme.lower() in (b"http", b"https"):
        # The authority of the target stands for Host (RFC 9112 section 3.2.2).
        end = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
        fields["HTTP_HOST"] = rest[:end].decode("latin-1")
    version = "HTTP/1.0" if message.version == "1.0" else "HTTP/1.1"
    method, target = message.method.decode("latin-1"), message.target.decode("latin-1")
    return Request(method, target, version, fields, message.body)


class _Collector:
    """Collects the messages that llhttp reports."""

    def __init__(self):
        self.messages = []
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self):
        """Begins a message."""
        self.target, self.fields, self.body = b"", [], b""

    def on_url(self, url):
        """Collects a piece of the target."""
        self.target += url

    def on_header(self, name, value):
        """Collects a field. llhttp leaves white space behind a value to its user."""
        self.fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, body):
        """Collects a piece of the body."""
        self.body += body

    def on_headers_complete(self):
        """Ends the head. llhttp reports trailers as further fields."""
        self.method, self.version = self.parser.get_method(), self.parser.get_http_version()
        self.field_count = len(self.fields)

    def on_message_complete(self):
        """Ends the message."""
        fields = tuple(self.fields[: self.field_count])
        self.messages.append(Message(self.method, self.target, self.version, fields, self.body))


def llhttp(stream):
    """Reads a stream with llhttp."""
    collector = _Collector()
    end = "open"
    try:
        collector.parser.feed_data(stream)
    except httptools.HttpParserUpgrade:
        end = "upgrade"
    except httptools.HttpParserError as error:
        end = str(error)
    return View([as_wsgi(message) for message in collector.messages], end)


def read_by_h11(stream):
    """Reads a stream with h11, which wants each request answered, and a CONNECT not with a 200."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(stream)
    messages, head, body = [], None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return View([as_wsgi(message) for message in messages], str(error))
        if isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            fields = tuple((bytes(name), bytes(value)) for name, value in head.headers)
            messages.append(Message(head.method, head.target, head.http_version.decode(), fields, body))
            connection.send(h11.Response(status_code=404, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.their_state is not h11.DONE or connection.our_state is not h11.DONE:
                end = "closed after HTTP/1.0" if head.http_version == b"1.0" else "closed"
                return View([as_wsgi(message) for message in messages], end)
            connection.start_next_cycle()
        else:
            return View([as_wsgi(message) for message in messages], "open")
