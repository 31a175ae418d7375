"""Real proxies in front of a real server, with the configurations of the guide."""

import json
import re

import pytest
from support.proxies import haproxy, nginx
from support.server import GUIDE
from support.wire import Ended, Wire

FLASK = """
from flask import Flask, request, url_for
app = Flask(__name__)

@app.route("/facts")
def facts():
    return {"secure": request.is_secure, "host": request.host, "client": request.remote_addr,
            "url": url_for("facts", _external=True)}
"""
DJANGO = """
from django.conf import settings
settings.configure(SECRET_KEY="only for tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["shop.example"])

from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

def facts(request):
    return JsonResponse({"secure": request.is_secure(), "host": request.get_host(),
                         "client": request.META["REMOTE_ADDR"], "url": request.build_absolute_uri("/facts")})

urlpatterns = [path("facts", facts)]
app = get_wsgi_application()
"""
TRUST = ("--forwarded-allow-ips", "127.0.0.1,unix")
FORGED = (
    "X-Forwarded-For: 198.51.100.9",
    "X-Forwarded-Proto: ftp",
    "X-Forwarded-Host: evil.example",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Prefix: /evil",
    "Forwarded: for=198.51.100.9;host=evil.example",
)


def of_the_guide(language, anchor):
    """Returns the first block of `proxies.md` behind this heading, without its comments."""
    (page,) = [page for page in GUIDE if page.name == "proxies.md"]
    text = page.read_text().split(f"\n{anchor}\n", 1)[1]
    return re.search(rf"```{language}\n(.*?)```", text, re.S)[1]


def nginx_of_the_guide(directory, upstream):
    """Starts nginx with the configuration of the guide, on a free port and in front of this upstream."""
    text = of_the_guide("nginx", "## nginx")
    assert "listen 80;" in text and "server 10.0.0.1:8000;" in text
    text = re.sub(r"server 10.0.0.2:8000;", "", text).replace("10.0.0.1:8000", upstream)
    return nginx(directory, text.replace("listen 80;", "listen 127.0.0.1:{port};"))


def haproxy_of_the_guide(directory, upstream, heading):
    """Starts HAProxy with a backend of the guide, on a free port and in front of this upstream."""
    text = of_the_guide("haproxy", heading)
    assert "bind :80" in text and "10.0.0.1:8000" in text
    text = re.sub(r".*10\.0\.0\.2.*\n|.*default-server.*\n|.*httpchk.*\n", "", text)
    text = text.replace("10.0.0.1:8000", upstream).replace(" port 9000", "")
    return haproxy(directory, text.replace("bind :80", "bind 127.0.0.1:{port}"))


def environ(proxy, *fields):
    """Returns the environ of a request through the proxy."""
    with Wire(("127.0.0.1", proxy.port)) as wire:
        return json.loads(wire.send(request("/headers", *fields)).response().body)


def request(path, *fields):
    lines = [f"GET {path} HTTP/1.1", "Host: shop.example", "Connection: close", *fields]
    return "\r\n".join(lines) + "\r\n\r\n"


def check(seen, peer):
    """The client is the one that connected to the proxy, whatever it sent."""
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("127.0.0.1", "http", "shop.example")
    assert (seen["SCRIPT_NAME"], seen["arctos.peer_addr"]) == ("", peer)


def test_nginx_of_the_guide_lets_no_client_forge_a_header(serve, tmp_path):
    server = serve("plain:app", *TRUST).ready()
    with nginx_of_the_guide(tmp_path / "nginx", f"127.0.0.1:{server.port}") as proxy:
        check(environ(proxy), "127.0.0.1")
        check(environ(proxy, *FORGED), "127.0.0.1")
        assert environ(proxy)["SERVER_PORT"] == str(proxy.port)


def test_nginx_over_a_unix_socket(serve, tmp_path):
    path = tmp_path / "socket"
    serve("plain:app", *TRUST, bind=f"unix:{path}").ready()
    with nginx_of_the_guide(tmp_path / "nginx", f"unix:{path}") as proxy:
        check(environ(proxy, *FORGED), "")


def test_haproxy_of_the_guide_lets_no_client_forge_a_header(serve, tmp_path):
    server = serve("plain:app", *TRUST).ready()
    with haproxy_of_the_guide(tmp_path / "haproxy", f"127.0.0.1:{server.port}", "## HAProxy") as proxy:
        check(environ(proxy), "127.0.0.1")
        check(environ(proxy, *FORGED), "127.0.0.1")


def test_two_proxies_in_a_row_are_both_passed_over(serve, tmp_path):
    server = serve("plain:app", *TRUST).ready()
    inner = """
    server {
        listen 127.0.0.1:{port};
        location / {
            proxy_pass http://127.0.0.1:%d;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }""" % server.port
    with nginx(tmp_path / "inner", inner) as inner:
        outer = """
        server {
            listen 127.0.0.1:{port};
            location / {
                proxy_pass http://127.0.0.1:%d;
                proxy_set_header Host $http_host;
                proxy_set_header X-Forwarded-For 192.0.2.7;
                proxy_set_header X-Forwarded-Proto https;
            }
        }""" % inner.port
        with nginx(tmp_path / "outer", outer) as outer:
            seen = environ(outer)
    assert seen["HTTP_X_FORWARDED_FOR"] == "192.0.2.7, 127.0.0.1"
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["SERVER_PORT"]) == ("192.0.2.7", "https", "443")


