"""The names of the tests are sentences short enough for one line of a report."""

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke


MOST_CHARACTERS = 70


def test_every_test_name_has_at_most_70_characters():
    names = [
        node.name
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 500
    assert [name for name in names if len(name) > MOST_CHARACTERS] == []
