"""The code of the application that a test deploys, reloads and breaks."""

import os

from support.server import APPS
from support.traffic import Journal, mixed, traffic


class Code:
    """The module `shop` in a directory, and the options with which a server serves it."""

    def __init__(self, directory):
        self.directory = directory
        self.options = {
            "cwd": directory,
            "env": {"FAULTY_BEGUN": str(directory / "begun")},
        }
        (directory / "begun").touch()

    def write(self, text):
        """Replaces the module in one step, because a worker may import it at any moment."""
        new = self.directory / "shop.new"
        new.write_text(text)
        os.replace(new, self.directory / "shop.py")

    def good(self, version, *before):
        """Deploys code that works."""
        self.write("\n".join([*before, f"from faulty import application\napp = application({version!r})\n"]))

    def serve(self, serve, *options, **more):
        """Starts a server of this code."""
        return serve("shop:app", "--pythonpath", APPS, *options, **self.options, **more)

    def traffic(self, server, clients=8, **options):
        """Runs clients of such a server."""
        return traffic(server, clients, mixed("/work"), journal=Journal(self.directory), **options)
