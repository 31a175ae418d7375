"""arctos: a prefork WSGI server. The command line is `arctos MODULE:ATTR`; see `arctos --help`."""

from .arctos import __version__, main

__all__ = ["__version__", "main"]
