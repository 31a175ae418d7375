"""The demonstration application of `scripts/serve`: plain WSGI, no dependency.

Its page is an instrument: it sends requests to its own server, and shows what happens to them while the visitor
makes some of them slow, kills workers and deploys code. What the page asks of the server is in `control`. Below
that it shows what the application is given, an upload, a streamed response and a file sent by the kernel; these
work without JavaScript.
"""

import json
import os
import platform
import random
import signal
import tempfile
import time
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from control import Control, Refused
from multipart import BadForm, first_file

HERE = Path(__file__).parent
HOME = Template((HERE / "home.html").read_text())
STYLE = (HERE / "style.css").read_bytes()
SCRIPT = (HERE / "live.js").read_bytes()
STARTED = time.monotonic()
TICKS = 10
TICK_SECONDS = 0.5
FAST_SECONDS, FASTEST_SECONDS = 0.012, 0.002  # as if it asked a database: the mean above the least, and the least
SLOW_SECONDS = 3
DOWNLOAD_BYTES = 32 * 1024 * 1024
HIDDEN = {"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_COOKIE", "HTTP_X_DEMO_TOKEN"}

BEAR = """<svg viewBox="0 0 64 64" role="img" aria-label="A brown bear">
<g fill="#8a4f24"><circle cx="15" cy="17" r="10"/><circle cx="49" cy="17" r="10"/><circle cx="32" cy="35" r="25"/></g>
<g fill="#c98d5b"><circle cx="15" cy="17" r="5"/><circle cx="49" cy="17" r="5"/><ellipse cx="32" cy="44" rx="13" ry="10.5"/></g>
<g fill="#2b1a10"><circle cx="22.5" cy="31" r="3.1"/><circle cx="41.5" cy="31" r="3.1"/><ellipse cx="32" cy="39.5" rx="4.6" ry="3.4"/>
<path d="M32 42v4.5m-5 2.2q5 3.4 10 0" fill="none" stroke="#2b1a10" stroke-width="1.8" stroke-linecap="round"/></g></svg>"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="/bear.svg"><link rel="stylesheet" href="/style.css"></head>
<body><main>
<header class="top"><div class="brand">{bear}<span>arctos</span></div></header>
<div class="hero"><h1>{title}</h1><p>{subtitle}</p></div>
{content}
</main></body></html>
"""
# No foreign page may embed this one, so that nobody is led to click its buttons.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)

control = Control(os.environ.get("DEMO_DIRECTORY"))
requests_served = 0


def app(environ, start_response):
    """Routes by path; every request counts, whatever its answer."""
    global requests_served
    requests_served += 1
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    page = ROUTES.get(path)
    if page is None:
        return _page(start_response, "404 Not Found", "Nothing here", "There is no such page.", _back())
    allowed = ("POST",) if page in COMMANDS else ("GET", "HEAD")
    if method not in allowed:
        fields = [("Allow", ", ".join(allowed))]
        subtitle = f"This page answers {' and '.join(allowed)}."
        return _page(start_response, "405 Method Not Allowed", "Not this way", subtitle, _back(), fields)
    try:
        return page(environ, start_response)
    except Refused as error:
        return _json(start_response, {"error": str(error)}, "403 Forbidden")


def home(environ, start_response):
    """The instrument, and what else there is to try."""
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_shown(name, value))}</td></tr>"
        for name, value in sorted(environ.items())
    )
    refusal = control.refusal(environ)
    html = HOME.substitute(
        token="" if refusal else control.token,
        refusal=refusal or "",
        hidden_refusal="" if refusal else "hidden",
        bear=BEAR,
        subtitle=f"{escape(environ.get('SERVER_SOFTWARE', 'a WSGI server'))} on Python {platform.python_version()}",
        worker=escape(str(environ.get("arctos.worker", "?"))),
        pid=os.getpid(),
        ticks=TICKS,
        tick_seconds=TICK_SECONDS,
        download_mb=DOWNLOAD_BYTES // 2**20,
        address=escape(environ.get("HTTP_HOST", "127.0.0.1:8000")),
        count=len(environ),
        rows=rows,
    )
    return _answer(start_response, "200 OK", "text/html; charset=utf-8", html.encode())


# --- The instrument ---


def fast(environ, start_response):
    """One of many requests."""
    time.sleep(FASTEST_SECONDS + min(random.expovariate(1 / FAST_SECONDS), 6 * FAST_SECONDS))
    return _json(start_response, _who(environ))


def slow(environ, start_response):
    """A request that occupies its worker."""
    time.sleep(SLOW_SECONDS)
    return _json(start_response, _who(environ))


def status(environ, start_response):
    """The workers, or why they cannot be shown. The latter is no failure of this request."""
    try:
        return _json(start_response, control.status())
    except Refused as error:
        return _json(start_response, {"error": str(error)})


def kill(environ, start_response):
    """Kills a worker."""
    control.require_command(environ)
    pid = _number(environ, "pid")
    if pid != os.getpid():
        control.kill(pid)
        return _json(start_response, {"pid": pid})
    control.require_worker(pid)
    return _LastWords(_json(start_response, {"pid": pid}))


