"""Flask: an application factory, the links of pages behind a proxy, and the traceback of a failed request."""

from flask import Flask, url_for


def create_app():
    app = Flask(__name__)

    @app.get("/")
    def index():
        return url_for("index", _external=True)

    @app.get("/broken")
    def broken():
        raise LookupError("no such tea")

    return app
