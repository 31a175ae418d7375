from .arctos import __version__ as __version__
from .arctos import main as main

__all__ = ["__version__", "main"]
