"""The code of the application that a test deploys, reloads and breaks."""

import os

from support.server import APPS
from support.traffic import Journal, mixed, traffic


class Code:
    """The module `shop` in a folder, and what a server needs to serve it."""

    def __init__(self, folder):
        self.folder = folder
        self.options = {
            "cwd": folder,
            "env": {"FAULTY_BEGUN": str(folder / "begun")},
        }
        (folder / "begun").touch()

    def write(self, text):
        """Whole, at one go: a worker may import it at any moment."""
        new = self.folder / "shop.new"
        new.write_text(text)
        os.replace(new, self.folder / "shop.py")

    def good(self, version, *before):
        """Code that works."""
        self.write("\n".join([*before, f"from faulty import application\napp = application({version!r})\n"]))

    def serve(self, serve, *options, **more):
        """A server of it."""
        return serve("shop:app", "--pythonpath", APPS, *options, **self.options, **more)

    def traffic(self, server, clients=8, **options):
        """Clients of such a server."""
        return traffic(server, clients, mixed("/work"), journal=Journal(self.folder), **options)
