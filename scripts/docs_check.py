"""Checks the links of the built site: every file and every anchor that a page refers to has to exist."""

from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

# Attributes that refer to another file or to an anchor.
REFERRING = {"a": ("href",), "img": ("src",), "link": ("href",), "script": ("src",), "iframe": ("src",)}


class Page(HTMLParser):
    """The anchors and the references of a page."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.references = set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        self.references += [attributes[name] for name in REFERRING.get(tag, ()) if attributes.get(name)]


class Links:
    """What the links of a site lead to."""

    def __init__(self, directory):
        self.directory = directory.resolve()
        self.pages = {path: Page(path.read_text()) for path in sorted(self.directory.rglob("*.html"))}
        self.count, self.broken, self.external = 0, [], set()
        for path, page in self.pages.items():
            for reference in page.references:
                self._check(path, page, reference)

    def _check(self, path, page, reference):
        parts = urlsplit(reference)
        if parts.scheme or parts.netloc:
            self.external.add(reference)
            return
        self.count += 1
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target /= "index.html"
        name = path.relative_to(self.directory)
        if self.directory not in target.parents or not target.is_file():
            self.broken.append(f"{name}: {reference}: there is no such file")
        elif parts.fragment and target in self.pages and unquote(parts.fragment) not in self.pages[target].anchors:
            self.broken.append(f"{name}: {reference}: there is no such anchor")
