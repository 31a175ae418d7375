"""Compares what reaches an application with what independent readers see in the same bytes.

If a proxy and arctos find different requests in a stream, a client can smuggle a request past the proxy. So for each
stream, arctos must never pass on a request of which another reader sees another end, method, target, field or body.
It may refuse what others accept.

Streams are generated from seeds, and a failure prints its seed. `ARCTOS_SEED=SEED ARCTOS_STREAMS=1` repeats the stream.
The ordinary run always reads the same streams, so that only a change can make it fail; ARCTOS_STREAMS alone reads as
many others. The files of tests/wire and the inputs that the fuzz
targets keep are compared, too.

Other readers sometimes disagree with the standard. Then `support/strict_reader.py` decides: it must see exactly the
requests that arctos passes on. Each such disagreement is in the table DISAGREEMENTS, with the section that is right.
"""

import base64
import json
import os
import random
import socket

import pytest
from support.readers import Request, View, llhttp, read_by_h11
from support.server import ROOT, Server
from support.strict_reader import read as read_strictly
from support.streams import stream

STREAMS = int(os.environ.get("ARCTOS_STREAMS", "4000"))
READERS = {"llhttp": llhttp, "h11": read_by_h11}

# Where another reader refuses what arctos accepts: the start of its words, and why the request is valid. There is no
# entry for a reader that sees a different request, because none does.
DISAGREEMENTS = [
    ("h11", "no request line received", "RFC 9112 section 2.2: an empty line before a request line is ignored"),
    ("h11", "closed after HTTP/1.0", "RFC 9112 section 9.3: HTTP/1.0 persists if keep-alive is asked for"),
    ("h11", "illegal chunk header", "RFC 9112 section 7.1.1: white space may precede the semicolon and surround ="),
    ("h11", "Only Transfer-Encoding: chunked", "RFC 9112 section 7.1.2: a trailer may be discarded, whatever its name"),
    ("h11", "multiple Transfer-Encoding", "RFC 9112 section 7.1.2: a trailer may be discarded, whatever its name"),
    ("h11", "bad Content-Length", "RFC 9112 section 7.1.2: a trailer may be discarded, whatever its name"),
    ("h11", "conflicting Content-Length", "RFC 9112 section 7.1.2: a trailer may be discarded, whatever its name"),
    ("llhttp", "Content-Length can't be present", "RFC 9112 section 7.1.2: a trailer may be discarded, whatever its name"),
    ("llhttp", "Invalid character in chunk size", "RFC 9112 section 7.1.1: white space may precede the semicolon"),
    ("llhttp", "Invalid character in chunk extensions", "RFC 9112 section 7.1.1: white space may surround ; and ="),
    ("llhttp", "Request has invalid `Transfer-Encoding`", "RFC 9112 section 5.1: white space behind a value is not part of it"),
    ("llhttp", "Invalid method encountered", "RFC 9110 section 9.1: each token is a method"),
    ("llhttp", "Expected space after method", "RFC 9110 section 9.1: each token is a method"),
    ("llhttp", "Expected HTTP/2 Connection Preface", "RFC 9110 section 9.1: PRI is a token, and only `PRI * HTTP/2.0` a preface"),
    ("llhttp", "Invalid HTTP version", "RFC 9110 section 2.5: a higher minor version is understood as the highest known one"),
    ("llhttp", "Data after `Connection: close`", "RFC 9112 section 9.6: Connection may say so, Proxy-Connection may not"),
    ("llhttp", "upgrade", "RFC 9110 section 7.8: a server may ignore Upgrade"),
]


@pytest.fixture(scope="module")
def reflecting():
    """A server whose application tells what it received."""
    with Server("reflecting:app") as server:
        yield server


def read_by_arctos(server, sent):
    """Sends a stream on a connection of its own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while came := connection.recv(1 << 16):
            received += came
    requests = []
    while received:
        head, end, rest = received.partition(b"\r\n\r\n")
        assert end, received
        line, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(text.split(": ", 1) for text in lines)
        status = int(line.split(" ")[1])
        if status >= 400:
            assert fields["Connection"] == "close" and len(rest) == int(fields["Content-Length"]), received
            return View(requests, f"refused with {status}")
        if status == 200:
            told = json.loads(base64.b64decode(fields["X-Received"]))
            told["body"] = told["body"].encode("latin-1")
            requests.append(Request(**told))
        else:
            assert status == 100, received
        received = rest
        if fields.get("Connection") == "close":
            assert not received
            return View(requests, "closed")
    return View(requests, "open")


def disagreement(ours, theirs):
    """Returns how another reader contradicts arctos, or `None`."""
    for index, request in enumerate(ours.requests):
        if index >= len(theirs.requests):
            return theirs.end
        if request != theirs.requests[index]:
            return f"differs: {theirs.requests[index]} instead of {request}"
    if ours.end == "open" and len(theirs.requests) > len(ours.requests):
        return f"sees another: {theirs.requests[len(ours.requests)]}"
    return None


def faults(ours, sent):
    """Compares what arctos sees in a stream with what the readers see. Yields each disagreement in which it is not
    known to be right."""
    strict = read_strictly(sent)
    # arctos refuses a request at its first wrong byte, where the strict reader waits for the end of the line.
    ends = {"open": "open", "closed": "closed"}
    if ours.requests != strict.requests or (ours.end in ends and ours.end != strict.end) or (ours.end not in ends and strict.end == "closed"):
        yield f"arctos: {ours}\n  strict: {strict}"
    for name, reader in READERS.items():
        words = disagreement(ours, reader(sent))
        if words and not any(reader == name and words.startswith(known) for reader, known, _ in DISAGREEMENTS):
            yield f"{name}: {words}\n  arctos: {ours}"


def check(server, streams):
    """Compares all readers on all streams, and fails with the first few faults. Returns how many requests reached the
    application."""
    found, count = [], 0
    for name, sent in streams:
        ours = read_by_arctos(server, sent)
        count += len(ours.requests)
        found += [f"{name}: {sent!r}\n  {fault}" for fault in faults(ours, sent)]
        if len(found) >= 5:
            break
    assert not found, "\n".join(found)
    return count


def test_another_boundary_is_a_disagreement():
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
    ours, chunked = read_strictly(sent), read_strictly(sent.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    assert [request.body for request in ours.requests] == [b"0\r\n\r\n", b""]
    assert disagreement(ours, ours) is None
    assert disagreement(ours, chunked).startswith("differs")
    assert disagreement(View(ours.requests[:1], "open"), ours).startswith("sees another")
    assert disagreement(ours, View(ours.requests[:1], "no")) == "no"


def test_wire_files_read_alike(reflecting):
    paths = sorted((ROOT / "tests/wire").glob("*/*.http"))
    assert len(paths) > 500
    check(reflecting, ((path.name, path.read_bytes()) for path in paths if path.stat().st_size < 8000))


def test_fuzz_inputs_read_alike(reflecting):
    paths = sorted((ROOT / "workers/fuzz/corpus/connection").iterdir())
    check(reflecting, ((path.name, path.read_bytes()) for path in paths))


@pytest.mark.timeout(240 + STREAMS // 20)
def test_generated_streams_read_alike(reflecting):
    other = random.SystemRandom().randrange(1 << 40) if "ARCTOS_STREAMS" in os.environ else 0
    seed = int(os.environ.get("ARCTOS_SEED", other))
    count = check(reflecting, ((f"ARCTOS_SEED={seed + index}", stream(seed + index)) for index in range(STREAMS)))
    # If nearly everything were refused, nothing would be compared.
    assert STREAMS < 100 or count > STREAMS / 2
