"""The recipes of the guide: each has a test, and shows the code that the test runs.

ARCTOS_BLESS=1 writes the code of the tests into the page.
"""

import os
import re

import pytest
from support.server import ROOT

PAGE = ROOT / "src" / "guide" / "recipes.md"
RECIPES = ROOT / "tests" / "wsgi" / "recipes"
SHOWN = re.compile(r"<!-- (tests/wsgi/recipes/\w+\.py) -->\n```python\n(.*?)```\n", re.S)

pytestmark = pytest.mark.smoke


def code(path):
    """The code of a file, without the sentences at its top, which the page says in its own words."""
    return re.sub(r'\A""".*?"""\n+', "", path.read_text(), flags=re.S)


def test_the_page_shows_the_code_that_the_tests_run():
    page = PAGE.read_text()
    current = SHOWN.sub(lambda found: f"<!-- {found[1]} -->\n```python\n{code(ROOT / found[1])}```\n", page)
    if os.environ.get("ARCTOS_BLESS"):
        PAGE.write_text(current)
        page = current
    assert page == current
    assert page.count("```python") == len(SHOWN.findall(page)) > 5


def test_every_section_has_a_command_and_a_test_and_every_test_a_section():
    sections = PAGE.read_text().split("\n## ")[1:]
    tests = [re.findall(r"^Test: \[(test_\w+\.py)\]", section, re.M) for section in sections]
    assert all(len(found) == 1 for found in tests), tests
    assert all("```sh example\n" in section for section in sections)
    assert sorted(name for (name,) in tests) == sorted(path.name for path in RECIPES.glob("test_*.py"))


def test_every_file_of_the_recipes_is_on_the_page():
    named = set(re.findall(r"tests/wsgi/recipes/(\w+\.py)", PAGE.read_text()))
    assert named == {path.name for path in RECIPES.glob("*.py")} - {"__init__.py"}
