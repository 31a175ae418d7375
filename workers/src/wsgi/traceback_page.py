"""The page that shows the traceback of a failed request to its developer (--debug)."""

import ipaddress
import linecache
import os
import re
import sys
import traceback
from html import escape
from urllib.parse import parse_qsl

CONTEXT_LINES = 3
VALUE_CHARS = 400
MASK = "********"
VARIABLE = re.compile(r"key|secret|token|passw|passphrase|credential", re.I)
SECRET = re.compile(VARIABLE.pattern + "|authorization|cookie|session|signature", re.I)
PROXY = re.compile(r"HTTP_(FORWARDED|VIA|X_FORWARDED_.*|X_REAL_IP|CF_CONNECTING_IP|TRUE_CLIENT_IP)")
LOCAL_HOST = re.compile(r"(?:(?:.+\.)?localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.I)


class TracebackPage:
    """A middleware that answers a failed request with its traceback, if nobody but the developer can see it."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        try:
            result = self.application(environ, start_response)
        except Exception as error:
            return self.answer(error, environ, start_response)
        if isinstance(result, (list, tuple, bytes)) or isinstance(result, environ.get("wsgi.file_wrapper", ())):
            return result
        return Items(self, result, environ, start_response)

    def answer(self, error, environ, start_response):
        """Logs the exception and returns the page; raises it again if the page must not be shown."""
        if type(error).__name__ == "RequestTimeout" or not is_local(environ):
            raise error
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        secrets = secrets_of(environ)
        if "text/html" in environ.get("HTTP_ACCEPT", ""):
            kind, body = "text/html", page(error, environ)
            secrets = {escape(secret) for secret in secrets}
        else:
            kind, body = "text/plain", text
        for secret in sorted(secrets, key=len, reverse=True):
            body = body.replace(secret, MASK)
        data = body.encode("utf-8", "backslashreplace")
        headers = [
            ("Content-Type", f"{kind}; charset=utf-8"),
            ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        # It raises the exception again if the head of a response has been sent.
        start_response("500 Internal Server Error", headers, sys.exc_info())
        environ["wsgi.errors"].write(text)
        return [data]


class Items:
    """The items of a response, whose production may fail, too."""

    def __init__(self, middleware, result, environ, start_response):
        self.middleware, self.result, self.environ, self.start_response = middleware, result, environ, start_response
        self.items = None

    def __iter__(self):
        return self

    def __next__(self):
        try:
            if self.items is None:
                self.items = iter(self.result)
            return next(self.items)
        except StopIteration:
            raise
        except Exception as error:
            self.items = iter(())
            return self.middleware.answer(error, self.environ, self.start_response)[0]

    def close(self):
        """Closes the response of the application."""
        close = getattr(self.result, "close", None)
        if close is not None:
            close()


def is_local(environ):
    """Whether the request came from a program on this machine, and not through a proxy or a page of another site."""
    try:
        address = ipaddress.ip_address(environ.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    is_proxied = any(PROXY.fullmatch(name) for name in environ)
    return address.is_loopback and not is_proxied and LOCAL_HOST.fullmatch(environ.get("HTTP_HOST", "")) is not None


def secrets_of(environ):
    """Returns the values that are masked wherever they appear."""
    named = [value for name, value in environ.items() if SECRET.search(name)]
    # A short value is too likely to be a part of something else.
    named += [value for name, value in os.environ.items() if VARIABLE.search(name) and len(value) >= 8]
    pairs = [value for name, value in parse_qsl(environ.get("QUERY_STRING", "")) if SECRET.search(name)]
    cookies = [part.partition("=")[2] for part in environ.get("HTTP_COOKIE", "").split("; ")]
    words = environ.get("HTTP_AUTHORIZATION", "").split(" ", 1)[1:]
    return {value for value in [*named, *pairs, *cookies, *words] if isinstance(value, str) and len(value) >= 4}


def page(error, environ):
    """Returns the page as HTML."""
    parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(headline(error))}</title>{STYLE}"]
    parts.append(f"<h1>{escape(headline(error))}</h1>")
    parts.append(f"<p>{escape(environ.get('REQUEST_METHOD', ''))} {escape(environ.get('PATH_INFO', ''))}</p>")
    chain = chain_of(error)
    for index, (one, connection) in enumerate(chain):
        if connection:
            parts.append(f"<p class=chain>{connection}</p>")
        if index or len(chain) > 1:
            parts.append(f"<h2>{escape(headline(one))}</h2>")
        parts += [frame_of(frame, line) for frame, line in traceback.walk_tb(one.__traceback__) if is_shown(frame)]
    rows = [(name, shown(name, value)) for name, value in sorted(environ.items())]
    parts.append(f"<h2>Request</h2>{table_of(rows)}")
    parts.append("<p class=note>This page is shown because of --debug, to requests from this machine only.</p></html>")
    return "".join(parts)


def headline(error):
    """Returns the type and the message of an exception."""
    return traceback.format_exception_only(type(error), error)[-1].strip()


def chain_of(error):
    """Returns the exceptions that led to this one, the first one first, each with what connects it to the one before."""
    chain, seen = [], set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if error.__cause__ is not None:
            chain.append((error, "This exception was the direct cause of the following one:"))
            error = error.__cause__
        else:
            chain.append((error, "While this exception was handled, another one occurred:"))
            error = None if error.__suppress_context__ else error.__context__
    chain.reverse()
    connections = ["", *(connection for _, connection in chain[1:])]
    return [(one, connection) for (one, _), connection in zip(chain, connections)]


def is_shown(frame):
    """Whether a frame is not the one of this middleware."""
    return frame.f_code.co_filename != __file__


def frame_of(frame, line):
    """Returns the source around a line of a frame, and its variables."""
    code = frame.f_code
    linecache.checkcache(code.co_filename)
    source = []
    for number in range(max(1, line - CONTEXT_LINES), line + CONTEXT_LINES + 1):
        text = linecache.getline(code.co_filename, number, frame.f_globals)
        if text:
            mark = " class=line" if number == line else ""
            source.append(f"<span{mark}><i>{number:5}</i> {escape(text.rstrip())}</span>\n")
    rows = [(name, shown(name, value)) for name, value in frame.f_locals.items()]
    variables = f"<details><summary>Variables</summary>{table_of(rows)}</details>" if rows else ""
    place = f"{escape(code.co_filename)}:{line} in <b>{escape(code.co_name)}</b>"
    return f"<section><div class=place>{place}</div><pre>{''.join(source)}</pre>{variables}</section>"


def shown(name, value):
    """Returns a value as text, without secrets."""
    if SECRET.search(str(name)):
        return MASK
    try:
        if isinstance(value, dict):
            items = [f"{key!r}: {MASK if SECRET.search(str(key)) else limited(repr(one))}" for key, one in value.items()]
            return limited("{" + ", ".join(items) + "}")
        return limited(repr(value))
    except Exception as error:
        return f"(repr() raised {type(error).__name__})"


def limited(text):
    """Returns a text that is not too long."""
    return text if len(text) <= VALUE_CHARS else text[:VALUE_CHARS] + " ..."


def table_of(rows):
    """Returns a table of names and values."""
    cells = "".join(f"<tr><th>{escape(str(name))}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


STYLE = """<style>
:root{color-scheme:light dark;font:15px/1.45 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.35rem;overflow-wrap:anywhere;color:#c0392b}
h2{font-size:1.1rem;margin-top:2rem;overflow-wrap:anywhere}
section{border:1px solid #8884;border-radius:6px;margin:.8rem 0;overflow:hidden}
.place{padding:.4rem .7rem;background:#8881;overflow-wrap:anywhere}
pre{margin:0;padding:.4rem .7rem;overflow:auto;font:13px/1.5 ui-monospace,monospace}pre i{opacity:.5;font-style:normal}
.line{background:#e74c3c33;display:inline-block;min-width:100%}details{padding:.3rem .7rem}
table{border-collapse:collapse;width:100%;font:12.5px/1.4 ui-monospace,monospace}
th{text-align:left;vertical-align:top;padding:.15rem .8rem .15rem 0;white-space:nowrap;font-weight:normal;opacity:.7}
td{overflow-wrap:anywhere;white-space:pre-wrap}.chain,.note{opacity:.7}
</style>"""
