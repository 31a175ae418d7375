"""An application whose requests contain its code: the body of a function of `(environ, start_response)`.

A test that sends `?code=` says in one place what an application does wrong and what the server makes of it.
"""

import gc
import io
import os
import signal
import sys
import tempfile
import textwrap
import threading
import time
from urllib.parse import parse_qs

MODULES = {module.__name__: module for module in (gc, io, os, signal, sys, tempfile, threading, time)}
KEPT = {}  # what a request keeps for a later one


class Closing:
    """An iterable over these items; those that are exceptions are raised. `close()` is a function that it calls."""

    def __init__(self, *items, close=lambda: None):
        self.items, self.close = iter(items), close

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        if isinstance(item, BaseException):
            raise item
        return item


class Text(str):
    """A str whose repr() raises."""

    def __repr__(self):
        raise ValueError("no repr")


class Bytes(bytes):
    """Bytes that lie about their length."""

    def __len__(self):
        return 1 << 40

    def __bytes__(self):
        return b"other bytes"


def app(environ, start_response):
    """Runs the code."""
    code = parse_qs(environ["QUERY_STRING"])["code"][0]
    names = {**MODULES, "KEPT": KEPT, "Closing": Closing, "Text": Text, "Bytes": Bytes}
    exec(f"def case(environ, start_response):\n{textwrap.indent(code, '    ')}", names)
    return names["case"](environ, start_response)
