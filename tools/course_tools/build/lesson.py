"""A lesson: its text notebook read, checked against the conventions, and given stable ids."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from nbformat import NotebookNode

from course_tools.build import course


class LessonError(Exception):
    """A lesson breaks a convention; the message names the notebook and the cell."""


def read(path: Path, folder: Path) -> NotebookNode:
    """Return the lesson at `path` as a notebook without outputs, checked, with stable cell ids.

    `{{repository}}` and `{{badges}}` are replaced by the address that `folder`'s settings name.
    Raises `LessonError` naming notebook and cell.
    """
    import jupytext  # grading asks this module for names, and needs none of it

    try:
        notebook = jupytext.read(path, fmt="md:myst")
    except Exception as error:
        raise LessonError(f"{path.name}: not a MyST text notebook: {error}") from error
    lesson = path.stem
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    repository = course.repository(folder)
    badges = course.badges(repository, lesson)
    for index, cell in enumerate(notebook.cells):
        cell.source = cell.source.replace("{{repository}}", repository)
        cell.source = cell.source.replace("{{badges}}", badges)
        cell.id = grade_id(cell) or f"cell-{index:03d}"
    check_conventions(notebook, lesson)
    return notebook


def grade_id(cell: NotebookNode) -> str | None:
    """Return a cell's grade_id, or None for a cell that nbgrader does not know."""
    return cell.metadata.get("nbgrader", {}).get("grade_id")


def tags(cell: NotebookNode) -> list[str]:
    """Return a cell's tags."""
    return cell.metadata.get("tags", [])


def is_exercise(cell: NotebookNode) -> bool:
    """Tell whether the learner writes this cell."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution"))


def is_graded(cell: NotebookNode) -> bool:
    """Tell whether this cell has points."""
    return bool(cell.metadata.get("nbgrader", {}).get("grade"))


def is_test(cell: NotebookNode) -> bool:
    """Tell whether this cell is an exercise's test (and not a quiz)."""
    return is_graded(cell) and not is_exercise(cell) and not is_quiz(cell)


def is_quiz(cell: NotebookNode) -> bool:
    """Tell whether this cell asks a quiz, with or without points."""
    return cell.cell_type == "code" and quiz_name(cell) is not None


def quiz_name(cell: NotebookNode) -> str | None:
    """Return the name of the quiz that this cell asks, or None."""
    found = re.match(r"""quiz\(\s*["']([^"']+)["']\s*\)\s*$""", cell.source.strip())
    return found and found[1]


def tested_exercise(test: str, exercises: list[str]) -> str | None:
    """Return the exercise that the test cell with grade_id `test` is about: the longest that fits.

    A test's grade_id is `test_<exercise>_<part>`.
    """
    fitting = [name for name in exercises if test.startswith(f"test_{name}_")]
    return max(fitting, key=len, default=None)


def check_conventions(notebook: NotebookNode, lesson: str) -> None:
    """Raise `LessonError` where grading or release would go wrong; name the cell."""
    from llm_memory.quiz import BANK

    def fail(cell: NotebookNode, what: str) -> None:
        raise LessonError(f"{lesson}, cell {cell.id}: {what}")

    exercises = [grade_id(cell) for cell in notebook.cells if is_exercise(cell)]
    doubled = {name for name, n in Counter(map(grade_id, notebook.cells)).items() if n > 1}
    tested = set()
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader")
        name = grade_id(cell)
        if settings is not None and not name:
            fail(cell, "it has nbgrader metadata but no grade_id")
        if name and not re.fullmatch(r"[A-Za-z0-9_]{1,64}", name):
            fail(cell, f"grade_id {name!r} has characters other than letters, digits and _")
        if name and name in doubled:
            fail(cell, f"grade_id {name!r} stands at two cells")
        if "### BEGIN SOLUTION" in cell.source and not is_exercise(cell):
            fail(cell, "it has a solution, but nbgrader's metadata do not say `solution: true`")
        if "### BEGIN HIDDEN TESTS" in cell.source and not is_test(cell):
            fail(cell, "it has hidden tests, but nbgrader's metadata do not say `grade: true`")
        for kind in ("SOLUTION", "HIDDEN TESTS"):
            if cell.source.count(f"### BEGIN {kind}") != cell.source.count(f"### END {kind}"):
                fail(cell, f"`### BEGIN {kind}` and `### END {kind}` do not pair")
        if is_exercise(cell) and "### BEGIN SOLUTION" not in cell.source:
            fail(cell, "it is an exercise without `### BEGIN SOLUTION`")
        if is_graded(cell) and not settings.get("points"):
            fail(cell, f"the test {name!r} has 0 points")
        if is_quiz(cell) and quiz_name(cell) not in BANK:
            fail(cell, f"no quiz {quiz_name(cell)!r} in the bank")
        if is_test(cell):
            exercise = tested_exercise(name, exercises)
            if exercise is None:
                fail(cell, f"the test {name!r} belongs to no exercise (test_<exercise>_<part>)")
            tested.add(exercise)
    for cell in notebook.cells:
        # An optional exercise has no points and so no test; its visible check stands on its own.
        if is_exercise(cell) and "optional" not in tags(cell) and grade_id(cell) not in tested:
            fail(cell, f"the exercise {grade_id(cell)!r} has no test (test_{grade_id(cell)}_…)")
