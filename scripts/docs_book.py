"""Writes the sources of the documentation site: the pages of the repository as a book for mdBook.

README's table states the order of the guide, and `arctos help` follows the same order (a test compares them). Every
file that a page links becomes a part of the site: a picture is copied, and a manifest or a unit becomes a page that
shows it. So a link works on the site as it does in a checkout, and one that leads nowhere is an error.

| repository             | site                                   |
|------------------------|----------------------------------------|
| `README.md`            | the introduction, `index.html`         |
| `src/guide/TOPIC.md`   | `TOPIC.html`                           |
| `CONTRIBUTING.md`, ... | `project/NAME.html`                    |
| another file           | `files/PATH.html`, in a block of code  |
| a directory            | `files/PATH/index.html`, a list        |

A directory gets a list, too, if pages link several of its files, so that these are together in the table of contents.
"""

import os
import re
import shutil
from pathlib import Path

TITLE = "arctos"
DESCRIPTION = "The guide to arctos, a production server for Python web applications (WSGI) on Linux"
README = "README.md"
# The pages behind the guide, and their titles in the table of contents.
PROJECT = {
    "CHANGELOG.md": "Changelog",
    "CONTRIBUTING.md": "Contributing",
    "src/README.md": "The sources",
    "SECURITY.md": "Security policy",
    "LICENSE": "License",
}
PICTURES = {".svg", ".png"}
LANGUAGES = {".yaml": "yaml", ".yml": "yaml", ".service": "ini", ".socket": "ini", ".toml": "toml", ".py": "python"}
FENCE = re.compile(r"^ *(```+|~~~+)")
# Code in a line, which may contain what looks like a link, or the target of a link.
LINK = re.compile(r"(?P<code>(`+).*?\2)|\]\((?P<target>[^)\s]+)\)")
SETTINGS = f"""# scripts/docs writes this file.
[book]
title = "{TITLE}"
description = "{DESCRIPTION}"
language = "en"
src = "src"

[build]
create-missing = false

[output.html]
default-theme = "light"
preferred-dark-theme = "navy"
additional-css = ["style.css"]
# `--preload` has two hyphens, in prose as well.
smart-punctuation = false
# The site does not know where it is published, which the page for unknown addresses would need.
input-404 = ""
no-section-label = true

[output.html.fold]
enable = true
level = 0

[output.html.search]
limit-results = 20
teaser-word-count = 24
boost-title = 3
boost-hierarchy = 2

[output.html.playground]
runnable = false
"""


class Refused(Exception):
    """The pages cannot become a book, for example because a link leads nowhere."""


