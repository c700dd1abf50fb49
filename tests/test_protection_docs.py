"""The page on what is protected names tests that are there."""

import ast
import re

from course_tools.build import course

ROOT = course.root()
NAMED = re.compile(r"`((?:tests|packages)/[\w/.]+\.py)::(\w+)`")


def test_every_sentence_names_a_test_that_is_there():
    page = (ROOT / "docs" / "protection.md").read_text(encoding="utf-8")
    named = NAMED.findall(page)
    for path, test in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert test in there, f"{path}::{test}"
    rows = [line for line in page.splitlines() if re.match(r"\| (?!Protected|-)", line)]
    assert rows and all(NAMED.search(row) for row in rows), "a sentence without its test"
    assert len(named) >= len(rows)
