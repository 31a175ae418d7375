"""Falcon: the middleware that names the route of each request to the server."""

from __future__ import annotations

from typing import Any


class RouteMiddleware:
    """Names the URI template that a request matched, as `/orders/{id}`, for the metrics by route.

    app = falcon.App(middleware=[RouteMiddleware()])
    """

    def process_resource(self, req: Any, resp: Any, resource: Any, params: dict[str, Any]) -> None:
        """Called by Falcon once it has matched a request."""
        if req.uri_template:
            req.env["arctos.route"] = req.uri_template
