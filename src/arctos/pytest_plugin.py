"""The pytest fixture `arctos_server`. pytest loads it by the entry point of the package; `-p no:arctos` disables it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol

import pytest

from .in_process import WSGIApplication
from .supervised import OptionValue
from .testing import Server, serve


class StartServer(Protocol):
    """The type of the fixture: `arctos.testing.serve()`, whose servers stop at the end of the test."""

    def __call__(
        self,
        app_or_path: WSGIApplication | str,
        *,
        bind: str | Sequence[str] = ...,
        workers: int = ...,
        **options: OptionValue | Sequence[OptionValue] | Mapping[str, str] | None,
    ) -> Server:
        """Starts a server, and returns once all of its workers serve."""
        ...


@pytest.fixture
def arctos_server() -> Iterator[StartServer]:
    """Starts arctos servers: `arctos_server(app, workers=2).url`. They stop at the end of the test, and the report of a
    test that fails has their logs."""
    with ExitStack() as stack:

        def start(app_or_path, **options):  # type: ignore[no-untyped-def]
            server = serve(app_or_path, **options)
            stack.callback(lambda: sys.stderr.write(f"--- The log of arctos at {server.url}:\n{server.log}"))
            return stack.enter_context(server)

        yield start
