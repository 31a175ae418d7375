"""Requests that take longer than `--timeout`, each in its own way.

What they do after arctos.RequestTimeout is in `wsgi.errors`: `cleaned up` from a `finally`.
"""

import asyncio
import collections
import itertools
import os
import select
import signal
import socket
import subprocess
import threading
import time
from urllib.parse import parse_qs

import arctos

HOUR_S = 3600


def sleep():
    time.sleep(HOUR_S)


def spin():
    while True:
        pass


def receive():
    ours, _theirs = socket.socketpair()
    ours.recv(1)


def poll():
    ours, _theirs = socket.socketpair()
    select.select([ours], [], [])


def lock():
    held = threading.Lock()
    held.acquire()
    held.acquire()


def join():
    thread = threading.Thread(target=time.sleep, args=(HOUR_S,), daemon=True)
    thread.start()
    thread.join()


def aio():
    asyncio.run(asyncio.sleep(HOUR_S))


def child():
    subprocess.run(["sleep", str(HOUR_S)], check=True)


WAITS = {f"/{wait.__name__}": wait for wait in (sleep, spin, receive, poll, lock, join, aio, child)}


def hold_the_lock():
    """Loops in C, without releasing the GIL or checking for signals."""
    collections.deque(itertools.repeat(None), maxlen=0)


def wait(environ):
    """Waits as the path says, and cleans up."""
    print("waits", file=environ["wsgi.errors"])
    try:
        WAITS[environ["PATH_INFO"]]()
    finally:
        print("cleaned up", file=environ["wsgi.errors"])


def respond(start_response, body, status="200 OK"):
    start_response(status, [("Content-Length", str(len(body)))])
    return [body]


def generator(environ, start_response, query):
    """Sends an item, waits in the second one, and sends a third one if it is asked to catch the exception."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    if "first" not in query:
        yield b"begun"
    try:
        time.sleep(HOUR_S)
    except arctos.RequestTimeout:
        if "catch" not in query:
            raise
        yield b"caught"
    finally:
        print("cleaned up", file=environ["wsgi.errors"])


class ClosesLate:
    """A body whose `close()` takes too long."""

    def __init__(self, environ):
        self.items = iter([b"complete"])
        self.environ = environ

    def __iter__(self):
        return self.items

    def close(self):
        try:
            time.sleep(HOUR_S)
        finally:
            print("cleaned up", file=self.environ["wsgi.errors"])


def caught(environ, start_response, _query):
    try:
        time.sleep(HOUR_S)
    except arctos.RequestTimeout as late:
        assert not isinstance(late, Exception)
        return respond(start_response, str(late).encode(), "503 Busy")


def replaced(environ, start_response, _query):
    """An error while it cleans up takes the place of the exception."""
    try:
        time.sleep(HOUR_S)
    finally:
        raise ValueError("cleanup failed")


def swallow(environ, start_response, _query):
    while True:
        try:
            time.sleep(HOUR_S)
        except arctos.RequestTimeout:
            print("swallowed", file=environ["wsgi.errors"])


def recovers(environ, start_response, _query):
    """Ends only after the time for a reaction, but before it is killed."""
    try:
        time.sleep(HOUR_S)
    except arctos.RequestTimeout:
        print("swallowed", file=environ["wsgi.errors"])
        with open(_query["gate"][0]) as gate:
            gate.read()
    return respond(start_response, b"late")


def in_c(environ, start_response, _query):
    hold_the_lock()


def has_own_handler(environ, start_response, query):
    """Replaces the handler of the signal."""
    signal.signal(signal.SIGRTMIN + 12, lambda *_: print("own handler", file=environ["wsgi.errors"]))
    time.sleep(HOUR_S)


def writes(environ, start_response, _query):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"begun")
    time.sleep(HOUR_S)


def forks(environ, start_response, query):
    """The child shares the request, but is not interrupted."""
    reader, writer = os.pipe()
    child_pid = os.fork()
    if child_pid == 0:
        try:
            os.close(reader)
            time.sleep(float(query["s"][0]))
            os.write(writer, b"child was not interrupted")
        finally:
            os._exit(0)
    os.close(writer)
    try:
        time.sleep(HOUR_S)
    except arctos.RequestTimeout:
        os.kill(child_pid, signal.SIGRTMIN + 12)  # has the same handler, and is in no request of the worker
        said = os.read(reader, 100)
        os.waitpid(child_pid, 0)
        return respond(start_response, said)


def busy(environ, start_response, query):
    """Takes about as long as the limit: more than half of these requests are interrupted while they end."""
    try:
        time.sleep(float(query["s"][0]))
        status = "200 OK"
    except arctos.RequestTimeout:
        status = "503 Late"
    return respond(start_response, query["s"][0].encode(), status)


def extend(environ, start_response, query):
    timeout = environ["arctos.timeout"]
    before = timeout.remaining
    for seconds in query["by"]:
        timeout.extend(float(seconds))
    after = timeout.remaining
    time.sleep(float(query["s"][0]))
    return respond(start_response, f"{before} {after} {timeout.remaining}".encode())


def misuse(environ, start_response, query):
    """Answers with what an expression over `timeout` raises."""
    timeout = environ["arctos.timeout"]  # noqa: F841

    def outcome():
        try:
            return repr(eval(query["code"][0], {"timeout": timeout, "arctos": arctos}))
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    if "thread" in query:
        said = []
        thread = threading.Thread(target=lambda: said.append(outcome()))
        thread.start()
        thread.join()
        return respond(start_response, said[0].encode())
    if "fork" in query:
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, outcome().encode())
            os._exit(0)
        return respond(start_response, os.read(reader, 500))
    if "late" in query:
        try:
            time.sleep(HOUR_S)
        except arctos.RequestTimeout:
            pass
    return respond(start_response, outcome().encode())


def pid(environ, start_response, _query):
    return respond(start_response, str(os.getpid()).encode())


WAYS = {f"/{way.__name__}": way for way in (
    caught, replaced, swallow, recovers, in_c, has_own_handler, writes, forks, busy, extend, misuse, pid, generator
)}
# For a time limit of its own.
WAYS["/brief"] = busy


def app(environ, start_response):
    path = environ["PATH_INFO"]
    query = parse_qs(environ["QUERY_STRING"], keep_blank_values=True)
    if path == "/closes":
        start_response("200 OK", [("Content-Length", "8")])
        return ClosesLate(environ)
    if path in WAITS:
        wait(environ)
    return WAYS[path](environ, start_response, query)
