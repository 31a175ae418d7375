"""The page that shows the traceback of a failed request to its developer (--debug)."""

import ipaddress
import linecache
import os
import re
import sys
import traceback
from html import escape
from itertools import islice
from urllib.parse import parse_qsl

CONTEXT_LINES = 3
VALUE_CHARS = 400
MAX_FRAMES = 40  # of one exception; endless recursion has a thousand
MAX_EXCEPTIONS = 20
MASK = "********"
VARIABLE = re.compile(r"key|secret|token|passw|passphrase|credential", re.I)
SECRET = re.compile(VARIABLE.pattern + "|authorization|cookie|session|signature", re.I)
PROXY = re.compile(r"HTTP_(FORWARDED|VIA|X_FORWARDED_.*|X_REAL_IP|CF_CONNECTING_IP|TRUE_CLIENT_IP)")
URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
LOCAL_HOST = re.compile(r"(?:(?:.+\.)?localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?", re.I)


class TracebackPage:
    """A middleware that answers a failed request with its traceback, if nobody but the developer can see it."""

    def __init__(self, application):
        self.application = application

    def __call__(self, environ, start_response):
        # The application may change the environ: a middleware for proxies does.
        if not is_local(environ):
            return self.application(environ, start_response)
        try:
            result = self.application(environ, start_response)
        except Exception as error:
            return self.answer(error, environ, start_response)
        if isinstance(result, (list, tuple, bytes)) or isinstance(result, environ.get("wsgi.file_wrapper", ())):
            return result
        return Items(self, result, environ, start_response)

    def answer(self, error, environ, start_response):
        """Logs the exception and returns the page; raises it again if the server has an answer of its own."""
        if type(error).__name__ == "RequestTimeout":
            raise error
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        if "text/html" in environ.get("HTTP_ACCEPT", ""):
            kind, body = "text/html", Page(environ).of(error)
        else:
            kind, body = "text/plain", Mask(environ)(text)
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
    # Unless it is configured otherwise, nginx sends HTTP/1.0 and the Host of its upstream, and names no client.
    is_proxied = environ.get("SERVER_PROTOCOL") == "HTTP/1.0" or any(PROXY.fullmatch(name) for name in environ)
    return address.is_loopback and not is_proxied and LOCAL_HOST.fullmatch(environ.get("HTTP_HOST", "")) is not None


class Mask:
    """Masks secrets of the request and of the environment, and the passwords of URLs, wherever they appear in a text."""

    def __init__(self, environ):
        secrets = secrets_of(environ)
        # repr() writes some characters in another way.
        written = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
        longest_first = sorted(written, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def __call__(self, text):
        return URL_PASSWORD.sub(rf"\1:{MASK}@", self.pattern.sub(MASK, text))


def secrets_of(environ):
    """Returns the values that are masked wherever they appear."""
    named = [value for name, value in environ.items() if SECRET.search(name)]
    # A short value is too likely to be a part of something else.
    named += [value for name, value in os.environ.items() if VARIABLE.search(name) and len(value) >= 8]
    pairs = [value for name, value in parse_qsl(environ.get("QUERY_STRING", "")) if SECRET.search(name)]
    cookies = [part.partition("=")[2] for part in environ.get("HTTP_COOKIE", "").split("; ")]
    words = environ.get("HTTP_AUTHORIZATION", "").split(" ", 1)[1:]
    return {value for value in [*named, *pairs, *cookies, *words] if isinstance(value, str) and len(value) >= 4}


class Page:
    """The page as HTML. Every text in it is masked before it is cut, and escaped afterwards."""

    def __init__(self, environ):
        self.environ, self.mask = environ, Mask(environ)

    def of(self, error):
        """Returns the page of an exception."""
        title = self.plain(headline(error))
        request = self.plain(f"{self.environ.get('REQUEST_METHOD', '')} {self.environ.get('PATH_INFO', '')}")
        parts = [f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>{STYLE}"]
        parts.append(f"<h1>{title}</h1><p>{request}</p>")
        chain = chain_of(error)
        for index, (one, connection) in enumerate(chain):
            if connection:
                parts.append(f"<p class=chain>{connection}</p>")
            if index or len(chain) > 1:
                parts.append(f"<h2>{self.plain(headline(one))}</h2>")
            parts.append(self.frames(one))
        rows = sorted(self.environ.items(), key=lambda row: str(row[0]))
        parts.append(f"<h2>Request</h2>{self.table(rows)}")
        parts.append("<p class=note>This page is shown because of --debug, to requests from this machine only.</p></html>")
        return "".join(parts)

    def frames(self, error):
        """Returns the calls that led to an exception, without those in the middle if there are too many."""
        calls = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if is_shown(frame)]
        left_out = len(calls) - MAX_FRAMES
        if left_out <= 0:
            return "".join(self.frame(*call) for call in calls)
        half = MAX_FRAMES // 2
        first, last = ("".join(self.frame(*call) for call in some) for some in (calls[:half], calls[-half:]))
        return f"{first}<p class=note>{left_out} calls are left out here.</p>{last}"

    def frame(self, frame, line):
        """Returns the source around a line of a frame, and its variables."""
        code, line = frame.f_code, line or 0
        linecache.checkcache(code.co_filename)
        source = []
        for number in range(max(1, line - CONTEXT_LINES), line + CONTEXT_LINES + 1):
            text = linecache.getline(code.co_filename, number, frame.f_globals)
            if text:
                mark = " class=line" if number == line else ""
                source.append(f"<span{mark}><i>{number:5}</i> {self.plain(text.rstrip())}</span>\n")
        rows = list(frame.f_locals.items())
        variables = f"<details><summary>Variables</summary>{self.table(rows)}</details>" if rows else ""
        place = f"{self.plain(code.co_filename)}:{line} in <b>{self.plain(code.co_name)}</b>"
        return f"<section><div class=place>{place}</div><pre>{''.join(source)}</pre>{variables}</section>"

    def table(self, rows):
        """Returns a table of names and values."""
        cells = "".join(f"<tr><th>{self.plain(str(name))}</th><td>{self.value(name, it)}</td></tr>" for name, it in rows)
        return f"<table>{cells}</table>"

    def value(self, name, value):
        """Returns a value as HTML: not what has the name of a secret, and not more than a few lines."""
        if SECRET.search(str(name)):
            return MASK
        try:
            text = self.text_of(value)
        except Exception as error:
            text = f"(repr() raised {type(error).__name__})"
        return escape(limited(text))

    def text_of(self, value):
        """Returns a value as text, without items that have the name of a secret."""
        if not isinstance(value, dict):
            return self.mask(repr(value))
        # Each of them has more than one character, so the others would not be shown anyway.
        items = [(repr(key), MASK if SECRET.search(str(key)) else repr(one)) for key, one in islice(value.items(), VALUE_CHARS)]
        return "{" + ", ".join(f"{self.mask(key)}: {limited(self.mask(text))}" for key, text in items) + "}"

    def plain(self, text):
        """Returns a text as HTML."""
        return escape(self.mask(text))


def headline(error):
    """Returns the type and the message of an exception."""
    return traceback.format_exception_only(type(error), error)[-1].strip()


def chain_of(error):
    """Returns the exceptions that led to this one, the first one first, each with what connects it to the one before."""
    chain, seen = [], set()
    while error is not None and id(error) not in seen and len(chain) < MAX_EXCEPTIONS:
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


def limited(text):
    """Returns a text that is not too long."""
    return text if len(text) <= VALUE_CHARS else text[:VALUE_CHARS] + " ..."


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
