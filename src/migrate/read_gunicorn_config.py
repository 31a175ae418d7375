"""Executes a configuration file of gunicorn and writes its settings as JSON.

This runs in a process of its own: `python -c`, with the file, the names of gunicorn's settings and a time limit
as arguments. What the file prints goes nowhere, so that it cannot be mistaken for the answer.
"""

import sys

search_path = sys.path[:]
sys.path[:] = filter(None, search_path)  # files of the current directory may be named as modules of the standard library

import ast  # noqa: E402
import importlib  # noqa: E402
import importlib.util  # noqa: E402
import inspect  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import traceback  # noqa: E402

sys.path[:] = search_path

MAX_TEXT = 10_000


def main():
    location, names, limit = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3])
    signal.alarm(limit)  # in case that nobody is left to kill this process
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        settings, source = load(location)
        report = describe(settings, source, names)
    except BaseException as error:  # a configuration may also call sys.exit()
        report = {"error": last_line(error), "line": line_of(error, location)}
    answer.write(json.dumps(report) + "\n")
    answer.flush()
    os._exit(0)  # threads and handlers of the file must not delay the end


def load(location):
    """Loads the file as gunicorn does, and returns its names and its source."""
    sys.dont_write_bytecode = True
    if location.startswith("python:"):
        module = importlib.import_module(location.removeprefix("python:"))
        return vars(module), inspect.getsource(module)
    path = location.removeprefix("file:")
    loader = importlib.machinery.SourceFileLoader("__config__", path)
    spec = importlib.util.spec_from_file_location("__config__", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["__config__"] = module
    spec.loader.exec_module(module)
    with open(path, encoding="utf-8", errors="replace") as file:
        return vars(module), file.read()


def describe(settings, source, names):
    computed, assigned, used = read(source)
    found = [
        {"name": name, "value": value(settings[name]), "computed": computed.get(name)}
        for name in settings
        if name in names
    ]
    ignored = [
        name
        for name in assigned
        if name not in names and name not in used and not name.startswith("_") and is_plain(settings.get(name))
    ]
    return {"settings": found, "ignored": ignored}


def read(source):
    """Returns the expressions of names that are not literals, all assigned names, and all names that are read."""
    computed, assigned, used = {}, [], set()
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            used.add(node.id)
    for node in sorted(statements(tree.body), key=lambda node: node.lineno):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if not isinstance(target, ast.Name) or node.value is None:
                continue
            assigned.append(target.id)
            computed.pop(target.id, None)
            try:
                ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError):
                expression = " ".join((ast.get_source_segment(source, node.value) or "").split())
                computed[target.id] = expression[:120]
    return computed, list(dict.fromkeys(assigned)), used


def statements(body):
    """All assignments that are executed with the file, also in `if`, `for`, `with` and `try`."""
    for node in body:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            yield node
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for name in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, name, []))
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body)


def is_plain(value):
    return isinstance(value, (bool, int, float, str, list, tuple, dict))


def value(it):
    """A value with its kind."""
    if it is None:
        return {"kind": "absent"}
    if isinstance(it, bool):
        return {"kind": "switch", "value": it}
    if isinstance(it, (int, float)):
        number = int(it) if isinstance(it, int) else it  # an enumeration is its number
        return {"kind": "text", "value": str(number)}
    if isinstance(it, (str, os.PathLike)):
        return {"kind": "text", "value": os.fspath(it)[:MAX_TEXT]}
    if isinstance(it, dict):
        return {"kind": "table", "value": [[str(name), str(item)[:MAX_TEXT]] for name, item in it.items()]}
    if isinstance(it, (list, tuple, set, frozenset)):
        return {"kind": "list", "value": [str(item)[:MAX_TEXT] for item in it]}
    if callable(it) and not isinstance(it, type):
        module = getattr(it, "__module__", None)
        name = getattr(it, "__qualname__", None) or type(it).__name__
        is_named = module not in (None, "__config__") and "<" not in name
        return {
            "kind": "function",
            "module": module if is_named else None,
            "name": name,
            "takes_one": takes_one(it),
        }
    return {"kind": "other", "value": repr(it)[:200]}


def takes_one(function):
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def last_line(error):
    return traceback.format_exception_only(type(error), error)[-1].strip()


def line_of(error, location):
    """The line of the file that raised the error."""
    if isinstance(error, SyntaxError) and error.filename == location:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if os.path.basename(frame.filename) == os.path.basename(location)]
    return lines[-1] if lines else None


main()
