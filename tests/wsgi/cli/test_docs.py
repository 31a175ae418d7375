"""`scripts/docs`: the book that it makes of README and the guide, and the check of its links. mdBook itself does not
run here, because its build takes minutes."""

import re
import subprocess
import sys

import pytest
from support.server import EXIT_USAGE, GUIDE, PATIENCE_S, ROOT, clean_environment, run

sys.path.insert(0, str(ROOT / "scripts"))

from docs_book import Book, Refused
from docs_check import Links

README = """# shop

![A picture](pictures/shop.svg) and [a heading](src/guide/first.md#the-second-heading); [elsewhere](https://example.com/).

| topic | contents |
|---|---|
| [second](src/guide/second.md) | the page that comes first |
| [first](src/guide/first.md) | the page that comes second |
"""
FIRST = """# The first page

[README](../../README.md), [a unit](../../units/shop.service), [below](#the-second-heading), `[code](none.md)`.

```sh
[more](none.md)  # code
```

## The second heading
"""


@pytest.fixture
def root(tmp_path):
    """A small repository."""
    files = {
        "README.md": README,
        "src/guide/first.md": FIRST,
        "src/guide/second.md": "# The `second` page\n\n[units](../../units)\n",
        "units/shop.service": "# The unit of the shop: ready to run.\n[Service]\nExecStart=/bin/true\n",
        "units/shop.socket": "[Socket]\n",
        "pictures/shop.svg": "<svg/>",
        **{f"{name}.md": f"# {name}\n" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY", "src/README")},
        "LICENSE": "MIT\n",
    }
    for name, text in files.items():
        file = tmp_path / "repository" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "repository"


def listed(summary):
    """The pages of a table of contents, in order."""
    return re.findall(r"\]\((.*)\)$", summary.read_text(), re.M)


def docs(*words, **environment):
    """Runs `scripts/docs`. Returns its exit status, output and errors."""
    command = [sys.executable, ROOT / "scripts" / "docs", *words]
    env = {**clean_environment(), **environment}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_S)
    return ended.returncode, ended.stdout, ended.stderr


