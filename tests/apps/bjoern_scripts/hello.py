"""The usual program: an application, an address, `run`. It answers with every kind of body that bjoern accepts."""

import sys

import arctos as bjoern


def fields_and_parts(environ, start_response):
    start_response("200 ok", [("Shop", "Tea"), ("Long", "one two / three "), ("x-lower", "yes")])
    return [b"hel", b"lo"]


def plain_bytes(environ, start_response):
    start_response("200 ok", [])
    return b"hello"


def generator(environ, start_response):
    start_response("200 fine", [("Content-Length", "6")])
    yield b"hel"
    yield b"lo"
    yield b"\n"


def one_part(environ, start_response):
    start_response("200 ok", [])
    return [b"hello"]


def body_back(environ, start_response):
    start_response("200 ok", [])
    return [environ["wsgi.input"].read()]


KINDS = {"/parts": fields_and_parts, "/bytes": plain_bytes, "/generator": generator, "/one": one_part}


def wsgi_app(environ, start_response):
    return KINDS.get(environ["PATH_INFO"], body_back)(environ, start_response)


if __name__ == "__main__":
    bjoern.run(wsgi_app, sys.argv[1], int(sys.argv[2]))
