"""Finds the modules of a crate and their imports, down to the file that defines a name: re-exports are followed."""

from pathlib import Path

from rust_source import RustSource


class Crate:
    """One crate below `directory`: its files, and the imports between them."""

    def __init__(self, root, directory):
        self.directory = directory
        self.files = {}  # module path as a tuple -> name of its file, relative to the root
        self.sources = {}  # module path -> RustSource
        for path in sorted((Path(root) / directory).rglob("*.rs")):
            name = path.relative_to(root).as_posix()
            module = _module_of(name.removeprefix(directory + "/"))
            self.files[module] = name
            self.sources[module] = RustSource(path.read_text(encoding="utf-8"))
        self._exports = {module: dict(source.uses) for module, source in self.sources.items()}

    def wings(self):
        """Returns the top-level modules in the order of `lib.rs`. Each may import only those that follow it."""
        source = self.sources.get(())
        return source.declared_modules() if source else []

    def imports(self, module):
        """Yields the imports of `module` outside of tests: (imported module, line, resolved path)."""
        if is_test(module):
            return
        for path, line, in_test in self.sources[module].paths:
            target = None if in_test else self._resolve(module, path.split("::"))
            if target is not None and target != module:
                yield target, line, path

    def circles(self):
        """Yields the circles of files that import each other, as lists of (importing module, line, imported module).

        A module and its own submodules are one unit in several files, so imports between them do not count.
        """
        arrows = {module: {} for module in self.files}
        for module in self.files:
            for target, line, _ in self.imports(module):
                if target and module and not _is_within(target, module) and not _is_within(module, target):
                    arrows[module].setdefault(target, line)
        for component in _strongly_connected(arrows):
            members = set(component)
            yield [(module, line, target) for module in sorted(members)
                   for target, line in sorted(arrows[module].items()) if target in members]  # fmt: skip

    def _resolve(self, module, parts, depth=0):
        """Returns the module whose file defines what `parts` names in `module`; None if that is in another crate."""
        if parts[0] == "crate":
            at, rest = (), parts[1:]
        elif parts[0] in ("self", "super"):
            up = parts.count("super")
            at, rest = module[: len(module) - up], [part for part in parts if part not in ("self", "super")]
        elif (*module, parts[0]) in self.files:
            at, rest = module, parts
        else:
            return None
        for index, part in enumerate(rest):
            if (*at, part) in self.files:
                at = (*at, part)
                continue
            exported = self._exports.get(at, {}).get(part)
            if exported is None or depth > 8:
                break
            found = self._resolve(at, exported.split("::") + rest[index + 1 :], depth + 1)
            return at if found is None else found
        return at


def is_test(module):
    """Whether the file is compiled only for tests."""
    return "tests" in module or "simulation" in module


def _module_of(name):
    parts = name.removesuffix(".rs").split("/")
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib") else parts)


def _is_within(module, other):
    return module[: len(other)] == other


def _strongly_connected(arrows):
    """Returns the components of two or more files, by Tarjan's algorithm without recursion."""
    index, low, on_stack, stack, found = {}, {}, set(), [], []
    for root in arrows:
        if root in index:
            continue
        work = [(root, iter(arrows[root]))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, targets = work[-1]
            for target in targets:
                if target not in index:
                    index[target] = low[target] = len(index)
                    stack.append(target)
                    on_stack.add(target)
                    work.append((target, iter(arrows[target])))
                    break
                if target in on_stack:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while not component or component[-1] != node:
                        component.append(stack.pop())
                        on_stack.discard(component[-1])
                    if len(component) > 1:
                        found.append(component)
    return found
