"""HTTPS, as clients with OpenSSL see it."""

import hashlib
import json
import os
import select
import signal
import socket
import ssl
import subprocess

import pytest
from support.certificates import MemoryClient, TlsWire, certificate, client, openssl
from support.server import EXIT_CONFIGURATION, EXIT_USAGE, PATIENCE_S, Server, run
from support.wire import Wire

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
DELETED_SUITES = [
    "AES128-SHA", "AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA384", "DHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-CCM", "NULL-SHA256", "AECDH-AES128-SHA",
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("certificates"), "server", "localhost")


@pytest.fixture(scope="module")
def secure(pair):
    """A server for all tests of this module, with one worker."""
    with Server("plain:app", *pair.options, "--log-level", "debug") as server:
        yield server


@pytest.fixture
def open_tls(secure, pair):
    opened = []

    def open_one(**options):
        version = options.pop("version", None)
        opened.append(TlsWire(secure.port, client(pair, version=version), **options))
        return opened[-1]

    yield open_one
    for wire in opened:
        wire.socket.close()


def environ(wire):
    return json.loads(wire.get("/headers").response().body)


@pytest.mark.smoke
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_environ_describes_the_session(open_tls, version):
    wire = open_tls(version=version)
    seen = environ(wire)
    assert (seen["wsgi.url_scheme"], seen["HTTPS"]) == ("https", "on")
    assert seen["SSL_PROTOCOL"] == wire.socket.version()
    assert seen["SSL_CIPHER"] == wire.socket.cipher()[0]
    assert (seen["SSL_CLIENT_VERIFY"], seen["SSL_SESSION_RESUMED"]) == ("NONE", "Initial")
    assert not {name for name in seen if name.startswith("SSL_CLIENT_")} - {"SSL_CLIENT_VERIFY"}


@pytest.mark.smoke
def test_a_client_cannot_set_a_variable_of_tls_by_a_header(open_tls):
    wire = open_tls().get("/headers", "SSL-Client-Verify: SUCCESS", "HTTPS: off", "SSL-Client-S-DN: CN=admin")
    seen = json.loads(wire.response().body)
    assert (seen["HTTPS"], seen["SSL_CLIENT_VERIFY"]) == ("on", "NONE")
    assert "SSL_CLIENT_S_DN" not in seen


@pytest.mark.smoke
def test_the_address_in_the_log_is_one_of_https(secure):
    assert secure.addresses[0].startswith("https://127.0.0.1:")