def deploy(environ, start_response):
    """Deploys the next version, or a broken one."""
    control.require_command(environ)
    return _json(start_response, control.deploy_broken() if _number(environ, "broken") else control.deploy())


class _LastWords:
    """The response of a worker that has been asked to kill itself: the client gets all of it first."""

    def __init__(self, body):
        self.body = body

    def __iter__(self):
        return iter(self.body)

    def close(self):
        os.kill(os.getpid(), signal.SIGKILL)


def _number(environ, name):
    (text,) = parse_qs(environ["QUERY_STRING"]).get(name, ["0"])[:1]
    try:
        return int(text)
    except ValueError:
        raise Refused(f"{name} must be a number.") from None


def _who(environ):
    return {"worker": environ.get("arctos.worker", 0), "pid": os.getpid(), "version": control.version}


# --- What works without JavaScript ---


def upload(environ, start_response):
    """Size and SHA-256 of the uploaded file."""
    begun = time.monotonic()
    try:
        found = first_file(environ)
    except BadForm as error:
        return _page(start_response, "400 Bad Request", "No file arrived", escape(f"{error}."), _back())
    seconds = time.monotonic() - begun
    content = f"""<section class="card"><table>
<tr><th>File</th><td>{escape(found.name)}</td></tr><tr><th>Size</th><td>{found.size_bytes} bytes</td></tr>
<tr><th>SHA-256</th><td>{found.sha256}</td></tr><tr><th>Time in the application</th><td>{seconds:.3f} s</td></tr>
<tr><th>Worker</th><td>{escape(str(environ.get("arctos.worker", "?")))}, process {os.getpid()}</td></tr></table></section>{_back()}"""
    return _page(start_response, "200 OK", "The file arrived", "Compare it with sha256sum on your side.", content)


def ticks(environ, start_response):
    """A response that is made while it is watched."""
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store")])
    who = f"worker {escape(str(environ.get('arctos.worker', '?')))}, process {os.getpid()}"
    yield f'<!doctype html><link rel="stylesheet" href="/style.css"><body class="ticks"><p>{who}</p>\n'.encode()
    for number in range(1, TICKS + 1):
        # The worker is one thread: while it sleeps here, it answers nobody else.
        time.sleep(TICK_SECONDS)
        yield f"<p>{number:2} of {TICKS} at {time.strftime('%H:%M:%S')}</p>\n".encode()
    yield b"<p>The end.</p>\n"


def download(environ, start_response):
    """A file for sendfile(2): sparse, so that it costs no disk."""
    file = tempfile.TemporaryFile()  # closed by the server, through file_wrapper
    file.truncate(DOWNLOAD_BYTES)
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(DOWNLOAD_BYTES)),
            ("Content-Disposition", 'attachment; filename="arctos-demo.bin"'),
        ],
    )
    return environ["wsgi.file_wrapper"](file, 256 * 1024)


def worker(environ, start_response):
    """The figures as text."""
    body = "".join(f"{name}: {value}\n" for name, value in _figures(environ)).encode()
    return _answer(start_response, "200 OK", "text/plain; charset=utf-8", body)


def style(environ, start_response):
    """The style sheet."""
    return _answer(start_response, "200 OK", "text/css; charset=utf-8", STYLE)


def bear(environ, start_response):
    """The icon."""
    svg = BEAR.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).encode()
    return _answer(start_response, "200 OK", "image/svg+xml", svg)


def script(environ, start_response):
    """What makes the instrument work."""
    return _answer(start_response, "200 OK", "text/javascript; charset=utf-8", SCRIPT)


ROUTES = {
    "/": home,
    "/fast": fast,
    "/slow": slow,
    "/status": status,
    "/kill": kill,
    "/deploy": deploy,
    "/upload": upload,
    "/ticks": ticks,
    "/download": download,
    "/worker": worker,
    "/style.css": style,
    "/live.js": script,
    "/bear.svg": bear,
}
COMMANDS = (kill, deploy, upload)


def _figures(environ):
    with open("/proc/self/statm") as statm:
        resident_bytes = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return [
        ("Worker", environ.get("arctos.worker", "?")),
        ("Process", os.getpid()),
        ("Requests it served", requests_served),
        ("Serving for", f"{time.monotonic() - STARTED:.0f} s"),
        ("Memory", f"{resident_bytes / 2**20:.1f} MB"),
    ]


def _shown(name, value):
    # Whoever shares a screenshot of this page must not share their password.
    return "(hidden)" if name in HIDDEN else value if isinstance(value, str) else repr(value)


def _back():
    return '<p class="back"><a class="button" href="/">Back</a></p>'


def _page(start_response, status, title, subtitle, content, fields=()):
    html = PAGE.format(title=title, subtitle=subtitle, bear=BEAR, content=content)
    return _answer(start_response, status, "text/html; charset=utf-8", html.encode(), fields)


def _json(start_response, value, status="200 OK"):
    return _answer(start_response, status, "application/json", json.dumps(value).encode())


def _answer(start_response, status, content_type, body, fields=()):
    always = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
    ]
    start_response(status, [*always, *fields])
    return [body]
