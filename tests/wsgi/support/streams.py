"""Generates what clients send: streams of requests from a grammar, most of them with an error somewhere.

A stream depends on its seed and nothing else.
"""

import random

METHODS = [b"GET", b"GET", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"M-SEARCH", b"PURGE"]
ODD_METHODS = [b"get", b"FOO", b"G!T", b"CONNECT", b"A" * 32, b"A" * 33, b"PRI", b"", b"GE T", b"Q\xe4"]
TARGETS = [b"/", b"/a/b?c=d", b"//x", b"/%2e/%41", b"/?", b"/a;b=c", b"/~x'\"<>|", b"/\\"]
ODD_TARGETS = [
    b"*", b"http://h/", b"http://h", b"HTTP://h:80?q", b"https://[::1]:1/x", b"http://u@h/", b"http:///", b"ftp://h/", b"a", b"",
    b"/#f", b"/\xe4", b"/ x", b"/\t", b"h:80", b"http://h:99999/", b"/\x7f",
]  # fmt: skip
ODD_VERSIONS = [b"HTTP/1.2", b"HTTP/1.9", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1.", b"HTTP/1.1 ", b""]
HOSTS = [b"a", b"example.org:8080", b"[::1]", b"127.0.0.1", b"xn--a.b:", b"a_b"]
ODD_HOSTS = [b"", b"a b", b"a,b", b"u@h", b"[::1", b"a:b", b"a:99999", b"%41", b"%4", b"a/b", b"\xe4", b"[::1%25e]"]
FIELDS = [
    b"Accept: */*", b"Cookie: a=b", b"Cookie: c=d", b"X-A: 1", b"X-A: 2", b"x-a:3", b"User-Agent: me (\xe4)", b"Connection: keep-alive",
    b"Connection: X-A", b"Content-Type: text/plain", b"X-Empty:", b"X-Space: \t v w \t", b"Upgrade: h2c", b"TE: trailers",
    b"Trailer: X-T", b"Keep-Alive: 5", b"Proxy: p", b"X_A: 4", b"Content_Length: 3", b"Transfer_Encoding: chunked", b"Range: bytes=0-1",
    b"!#$%&'*+.^`|~9: odd", b"Accept: a,b", b"Date: x", b"Referer: http://r/", b"Via: 1.1 p",
]  # fmt: skip
ODD_FIELDS = [
    b"Connection: close", b"Connection: Close, x", b"Connection: upgrade", b"Connection: close\r\nConnection: keep-alive", b" X-A: 1",
    b"X-A : 1", b"X-A", b": x", b"X A: 1", b"X-A: 1\r\n 2", b"X-A: 1\n2", b"X-A: \x00", b"X-A: \x0b", b"X-A: \x7f", b"X\xe4: 1", b"X-A: 1\r",
    b"Host: b", b"Content-Type: a\r\nContent-Type: b", b"Authorization: a\r\nAuthorization: a", b"Expect: 100-continue", b"Expect: x",
    b"Expect: 100-continue, x", b"\tX: y", b"(X): y", b"X-A: 1\r\n\tY: 2", b"X-\x00: 1", b'"X": 1', b"X-A: \x85\xa0",
]  # fmt: skip
# Framings of a body of 5 bytes, and lookalikes of them.
LENGTHS = [
    b"Content-Length: 5", b"content-length:5", b"Content-Length: 05", b"Content-Length: 5 ", b"Content-Length:\t5", b"CONTENT-LENGTH: 0005",
]  # fmt: skip
ODD_LENGTHS = [
    b"Content-Length: +5", b"Content-Length: -5", b"Content-Length: 5, 5", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5,",
    b"Content-Length: 5\r\nContent-Length: 6", b"Content-Length: 0x5", b"Content-Length: 5_0", b"Content-Length: 5 5", b"Content-Length: ",
    b"Content-Length: 18446744073709551621", b"Content-Length: 4294967301", b"Content-Length: \xb2", b"Content-Length: 5;", b"Content-Length: 1e1",
    b"Content-Length : 5", b"Content-Length: 5\x0b", b"Content-Length: 6", b"Content-Length: 4", b"Content-Length: 0", b"Content-Length: 5.0",
    b"X: y\r\n Content-Length: 5", b"Content-Length: 5\nX: y", b"Content-Length\x00: 5", b"Content-Length: \"5\"",
]  # fmt: skip
CODINGS = [b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked", b"Transfer-Encoding: CHUNKED ", b"Transfer-Encoding:\tchunked"]
ODD_CODINGS = [
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"Transfer-Encoding: ,chunked",
    b"Transfer-Encoding: chunked,", b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding : chunked", b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chun\tked", b"Transfer-Encoding:", b"Transfer-Encoding: ch\xfbnked", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\x00",
]  # fmt: skip
EXTENSIONS = [b";a", b";a=b", b';a="b;c"', b' ; a = b', b';a="\\""', b";a;b=c", b"\t;a"]
ODD_EXTENSIONS = [
    b";", b";=", b";a=", b' ', b"a", b";a b", b';a="', b';a="\r\n"', b";a=\n", b";\x00", b";a\r", b"\x0b", b";a=b ", b",a", b";a=\xe4", b';a="\xe4"', b"x",
]  # fmt: skip
ODD_SIZES = [b"", b"0x5", b"+5", b"-5", b" 5", b"5 ", b"5_", b"g", b"00000000000000005", b"10000000000000005", b"ffffffffffffffff", b"05", b"\xb5"]
TRAILERS = [b"X-T: 1", b"Content-Length: 3", b"Host: t", b"x:"]
ODD_TRAILERS = [b" X: 1", b"X", b"X : 1", b"X: \x00", b"X: 1\n", b": y", b"X: 1\r\n 2"]
# What a mutation inserts anywhere.
PIECES = [
    b"\r", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x85", b"\xa0", b"\xff", b":", b";", b",", b'"',
    b"\\", b"0", b"5", b"_", b"-", b"chunked", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n", b"Host: x\r\n", b"Content-Length: 3\r\n", b"HTTP/1.1",
    b"Transfer-Encoding: chunked\r\n",
]  # fmt: skip
LAST = b"GET /last HTTP/1.1\r\nHost: last\r\n\r\n"


def stream(seed):
    """Returns the stream of this seed."""
    dice = _Dice(seed)
    # How often something odd is chosen: never in some streams, and often in a few.
    dice.oddness = dice.random.choice([0, 0.01, 0.03, 0.03, 0.1])
    requests = b"".join(_request(dice) for _ in range(dice.random.randint(1, 3)))
    # A reader that finds an end too early or too late sees another last request, or none.
    whole = requests + LAST
    if dice.random.random() < 0.4:
        for _ in range(dice.random.randint(1, 2)):
            whole = _mutated(dice, whole)
    return whole


class _Dice:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.oddness = 0

    def pick(self, usual, odd):
        """Picks one of the usual or, rarely, of the odd values."""
        return self.random.choice(odd if self.random.random() < self.oddness else usual)

    def end(self, *odd):
        """Picks the end of a line, which is seldom an odd one, because each stream has many."""
        return self.random.choice(odd) if self.random.random() < self.oddness / 5 else b"\r\n"

    def rarely(self):
        """Whether something odd happens."""
        return self.random.random() < self.oddness


def _request(dice):
    method = dice.pick(METHODS, ODD_METHODS)
    version = dice.pick([b"HTTP/1.1"] * 9 + [b"HTTP/1.0"], ODD_VERSIONS)
    fields = [dice.pick(FIELDS, ODD_FIELDS) for _ in range(dice.random.randint(0, 3))]
    if not dice.rarely():
        fields.append(b"Host: " + dice.pick(HOSTS, ODD_HOSTS))
    if version == b"HTTP/1.0" and dice.random.random() < 0.8:
        fields.append(b"Connection: keep-alive")
    body = b""
    match dice.random.choice(["none", "none", "length", "chunked", "chunked", "other"]):
        case "length":
            fields.append(dice.pick(LENGTHS, ODD_LENGTHS))
            body = dice.random.choice([b"hello", b"\r\n\r\n\r", b"GET /", b"0\r\n\r\n"])
        case "chunked":
            fields.append(dice.pick(CODINGS, ODD_CODINGS))
            body = _chunks(dice)
        case "other" if dice.rarely():
            fields += [dice.random.choice(ODD_LENGTHS), dice.random.choice(ODD_CODINGS)]
            body = b"hello"
    dice.random.shuffle(fields)
    line = dice.pick([b" "], [b"  ", b"\t", b""]).join([method, dice.pick(TARGETS, ODD_TARGETS), version])
    before = dice.pick([b""] * 19 + [b"\r\n"], [b"\n", b"\r\n\r\n\r\n", b" ", b"\r"])
    head = b"".join(text + dice.end(b"\n", b"\r", b"\r\r\n") for text in [line, *fields])
    return before + head + dice.end(b"\n", b"\r\r\n", b" \r\n") + body


def _chunks(dice):
    body = b""
    for _ in range(dice.random.randint(0, 3)):
        data = dice.random.choice([b"hello", b"x" * 10, b"0\r\n\r\n", b"\r\n"])
        size = dice.pick([b"%x" % len(data), b"%X" % len(data), b"0%x" % len(data)], ODD_SIZES)
        body += size + _extension(dice) + dice.end(b"\n", b"\r", b"\n\r") + data + dice.end(b"", b"\n", b"\rX", b"\r\n\r\n")
    body += dice.pick([b"0", b"0", b"000"], ODD_SIZES) + _extension(dice) + dice.end(b"\n", b"\r")
    for _ in range(dice.random.choice([0, 0, 0, 1, 2])):
        body += dice.pick(TRAILERS, ODD_TRAILERS) + dice.end(b"\n", b"\r")
    return body + dice.end(b"\n", b"\r", b"")


def _extension(dice):
    return dice.pick([b""] * 5 + [dice.random.choice(EXTENSIONS)], ODD_EXTENSIONS)


def _mutated(dice, text):
    at = dice.random.randrange(len(text) + 1)
    match dice.random.choice(["insert", "insert", "replace", "remove", "duplicate", "flip", "cut"]):
        case "insert":
            return text[:at] + dice.random.choice(PIECES) + text[at:]
        case "replace":
            return text[:at] + dice.random.choice(PIECES) + text[at + dice.random.randint(1, 3) :]
        case "remove":
            return text[:at] + text[at + dice.random.randint(1, 3) :]
        case "duplicate":
            lines = text.split(b"\r\n")
            line = dice.random.randrange(len(lines))
            return b"\r\n".join([*lines[:line], *lines[line : line + 1] * 2, *lines[line + 1 :]])
        case "flip":
            return text[:at] + bytes(byte ^ (1 << dice.random.randrange(8)) for byte in text[at : at + 1]) + text[at + 1 :]
        case _:
            return text[:at]
