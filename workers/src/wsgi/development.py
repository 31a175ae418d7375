"""What a process that loads an application does for --reload."""

import importlib.machinery
import os
import sys
import time

RECENT_S = 10
STARTED = time.time()


def distrust_bytecode_of_recent_edits():
    """Compiles a file that was edited a moment ago from its source, and stores no bytecode of it."""
    loader = importlib.machinery.SourceFileLoader
    original = loader.path_stats

    def path_stats(self, path):
        stats = original(self, path)
        if time.time() - stats["mtime"] < RECENT_S:
            raise OSError("edited a moment ago")  # The loader then does without bytecode.
        return stats

    loader.path_stats = path_stats


def sources():
    """Returns the directories and files from which modules are imported, except for what is installed.

    Before each of them stands the time before which nothing was imported, and a space.
    """
    paths = dict.fromkeys(entry for entry in sys.path if os.path.isdir(entry))
    for name, module in list(sys.modules.items()):
        # A lazy module may run code when it is asked for an attribute.
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict):
            continue
        if name.startswith("__editable__") and isinstance(names.get("MAPPING"), dict):
            paths.update(dict.fromkeys(names["MAPPING"].values()))  # setuptools: package to directory
        elif "." in name:
            continue  # The package is watched as a whole.
        elif (directories := names.get("__path__")) is not None:
            paths.update(dict.fromkeys(directories))
        else:
            paths[names.get("__file__")] = None
    return [f"{STARTED:.6f} {os.path.abspath(path)}" for path in paths if isinstance(path, str) and _is_own(path)]


def _is_own(path):
    path = os.path.abspath(path)
    if not os.path.exists(path) or {"site-packages", "dist-packages"} & set(path.split(os.sep)):
        return False
    # The directory of commands is in sys.path because `arctos` is one of them.
    others = [os.path.dirname(os.__file__), os.path.dirname(sys.executable)]
    return not any(path == other or path.startswith(other + os.sep) for other in others)
