"""Requests to the admin socket of a server."""

import json

from prometheus_client.parser import text_string_to_metric_families
from support.wire import Wire


def ask(address, target, method="GET", *fields):
    """Returns the response to one request, after which the server closes the connection."""
    with Wire(address) as wire:
        answer = wire.get(target, *fields, method=method).response(method)
        assert wire.is_closed()
    return answer


def scrape(address):
    """Returns all samples of `/metrics`, each with a name, labels and a value."""
    page = ask(address, "/metrics").body.decode()
    return [sample for family in text_string_to_metric_families(page) for sample in family.samples]


def status(address):
    """Returns the document that `/status` answers with."""
    answer = ask(address, "/status")
    assert (answer.status, answer.field("Content-Type")) == (200, "application/json")
    return json.loads(answer.body)