@pytest.mark.parametrize("source", [FLASK, DJANGO], ids=["Flask", "Django"])
def test_a_framework_needs_no_settings_of_its_own(serve, tmp_path, source):
    (tmp_path / "facts_app.py").write_text(source)
    server = serve("facts_app:app", *TRUST, cwd=tmp_path).ready()
    tls = """
    server {
        listen 127.0.0.1:{port};
        location / {
            proxy_pass http://127.0.0.1:%d;
            proxy_set_header Host internal;
            proxy_set_header X-Forwarded-For 192.0.2.7;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-Host $http_host;
        }
    }""" % server.port
    with nginx(tmp_path / "nginx", tls) as proxy, Wire(("127.0.0.1", proxy.port)) as wire:
        facts = json.loads(wire.send(request("/facts")).response().body)
    assert facts == {"secure": True, "host": "shop.example", "client": "192.0.2.7", "url": "https://shop.example/facts"}


@pytest.mark.parametrize(("version", "line"), [("v1", "send-proxy"), ("v2", "send-proxy-v2"), ("auto", "send-proxy-v2 proxy-v2-options crc32c,unique-id")])
def test_haproxy_announces_the_client_with_a_proxy_header(serve, tmp_path, version, line):
    server = serve("plain:app", "--proxy-protocol", version, "--proxy-allow-from", "127.0.0.1").ready()
    sections = """
    listen shop
        mode tcp
        bind 127.0.0.1:{port}
        server a 127.0.0.1:%d source 127.0.0.1 %s
    """ % (server.port, line)
    with haproxy(tmp_path / "haproxy", sections) as proxy, Wire(("127.0.0.1", proxy.port)) as wire:
        ours = wire.socket.getsockname()
        seen = json.loads(wire.send(request("/headers")).response().body)
    assert (seen["REMOTE_ADDR"], seen["SERVER_PORT"]) == ("127.0.0.1", str(proxy.port))
    assert seen["REMOTE_PORT"] == str(ours[1]) != seen["arctos.peer_port"]


def test_haproxy_over_a_unix_socket_with_a_proxy_header(serve, tmp_path):
    path = tmp_path / "socket"
    serve("plain:app", "--proxy-protocol", "v2", "--proxy-allow-from", "unix", bind=f"unix:{path}").ready()
    sections = """
    listen shop
        mode tcp
        bind 127.0.0.1:{port}
        server a unix@%s send-proxy-v2
    """ % path
    with haproxy(tmp_path / "haproxy", sections) as proxy:
        seen = environ(proxy)
    assert (seen["REMOTE_ADDR"], seen["SERVER_NAME"], seen["SERVER_PORT"]) == ("127.0.0.1", "127.0.0.1", str(proxy.port))
    assert seen["arctos.peer_addr"] == ""


def test_health_checks_of_haproxy_with_proxy_headers_pass(serve, tmp_path):
    server = serve("plain:app", "--proxy-protocol", "v2", "--proxy-allow-from", "127.0.0.1").ready()
    sections = """
    listen shop
        mode http
        bind 127.0.0.1:{port}
        option httpchk GET /hello
        option forwardfor
        server a 127.0.0.1:%d send-proxy-v2 check inter 100ms fall 1 rise 1
    """ % server.port
    with haproxy(tmp_path / "haproxy", sections) as proxy:
        assert environ(proxy)["REMOTE_ADDR"] == "127.0.0.1"
        # A failed check would end in 503, and the server would log what it refused.
        assert environ(proxy)["HTTP_HOST"] == "shop.example"
    assert server.events("connection.refused") == []


def test_a_connection_without_the_header_is_closed_and_logged(serve):
    server = serve("plain:app", "--proxy-protocol", "auto", "--proxy-allow-from", "127.0.0.1").ready()
    with Wire(("127.0.0.1", server.port)) as wire, pytest.raises((Ended, OSError)):
        wire.get("/hello").response()
    refused = server.wait_for("connection.refused")
    assert refused.pairs["reason"] == "the connection does not begin with a PROXY header"
    with Wire(("127.0.0.1", server.port)) as wire:
        wire.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").get("/headers").get("/headers")
        for _ in range(2):
            assert json.loads(wire.response().body)["REMOTE_ADDR"] == "192.0.2.7"


def test_other_peers_are_closed_even_if_they_send_the_header(serve):
    server = serve("plain:app", "--proxy-protocol", "v1", "--proxy-allow-from", "192.0.2.0/24,unix").ready()
    with Wire(("127.0.0.1", server.port)) as wire, pytest.raises((Ended, OSError)):
        wire.send("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n").get("/hello").response()
    assert server.wait_for("connection.refused").pairs["reason"] == "its address is not in --proxy-allow-from"


def test_a_header_that_does_not_arrive_in_time_closes(serve):
    options = ("--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1", "--header-timeout", "200ms")
    server = serve("plain:app", *options).ready()
    with Wire(("127.0.0.1", server.port)) as silent, Wire(("127.0.0.1", server.port)) as slow:
        slow.send("PROXY TCP4 192.0.2.7")
        assert silent.is_closed() and slow.is_closed()
    assert server.wait_for("connection.refused", 2).pairs["reason"] == "the PROXY header did not arrive in time"


def test_the_announced_address_is_the_one_that_is_trusted(serve, tmp_path):
    log = tmp_path / "access"
    options = ("--proxy-protocol", "v1", "--proxy-allow-from", "127.0.0.1", "--forwarded-allow-ips", "10.0.0.0/8")
    server = serve("plain:app", *options, "--access-logfile", log).ready()
    for source, client in (("10.0.0.5", "192.0.2.7"), ("198.51.100.5", "198.51.100.5")):
        with Wire(("127.0.0.1", server.port)) as wire:
            wire.send(f"PROXY TCP4 {source} 192.0.2.1 4711 443\r\n").get("/headers", "X-Forwarded-For: 192.0.2.7")
            assert json.loads(wire.response().body)["REMOTE_ADDR"] == client
    server.stop()
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["192.0.2.7", "198.51.100.5"]
