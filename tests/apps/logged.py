"""An application for access logs: its response is what the query asks for."""

from urllib.parse import parse_qsl


class LateUser:
    """A user that is looked up, and kept in the environ, once somebody asks for its name."""

    def __init__(self, environ):
        self._environ = environ

    def __str__(self):
        self._environ.update({f"shop.{number}": number for number in range(100)})
        return "late"


def app(environ, start_response):
    asked = dict(parse_qsl(environ["QUERY_STRING"]))
    environ["shop.user"] = LateUser(environ) if "late" in asked else 'the "owner"'
    environ["arctos.route"] = "/{anything}"
    if "raise" in asked:
        raise ValueError(asked["raise"])
    environ["wsgi.input"].read()
    fields = [("Content-Type", "text/plain"), ("ETag", '"a b"'), ("Set-Cookie", "first=1"), ("set-cookie", "second=2")]
    if "location" in asked:
        fields.append(("Location", asked["location"]))
    status = asked.get("status", "200 OK")
    body = asked.get("body", "hello").encode() * int(asked.get("times", "1"))
    if status.startswith(("204", "304")) or environ["REQUEST_METHOD"] == "HEAD":
        body = b""
    if "stream" not in asked:
        fields.append(("Content-Length", str(len(body))))
    start_response(status, fields)
    return iter([body, body]) if "stream" in asked else [body]
