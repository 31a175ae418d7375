"""An ASGI application (Starlette, FastAPI) by a2wsgi.

a2wsgi runs the application in the event loop of a thread, which no fork inherits. So each worker makes its bridge
itself, also with --preload. The hooks run what the application does at its start and its end.
"""

import asyncio
import contextlib
import functools
import sys

import a2wsgi
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

events = []


@contextlib.asynccontextmanager
async def lifespan(application):
    events.append("begun")
    yield
    sys.stdout.write("ended\n")  # in one piece, unlike print() with PYTHONUNBUFFERED


async def index(request):
    return JSONResponse(events)


async def echo(request):
    return PlainTextResponse(await request.body())


asgi = Starlette(routes=[Route("/", index), Route("/echo", echo, methods=["POST"])], lifespan=lifespan)


@functools.cache
def bridge():
    return a2wsgi.ASGIMiddleware(asgi)


def app(environ, start_response):
    return bridge()(environ, start_response)


living = asgi.router.lifespan_context(asgi)


def begin(worker):
    asyncio.run_coroutine_threadsafe(living.__aenter__(), bridge().loop).result()


def end(worker):
    asyncio.run_coroutine_threadsafe(living.__aexit__(None, None, None), bridge().loop).result()