# --- The book of this repository ---


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The sources of the site, as `scripts/docs --source` writes them."""
    target = tmp_path_factory.mktemp("target")
    code, out, error = docs("--source", CARGO_TARGET_DIR=str(target))
    assert (code, error) == (0, "") and str(target) in out
    return target / "docs-source"


def test_the_contents_are_the_topics_of_arctos_help_in_their_order(book):
    topics = re.findall(r"^  ([a-z-]+) +\S.*$", run("help")[1], re.M)
    assert len(topics) == len(GUIDE)
    assert [page for page in listed(book / "src" / "SUMMARY.md") if "/" not in page] == [
        "index.md",
        *(f"{topic}.md" for topic in topics),
    ]


def test_every_page_of_the_book_is_in_its_contents(book):
    pages = {str(page.relative_to(book / "src")) for page in (book / "src").rglob("*.md")}
    contents = listed(book / "src" / "SUMMARY.md")
    assert sorted(contents) == sorted(pages - {"SUMMARY.md"})


def test_every_link_of_the_book_leads_to_one_of_its_files(book):
    links = 0
    for page in (book / "src").rglob("*.md"):
        # The text of another file is within tildes.
        prose = re.sub(r"^(```|~~~~).*?^\1$", "", page.read_text(), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose)):
            if not target.startswith("https://"):
                assert (page.parent / target.partition("#")[0]).exists() or target.startswith("#"), (page, target)
                links += 1
    assert links > 150


def test_a_page_of_the_guide_reads_as_in_the_repository(book):
    for page in GUIDE:
        written, lines = (book / "src" / page.name).read_text(), page.read_text().splitlines()
        assert [re.sub(r"\]\(.*?\)", "]", line) for line in written.splitlines()] == [
            re.sub(r"\]\(.*?\)", "]", line) for line in lines
        ]


# --- A small one ---


def test_links_work_on_the_site_as_in_the_repository(root, tmp_path):
    Book(root).write(tmp_path / "book")
    pages = tmp_path / "book" / "src"
    assert "![A picture](pictures/pictures/shop.svg)" in (pages / "index.md").read_text()
    assert "[a heading](first.md#the-second-heading); [elsewhere](https://example.com/)" in (pages / "index.md").read_text()
    assert (pages / "pictures/pictures/shop.svg").read_text() == "<svg/>"
    first = FIRST.replace("../../README.md", "index.md").replace("../../units/shop.service", "files/units/shop.service.md")
    assert (pages / "first.md").read_text() == first.replace("(#the", "(first.md#the")
    assert "~~~~ini\n# The unit of the shop" in (pages / "files/units/shop.service.md").read_text()
    listing = (pages / "files/units/index.md").read_text()
    assert "| [shop.service](shop.service.md) | The unit of the shop |\n| [shop.socket](shop.socket.md) |  |" in listing
    assert listed(pages / "SUMMARY.md")[:3] == ["index.md", "second.md", "first.md"]
    assert "- [The second page](second.md)\n" in (pages / "SUMMARY.md").read_text()
    assert "- [units](files/units/index.md)\n    - [shop.service](" in (pages / "SUMMARY.md").read_text()


def test_files_that_are_linked_alone_are_listed_together(root, tmp_path):
    (root / "more").mkdir()
    for name, text in {"a.py": '"""The first. It is short."""\n', "b.py": "", "c.py": ""}.items():
        (root / "more" / name).write_text(text)
    with (root / "src" / "guide" / "first.md").open("a") as page:
        page.write("[a](../../more/a.py), [b](../../more/b.py)\n")
    Book(root).write(tmp_path / "book")
    pages = tmp_path / "book" / "src"
    assert "- [more](files/more/index.md)\n    - [a.py](files/more/a.py.md)\n" in (pages / "SUMMARY.md").read_text()
    listing = (pages / "files/more/index.md").read_text()
    assert "| [a.py](a.py.md) | The first. |" in listing and "[b.py](b.py.md)" in listing and "c.py" not in listing


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("none.md", "there is no such file"),
        ("../../../outside.md", "there is no such file"),
        ("second.md#none", "there is no such heading"),
        ("#none", "there is no such heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(root, tmp_path, target, reason):
    (root.parent / "outside.md").touch()
    with (root / "src" / "guide" / "first.md").open("a") as page:
        page.write(f"[broken]({target})\n")
    with pytest.raises(Refused) as refused:
        Book(root).write(tmp_path / "book")
    assert str(refused.value) == f"src/guide/first.md: {target}: {reason}"


def test_links_of_built_pages_are_checked(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "index.html").write_text(
        '<h1 id="top">x</h1><a href="below/page.html#there">1</a><a href="#top">2</a><a href="below/page.html#gone">3</a>'
        '<img src="none.svg"><a href="https://example.com/">4</a><a href="../secret">5</a>'
    )
    (tmp_path / "below" / "page.html").write_text('<a name="there"></a><script src="../index.html"></script>')
    (tmp_path.parent / "secret").touch()
    links = Links(tmp_path)
    assert (links.count, links.external) == (6, {"https://example.com/"})
    assert links.broken == [
        "index.html: below/page.html#gone: there is no such anchor",
        "index.html: none.svg: there is no such file",
        "index.html: ../secret: there is no such file",
    ]


# --- The command ---


@pytest.fixture
def mdbook(tmp_path):
    """Stands in for mdBook: it writes a page whose link is `$LINK`."""
    program = tmp_path / "mdbook"
    program.write_text(
        '#!/bin/sh\n[ "$1 $2" = "build --dest-dir" ] && mkdir -p "$3" && [ -e "$4/book.toml" ] && [ -n "$LINK" ] || exit 1\n'
        'echo "<a href=\\"$LINK\\">x</a>" >"$3/index.html"\n'
    )
    program.chmod(0o755)
    return {"MDBOOK": str(program), "CARGO_TARGET_DIR": str(tmp_path)}


def test_the_site_is_built_and_its_links_are_checked(mdbook):
    code, out, error = docs(**mdbook, LINK="index.html")
    assert (code, error) == (0, "") and out.endswith("docs/index.html: 1 pages, 1 links, none broken\n")
    code, out, error = docs(**mdbook, LINK="https://example.com/")
    assert (code, error) == (0, "") and "not fetched: https://example.com/\n" in out
    code, _, error = docs(**mdbook, LINK="none.html")
    assert (code, error) == (1, "scripts/docs: index.html: none.html: there is no such file\n")
    assert docs(**mdbook, LINK="")[::2] == (1, "scripts/docs: mdBook failed, see above\n")


def test_help_and_wrong_arguments_of_the_docs_script():
    code, out, error = docs("--help")
    assert (code, error) == (0, "") and out.startswith("usage: scripts/docs [-h] [--source]\n")
    for wrong in ("--serve", "guide", "--sour"):
        code, out, error = docs(wrong)
        assert (code, out) == (EXIT_USAGE, "") and wrong in error

