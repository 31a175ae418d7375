"""An application that tells its client what it received, in a field that even a response to HEAD has."""

import base64
import json


def app(environ, start_response):
    """Answers with `X-Received`: the request as JSON in base64."""
    fields = {
        name: value for name, value in environ.items() if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    received = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "version": environ["SERVER_PROTOCOL"],
        "fields": fields,
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
    encoded = base64.b64encode(json.dumps(received).encode()).decode()
    start_response("200 OK", [("X-Received", encoded), ("Content-Length", "0")])
    return []
