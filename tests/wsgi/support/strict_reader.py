"""A strict reader of HTTP/1.1 requests, from the grammar of RFC 9110 and RFC 9112 and nothing else.

It decides where arctos and another reader disagree. It looks at whole lines with regular expressions, so it has
nothing in common with the state machines in `workers/src/http`. Where the standard leaves a choice to a server, it
knows the choice that the guide states.
"""

import ipaddress
import re

from support.readers import Message, View, as_wsgi

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# The target as a whole; its form is checked afterwards. A fragment is never sent (RFC 9112 section 3.2).
REQUEST_LINE = re.compile(rb"(%s) ([!-~]+) (\S+)" % TOKEN)
FIELD_LINE = re.compile(rb"(%s):[ \t]*((?:[^\x00-\x20\x7f](?:[^\x00-\x08\x0a-\x1f\x7f]*[^\x00-\x20\x7f])?)?)[ \t]*" % TOKEN)
QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
EXTENSION = rb"[ \t]*;[ \t]*%s(?:[ \t]*=[ \t]*(?:%s|%s))?" % (TOKEN, TOKEN, QUOTED)
CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%s)*)" % EXTENSION)
REG_NAME = re.compile(rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
HOST = re.compile(rb"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
LINES_BEFORE = 2
METHOD_BYTES = 32
# The limits of the guide that a stream of a few KB can exceed.
FIELD_COUNT = 100
CHUNK_EXTENSION_BYTES = 256
# Of these fields, a second one is refused.
SINGULAR = (
    b"authorization", b"content-length", b"content-range", b"content-type", b"host", b"if-unmodified-since", b"origin",
    b"proxy-authorization",
)  # fmt: skip


class Refused(Exception):
    """A request breaks a rule."""


class Unfinished(Exception):
    """A request is not complete."""


def read(stream):
    """Reads a stream."""
    requests, at = [], 0
    while at < len(stream):
        try:
            message, at = _message(stream, at)
        except Refused as refused:
            return View(requests, str(refused))
        except Unfinished:
            return View(requests, "open")
        requests.append(as_wsgi(message))
        if not _persists(message):
            return View(requests, "closed")
    return View(requests, "open")


def _line(stream, at):
    end = stream.find(b"\r\n", at)
    # A CR or LF alone breaks the line that it is in, whether or not the line is complete.
    line = stream[at:end] if end >= 0 else stream[at:].removesuffix(b"\r")
    if b"\r" in line or b"\n" in line:
        raise Refused("bare CR or LF")
    if end < 0:
        raise Unfinished
    return line, end + 2


def _message(stream, at):
    for _ in range(LINES_BEFORE + 1):
        line, at = _line(stream, at)
        if line:
            break
    else:
        raise Refused("empty lines")
    method, target, version = _request_line(line)
    fields = []
    while True:
        line, at = _line(stream, at)
        if not line:
            break
        fields.append(_field(line))
        if len(fields) > FIELD_COUNT:
            raise Refused("too many fields")
    _check_fields(fields, version)
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    lengths = [value for name, value in fields if name == b"content-length"]
    if codings:
        if version == "1.0" or lengths or len(codings) > 1 or codings[0].lower() != b"chunked":
            raise Refused("framing")
        body, at = _chunks(stream, at)
    else:
        length = int(lengths[0]) if lengths else 0
        if len(stream) - at < length:
            raise Unfinished
        body, at = stream[at : at + length], at + length
    return Message(method, target, version, tuple(fields), body), at


def _request_line(line):
    match = REQUEST_LINE.fullmatch(line)
    if match is None:
        raise Refused("request line")
    method, target, version = match.groups()
    number = re.fullmatch(rb"HTTP/1\.([0-9])", version)
    if number is None or len(method) > METHOD_BYTES or method == b"CONNECT" or b"#" in target:
        raise Refused("request line")
    absolute = re.fullmatch(rb"(?i:https?)://([^/?]*)([/?].*)?", target)
    if not (target.startswith(b"/") or (target == b"*" and method == b"OPTIONS") or (absolute and _is_host(absolute[1]))):
        raise Refused("target")
    return method, target, "1.0" if number[1] == b"0" else "1.1"


def _field(line):
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        raise Refused("field line")
    return match[1].lower(), match[2]


def _check_fields(fields, version):
    names = [name for name, _ in fields]
    if any(names.count(name) > 1 for name in SINGULAR):
        raise Refused("repeated field")
    if version == "1.1" and b"host" not in names:
        raise Refused("no Host")
    for name, value in fields:
        if name == b"host" and not _is_host(value):
            raise Refused("Host")
        if name == b"content-length" and not (re.fullmatch(rb"[0-9]+", value) and int(value) <= 1 << 30):
            raise Refused("Content-Length")
        if name == b"expect" and version == "1.1" and set(_elements(value)) - {b"100-continue"}:
            raise Refused("Expect")


def _is_host(value):
    match = HOST.fullmatch(value)
    if match is None or int(match[2] or 0) > 65535:
        return False
    if match[1].startswith(b"["):
        try:
            # A zone is no part of a URI's host (RFC 3986 section 3.2.2).
            return b"%" not in match[1] and bool(ipaddress.IPv6Address(match[1][1:-1].decode("latin-1")))
        except ValueError:
            return False
    return REG_NAME.fullmatch(match[1]) is not None


def _elements(value):
    return [element for part in value.split(b",") if (element := part.strip(b" \t").lower())]


def _persists(message):
    options = [option for name, value in message.fields if name == b"connection" for option in _elements(value)]
    return b"close" not in options and (message.version != "1.0" or b"keep-alive" in options)


def _chunks(stream, at):
    body = b""
    while True:
        line, at = _line(stream, at)
        match = CHUNK_LINE.fullmatch(line)
        if match is None or len(match[2]) > CHUNK_EXTENSION_BYTES:
            raise Refused("chunk")
        if not (size := int(match[1], 16)):
            break
        if len(body) + size > 1 << 30:
            raise Refused("body too large")
        data, after = stream[at : at + size], stream[at + size : at + size + 2]
        if not b"\r\n".startswith(after):
            raise Refused("chunk end")
        if len(data) < size or len(after) < 2:
            raise Unfinished
        body, at = body + data, at + size + 2
    for _ in range(FIELD_COUNT + 1):
        line, at = _line(stream, at)
        if not line:
            return body, at
        _field(line)
    raise Refused("too many trailers")
