"""The middleware that names the route of each request to the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class RouteMiddleware:
    """Names the route that a request matched, as `/orders/<int:pk>/`, for the metrics by route.

    MIDDLEWARE = ["arctos.contrib.django.routes.RouteMiddleware", ...]
    """

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        """Passes the request on."""
        return self.get_response(request)

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        """Called by Django once it has matched a request."""
        match = request.resolver_match
        if match is not None and match.route is not None and hasattr(request, "environ"):
            request.environ["arctos.route"] = "/" + match.route.removeprefix("^").removeprefix("/")
