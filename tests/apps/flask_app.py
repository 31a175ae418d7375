"""Flask: forms, an upload, a streamed response, a session."""

import hashlib

from flask import Flask, Response, flash, get_flashed_messages, jsonify, redirect, request, session, stream_with_context, url_for

app = Flask(__name__)
app.secret_key = "only for tests"


@app.get("/")
def index():
    return "<h1>Flask</h1>"


@app.route("/form", methods=["GET", "POST"])
def form():
    if request.method == "POST":
        flash(f"hello {request.form['name']}")
        return redirect(url_for("form"))
    return {"flashed": get_flashed_messages()}


@app.post("/upload")
def upload():
    sent = request.files["file"]
    sha256, size_bytes = hashlib.sha256(), 0
    while piece := sent.stream.read(65536):
        sha256.update(piece)
        size_bytes += len(piece)
    return jsonify(name=sent.filename, size_bytes=size_bytes, sha256=sha256.hexdigest())


@app.get("/stream/<int:count>")
def stream(count):
    def lines():
        for number in range(count):
            yield f"{request.args.get('word', 'line')} {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.post("/login")
def login():
    session["user"] = request.get_json()["user"]
    return "", 204


@app.get("/whoami")
def whoami():
    return {"user": session.get("user")}


@app.post("/logout")
def logout():
    session.clear()
    return "", 204


@app.get("/path/<path:rest>")
def path(rest):
    return {"rest": rest, "query": request.args.to_dict(flat=False)}


@app.get("/warn")
def warn():
    try:
        raise LookupError("stock")
    except LookupError:
        app.logger.warning("low on stock", exc_info=True)
    return "warned"


@app.get("/fail")
def fail():
    raise RuntimeError("flask failed")
