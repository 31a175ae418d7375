"""An ASGI application (Starlette, FastAPI) by a2wsgi."""

import pytest
import requests


HOOKS = {"worker_ready": "a2wsgi_shop:begin", "worker_exit": "a2wsgi_shop:end"}


@pytest.mark.parametrize("preload", [False, True])
def test_requests_reach_the_application_in_every_worker(arctos_server, preload):
    server = arctos_server("a2wsgi_shop:app", workers=2, preload=preload, **HOOKS)
    assert requests.get(server.url).json() == ["begun"]
    assert requests.post(f"{server.url}/echo", data=b"tea").text == "tea"
    server.stop()
    assert server.output == "ended\nended\n"


def test_without_the_hooks_the_application_does_not_begin(arctos_server):
    server = arctos_server("a2wsgi_shop:app")
    assert requests.get(server.url).json() == []


def test_a_bridge_that_the_zygote_makes_answers_nothing(arctos_server):
    server = arctos_server("a2wsgi_shop:bridge()", preload=True, timeout="200ms", timeout_grace="200ms")
    assert requests.get(server.url).status_code == 504
    server.wait_for("zygote.threads")  # the warning that says why
