"""Falcon: JSON, a streamed upload, a streamed response, its own errors."""

import hashlib

import falcon


class Items:
    """A collection in the memory of the worker."""

    def on_get(self, req, resp):
        resp.media = {"limit": req.get_param_as_int("limit", default=10)}

    def on_post(self, req, resp):
        resp.status = falcon.HTTP_201
        resp.location = "/items/1"
        resp.media = {"got": req.get_media()}


class Item:
    """An item of the collection."""

    def on_get(self, req, resp, number):
        if number > 100:
            raise falcon.HTTPNotFound(title="No such item")
        resp.media = {"number": number}

    def on_delete(self, req, resp, number):
        resp.status = falcon.HTTP_204


class Blob:
    """A body of any size, read from the stream."""

    def on_put(self, req, resp):
        sha256 = hashlib.sha256()
        # As Falcon recommends: it reads CONTENT_LENGTH bytes.
        while piece := req.bounded_stream.read(65536):
            sha256.update(piece)
        resp.media = {"sha256": sha256.hexdigest()}

    def on_get(self, req, resp):
        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = (f"line {number}\n".encode() for number in range(1000))


def make_asgi():
    """An ASGI application, which a user may name by mistake."""
    import falcon.asgi

    return falcon.asgi.App()


app = falcon.App()
app.add_route("/items", Items())
app.add_route("/items/{number:int}", Item())
app.add_route("/blob", Blob())
