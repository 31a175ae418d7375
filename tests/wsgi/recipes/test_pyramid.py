"""Pyramid: an application at a path below a proxy."""

import requests


PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example", "X-Forwarded-Prefix": "/tea"}


def test_links_begin_at_the_path_that_the_proxy_removes(arctos_server):
    server = arctos_server("pyramid_shop:app", forwarded_allow_ips="127.0.0.1")
    assert requests.get(f"{server.url}/index", headers=PROXY).text == "https://shop.example/tea/index"


def test_without_the_option_nobody_is_believed(arctos_server):
    server = arctos_server("pyramid_shop:app")
    assert requests.get(f"{server.url}/index", headers=PROXY).text == f"{server.url}/index"
