"""Bottle: routes, forms, cookies, a static file, a streamed response."""

import hashlib
from pathlib import Path

import bottle

app = bottle.Bottle()
SECRET = "only for tests"


@app.get("/hello/<name>")
def hello(name):
    return bottle.template("<b>Hello {{name}}</b>!", name=name)


@app.post("/form")
def form():
    return {"fields": dict(bottle.request.forms)}


@app.post("/upload")
def upload():
    sent = bottle.request.files["file"]
    return {"name": sent.filename, "sha256": hashlib.sha256(sent.file.read()).hexdigest()}


@app.get("/count")
def count():
    seen = int(bottle.request.get_cookie("seen", default="0", secret=SECRET)) + 1
    bottle.response.set_cookie("seen", str(seen), secret=SECRET)
    return {"seen": seen}


@app.get("/source")
def source():
    return bottle.static_file("bottle_app.py", root=Path(__file__).parent, mimetype="text/x-python")


@app.get("/stream")
def stream():
    bottle.response.content_type = "text/plain"
    for number in range(100):
        yield f"line {number}\n"


@app.get("/fail")
def fail():
    raise RuntimeError("bottle failed")
