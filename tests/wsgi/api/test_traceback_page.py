"""`--debug`: a failed request is answered with its traceback, but only to its developer."""

import http.client
import json
import socket
import subprocess
import sys

import pytest
from support.server import EXIT_USAGE

WSGI_ERRORS = "wsgi.errors"

APPLICATION = """
import os

def deep(environ):
    password = "a secret in a variable"
    markup = "<script>alert(1)</script>"
    token_in_list = [environ.get("HTTP_AUTHORIZATION")]
    raise ValueError(markup)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/good":
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]
    if path == "/late":
        start_response("200 OK", [("Content-Length", "9")])
        def items():
            yield b"four"
            raise KeyError("late")
        return items()
    if path == "/forgotten":
        # As a middleware for proxies may do it.
        environ.pop("HTTP_X_FORWARDED_FOR", None)
        raise RuntimeError("the environ has changed")
    if path == "/deep":
        return app(environ, start_response)
    if path == "/values":
        before_the_limit = "x" * 390 + environ["HTTP_X_API_KEY"]
        in_a_mapping = {"a": "x" * 390 + environ["HTTP_X_API_KEY"]}
        address = "postgres://shop:in-the-url@127.0.0.1/shop"
        raise RuntimeError("it has values")
    if path == "/first-item":
        start_response("200 OK", [])
        def items():
            raise KeyError("first item")
            yield b""
        return items()
    try:
        deep(environ)
    except ValueError as error:
        raise RuntimeError("it has a cause") from error
"""
HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with --debug."""
    from support.server import Server

    directory = tmp_path_factory.mktemp("site")
    (directory / "failing.py").write_text(APPLICATION)
    options = {"cwd": directory, "workers": None, "env": {"APP_SECRET_KEY": "the key of the application"}}
    with Server("failing:app", "--debug", **options) as server:
        yield server


def get(server, path, headers=HTML):
    """Returns the status, the fields and the body of a response."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def test_the_page_shows_exceptions_their_causes_and_the_source(server):
    since = server.position()
    status, fields, page = get(server, "/")
    assert status == 500 and fields["Content-Type"] == "text/html; charset=utf-8" and fields["Cache-Control"] == "no-store"
    assert "RuntimeError: it has a cause" in page and "This exception was the direct cause" in page
    assert "raise RuntimeError(&quot;it has a cause&quot;) from error" in page and "failing.py:" in page
    assert "traceback_page.py" not in page
    assert "Traceback (most recent call last)" in server.wait_for_text(WSGI_ERRORS, "it has a cause", since=since).text


def test_everything_is_escaped_and_secrets_are_masked(server):
    headers = {"Authorization": "Bearer my-own-token", "Cookie": "session=my-own-cookie; a=b", "X-Api-Key": "my-own-key"}
    _, _, page = get(server, "/?password=my-own-password&q=1", {**HTML, **headers})
    assert "<script>" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a secret in a variable" not in page.replace("password = &quot;a secret in a variable&quot;", "")
    for secret in ("my-own-token", "my-own-cookie", "my-own-key", "my-own-password", "the key of the application"):
        assert secret not in page, secret
    assert "********" in page


def test_secrets_are_masked_before_values_are_cut(server):
    key = "'quoted\\'" + "secret" * 5
    _, _, page = get(server, "/values", {**HTML, "X-Api-Key": key})
    assert "it has values" in page and "quoted" not in page and "secretsecret" not in page
    variables = page[page.index("<details>") :]
    assert "in-the-url" not in variables and "postgres://shop:********@127.0.0.1/shop" in variables


def test_endless_recursion_has_a_short_page(server):
    _, _, page = get(server, "/deep")
    assert "RecursionError" in page and "calls are left out here" in page and page.count("<section>") == 40


def test_a_cookie_with_the_name_of_an_element_leaves_the_page_as_it_is(server):
    _, _, page = get(server, "/", {**HTML, "Cookie": "view=table; color=span"})
    assert "<table>" in page and "<span class=line>" in page


def test_a_client_that_does_not_want_html_gets_text(server):
    status, fields, text = get(server, "/", {"Accept": "*/*"})
    assert (status, fields["Content-Type"]) == (500, "text/plain; charset=utf-8")
    assert text.startswith("Traceback (most recent call last)") and text.endswith("RuntimeError: it has a cause\n")


def test_a_failure_has_a_page_until_the_response_has_begun(server):
    status, _, page = get(server, "/first-item")
    assert status == 500 and "KeyError" in page
    with pytest.raises(http.client.IncompleteRead):
        get(server, "/late")
    assert get(server, "/good")[::2] == (200, "ok")


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"Via": "1.1 x"}, {"Host": "attacker.example"}],
    ids=lambda headers: next(iter(headers)),
)
def test_nobody_else_sees_the_page(server, headers):
    status, fields, page = get(server, "/", {**HTML, **headers})
    assert status == 500 and "RuntimeError" not in page and "text/html" not in fields.get("Content-Type", "")


def test_an_application_that_changes_the_environ_does_not_open_the_page(server):
    status, _, page = get(server, "/forgotten", {**HTML, "X-Forwarded-For": "192.0.2.1"})
    assert status == 500 and "RuntimeError" not in page


def test_nobody_sees_the_page_through_nginx_as_it_is_installed(server):
    """By default, its proxy_pass sends HTTP/1.0 and the Host of the upstream, and says nothing about the client."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        request = f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{server.port}\r\nConnection: close\r\nAccept: text/html\r\n\r\n"
        client.sendall(request.encode())
        answer = client.makefile("rb").read()
    assert b" 500 " in answer and b"RuntimeError" not in answer


@pytest.mark.parametrize("bind", ["0.0.0.0:0", ":0", "[::]:0", "unix:/tmp/debug.sock", "192.0.2.1:8000"])
def test_a_server_that_others_can_reach_is_refused(tmp_path, bind):
    command = [sys.executable, "-m", "arctos", "--debug", "--bind", bind, "x:y"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == EXIT_USAGE and "loopback address" in ended.stderr, ended


def test_flask_passes_its_exceptions_on(serve, tmp_path):
    (tmp_path / "shop.py").write_text(
        "import os\nfrom flask import Flask\napp = Flask(__name__)\n"
        "@app.get('/')\ndef index():\n    raise LookupError('in a view')\n"
        "@app.get('/debug')\ndef debug():\n    return {'debug': app.debug}\n"
    )
    server = serve("shop:app", "--debug", workers=None, cwd=tmp_path)
    assert "LookupError: in a view" in get(server, "/")[2]
    assert json.loads(get(server, "/debug")[2]) == {"debug": True}
