"""Reads just enough of a Rust file to find the paths that it names: comments and strings are blanked,
`use` trees are flattened, aliases are resolved, and test code is distinguished from other code."""

import re
from typing import NamedTuple

# Openings of text that is not code: comments, strings, characters. No regular expression can match a whole raw
# string or nested comment.
OPENING = re.compile(r"""//|/\*|b?c?r(\#*)"|[bc]?"|b?'(?:\\u\{[0-9a-fA-F_]+\}|\\x..|\\.|[^'\\])'""")
USE = re.compile(r"\buse\s+([^;]+);")
INLINE = re.compile(r"(?<![\w:'$])(?:::\s*)?((?:r#)?[A-Za-z_]\w*(?:\s*::\s*(?:r#)?[A-Za-z_]\w*)+)")
TEST_ATTRIBUTE = re.compile(r"#\s*\[\s*(?:cfg\s*\(\s*test\s*\)|test)\s*\]")


class Named(NamedTuple):
    """A path that the file names, with aliases resolved: it begins with the name of the crate."""

    path: str
    line: int
    is_test: bool


class RustSource:
    """The code of one Rust file."""

    def __init__(self, text):
        self._code, self._with_strings = _blank(text)
        self._tests = _test_spans(self._code)
        self.uses = []  # (name that a `use` outside of tests imports, its path)
        self.paths = list(self._named())

    def declared_modules(self):
        """Returns the names of all `mod name;` lines, in their order."""
        return re.findall(r"\bmod\s+(\w+)\s*;", self._code)

    def functions(self):
        """Yields all functions with a body, also those of tests: (name, line, lines from `fn` to the closing brace)."""
        for match in re.finditer(r"\bfn\s+(\w+)", self._code):
            end = self._body_end(match.end())
            if end is not None:
                yield match[1], self._line(match.start()), self._line(end) - self._line(match.start()) + 1

    def structs(self):
        """Yields the structs with named fields outside of tests: (name, line, number of fields)."""
        for match in re.finditer(r"\bstruct\s+(\w+)[^;{(]*\{", self._code):
            end = self._body_end(match.end() - 1)
            if end is not None and not self._is_test(match.start()):
                fields = re.findall(r"(?:^|[{,\n])\s*(?:pub(?:\([^)]*\))?\s+)?(?:r#)?\w+\s*:(?!:)", self._flat(match.end(), end))
                yield match[1], self._line(match.start()), len(fields)

    def lines_with(self, pattern, with_tests=False):
        """Yields the lines on which `pattern` matches, outside of tests or everywhere."""
        for match in pattern.finditer(self._code):
            if with_tests or not self._is_test(match.start()):
                yield self._line(match.start())

    def feature_lines(self, feature):
        """Yields the lines that require a cargo feature, each with the code that follows the attribute."""
        for match in re.finditer(rf'feature\s*=\s*"{feature}"(?:[^\]\n]*\]\s*)?', self._with_strings):
            yield self._line(match.start()), self._with_strings[match.end() :]

    def _named(self):
        aliases, seen = {}, []
        for use in USE.finditer(self._code):
            for path, alias in _flatten(use[1]):
                seen.append((path, use.start()))
                if alias != "_" and not self._is_test(use.start()):
                    self.uses.append((alias, path))
                if alias != "_":
                    aliases.setdefault(alias, path)
        without_use = USE.sub(lambda use: _spaces(use[0]), self._code)
        for match in INLINE.finditer(without_use):
            seen.append((re.sub(r"\s+|r#", "", match[1]), match.start()))
        # A name that `use` imports may be called without a path: `fork()`.
        for match in re.finditer(r"(?<![\w:.'])([a-z_]\w*)\s*\(", without_use):
            if match[1] in aliases:
                seen.append((match[1], match.start()))
        for path, at in seen:
            yield Named(_resolve(path, aliases), self._line(at), self._is_test(at))

    def _body_end(self, at):
        """Returns the position of the brace that closes the next body; None if a `;` comes first."""
        depth = brackets = 0
        for index in range(at, len(self._code)):
            character = self._code[index]
            if character == ";" and depth == brackets == 0:
                return None
            depth += {"{": 1, "}": -1}.get(character, 0)
            brackets += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
            if character == "}" and depth == 0:
                return index
        return None

    def _flat(self, start, end):
        """Returns the code between two positions without the content of parentheses, brackets and inner braces."""
        text, depth = [], 0
        for character in self._code[start:end]:
            depth += {"{": 1, "(": 1, "[": 1, "}": -1, ")": -1, "]": -1}.get(character, 0)
            text.append(character if depth == 0 else "")
        return "".join(text)

    def _line(self, at):
        return self._code.count("\n", 0, at) + 1

    def _is_test(self, at):
        return any(start <= at < end for start, end in self._tests)


