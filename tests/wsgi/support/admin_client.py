"""Requests to the admin socket of a server."""

import json

from support.wire import Wire


def ask(address, target, method="GET", *fields):
    """Returns the response to one request, after which the server closes the connection."""
    with Wire(address) as wire:
        answer = wire.get(target, *fields, method=method).response(method)
        assert wire.is_closed()
    return answer


def status(address):
    """Returns the document that `/status` answers with."""
    answer = ask(address, "/status")
    assert (answer.status, answer.field("Content-Type")) == (200, "application/json")
    return json.loads(answer.body)
