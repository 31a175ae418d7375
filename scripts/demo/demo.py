"""The demonstration application of `scripts/serve`: plain WSGI, no dependency.

It shows what the server is doing: which worker answers, what the application is given, an upload, a
streamed response and a file sent by the kernel. All of it works without JavaScript.
"""

import os
import platform
import tempfile
import time
from html import escape
from pathlib import Path

from multipart import BadForm, first_file

STYLE = (Path(__file__).parent / "style.css").read_bytes()
STARTED = time.monotonic()
TICKS = 10
TICK_SECONDS = 0.5
DOWNLOAD_BYTES = 32 * 1024 * 1024
HIDDEN = {"HTTP_AUTHORIZATION", "HTTP_PROXY_AUTHORIZATION", "HTTP_COOKIE"}

BEAR = """<svg viewBox="0 0 64 64" role="img" aria-label="A brown bear">
<g fill="#8a4f24"><circle cx="15" cy="17" r="10"/><circle cx="49" cy="17" r="10"/><circle cx="32" cy="35" r="25"/></g>
<g fill="#c98d5b"><circle cx="15" cy="17" r="5"/><circle cx="49" cy="17" r="5"/><ellipse cx="32" cy="44" rx="13" ry="10.5"/></g>
<g fill="#2b1a10"><circle cx="22.5" cy="31" r="3.1"/><circle cx="41.5" cy="31" r="3.1"/><ellipse cx="32" cy="39.5" rx="4.6" ry="3.4"/>
<path d="M32 42v4.5m-5 2.2q5 3.4 10 0" fill="none" stroke="#2b1a10" stroke-width="1.8" stroke-linecap="round"/></g></svg>"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="/bear.svg"><link rel="stylesheet" href="/style.css"></head>
<body><main>
<header>{bear}<div><h1>{title}</h1><p>{subtitle}</p></div></header>
{content}
</main></body></html>
"""

requests_served = 0


def app(environ, start_response):
    """Routes by path; every request counts, whatever its answer."""
    global requests_served
    requests_served += 1
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    page = ROUTES.get(path)
    if page is None:
        return _page(start_response, "404 Not Found", "Nothing here", "There is no such page.", _back())
    allowed = ("POST",) if page is upload else ("GET", "HEAD")
    if method not in allowed:
        fields = [("Allow", ", ".join(allowed))]
        subtitle = f"This page answers {' and '.join(allowed)}."
        return _page(start_response, "405 Method Not Allowed", "Not this way", subtitle, _back(), fields)
    return page(environ, start_response)


def home(environ, start_response):
    """Who answered, what it was given, and what to try."""
    figures = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(str(v))}</dd></div>" for k, v in _figures(environ))
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(_shown(name, value))}</td></tr>"
        for name, value in sorted(environ.items())
    )
    address = escape(environ.get("HTTP_HOST", "127.0.0.1:8000"))
    content = f"""<dl class="figures">{figures}</dl>
<p class="soft">This page closes its connection, so each reload may reach another worker: an idle one takes the next
connection. Figures are those of the worker that answered.</p>
<div class="columns">
<section><h2>Upload a file</h2>
<p class="soft">The server takes the whole body in before it calls the application, so a slow sender holds no worker.
Large bodies wait in a temporary file.</p>
<form action="/upload" method="post" enctype="multipart/form-data">
<label>File <input type="file" name="file" required></label><button>Upload and hash</button></form></section>
<section><h2>Watch a response being made</h2>
<p class="soft">{TICKS} items, one every {TICK_SECONDS} s; each leaves before the next is asked for. Between two of them the
worker answers others.</p>
<a class="button" href="/ticks" target="ticks">Start</a>
<iframe name="ticks" title="Streamed response" ></iframe></section>
<section><h2>Download a file</h2>
<p class="soft">{DOWNLOAD_BYTES // 2**20} MB given as <code>wsgi.file_wrapper</code>: the kernel sends it with sendfile(2), no byte
passes through Python.</p>
<a class="button" href="/download">Download</a></section>
<section><h2>From a terminal</h2>
<pre>curl http://{address}/worker
curl -N http://{address}/ticks
curl -F file=@README.md http://{address}/upload</pre>
<p class="soft">Every <code>/worker</code> is a new connection: run it a few times.</p></section>
</div>
<section><details><summary>The environ of this request ({len(environ)} entries)</summary>
<table>{rows}</table></details></section>
<footer>Stop the server with Ctrl-C in its terminal: running requests get two seconds to finish.</footer>"""
    subtitle = f"Served by {escape(environ.get('SERVER_SOFTWARE', 'a WSGI server'))} on Python {platform.python_version()}"
    return _page(start_response, "200 OK", "arctos is running", subtitle, content, [("Connection", "close")])


def upload(environ, start_response):
    """Size and SHA-256 of the uploaded file."""
    begun = time.monotonic()
    try:
        found = first_file(environ)
    except BadForm as error:
        return _page(start_response, "400 Bad Request", "No file arrived", escape(f"{error}."), _back())
    seconds = time.monotonic() - begun
    content = f"""<section><table>
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


ROUTES = {
    "/": home,
    "/upload": upload,
    "/ticks": ticks,
    "/download": download,
    "/worker": worker,
    "/style.css": style,
    "/bear.svg": bear,
}


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
    return '<p style="margin-top:1rem"><a class="button" href="/">Back</a></p>'


def _page(start_response, status, title, subtitle, content, fields=()):
    html = PAGE.format(title=title, subtitle=subtitle, bear=BEAR, content=content)
    return _answer(start_response, status, "text/html; charset=utf-8", html.encode(), fields)


def _answer(start_response, status, content_type, body, fields=()):
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *fields])
    return [body]