class Book:
    """The pages of a repository, and where each is in the site."""

    def __init__(self, root):
        self.root = root
        self.topics = topics((root / README).read_text())
        # The path of each page in the site, by its path in the repository. Links add the files that they lead to.
        self.pages = {README: "index.md"}
        self.pages |= {f"src/guide/{topic}.md": f"{topic}.md" for topic in self.topics}
        self.pages |= {path: f"project/{path.removesuffix('.md').replace('/', '-').lower()}.md" for path in PROJECT}
        self.pictures = set()
        self.broken = []

    def write(self, directory):
        """Replaces `directory` by the sources of the book. Raises [`Refused`] with all broken links."""
        shutil.rmtree(directory, ignore_errors=True)
        pages = directory / "src"
        pages.mkdir(parents=True)
        written = {}
        # A page may add files to the book, and a list of files adds these.
        while pending := [path for path in self.pages if path not in written]:
            written |= {path: self.page(path) for path in pending}
        for parent, files in self.loose().items():
            self.pages[parent] = f"files/{parent}/index.md"
            written[parent] = self.listing(parent, files)
        for path, text in written.items():
            target = pages / self.pages[path]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        for path in sorted(self.pictures):
            target = pages / placed_picture(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / path, target)
        if self.broken:
            raise Refused("\n".join(self.broken))
        (pages / "SUMMARY.md").write_text(self.summary())
        (directory / "book.toml").write_text(SETTINGS)
        site = Path(__file__).resolve().parent / "site"
        shutil.copyfile(site / "style.css", directory / "style.css")
        (directory / "theme").mkdir()
        shutil.copyfile(site / "favicon.svg", directory / "theme" / "favicon.svg")

    def summary(self):
        """Returns the table of contents."""
        lines = ["# Summary", "", f"[Introduction]({self.pages[README]})", "", "# The guide", ""]
        lines += [f"- [{self.title(f'src/guide/{topic}.md')}]({topic}.md)" for topic in self.topics]
        files = sorted(path for path in self.pages if self.pages[path].startswith("files/"))
        if files:
            lines += ["", "# Files", ""]
        # A directory sorts before the files in it, which are its chapters.
        for path in files:
            depth = sum(1 for parent in Path(path).parents if str(parent) in self.pages)
            name = path if not depth else Path(path).name
            lines.append(f"{'    ' * depth}- [{name}]({self.pages[path]})")
        lines += ["", "# The project", ""]
        lines += [f"- [{title}]({self.pages[path]})" for path, title in PROJECT.items()]
        return "\n".join(lines) + "\n"

    def title(self, path):
        """Returns the title of a page, which is its first line, without backquotes."""
        return (self.root / path).read_text().partition("\n")[0].removeprefix("# ").replace("`", "")

    def page(self, path):
        """Returns a page of the book."""
        source = self.root / path
        if source.is_dir():
            return self.listing(path)
        text = source.read_text()
        if source.suffix == ".md":
            return self.linked(path, text)
        if path == "LICENSE":
            return f"# License\n\n{text}"
        return f"# {source.name}\n\nThis is `{path}` of the sources.\n\n~~~~{language(source)}\n{text.rstrip()}\n~~~~\n"

    def loose(self):
        """Returns the files that pages link without their directory, by directory, if there are several in it."""
        found = {}
        for path in (path for path, page in self.pages.items() if page.startswith("files/")):
            if os.path.dirname(path) not in self.pages and (self.root / path).is_file():
                found.setdefault(os.path.dirname(path), []).append(self.root / path)
        return {path: files for path, files in found.items() if len(files) > 1}

    def listing(self, path, files=()):
        """Returns the page of a directory: a list of these files, or of all files in it, which become pages as well."""
        lines = [f"# {path}", "", "| file | contents |", "|---|---|"]
        for file in sorted(files or (self.root / path).iterdir()):
            name = str(file.relative_to(self.root))
            if file.is_dir() and file.name != "__pycache__":
                lines.append(f"| [{file.name}/]({self.link(path, name)}) | {len(list(file.iterdir()))} files |")
            elif file.is_file():
                lines.append(f"| [{file.name}]({self.link(path, name)}) | {opening(file)} |")
        return "\n".join(lines) + "\n"

    def linked(self, path, text):
        """Returns the text of a page, with each link to a file as it is in the site."""

        def replace(found):
            target = found["target"]
            if target is None or re.match(r"[a-z]+:", target):
                return found[0]
            resolved = self.resolve(path, target)
            return f"]({self.link(path, *resolved)})" if resolved else found[0]

        lines, fence = [], ""
        for line in text.splitlines(keepends=True):
            mark = FENCE.match(line)
            if mark and not fence:
                fence = mark[1]
            elif fence:
                fence = "" if line.strip() == fence else fence
            else:
                line = LINK.sub(replace, line)
            lines.append(line)
        return "".join(lines)

    def resolve(self, page, target):
        """Returns the path of a link's target in the repository, and its anchor; `None` if the link is broken."""
        name, _, anchor = target.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(page), name)) if name else page
        source = self.root / path
        if path.startswith("..") or not source.exists():
            self.broken.append(f"{page}: {target}: there is no such file")
        elif anchor and anchor not in anchors(source.read_text()):
            self.broken.append(f"{page}: {target}: there is no such heading")
        else:
            return path, anchor
        return None

    def link(self, page, path, anchor=""):
        """Returns the link from a page to a file, as it is in the site."""
        if Path(path).suffix in PICTURES:
            self.pictures.add(path)
            target = placed_picture(path)
        elif path in self.pages:
            target = self.pages[path]
        else:
            is_directory = (self.root / path).is_dir()
            target = self.pages[path] = f"files/{path}/index.md" if is_directory else f"files/{path}.md"
        here = os.path.dirname(self.pages[page])
        return os.path.relpath(target, here or ".") + (f"#{anchor}" if anchor else "")


def topics(readme):
    """Returns the topics of the guide in the order of README's table."""
    found = re.findall(r"^\| \[[^]]+\]\(src/guide/([a-z-]+)\.md\) \|", readme, re.M)
    if not found:
        raise Refused("README.md: there is no table of the guide's pages")
    return found


def anchors(text):
    """Returns the anchors of a page's headings, as GitHub makes them; so does mdBook."""
    fence, found = "", set()
    for line in text.splitlines():
        mark = FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif fence:
            fence = "" if line.strip() == fence else fence
        elif heading := re.match(r"#+ (.*)", line):
            found.add(re.sub(r"[^a-z0-9 _-]", "", heading[1].lower()).replace(" ", "-"))
    return found


def placed_picture(path):
    """Returns the path of a picture in the site."""
    return f"pictures/{path}"


def language(file):
    """Returns the language of a file, for the colors of its code."""
    opened = file.read_text().partition("\n")[0]
    if opened.startswith("#!"):
        return "bash" if "sh" in opened.rpartition("/")[2] else "python"
    return LANGUAGES.get(file.suffix, "text")


def opening(file):
    """Returns the first sentence of the comment at the top of a file, or of the docstring of a module."""
    comment = re.match(r'(?:#!.*\n)?(?:((?:#(?: .*)?\n)+)|"""([^"]*))', file.read_text())
    text = " ".join(line.lstrip("# ") for line in (comment[1] or comment[2]).splitlines()) if comment else ""
    return re.split(r"(?<=[.:]) ", text)[0].removesuffix(":").replace("|", "\\|")
