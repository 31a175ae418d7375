"""Django's live server tests with arctos as the server: a worker in a thread of the test process.

The tests and the server share connections to databases in memory, as with Django's own server. There is one worker and
at most one server in a process; so a view that requests a page of the live server itself waits forever.
"""

from __future__ import annotations

import threading
from typing import Any

from django.contrib.staticfiles import testing
from django.test import testcases

from ...arctos import Stop, is_serving, serve_socket
from ...in_process import WSGIApplication, bind_and_listen


class LiveServerThread(testcases.LiveServerThread):
    """Serves until `terminate()`. What Django's thread does before and afterwards stays the same."""

    def _create_server(self, *_: Any, **__: Any) -> _Server:
        return _Server(self.host, self.port)


class LiveServerTestCase(testcases.LiveServerTestCase):
    """`django.test.LiveServerTestCase` over arctos."""

    server_thread_class = LiveServerThread


class StaticLiveServerTestCase(LiveServerTestCase, testing.StaticLiveServerTestCase):
    """`django.contrib.staticfiles.testing.StaticLiveServerTestCase` over arctos."""


class _Server:
    """A server with the methods of `socketserver` that Django's thread calls."""

    def __init__(self, host: str, port: int) -> None:
        if is_serving():
            raise RuntimeError(
                "a live server of arctos already runs in this process, which can have only one; "
                "end the other test class first, or use Django's own for one of them"
            )
        self._socket = bind_and_listen(host, port)
        self.server_address = self._socket.getsockname()
        self._stop = Stop()
        self._ended = threading.Event()
        self._application: WSGIApplication | None = None

    def set_app(self, application: WSGIApplication) -> None:
        self._application = application

    def serve_forever(self) -> None:
        assert self._application is not None, "Django calls set_app() first"
        try:
            serve_socket(self._socket.fileno(), self._application, None, self._stop)
        finally:
            self._ended.set()

    def shutdown(self) -> None:
        self._stop.set()
        self._ended.wait()

    def server_close(self) -> None:
        self._socket.close()
