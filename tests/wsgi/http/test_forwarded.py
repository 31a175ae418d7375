"""Forwarded headers of trusted proxies, of other peers, and of proxies that contradict themselves."""

import json

import pytest
from support.server import EXIT_USAGE, run
from support.wire import Wire

pytestmark = pytest.mark.smoke

KEYS = (
    "REMOTE_ADDR",
    "REMOTE_PORT",
    "wsgi.url_scheme",
    "HTTPS",
    "HTTP_HOST",
    "SERVER_NAME",
    "SERVER_PORT",
    "SCRIPT_NAME",
    "PATH_INFO",
    "arctos.peer_addr",
)
ALL = (
    "X-Forwarded-For: 198.51.100.9, 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: shop.example:8443",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /shop",
)


def seen(address, *fields, path="/headers"):
    """Returns what the application finds in its environ."""
    with Wire(address) as wire:
        environ = json.loads(wire.get(path, *fields, "Connection: close").response().body)
        return {key: environ[key] for key in KEYS if key in environ}


def refusal(address, *fields):
    """Returns the status of a refused request."""
    with Wire(address) as wire:
        return wire.get("/headers", *fields).response().status


def test_a_trusted_proxy_sets_client_scheme_host_port_and_prefix(serve):
    server = serve("plain:app", "--forwarded-allow-ips", "10.0.0.0/8,127.0.0.1").ready()
    assert seen(("127.0.0.1", server.port), *ALL) == {
        "REMOTE_ADDR": "192.0.2.1",
        "wsgi.url_scheme": "https",
        "HTTPS": "on",
        "HTTP_HOST": "shop.example:8443",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SCRIPT_NAME": "/shop",
        "PATH_INFO": "/headers",
        "arctos.peer_addr": "127.0.0.1",
    }


def test_forwarded_sets_client_scheme_and_host(serve):
    server = serve("plain:app", "--forwarded-allow-ips", "*").ready()
    environ = seen(("127.0.0.1", server.port), 'Forwarded: for="[2001:db8::1]:4711";proto=https;host=shop.example')
    assert environ == {
        "REMOTE_ADDR": "2001:db8::1",
        "REMOTE_PORT": "4711",
        "wsgi.url_scheme": "https",
        "HTTPS": "on",
        "HTTP_HOST": "shop.example",
        "SERVER_NAME": "shop.example",
        "SERVER_PORT": "443",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/headers",
        "arctos.peer_addr": "127.0.0.1",
    }


@pytest.mark.parametrize("options", [(), ("--forwarded-allow-ips", "10.0.0.0/8,unix")])
def test_other_peers_change_nothing_but_their_own_headers(serve, options):
    server = serve("plain:app", *options).ready()
    address = ("127.0.0.1", server.port)
    environ = seen(address, *ALL)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert (environ["wsgi.url_scheme"], environ["HTTP_HOST"], environ["SCRIPT_NAME"]) == ("http", "test", "")
    assert "HTTPS" not in environ
    assert seen(address, "X-Forwarded-For: <nonsense>", "Forwarded: for=")["REMOTE_ADDR"] == "127.0.0.1"


def test_the_peers_of_unix_sockets_are_trusted_if_named(serve, tmp_path):
    path = tmp_path / "socket"
    serve("plain:app", "--forwarded-allow-ips", "unix", bind=f"unix:{path}").ready()
    environ = seen(str(path), *ALL)
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("192.0.2.1", "shop.example", "443")
    assert environ["arctos.peer_addr"] == ""


def test_the_prefix_of_the_proxy_precedes_the_root_path(serve):
    server = serve("plain:app", "--forwarded-allow-ips", "127.0.0.1", "--root-path", "/app").ready()
    address = ("127.0.0.1", server.port)
    for path in ("/headers", "/app/headers"):
        environ = seen(address, "X-Forwarded-Prefix: /shop/", path=path)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop/app", "/headers")


def test_headers_that_the_proxy_does_not_set_can_be_left_out(serve):
    options = ("--forwarded-allow-ips", "127.0.0.1", "--forwarded-headers", "X-Forwarded-For,x-forwarded-proto")
    server = serve("plain:app", *options).ready()
    environ = seen(("127.0.0.1", server.port), *ALL, "Forwarded: host=evil.example")
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("192.0.2.1", "https")
    assert (environ["HTTP_HOST"], environ["SCRIPT_NAME"]) == ("test", "")


def test_contradictions_are_refused_and_the_log_names_them(serve, tmp_path):
    log = tmp_path / "access"
    server = serve("plain:app", "--forwarded-allow-ips", "127.0.0.1", "--access-logfile", log).ready()
    address = ("127.0.0.1", server.port)
    assert refusal(address, "X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.2") == 400
    assert refusal(address, "X-Forwarded-Proto: https", "X-Forwarded-Proto: http") == 400
    lines = [server.wait_for("request.refused", count).pairs["reason"] for count in (1, 2)]
    reasons = ["Forwarded and X-Forwarded-For contradict each other", "X-Forwarded-Proto has different values"]
    assert lines == reasons
    server.stop()
    assert [line.split('"')[-2] for line in log.read_text().splitlines()] == reasons


def test_the_access_log_names_the_client_and_not_the_proxy(serve, tmp_path):
    log = tmp_path / "access"
    server = serve("plain:app", "--forwarded-allow-ips", "127.0.0.1", "--access-logfile", log).ready()
    with Wire(("127.0.0.1", server.port)) as wire:
        assert wire.get("/hello", "X-Forwarded-For: 192.0.2.1").response().status == 200
        assert wire.get("/hello").response().status == 200
        assert wire.get("/hello", "X-Forwarded-For: 192.0.2.2", "Content-Length: x").response().status == 400
    server.stop()
    addresses = [line.split()[0] for line in log.read_text().splitlines()]
    # The head of the last request is malformed, so that nothing in it is believed.
    assert addresses == ["192.0.2.1", "127.0.0.1", "127.0.0.1"]


def test_a_reload_applies_another_list(serve, tmp_path):
    config = tmp_path / "arctos.toml"
    config.write_text('forwarded-allow-ips = ["192.0.2.0/24"]\n')
    server = serve("plain:app", "--config", config).ready()
    address = ("127.0.0.1", server.port)
    assert seen(address, "X-Forwarded-For: 192.0.2.1")["REMOTE_ADDR"] == "127.0.0.1"
    config.write_text('forwarded-allow-ips = "127.0.0.1, ::1"\n')
    server.send(1)
    server.wait_for("worker.exited")
    assert seen(address, "X-Forwarded-For: 192.0.2.1")["REMOTE_ADDR"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--forwarded-allow-ips", "localhost", "an IP address, a network such as 10.0.0.0/8, unix or *"),
        ("--forwarded-allow-ips", "10.0.0.1/8", "the first address of the network, 10.0.0.0/8"),
        ("--forwarded-headers", "x-real-ip", "some of forwarded,x-forwarded-for,"),
    ],
)
def test_a_wrong_value_names_option_value_and_form(option, value, expected):
    status, _, error = run(option, value, "plain:app")
    assert status == EXIT_USAGE
    assert f"{option} '{value}': expected {expected}" in error