def test_curl_uses_http_1_1_by_alpn(secure, pair):
    command = ["curl", "--silent", "--show-error", "--verbose", "--cacert", pair.certificate]
    ended = subprocess.run(
        [*command, f"https://localhost:{secure.port}/hello"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (ended.returncode, ended.stdout) == (0, "Hello, world!\n"), ended.stderr
    assert "server accepted http/1.1" in ended.stderr


def test_a_client_that_offers_http_2_only_is_refused(secure, pair):
    context = client(pair)
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        TlsWire(secure.port, context)


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_older_protocols_are_refused(secure, version):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", f"-{version}", "-cipher", "ALL:@SECLEVEL=0"]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode != 0
    assert "Cipher is (NONE)" in ended.stdout and "alert" in ended.stderr


@pytest.mark.parametrize("suite", DELETED_SUITES)
def test_cipher_suites_without_forward_secrecy_or_aead_are_refused(secure, suite):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{secure.port}", "-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0"]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=PATIENCE_S)
    if "no cipher match" in ended.stderr:
        pytest.skip("this OpenSSL does not have it itself")
    assert ended.returncode != 0 and "Cipher is (NONE)" in ended.stdout


@pytest.mark.smoke
def test_requests_of_all_kinds_on_one_connection(open_tls):
    wire, body = open_tls(), os.urandom(3_000_000)
    wire.post("/digest", body)
    assert json.loads(wire.response().body)["sha256"] == hashlib.sha256(body).hexdigest()
    assert wire.get("/chunks?count=20&size=50000").response().body == b"".join(
        bytes([ord("a") + number]) * 50000 for number in range(20)
    )
    assert wire.get("/written-large?count=30").response().body == b"".join(bytes([n]) * 65536 for n in range(30))
    assert wire.get("/hello", method="HEAD").response(method="HEAD").status == 200
    wire.send("".join(f"GET /status?body={word} HTTP/1.1\r\nHost: test\r\n\r\n" for word in ("one", "two", "three")))
    assert [wire.response().body for _ in range(3)] == [b"one", b"two", b"three"]


@pytest.mark.parametrize("size_bytes", [8, 65_536, 5_000_001])
def test_a_file_is_encrypted_whole_and_from_its_offset(open_tls, size_bytes):
    wire = open_tls()
    body = wire.get(f"/file?bytes={size_bytes}&mark=yes").response().body
    assert (len(body), body[:5], body[-3:]) == (size_bytes, b"begin", b"end")
    assert wire.get(f"/file?bytes={size_bytes}&offset=3&mark=yes").response().body == body[3:]


def test_static_files_and_their_ranges_are_encrypted(serve, pair, tmp_path):
    content = os.urandom(1_500_000)
    (tmp_path / "file.bin").write_bytes(content)
    server = serve("plain:app", *pair.options, "--static", f"/static={tmp_path}").ready()
    with TlsWire(server.port, client(pair)) as wire:
        assert wire.get("/static/file.bin").response().body == content
        part = wire.get("/static/file.bin", "Range: bytes=99-1000098").response()
        assert (part.status, part.body) == (206, content[99:1000099])
        parts = wire.get("/static/file.bin", "Range: bytes=0-9,70000-700000").response()
        assert parts.status == 206 and content[:10] in parts.body and content[70000:700001] in parts.body


@pytest.mark.parametrize("target", ["/file?bytes=4000000&mark=yes", "/chunks?count=40&size=100000", "/written-large?count=60"])
def test_a_slow_reader_gets_everything_and_delays_nobody(open_tls, target):
    expected = open_tls().get(target).response().body
    slow = open_tls(receive_buffer_bytes=4096).get(target)
    slow.until(b"\r\n\r\n")
    assert open_tls().get("/hello").response().status == 200
    slow.held = b""
    again = open_tls(receive_buffer_bytes=4096).get(target)
    assert again.response().body == expected


def test_a_body_is_awaited_with_100_continue(open_tls):
    wire = open_tls()
    wire.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head()[0] == 100
    assert wire.send("hello").response().body == b"hello"


def test_an_orderly_end_is_announced(open_tls):
    wire = open_tls().get("/hello", "Connection: close")
    assert wire.response().body == b"Hello, world!\n"
    assert wire.to_end() == (b"", False)
    wire = open_tls().send("GET /chunks?count=2 HTTP/1.0\r\n\r\n")
    answer = wire.response()
    assert (answer.body, answer.is_whole) == (b"aaaaabbbbb", True)


def test_a_response_that_fails_ends_without_close_notify(open_tls):
    answer = open_tls().send("GET /fail-late HTTP/1.0\r\n\r\n").response()
    assert (answer.status, answer.is_whole) == (200, False)


def test_a_client_that_ends_its_direction_gets_its_answer(secure, pair):
    with MemoryClient(secure.port, client(pair)) as peer:
        peer.handshake()
        request = peer.encrypted(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
        try:
            peer.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        peer.socket.sendall(request + peer.pending())
        received = b""
        while data := peer.socket.recv(1 << 16):
            received += data
        # More than the tickets, the response and close_notify cannot be there, and less is an end without a response.
        assert len(received) > len(b"Hello, world!\n") + 100


def test_a_truncated_request_is_not_executed(secure, pair, inbox):
    with MemoryClient(secure.port, client(pair)) as peer:
        peer.handshake()
        peer.socket.sendall(peer.encrypted(f"POST /named?notify={inbox.path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123".encode()))
    with TlsWire(secure.port, client(pair)) as other:
        assert other.get("/hello").response().status == 200
    assert not inbox.has_more()


def test_records_of_one_byte_are_joined(secure, pair):
    with MemoryClient(secure.port, client(pair)) as peer:
        peer.handshake()
        body = b"x" * 3000
        head = f"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        peer.socket.sendall(b"".join(peer.encrypted(bytes([byte])) for byte in head + body))
        assert peer.read_until(body).endswith(body)


@pytest.mark.smoke
def test_plain_http_gets_400(secure):
    since = secure.position()
    with Wire(("127.0.0.1", secure.port)) as wire:
        answer = wire.get("/hello").response()
        assert (answer.status, answer.field("Connection")) == (400, "close")
        assert wire.to_end() == (b"", False)
    assert secure.wait_for("request.refused", since=since).pairs["reason"] == "plain HTTP on a TLS port"


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b"\x80\x2e\x01\x03\x01" + b"\x00" * 43])
def test_garbage_is_answered_by_an_alert_and_logged_with_its_peer(serve, pair, garbage):
    server = serve("plain:app", *pair.options).ready()
    for _ in range(12):
        with Wire(("127.0.0.1", server.port)) as wire:
            wire.send(garbage)
            assert wire.to_end()[0][:1] in (b"\x15", b"")
    assert server.wait_for("tls.handshake_failed", count=10).pairs["remote_addr"] == "127.0.0.1"
    with TlsWire(server.port, client(pair)) as other:
        assert other.get("/hello").response().status == 200
    server.wait_for("tls.handshake_failed", count=10)
    assert len(server.events("tls.handshake_failed")) == 10, "the log is limited"
    assert server.events("worker.died") == []


def test_a_proxy_header_comes_before_the_handshake(serve, pair):
    server = serve("plain:app", *pair.options, "--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1").ready()
    announced = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"
    with MemoryClient(server.port, client(pair)) as wire:
        wire.socket.sendall(announced)
        wire.handshake()
        wire.socket.sendall(wire.encrypted(b"GET /headers HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        seen = json.loads(wire.read_until(b"}").partition(b"\r\n\r\n")[2])
    assert (seen["REMOTE_ADDR"], seen["REMOTE_PORT"], seen["HTTPS"]) == ("192.0.2.7", "4711", "on")
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.send(announced + b"\x16\x03\x01\x00\x05hello").to_end()
    assert server.wait_for("tls.handshake_failed").pairs["remote_addr"] == "192.0.2.7"


def test_the_scheme_that_a_trusted_proxy_states_is_the_only_one(serve, pair):
    server = serve("plain:app", *pair.options, "--forwarded-allow-ips", "127.0.0.1").ready()
    with TlsWire(server.port, client(pair)) as wire:
        for fields, scheme, https in (
            ((), "https", "on"),
            (("X-Forwarded-Proto: http",), "http", None),
            (("X-Forwarded-For: 192.0.2.9",), "https", "on"),
            (("Forwarded: proto=http",), "http", None),
            (("Forwarded: proto=https",), "https", "on"),
        ):
            seen = json.loads(wire.get("/headers", *fields).response().body)
            assert (seen["wsgi.url_scheme"], seen.get("HTTPS")) == (scheme, https), fields
            assert seen["SSL_PROTOCOL"] == "TLSv1.3", "the connection to arctos is encrypted all the same"


def test_a_check_of_the_port_is_not_logged(serve, pair):
    server = serve("plain:app", *pair.options).ready()
    with Wire(("127.0.0.1", server.port)):
        pass
    with TlsWire(server.port, client(pair)) as other:
        assert other.get("/hello").response().status == 200
    assert server.events("tls.handshake_failed") == []


def test_a_handshake_byte_by_byte_delays_nobody(secure, pair):
    fast = TlsWire(secure.port, client(pair))

    def send(data):
        for byte in data:
            slow.socket.sendall(bytes([byte]))
            assert fast.get("/hello").response().status == 200

    with fast, MemoryClient(secure.port, client(pair)) as slow:
        slow.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        slow.handshake(send)
        slow.socket.sendall(slow.encrypted(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"))
        assert b"Hello, world!" in slow.read_until(b"world!\n")


def test_a_handshake_that_stalls_is_given_up(serve, pair):
    server = serve("plain:app", *pair.options, "--header-timeout", "500ms", "--keep-alive", "60s").ready()
    with MemoryClient(server.port, client(pair)) as stalled, Wire(("127.0.0.1", server.port)) as silent:
        with pytest.raises(ssl.SSLWantReadError):
            stalled.tls.do_handshake()
        stalled.socket.sendall(stalled.pending()[:50])
        with TlsWire(server.port, client(pair)) as other:
            assert other.get("/hello").response().status == 200
            line = server.wait_for("tls.handshake_failed")
            assert line.pairs["reason"] == "it was not complete in time"
            assert stalled.socket.recv(10) == b""
            assert silent.to_end() == (b"", False)
            assert other.get("/hello").response().status == 200, "the time is for the handshake only"


def test_a_stop_waits_for_a_handshake_and_its_request(serve, pair):
    server = serve("plain:app", *pair.options, "--graceful-timeout", "60s").ready()
    with MemoryClient(server.port, client(pair)) as peer:
        with pytest.raises(ssl.SSLWantReadError):
            peer.tls.do_handshake()
        peer.socket.sendall(peer.pending())
        assert peer.receive(), "the server's part of the handshake"
        server.send(signal.SIGTERM)
        server.wait_for("server.stopping")
        # A worker that stops waits a second for idle clients.
        assert select.select([peer.socket], [], [], 3)[0] == [], "the connection was closed"
        peer.handshake()
        peer.socket.sendall(peer.encrypted(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"))
        assert b"Hello, world!" in peer.read_until(b"world!\n")
    server.stop()


def test_sni_chooses_the_certificate(serve, tmp_path):
    one, two, wild = (
        certificate(tmp_path, name, host) for name, host in (("one", "one.test"), ("two", "two.test"), ("wild", "*.wild.test"))
    )
    server = serve("plain:app", *one.options, *two.options, *wild.options).ready()
    for trusted, host in ((one, "one.test"), (two, "two.test"), (wild, "a.wild.test"), (two, "TWO.test")):
        with TlsWire(server.port, client(trusted), host=host) as wire:
            assert wire.get("/hello").response().status == 200
    context = client(one)
    context.check_hostname = False
    for host in ("unknown.test", None):
        with TlsWire(server.port, context, host=host) as wire:
            assert wire.get("/hello").response().status == 200


@pytest.mark.parametrize("first", ["ec", "rsa"])
def test_a_client_gets_a_key_that_it_can_verify(serve, tmp_path, first):
    keys = {key: certificate(tmp_path, key, "localhost", key=key) for key in ("ec", "rsa")}
    ordered = sorted(keys, key=lambda key: key != first)
    server = serve("plain:app", *(word for key in ordered for word in keys[key].options)).ready()
    for kind, suite in (("ec", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("rsa", "ECDHE-RSA-AES128-GCM-SHA256")):
        context = client(keys[kind], version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(suite)
        with TlsWire(server.port, context) as wire:
            assert wire.socket.cipher()[0] == suite
            assert wire.get("/hello").response().status == 200


@pytest.mark.parametrize("key", ["ec", "rsa", "ed25519"])
def test_each_kind_of_key_serves_also_in_one_file(serve, tmp_path, key):
    pair = certificate(tmp_path, "server", key=key)
    both = tmp_path / "both.pem"
    both.write_bytes(pair.key.read_bytes() + pair.certificate.read_bytes())
    both.chmod(0o600)
    server = serve("plain:app", "--certfile", both).ready()
    with TlsWire(server.port, client(pair)) as wire:
        assert wire.get("/hello").response().status == 200
    assert server.events("keyfile.exposed") == []


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_a_session_is_resumed_at_any_worker(serve, pair, preload, version):
    server = serve("plain:app", *pair.options, *preload, workers=3).ready()
    context, session, pids = client(pair, version=version), None, set()
    for _ in range(300):
        with TlsWire(server.port, context, session=session) as wire:
            resumed = environ(wire)["SSL_SESSION_RESUMED"]
            pids.add(json.loads(wire.get("/worker").response().body)["now"]["pid"])
            assert (resumed, wire.socket.session_reused) == (("Initial", False) if session is None else ("Resumed", True))
            session = wire.socket.session
        if len(pids) == 3:
            return
    pytest.fail(f"only {pids} have served")


def test_a_unix_socket_stays_plain(serve, pair, tmp_path):
    path = tmp_path / "plain.sock"
    server = serve("plain:app", *pair.options, bind=["127.0.0.1:0", f"unix:{path}"]).ready()
    with Wire(str(path)) as wire:
        assert json.loads(wire.get("/headers").response().body)["wsgi.url_scheme"] == "http"
    with TlsWire(server.port, client(pair)) as wire:
        assert environ(wire)["wsgi.url_scheme"] == "https"


# --- Files that cannot be used ---


def refused(*options):
    code, out, error = run("--check", *map(str, options), "json")
    assert out == ""
    return code, error


@pytest.mark.smoke
def test_files_that_cannot_be_used_are_named(tmp_path, pair):
    other, empty, absent = certificate(tmp_path, "other"), tmp_path / "empty", tmp_path / "absent"
    empty.touch()
    encrypted = tmp_path / "encrypted.key"
    openssl("pkey", "-in", pair.key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
    damaged = tmp_path / "damaged.pem"
    damaged.write_text(pair.certificate.read_text().replace("MII", "!!!", 1))
    for certfile, keyfile, named, text in (
        (absent, pair.key, absent, "No such file or directory"),
        (pair.certificate, absent, absent, "No such file or directory"),
        (empty, pair.key, empty, "expected a certificate"),
        (pair.key, pair.key, pair.key, "expected a certificate"),
        (damaged, pair.key, damaged, "not valid Base64"),
        (pair.certificate, pair.certificate, pair.certificate, "expected an unencrypted private key"),
        (pair.certificate, encrypted, encrypted, "the private key is encrypted"),
        (pair.certificate, other.key, other.key, f"not the key of the certificate in {pair.certificate}"),
    ):
        code, error = refused("--certfile", certfile, "--keyfile", keyfile)
        assert code == EXIT_CONFIGURATION and str(named) in error and text in error, error
        assert "PRIVATE KEY-----\n" not in error and "BEGIN CERTIFICATE-----\n" not in error


def test_a_server_with_a_bad_pair_does_not_start(tmp_path, pair):
    other = certificate(tmp_path, "other")
    code, _, error = run("--bind", "127.0.0.1:0", "--certfile", str(pair.certificate), "--keyfile", str(other.key), "json")
    assert code == EXIT_CONFIGURATION
    assert f"--keyfile {other.key}: this is not the key" in error


def test_options_that_need_another_are_wrong_usage(pair):
    for options in (
        ("--keyfile", pair.key),
        ("--ca-certs", pair.certificate),
        (*pair.options, "--cert-reqs", "required"),
        (*pair.options, "--ca-certs", pair.certificate),
        (*pair.options, "--cert-reqs", "3"),
        (*pair.options, "--certfile", pair.certificate),
    ):
        assert refused(*options)[0] == EXIT_USAGE, options


def test_a_key_that_others_can_read_and_an_old_certificate_are_named(serve, tmp_path):
    pair = certificate(tmp_path, "server")
    pair.key.chmod(0o644)
    server = serve("plain:app", *pair.options).ready()
    line = server.wait_for("keyfile.exposed")
    assert (line.level, line.pairs["file"], line.pairs["mode"]) == ("WARNING", str(pair.key), "0644")
    assert server.events("certificate.loaded")[0].pairs["names"] == "localhost"
    assert "PRIVATE KEY" not in server.log
