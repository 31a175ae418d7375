"""`--static`: files without the application, over a connection."""

import os
import signal
import time
from contextlib import suppress
from email.parser import BytesParser
from pathlib import Path

import pytest
from support.server import EXIT_CONFIGURATION, EXIT_USAGE, PATIENCE_S, Server, run
from support.waiting import wait_until
from support.wire import Ended, Wire, fetch

LARGE = os.urandom(1 << 20) * 5


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A directory of files beside a secret."""
    directory = tmp_path_factory.mktemp("served")
    site = directory / "site"
    (site / "sub").mkdir(parents=True)
    (directory / "secret.txt").write_text("secret")
    (site / "a.css").write_text("body {}")
    (site / "a.css.gz").write_bytes(b"gzip")
    (site / "empty").write_text("")
    (site / ".env").write_text("secret")
    (site / "out").symlink_to("../secret.txt")
    (site / "sub" / "caf\N{LATIN SMALL LETTER E WITH ACUTE} 1.txt").write_text("coffee")
    (site / "large.bin").write_bytes(LARGE)
    os.mkfifo(site / "fifo")
    return site


@pytest.fixture(scope="module")
def server(site):
    with Server("plain:app", "--static", f"/static={site}") as server:
        yield server


@pytest.mark.smoke
def test_a_file_is_sent_and_the_connection_is_kept(wire):
    found = fetch(wire, "/static/a.css")
    assert (found.status, found.body) == (200, b"body {}")
    assert found.field("Content-Type") == "text/css; charset=utf-8"
    assert found.field("Content-Length") == "7"
    assert found.field("Connection") is None
    assert fetch(wire, "/static/empty").body == b""
    assert fetch(wire, "/static/sub/caf%C3%A9%201.txt").body == b"coffee"
    assert fetch(wire, "/").status == 200, "the application answers everything else"


@pytest.mark.smoke
def test_a_large_file_arrives_whole(wire):
    for _ in range(2):
        found = fetch(wire, "/static/large.bin")
        assert found.status == 200 and found.body == LARGE
    assert fetch(wire, "/static/a.css").body == b"body {}"


@pytest.mark.smoke
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//a.css",
        "/a.css/",
        "/none",
        "/sub",
        "/.env",
        "/%2eenv",
        "/sub/..%2fa.css",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%252e%252e/secret.txt",
        "/sub/../../secret.txt",
        "/sub/../a.css",
        "/./a.css",
        "/%c0%ae%c0%ae/secret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/a.css%00",
        "/a.css%00.png",
        "/a%",
        "%2fa.css",
        "/out",
        "/fifo",
        "/" + "a" * 300,
        "/" + "a/" * 3000 + "a",
    ],
)
def test_a_hostile_path_gets_404(wire, path):
    found = fetch(wire, "/static" + path)
    assert (found.status, found.body) == (404, b"404 Not Found\n")
    assert fetch(wire, "/static/a.css").status == 200


def test_head_says_what_get_would_send(wire):
    got, head = fetch(wire, "/static/large.bin"), fetch(wire, "/static/large.bin", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert [one for one in head.fields if one[0] != "Date"] == [one for one in got.fields if one[0] != "Date"]
    missing = fetch(wire, "/static/none", method="HEAD")
    assert (missing.status, missing.field("Content-Length")) == (404, "14")


def test_another_method_gets_405_and_its_body_is_discarded(wire):
    found = wire.post("/static/a.css", b"x" * 100_000).response()
    assert (found.status, found.field("Allow")) == (405, "GET, HEAD")
    wire.send("GET /static/a.css HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert wire.response().body == b"body {}"
    wire.send("GET /static/a.css HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert wire.response().body == b"body {}"


def test_pipelined_requests_are_answered_in_order(wire):
    one = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"
    targets = ["/static/a.css", "/", "/static/large.bin", "/static/none", "/static/a.css"]
    wire.send("".join(one.format(target) for target in targets))
    assert [wire.response().status for _ in targets] == [200, 200, 200, 404, 200]


def test_http_1_0_closes_after_the_file(server):
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.send("GET /static/a.css HTTP/1.0\r\n\r\n")
        found = wire.response()
        assert (found.body, found.field("Connection")) == (b"body {}", "close")
        assert wire.is_closed()


@pytest.mark.smoke
def test_a_client_that_has_the_file_gets_304(wire):
    first = fetch(wire, "/static/a.css")
    for field in (f"If-None-Match: {first.field('ETag')}", f"If-Modified-Since: {first.field('Last-Modified')}"):
        found = fetch(wire, "/static/a.css", field)
        assert (found.status, found.field("ETag"), found.body) == (304, first.field("ETag"), b"")
    assert fetch(wire, "/static/a.css", 'If-None-Match: "other"').status == 200
    assert fetch(wire, "/static/a.css", 'If-Match: "other"').status == 412


@pytest.mark.smoke
def test_a_range_is_a_part_of_the_file(wire):
    for text, first, last in [("1000000-3999999", 1_000_000, 3_999_999), ("-5", len(LARGE) - 5, len(LARGE) - 1)]:
        found = fetch(wire, "/static/large.bin", f"Range: bytes={text}")
        assert (found.status, found.body) == (206, LARGE[first : last + 1])
        assert found.field("Content-Range") == f"bytes {first}-{last}/{len(LARGE)}"
    behind = fetch(wire, "/static/a.css", "Range: bytes=7-")
    assert (behind.status, behind.field("Content-Range")) == (416, "bytes */7")
    etag = fetch(wire, "/static/a.css").field("ETag")
    assert fetch(wire, "/static/a.css", "Range: bytes=0-0", f"If-Range: {etag}").status == 206
    assert fetch(wire, "/static/a.css", "Range: bytes=0-0", 'If-Range: "old"').body == b"body {}"


@pytest.mark.smoke
def test_several_ranges_are_a_multipart_body(wire):
    found = fetch(wire, "/static/large.bin", "Range: bytes=4000000-4099999,0-9,5-14,-1")
    assert found.status == 206
    head = f"Content-Type: {found.field('Content-Type')}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + found.body)
    parts = [(part["Content-Range"], part.get_payload(decode=True)) for part in message.get_payload()]
    size = len(LARGE)
    # The parser strips nothing from binary parts but may change line ends in them, so lengths tell little: compare
    # the raw body.
    assert [name for name, _ in parts] == [
        f"bytes 4000000-4099999/{size}",
        f"bytes 0-14/{size}",
        f"bytes {size - 1}-{size - 1}/{size}",
    ]
    boundary = found.field("Content-Type").partition("boundary=")[2].encode()
    bodies = [part.partition(b"\r\n\r\n")[2] for part in found.body.split(b"\r\n--" + boundary)[1:-1]]
    assert bodies == [LARGE[4_000_000:4_100_000], LARGE[:15], LARGE[-1:]]
    assert fetch(wire, "/static/a.css").body == b"body {}"


def test_a_compressed_file_is_sent_to_those_who_accept_it(wire):
    plain = fetch(wire, "/static/a.css")
    packed = fetch(wire, "/static/a.css", "Accept-Encoding: br;q=0.9, gzip")
    assert (packed.body, packed.field("Content-Encoding")) == (b"gzip", "gzip")
    assert packed.field("Content-Type") == plain.field("Content-Type")
    assert packed.field("Vary") == plain.field("Vary") == "Accept-Encoding"
    assert packed.field("ETag") != plain.field("ETag")
    assert fetch(wire, "/static/a.css", "Accept-Encoding: gzip;q=0").body == b"body {}"


@pytest.mark.smoke
def test_a_change_of_a_small_file_shows_within_seconds(serve, connect, tmp_path):
    for name in ("changed", "deleted"):
        (tmp_path / name).write_text("old")
    wire = connect(serve("plain:app", "--static", f"/s={tmp_path}").ready())
    assert [fetch(wire, f"/s/{name}").body for name in ("changed", "deleted", "changed")] == [b"old"] * 3
    (tmp_path / "next").write_text("new")
    os.replace(tmp_path / "next", tmp_path / "changed")
    (tmp_path / "deleted").unlink()
    wait_until(lambda: fetch(wire, "/s/changed").body == b"new")
    wait_until(lambda: fetch(wire, "/s/deleted").status == 404)


@pytest.mark.smoke
def test_a_change_of_a_larger_file_shows_and_it_is_closed_soon(serve, connect, tmp_path):
    old, new = b"o" * 3_000_000, b"n" * 2_000_000
    for name in ("replaced", "shortened", "deleted"):
        (tmp_path / name).write_bytes(old)
    server = serve("plain:app", "--static", f"/s={tmp_path}").ready()
    wire, slow = connect(server), connect(server, receive_buffer_bytes=4096).get("/s/deleted")
    assert slow.head()[0] == 200
    for name in ("replaced", "shortened", "deleted", "replaced"):
        assert fetch(wire, f"/s/{name}").body == old
    (tmp_path / "next").write_bytes(new)
    os.replace(tmp_path / "next", tmp_path / "replaced")
    os.truncate(tmp_path / "shortened", 100_000)
    (tmp_path / "deleted").unlink()
    # A file system with coarse times may tell a change from the last one only a moment later.
    wait_until(lambda: fetch(wire, "/s/replaced").body == new)
    wait_until(lambda: fetch(wire, "/s/deleted").status == 404)
    wait_until(lambda: fetch(wire, "/s/shortened").body == old[:100_000])
    assert slow.exactly(len(old)) == old, "a response that has begun keeps its file"
    [worker] = server.worker_pids()
    wait_until(lambda: not [path for path in open_paths(worker) if path.startswith(str(tmp_path))])


def open_paths(pid):
    """Returns the paths of a process's descriptors, without its directory of static files."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(link))
    return [path for path in found if not os.path.isdir(path)]


