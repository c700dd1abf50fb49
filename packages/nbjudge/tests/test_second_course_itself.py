"""The second course is sound: its own answers earn what they should in plain Python.

This is about the course, not the engine: what stock nbgrader gives is measured elsewhere.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location(
    "second_course_builder", Path(__file__).parent / "second_course" / "course.py"
)
course = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = course
SPEC.loader.exec_module(course)


def scores(cells: list, kind: str) -> dict[str, int]:
    """Each test cell's points for this kind of submission, run in one plain namespace."""
    names: dict = {}
    earned = {}
    for cell in cells:
        text = cell.meant or cell.text(kind)
        lines = [line for line in text.splitlines() if not line.startswith("%")]
        flag = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        try:
            made = eval(compile("\n".join(lines), "<cell>", "exec", flags=flag), names)
            if inspect.iscoroutine(made):
                asyncio.run(made)
            passed = True
        except Exception:
            passed = False
        if cell.points is not None:
            earned[cell.name] = cell.points if passed else 0
    return earned


@pytest.mark.parametrize("assignment", course.COURSE)
def test_answers_earn_what_they_should(assignment, tmp_path, monkeypatch):
    if assignment == "rain":
        pytest.importorskip("pandas")
    if assignment == "algebra":
        pytest.importorskip("sympy")
    if assignment == "plot":
        monkeypatch.setenv("MPLBACKEND", "Agg")
    course.write(tmp_path, assignment)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for cells in course.COURSE[assignment].values():
        full = {cell.name: cell.points for cell in cells if cell.points is not None}
        assert scores(cells, "solved") == full
        assert not any(scores(cells, "unsolved").values())
        assert sum(scores(cells, "wrong").values()) < sum(full.values())
    sys.modules.pop("checks", None)


@pytest.mark.parametrize("assignment", course.COURSE)
def test_the_same_notebooks_are_written_every_time(assignment, tmp_path):
    for folder in ("a", "b"):
        course.write(tmp_path / folder, assignment, "solved")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
