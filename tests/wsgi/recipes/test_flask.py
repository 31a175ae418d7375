"""Flask: an application factory, the links of pages behind a proxy, and the traceback of a failed request."""

import requests


PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example"}


def test_links_have_the_scheme_and_host_that_the_proxy_states(arctos_server):
    server = arctos_server("flask_shop:create_app()", forwarded_allow_ips="127.0.0.1")
    assert requests.get(server.url, headers=PROXY).text == "https://shop.example/"


def test_without_the_option_nobody_is_believed(arctos_server):
    server = arctos_server("flask_shop:create_app()")
    assert requests.get(server.url, headers=PROXY).text == f"{server.url}/"


def test_the_log_has_the_traceback_of_a_view(arctos_server):
    server = arctos_server("flask_shop:create_app()")
    assert requests.get(f"{server.url}/broken").status_code == 500
    assert "LookupError: no such tea" in server.wait_for("wsgi.errors").text