def is_under(module, places):
    """Whether `module` is one of `places` or is below one of them."""
    return any(module == place or module.startswith(place + "/") for place in places)


def _spaces(text):
    return re.sub(r"[^\n]", " ", text)


def _blank(text):
    """Returns the text without comments and strings, and the text without comments, both in their original length."""
    code, with_strings, at = [], [], 0
    while (match := OPENING.search(text, at)) is not None:
        start, opening = match.start(), match[0]
        # A quote right after a name belongs to it only if the name is the prefix of a literal.
        end = match.end()
        if opening == "//":
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
        elif opening == "/*":
            end = _comment_end(text, end)
        elif match[1] is not None:
            end = text.find('"' + match[1], end)
            end = len(text) if end < 0 else end + 1 + len(match[1])
        elif opening.endswith('"'):
            closing = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL).match(text, end)
            end = len(text) if closing is None else closing.end()
        blank = _spaces(text[start:end])
        code += [text[at:start], blank]
        with_strings += [text[at:start], blank if opening in ("//", "/*") else text[start:end]]
        at = end
    return "".join([*code, text[at:]]), "".join([*with_strings, text[at:]])


def _comment_end(text, at):
    depth = 1
    for match in re.compile(r"/\*|\*/").finditer(text, at):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(text)


def _test_spans(code):
    """Returns the spans of items that exist only in tests, from the attribute to their `;` or closing brace."""
    spans = []
    for match in TEST_ATTRIBUTE.finditer(code):
        depth, at = 0, match.end()
        while at < len(code):
            character = code[at]
            if character == "{":
                depth += 1
            elif character == "}":
                depth -= 1
                if depth == 0:
                    break
            elif character == ";" and depth == 0:
                break
            at += 1
        spans.append((match.start(), at + 1))
    return spans


def _flatten(tree):
    """Flattens a `use` tree: `a::{b, c::{self, d as e}}` -> (a::b, b), (a::c, c), (a::c::d, e)."""
    tree = re.sub(r"\s+", " ", tree.replace("r#", "")).strip().removeprefix("::").strip()
    brace = tree.find("{")
    if brace < 0:
        path, _, alias = tree.partition(" as ")
        path = path.replace(" ", "").removesuffix("::self")
        yield path, alias.strip() or path.rsplit("::", 1)[-1]
        return
    prefix = tree[:brace].replace(" ", "")
    for branch in _branches(tree[brace + 1 : tree.rfind("}")]):
        yield from _flatten(prefix + branch)


def _branches(inner):
    depth, start = 0, 0
    for at, character in enumerate(inner + ","):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
        elif character == "," and depth == 0:
            if inner[start:at].strip():
                yield inner[start:at].strip()
            start = at + 1


def _resolve(path, aliases):
    """Follows `use` declarations until the first name of the path is not one of them."""
    for _ in range(8):
        first, separator, rest = path.partition("::")
        target = aliases.get(first)
        if target is None or target.partition("::")[0] == first:
            return path
        path = target + separator + rest
    return path
