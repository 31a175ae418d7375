"""The metrics by route: whatever the application, or the helper for its framework, names."""

import pytest
from support.admin_client import scrape
from support.wire import Wire

FAMILY = "arctos_route_duration_seconds"
FLASK = """
from flask import Flask, abort
from arctos.contrib.flask import name_routes
app = name_routes(Flask("shop"))
@app.get("/orders/<int:number>")
def order(number):
    return abort(404) if number == 404 else str(number)
"""
FALCON = """
import falcon
from arctos.contrib.falcon import RouteMiddleware
class Order:
    def on_get(self, req, resp, number):
        resp.text = number
        if number == "404":
            raise falcon.HTTPNotFound()
app = falcon.App(middleware=[RouteMiddleware()])
app.add_route("/orders/{number}", Order())
"""
DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=["arctos.contrib.django.routes.RouteMiddleware"])
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpResponse
from django.urls import path
def order(request, number):
    if number == 404:
        raise Http404
    return HttpResponse(number)
urlpatterns = [path("orders/<int:number>", order)]
app = get_wsgi_application()
"""
ROUTES = {"flask": (FLASK, "/orders/<int:number>"), "falcon": (FALCON, "/orders/{number}"), "django": (DJANGO, "/orders/<int:number>")}


def counts(path):
    """Returns the number of requests by route and status."""
    found = {}
    for sample in scrape(path):
        if sample.name == f"{FAMILY}_count" and sample.value:
            key = (sample.labels["route"], sample.labels["status"])
            found[key] = found.get(key, 0) + sample.value
    return found


def ask(server, target):
    with Wire(("127.0.0.1", server.port)) as wire:
        answer = wire.get(target, "Connection: close").response()
        assert wire.is_closed()
    return answer.status


@pytest.mark.parametrize("framework", ROUTES)
def test_a_helper_names_the_route_that_matched(serve, tmp_path, path, framework):
    code, route = ROUTES[framework]
    (tmp_path / "shop.py").write_text(code)
    server = serve("shop:app", "--pythonpath", tmp_path, "--admin-bind", f"unix:{path}", workers=2)
    for number in (1, 2, 3):
        assert ask(server, f"/orders/{number}") == 200
    assert ask(server, "/orders/404") == 404
    assert ask(server, "/nowhere") == 404
    assert counts(path) == {(route, "2xx"): 3, (route, "4xx"): 1}


def test_a_route_is_in_the_log_of_slow_requests_and_bounded(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}", "--slow-request", "1ms")
    assert ask(server, "/work?item=5&route=/orders/{id}") == 200
    server.wait_for("request.slow", route="/orders/{id}")
    assert ask(server, "/whole?route=" + "x" * 300) == 200
    assert ask(server, "/whole?route=a%0Ab") == ask(server, "/whole?route=") == ask(server, "/whole") == 200
    assert counts(path) == {("/orders/{id}", "2xx"): 1, ("x" * 200, "2xx"): 1}


def test_routes_beyond_the_limit_are_counted_together(serve, path):
    server = serve("phases:app", "--admin-bind", f"unix:{path}", "--metrics-series", "3", workers=1)
    for number in range(10):
        assert ask(server, f"/whole?route=/{number}") == 200
    found = counts(path)
    assert sum(found.values()) == 10 and found["other", "other"] >= 7 and len(found) <= 4
