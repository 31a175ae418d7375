"""The demonstration of scripts/serve, with the directory and the admin socket that the script gives it."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import requests
from support.server import ROOT
from support.upgradable import UpgradableServer

DEMO = ROOT / "scripts" / "demo"


@contextmanager
def short_directory():
    """A directory whose path leaves room for that of a socket, as pytest's own might not."""
    with TemporaryDirectory(prefix="demo-") as path:
        yield Path(path)


def prepare(base, temporary=None):
    """Runs what scripts/serve runs, and returns the directory."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(base), "TMPDIR": str(temporary or base)}
    ended = subprocess.run(
        [sys.executable, DEMO / "control.py"], env=environment, capture_output=True, text=True, check=True
    )
    return Path(ended.stdout.strip())


class Demo(UpgradableServer):
    """The demonstration, prepared as scripts/serve does it."""

    def __init__(self, base, *options, workers=2, **more):
        self.directory = prepare(base)
        admin = ("--admin-bind", f"unix:{self.directory}/admin.sock")
        super().__init__(
            "demo:app", *admin, *options, workers=workers, cwd=DEMO, env={"DEMO_DIRECTORY": str(self.directory)}, **more
        )
        self.fields = {"X-Demo-Token": (self.directory / "token").read_text()}

    def status(self):
        """What the page is shown."""
        return requests.get(f"{self.url}/status").json()

    def command(self, target, **fields):
        """Sends a command as the page does, apart from these fields."""
        return requests.post(self.url + target, headers={**self.fields, **fields})
