"""arctos: a WSGI server.

The command line is `arctos MODULE:ATTR`; see `arctos --help`. `serve()` does the same from Python. `run()`,
`listen()`, `bind_and_listen()` and `server_run()` are the API of bjoern: one worker inside the caller's process.
"""

from .arctos import Generation, RequestTimeout, Timeout, Worker, __version__, main
from .in_process import DEFAULT_LISTEN_BACKLOG, StatsdOptions, bind_and_listen, listen, run, server_run
from .supervised import serve

__all__ = [
    "DEFAULT_LISTEN_BACKLOG",
    "Generation",
    "RequestTimeout",
    "StatsdOptions",
    "Timeout",
    "Worker",
    "__version__",
    "bind_and_listen",
    "listen",
    "main",
    "run",
    "serve",
    "server_run",
]
