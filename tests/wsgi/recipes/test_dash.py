"""Dash: the Flask application of a dashboard, with its import shared by all workers."""

import requests


CHANGE = {
    "output": "greeting.children",
    "outputs": {"id": "greeting", "property": "children"},
    "inputs": [{"id": "name", "property": "value", "value": "milk"}],
    "changedPropIds": ["name.value"],
}


def test_pages_and_callbacks_are_served(arctos_server):
    server = arctos_server("dash_shop:app", workers=2, preload=True)
    assert "_dash-renderer" in requests.get(server.url).text
    answer = requests.post(f"{server.url}/_dash-update-component", json=CHANGE)
    assert answer.json()["response"] == {"greeting": {"children": "Hello milk"}}
