"""Runs the tests of prometheus_client that $SUITE names where this is imported, with the value class of arctos. The
application responds with the exit status of pytest."""

import os

import pytest
from prometheus_client import values

from arctos.metrics import prometheus

prometheus.install()
VALUE_CLASS = values.ValueClass


class EachWithOurs:
    """Some tests install another value class."""

    @pytest.fixture(autouse=True)
    def _value_class(self):
        values.ValueClass = VALUE_CLASS
        yield


status = pytest.main(["-q", "-p", "no:cacheprovider", *os.environ["SUITE"].split()], plugins=[EachWithOurs()])


def app(environ, start_response):
    body = b"%d" % status
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    raise SystemExit(status)
