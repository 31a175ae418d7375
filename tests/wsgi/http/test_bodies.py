"""Large bodies in both directions: complete, and never held in memory, or not for long. Streams are sent as they are generated."""

import hashlib
import http.client
import json
import re
from pathlib import Path

import pytest
from support.processes import Peak, status_kb
from support.tracing import awaits_events, traced
from support.waiting import wait_until

LARGE_BYTES = 200 * 2**20
PIECE_BYTES = 2**20
GROWTH_LIMIT_MB = 20


def pieces(sha256):
    """Yields 200 MB, of which no two megabytes are equal, and hashes them."""
    block = bytes(range(256)) * (PIECE_BYTES // 256)
    for number in range(LARGE_BYTES // PIECE_BYTES):
        piece = number.to_bytes(8, "big") + block[8:]
        sha256.update(piece)
        yield piece


@pytest.mark.parametrize("coding", ["Content-Length", "chunked"])
def test_a_200_mb_upload_arrives_whole_while_memory_stays_flat(serve, coding):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("POST", "/digest", b"warm up")  # imports, buffers and so on
    connection.getresponse().read()
    peak = Peak(worker)
    sha256 = hashlib.sha256()
    fields = {"Content-Length": str(LARGE_BYTES)} if coding == "Content-Length" else {}
    connection.request("POST", "/digest", pieces(sha256), fields, encode_chunked=coding == "chunked")
    answer = json.loads(connection.getresponse().read())
    assert answer == {"size_bytes": LARGE_BYTES, "sha256": sha256.hexdigest(), "pid": worker}
    assert peak.growth_mb() < GROWTH_LIMIT_MB
    connection.close()


def test_the_memory_of_large_uploads_is_given_back(serve):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)

    def upload(size_bytes):
        connection.request("POST", "/digest", b"x" * size_bytes)
        assert json.loads(connection.getresponse().read())["size_bytes"] == size_bytes

    upload(2**20)
    before = status_kb(worker, "VmRSS")
    for _ in range(3):  # glibc keeps blocks of the size of the first one for the second.
        upload(16 * 2**20)
    wait_until(lambda: status_kb(worker, "VmRSS") < before + 4096)
    connection.close()


def download(server, target):
    """Returns the length and the last bytes of a response without holding it in memory."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.request("GET", target)
    answer = connection.getresponse()
    assert answer.status == 200
    count, first, last = 0, b"", b""
    while piece := answer.read(PIECE_BYTES):
        first, last, count = first or piece[:5], piece[-3:], count + len(piece)
    connection.close()
    return count, first, last


def test_a_200_mb_file_arrives_whole_while_memory_stays_flat(serve):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    download(server, "/file?bytes=1000")
    peak = Peak(worker)
    assert download(server, f"/file?bytes={LARGE_BYTES}&mark=yes") == (LARGE_BYTES, b"begin", b"end")
    assert peak.growth_mb() < GROWTH_LIMIT_MB


@pytest.mark.smoke
def test_a_file_goes_out_by_sendfile(serve, tmp_path):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    trace = tmp_path / "trace"
    with traced(worker, trace, "-e", "trace=sendfile"):
        assert download(server, f"/file?bytes={LARGE_BYTES}&mark=yes") == (LARGE_BYTES, b"begin", b"end")
        wait_until(lambda: awaits_events(worker))  # the client may have everything before strace has seen the last call end
    sent = [int(count) for count in re.findall(r"sendfile\(.*\) = (\d+)$", trace.read_text(), re.MULTILINE)]
    assert sum(sent) == LARGE_BYTES


def test_a_file_is_sent_from_its_current_offset(serve):
    server = serve("plain:app")
    assert download(server, "/file?bytes=100000&offset=99990&mark=yes")[::2] == (10, b"end")


def test_a_file_that_the_kernel_generates_is_read(serve, connect):
    server = serve("plain:app")
    assert connect(server).get("/kernel-file").response().body == Path("/proc/version").read_bytes()


def test_a_file_without_content_length_is_framed_by_its_size_or_by_chunks(serve, connect):
    server = serve("plain:app")
    answer = connect(server).get("/file?bytes=70000&length=no&mark=yes").response()
    assert (len(answer.body), answer.body[:5], answer.body[-3:]) == (70000, b"begin", b"end")


def test_the_client_has_the_first_item_before_the_second_is_generated(serve, connect, gate):
    wire = connect(serve("plain:app"))
    wire.get(f"/gated?gate={gate.path}")
    assert wire.head()[0] == 200
    assert b"first\n" in wire.until(b"first\n")
    gate.open()  # only now can the second item be generated
    assert b"second\n" in wire.until(b"0\r\n\r\n")


def test_interleaved_responses_keep_their_own_context_variables(serve, connect, inbox):
    """One thread generates items of two responses in turn. Context variables, in which frameworks such as Flask
    keep the request, must belong to one request each."""
    server = serve("plain:app", workers=1)
    slow, fast = connect(server, receive_buffer_bytes=4096), connect(server)
    slow.get(f"/named?name=Ada&bytes=8000000&notify={inbox.path}")
    slow.exactly(1000)  # it has begun, and is larger than the socket buffers
    answer = fast.get(f"/named?name=Bob&bytes=1&notify={inbox.path}").response()
    assert (answer.field("X-Before"), answer.body) == ("nobody", b"xBob")
    assert inbox.receive() == "Bob"
    slow.until(b"x" * 1000 + b"\r\n")  # the end of the first item
    assert b"Ada" in slow.until(b"0\r\n\r\n")
    assert inbox.receive() == "Ada"


def test_a_slow_reader_gets_no_more_than_the_socket_takes(serve, connect):
    server = serve("plain:app", workers=1)
    (worker,) = server.worker_pids()
    connect(server).get("/hello").response()
    peak = Peak(worker)
    wire = connect(server, receive_buffer_bytes=4096)
    wire.get("/chunks?count=2000&size=100000")  # 200 MB if all of it were generated
    wire.exactly(1000)
    for _ in range(20):  # turns of the loop, while the reader reads nothing
        assert connect(server).get("/hello").response().status == 200
    assert peak.growth_mb() < GROWTH_LIMIT_MB
