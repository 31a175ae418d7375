"""`--sendfile-root`: files that the application names in X-Sendfile and X-Accel-Redirect."""

import os

import pytest
from support.server import EXIT_CONFIGURATION, Server, run
from support.wire import fetch

LARGE = os.urandom(1 << 20) * 2


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("named")
    (directory / "files").mkdir()
    (directory / "files" / "a b.txt").write_text("0123456789")
    (directory / "files" / "large.bin").write_bytes(LARGE)
    (directory / "files" / ".hidden").write_text("secret")
    (directory / "files" / "out").symlink_to("../secret")
    (directory / "secret").write_text("secret")
    return directory / "files"


@pytest.fixture(scope="module")
def server(files):
    with Server("sendfile:app", "--sendfile-root", files) as server:
        yield server


@pytest.mark.smoke
@pytest.mark.parametrize("rest", ["", "&list=1", "&write=1"])
@pytest.mark.parametrize("target", ["/?header=X-Sendfile&file=a+b.txt", "/?header=x-accel-redirect&file=/a%2520b.txt"])
def test_a_named_file_takes_the_place_of_the_body(wire, target, rest):
    found = fetch(wire, target + rest)
    assert (found.status, found.body) == (200, b"0123456789")
    assert (found.field("Content-Type"), found.field("Content-Length")) == ("text/x-own", "10")
    assert found.field("X-Sendfile") is None and found.field("X-Accel-Redirect") is None
    assert fetch(wire, target + rest, "Range: bytes=2-3").body == b"23"
    assert fetch(wire, target + rest, f"If-None-Match: {found.field('ETag')}").status == 304
    assert fetch(wire, target + rest, method="HEAD").field("Content-Length") == "10"
    assert fetch(wire, target + rest + "&status=402+Pay", "Range: bytes=2-3").body == b"0123456789"


@pytest.mark.smoke
def test_an_absolute_path_of_a_large_file(wire, files):
    found = fetch(wire, f"/?header=X-Sendfile&file={files}/large.bin")
    assert found.status == 200 and found.body == LARGE
    found = fetch(wire, f"/?header=X-Sendfile&file={files}/large.bin", "Range: bytes=0-99,-100")
    assert found.status == 206 and LARGE[:100] in found.body and LARGE[-100:] in found.body


@pytest.mark.parametrize("name", ["a+b.txt", "large.bin"])
def test_the_application_is_closed_once_in_any_case(wire, name):
    closed = lambda: int(wire.get("/closed").response().body)  # noqa: E731
    requests = [((), 200), (("Range: bytes=0-1,4-5",), 206), (("If-None-Match: *",), 304), (("Range: bytes=99999999-",), 416)]
    before = closed()
    for count, (fields, status) in enumerate(requests, 1):
        assert fetch(wire, f"/?header=X-Sendfile&file={name}", *fields).status == status
        assert closed() == before + count
    assert fetch(wire, "/?header=X-Sendfile&file=none").status == 404
    assert closed() == before + len(requests) + 1


@pytest.mark.smoke
@pytest.mark.parametrize(
    "header, path, status, error",
    [
        ("X-Sendfile", "none", 404, "there is no such file"),
        ("X-Sendfile", "../secret", 500, "it does not name a file below --sendfile-root"),
        ("X-Sendfile", "/etc/passwd", 500, "it does not name a file below --sendfile-root"),
        ("X-Sendfile", ".hidden", 500, "it does not name a file below --sendfile-root"),
        ("X-Sendfile", "out", 500, "it lies outside of the directory"),
        ("X-Accel-Redirect", "/%252e%252e/secret", 500, "it does not name a file below --sendfile-root"),
        ("X-Accel-Redirect", "/a%252fb", 500, "it does not name a file below --sendfile-root"),
    ],
)
def test_a_file_that_must_not_be_sent_is_refused_and_logged(serve, connect, files, header, path, status, error):
    server = serve("sendfile:app", "--sendfile-root", files).ready()
    found = fetch(connect(server), f"/?header={header}&file={path}")
    assert found.status == status and b"secret" not in found.body and found.is_whole
    assert server.wait_for("file.open_failed").pairs["error"] == error


def test_without_the_option_the_header_is_one_like_any_other(serve, connect):
    wire = connect(serve("sendfile:app").ready())
    found = fetch(wire, "/?header=X-Sendfile&file=a")
    assert (found.field("X-Sendfile"), found.body) == ("a", b"not sent")


def test_flask_has_the_server_send_its_files(serve, connect, files):
    options = ["--sendfile-root", files, "--env", f"FILES={files}"]
    wire = connect(serve("sendfile:flask()", *options).ready())
    found = wire.get("/large.bin").response()
    assert found.status == 200 and found.body == LARGE
    assert wire.get("/large.bin", f"If-None-Match: {found.field('ETag')}").response().status == 304
    assert wire.get("/a%20b.txt", "Range: bytes=-1").response().body == b"9"


def test_a_missing_directory_is_named(tmp_path):
    code, _, error = run("sendfile:app", "--sendfile-root", tmp_path / "none")
    assert code == EXIT_CONFIGURATION and "--sendfile-root" in error
