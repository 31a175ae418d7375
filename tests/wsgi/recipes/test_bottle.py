"""Bottle: a streamed response must not use `bottle.request` after its first item."""

import pytest
import requests


@pytest.mark.parametrize("path, last", [("/shared", "green"), ("/copied", "black")])
def test_only_a_copy_belongs_to_the_streamed_response(arctos_server, path, last):
    server = arctos_server("bottle_shop:app")
    with requests.get(f"{server.url}{path}?tea=black", stream=True) as slow:
        with requests.get(f"{server.url}{path}?tea=green", stream=True):
            assert slow.text.endswith(f"x{last}")
