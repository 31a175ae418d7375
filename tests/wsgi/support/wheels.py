"""The wheel that is tested."""

import os
from pathlib import Path

from support.server import ROOT


def release_wheel():
    """Returns the path of the wheel: scripts/wheels names the one that it tests, and scripts/install leaves its own."""
    named = os.environ.get("TEST_WHEEL")
    (path,) = [Path(named)] if named else (ROOT / "target" / "wheels").glob("arctos-*.whl")
    return path
