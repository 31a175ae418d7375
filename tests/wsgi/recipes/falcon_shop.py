"""Falcon: JSON that arrives in chunks, as from a client that does not know its length, and large downloads."""

import tempfile

import falcon


class Orders:
    def on_post(self, request, response):
        response.media = {"ordered": request.media["tea"]}

    def on_get(self, request, response):
        report = tempfile.TemporaryFile()
        report.write(b"tea\n" * 1_000_000)
        response.content_length = report.tell()
        report.seek(0)
        response.stream = report  # sent by sendfile(2), and closed afterwards


app = falcon.App()
app.add_route("/orders", Orders())
