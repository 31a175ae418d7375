"""Falcon: JSON that arrives in chunks, as from a client that does not know its length, and large downloads."""

import requests


def test_json_without_a_content_length_is_read(arctos_server):
    server = arctos_server("falcon_shop:app")
    chunks = iter([b'{"tea":', b' "green"}'])
    answer = requests.post(f"{server.url}/orders", data=chunks, headers={"Content-Type": "application/json"})
    assert answer.json() == {"ordered": "green"}


def test_a_large_file_is_sent(arctos_server):
    server = arctos_server("falcon_shop:app")
    assert requests.get(f"{server.url}/orders").content == b"tea\n" * 1_000_000