def test_the_longest_prefix_wins_and_a_mount_ends_at_a_slash(serve, connect, tmp_path):
    for name in ("outer", "inner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    mounts = ["--static", f"/s={tmp_path}/outer", "--static", f"/s/in/={tmp_path}/inner"]
    wire = connect(serve("plain:app", *mounts).ready())
    assert fetch(wire, "/s/a").body == b"outer"
    assert fetch(wire, "/s/in/a").body == b"inner"
    assert fetch(wire, "/s/inn/a").status == 404
    assert fetch(wire, "/sin/a").body == b"not found\n", "the application answers"


def test_a_file_may_grow_and_is_sent_as_long_as_it_was(serve, connect, tmp_path):
    (tmp_path / "log").write_bytes(b"a" * (2 << 20))
    wire = connect(serve("plain:app", "--static", f"/s={tmp_path}").ready(), receive_buffer_bytes=4096)
    wire.get("/s/log")
    status, _, _ = wire.head()
    with (tmp_path / "log").open("ab") as log:
        log.write(b"b" * 1000)
    assert status == 200 and wire.exactly(2 << 20) == b"a" * (2 << 20)
    assert fetch(wire, "/s/none").status == 404


def test_a_file_that_shrinks_ends_the_connection_abruptly(serve, connect, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(64 << 20))
    server = serve("plain:app", "--static", f"/s={tmp_path}").ready()
    wire = connect(server, receive_buffer_bytes=4096)
    wire.get("/s/a.bin")
    assert wire.head()[0] == 200
    os.truncate(tmp_path / "a.bin", 1000)
    with pytest.raises(Ended):
        wire.exactly(64 << 20)
    server.wait_for("response.file_truncated", method="GET", path="/s/a.bin")


def test_a_file_of_more_than_4_gb_has_its_length_and_its_end(serve, connect, tmp_path):
    size = (5 << 30) + 3
    with (tmp_path / "huge").open("wb") as huge:
        huge.truncate(size - 3)
        huge.seek(size - 3)
        huge.write(b"end")
    wire = connect(serve("plain:app", "--static", f"/s={tmp_path}").ready())
    assert fetch(wire, "/s/huge", method="HEAD").field("Content-Length") == str(size)
    found = fetch(wire, "/s/huge", f"Range: bytes={(1 << 32) + 5}-{(1 << 32) + 9},-5")
    assert found.status == 206 and bytes(5) in found.body and b"\0\0end\r\n--" in found.body


def test_a_file_that_is_not_cached_is_read_and_sent(serve, connect, tmp_path):
    (tmp_path / "a.bin").write_bytes(LARGE)
    (tmp_path / "b.css").write_bytes(b"x" * 5000)
    server = serve("plain:app", "--static", f"/s={tmp_path}").ready()
    for name, content in (("a.bin", LARGE), ("b.css", b"x" * 5000)):
        forget(tmp_path / name)
        assert fetch(connect(server), f"/s/{name}").body == content


def forget(path):
    """Drops a file from the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def test_a_slow_reader_of_a_file_delays_nobody(serve, connect, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(4 << 20))
    server = serve("plain:app", "--static", f"/s={tmp_path}").ready()
    slow = connect(server, receive_buffer_bytes=4096).get("/s/a.bin")
    slow.head()
    for _ in range(20):
        assert fetch(connect(server), "/").status == 200
    assert slow.exactly(4 << 20) == bytes(4 << 20)


def test_files_count_like_other_requests(serve, connect, tmp_path):
    (tmp_path / "a").write_text("abc")
    log = tmp_path / "access.log"
    options = ["--static", f"/s={tmp_path}", "--access-logfile", log, "--admin-bind", "127.0.0.1:0"]
    server = serve("plain:app", *options).ready()
    wire = connect(server)
    fetch(wire, "/s/a", "User-Agent: tester")
    fetch(wire, "/s/none?token=secret")
    fetch(wire, "/s/a", "Range: bytes=1-")
    deadline = time.monotonic() + PATIENCE_S
    while log.read_text().count("\n") < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    lines = [line.split('"')[1:] for line in log.read_text().splitlines()]
    assert [(line[0], line[1].strip()) for line in lines] == [
        ("GET /s/a HTTP/1.1", "200 3"),
        ("GET /s/none HTTP/1.1", "404 14"),
        ("GET /s/a HTTP/1.1", "206 2"),
    ]
    assert lines[0][4] == "tester"


def test_files_count_towards_max_requests(serve, connect, tmp_path):
    (tmp_path / "a").write_text("abc")
    server = serve("plain:app", "--static", f"/s={tmp_path}", "--max-requests", 5, "--max-requests-jitter", 0).ready()
    for _ in range(5):
        assert fetch(connect(server), "/s/a").body == b"abc"
    server.wait_for("worker.ready", count=2)
    assert fetch(connect(server), "/s/a").body == b"abc"


def test_a_reload_follows_a_link_to_another_directory(serve, connect, tmp_path):
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a").write_text(release)
    (tmp_path / "current").symlink_to("one")
    server = serve("plain:app", "--static", f"/s={tmp_path}/current").ready()
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "current")
    assert fetch(connect(server), "/s/a").body == b"one", "the workers keep their directory"
    server.send(signal.SIGHUP)
    server.wait_for("worker.exited", generation=1)
    assert fetch(connect(server), "/s/a").body == b"two"


def test_a_directory_that_disappeared_fails_the_reload_only(serve, connect, tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    (site / "a").write_text("abc")
    server = serve("plain:app", "--static", f"/s={site}").ready()
    site.rename(tmp_path / "moved")
    server.send(signal.SIGHUP)
    line = server.wait_for("reload.refused")
    assert str(site) in line.text
    assert fetch(connect(server), "/s/a").body == b"abc"


@pytest.mark.parametrize("value", ["/static", "static=/tmp", "/=/tmp", "/s=", "/a//b=/tmp"])
def test_a_wrong_mount_is_named_with_its_form(value):
    code, _, error = run("plain:app", "--static", value)
    assert code == EXIT_USAGE
    assert f"--static '{value}'" in error and "/static=/srv/shop/static" in error


def test_a_missing_directory_is_named(tmp_path):
    code, _, error = run("plain:app", "--static", f"/s={tmp_path}/none")
    assert code == EXIT_CONFIGURATION
    assert "--static" in error and f"{tmp_path}/none" in error


def test_a_link_that_leads_out_gets_404_and_a_line_in_the_log(serve, connect, tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "out").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_text("secret")
    server = serve("plain:app", "--static", f"/s={tmp_path}/site").ready()
    wire = connect(server)
    for _ in range(30):
        assert fetch(wire, "/s/out").status == 404
    line = server.wait_for("file.open_failed")
    assert (line.pairs["path"], line.pairs["error"]) == (
        f"{tmp_path}/site/out",
        "it lies outside of the directory",
    )
    server.wait_for("file.open_failed", count=10)
    assert len(server.events("file.open_failed")) == 10, "a client must not fill the log"
