"""A small course with a class of its own: what the hostile corpus is graded in.

Two exercises, each with two test cells, a quiz, reading cells and a picture: every kind of cell
that a lesson has, and nothing that takes time.
"""

from __future__ import annotations

import copy
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook

from tests.commands import nbgrader

ROOT = Path(__file__).resolve().parents[2]
LESSON = "attention"

_SOLUTIONS = {
    "double": "def double(x):\n    return 2 * x",
    "total": "def total(rows):\n    return sum(sum(row) for row in rows)",
}
POINTS = {
    "test_double_core": 2.0,
    "test_double_hard": 1.0,
    "test_total_core": 2.0,
    "test_total_hard": 1.0,
    "quiz_attention": 1.0,
}
FULL = sum(POINTS.values())
RIGHT, WRONG = "relevant", "recent"
#: Stands in a hidden test and nowhere else.
HIDDEN = "424242"


def _cell(source: str, grade_id: str = "", points: int = 0, tags: tuple = (), **kinds: bool):
    cell = new_code_cell(source)
    if tags:
        cell.metadata.tags = list(tags)
    if grade_id:
        kinds = {"grade": False, "solution": False, "locked": False, "task": False} | kinds
        cell.metadata.nbgrader = NotebookNode(schema_version=3, grade_id=grade_id, **kinds)
        if points:
            cell.metadata.nbgrader.points = points
    return cell


def _exercise(name: str, hint: str) -> NotebookNode:
    head, body = _SOLUTIONS[name].split("\n", 1)
    return _cell(
        f'{head}\n    """{hint}"""\n    ### BEGIN SOLUTION\n{body}\n    ### END SOLUTION',
        name,
        solution=True,
    )


def _test(name: str, suffix: str, visible: str, hidden: str) -> NotebookNode:
    points = POINTS[f"test_{name}_{suffix}"]
    return _cell(
        f"{visible}\n### BEGIN HIDDEN TESTS\n{hidden}\n### END HIDDEN TESTS",
        f"test_{name}_{suffix}",
        int(points),
        ("raises-exception",),
        grade=True,
        locked=True,
    )


def lesson() -> NotebookNode:
    """Return the source notebook."""
    cells = [
        new_markdown_cell("# A small lesson\n\nIt has two exercises and a quiz."),
        _cell("import math", "imports", locked=True),
        new_markdown_cell("## Double\n\nWrite `double(x)`."),
        _exercise("double", "Twice x."),
        _test(
            "double",
            "core",
            'assert double(2) == 4, "two times two is four"',
            f'assert double({HIDDEN}) == 2 * {HIDDEN}, "it has to work for large numbers"',
        ),
        _test(
            "double",
            "hard",
            'assert double(-1) == -2, "it has to work below zero"',
            f'assert double({HIDDEN}.5) == 2 * {HIDDEN}.5, "it has to work for fractions"',
        ),
        new_code_cell('print("a reading cell")'),
        new_markdown_cell("## Total\n\nWrite `total(rows)`."),
        _exercise("total", "The sum of all numbers in all rows."),
        _test(
            "total",
            "core",
            'assert total([[1, 2], [3]]) == 6, "all rows count"',
            f'assert total([[{HIDDEN}]]) == {HIDDEN}, "one row is enough"',
        ),
        _test(
            "total",
            "hard",
            'assert total([]) == 0, "no rows, no sum"',
            f'assert total([[], [{HIDDEN}]]) == {HIDDEN}, "a row may be empty"',
        ),
        _cell('print("to be looked at")', tags=("show",)),
        _cell(
            'from llm_memory.quiz import quiz\n\nquiz("attention")',
            "quiz_attention",
            1,
            ("keep-output",),
            grade=True,
            locked=True,
        ),
    ]
    for number, cell in enumerate(cells):
        cell.id = (
            cell.metadata.get("nbgrader", {}).get("grade_id", f"cell-{number}").replace("_", "-")
        )
    notebook = new_notebook(cells=cells)
    notebook.metadata.kernelspec = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    return notebook


def cell_of(notebook: NotebookNode, grade_id: str) -> NotebookNode:
    """Return the cell with a grade_id."""
    return next(
        cell
        for cell in notebook.cells
        if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )


@functools.cache
def _released_course() -> tempfile.TemporaryDirectory:
    """Release the lesson once, for all classrooms of this process."""
    kept = tempfile.TemporaryDirectory(prefix="classroom-")
    folder = Path(kept.name)
    for name in ("nbgrader_config.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    source = folder / "source" / LESSON
    source.mkdir(parents=True)
    nbformat.write(lesson(), source / f"{LESSON}.ipynb")
    nbgrader(folder, "generate_assignment", LESSON)
    return kept


class Classroom:
    """A course folder with a released lesson, and the submissions of its class."""

    def __init__(self, folder: Path, settings: str = ""):
        """Put the released lesson in a new folder; `settings` go behind the course's own."""
        self.folder = folder
        shutil.copytree(_released_course().name, folder)
        with (folder / "nbgrader_config.py").open("a") as file:
            file.write(settings)
        self.released = nbformat.read(folder / "release" / LESSON / f"{LESSON}.ipynb", 4)

    def nbgrader(self, *arguments: str, code: int | None = 0, **env: str) -> str:
        """Run an nbgrader command in the course and return what it printed."""
        return nbgrader(self.folder, *arguments, code=code, OMP_NUM_THREADS="1", **env)

    def solved(self) -> NotebookNode:
        """Return the released lesson with both exercises solved."""
        notebook = copy.deepcopy(self.released)
        for name, source in _SOLUTIONS.items():
            cell_of(notebook, name).source = source
        return notebook

    def hand_in(
        self, student: str, notebook: NotebookNode | None = None, choice: str | None = RIGHT
    ) -> Path:
        """Write a submission, by default a solved one with the right answer; return its folder."""
        place = self.folder / "submitted" / student / LESSON
        place.mkdir(parents=True)
        nbformat.write(self.solved() if notebook is None else notebook, place / f"{LESSON}.ipynb")
        (place / "timestamp.txt").write_text("2026-01-05 12:00:00.000000 UTC")
        if choice:
            (place / "quiz_answers.json").write_text(json.dumps(answers(choice)))
        return place

    @contextmanager
    def gradebook(self) -> Iterator[Gradebook]:
        """Open the gradebook."""
        with Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}") as gradebook:
            yield gradebook

    def scores(self, student: str) -> dict[str, float]:
        """Return a student's scores by grade_id."""
        with self.gradebook() as gradebook:
            submission = gradebook.find_submission(LESSON, student)
            return {grade.name: grade.score for grade in submission.notebooks[0].grades}

    def comment(self, student: str, exercise: str) -> str | None:
        """Return the comment on a student's solution cell, as Formgrader shows it."""
        with self.gradebook() as gradebook:
            return gradebook.find_comment(exercise, LESSON, LESSON, student).comment

    def autograded(self, student: str) -> NotebookNode:
        """Return a student's graded notebook."""
        return nbformat.read(self.folder / "autograded" / student / LESSON / f"{LESSON}.ipynb", 4)

    def flags(self, student: str) -> set[str]:
        """Return the reason codes at the top of a student's graded notebook."""
        from nbjudge.codes import all_flags

        return {flag["code"] for flag in all_flags(self.autograded(student))}

    def feedback(self, student: str) -> str:
        """Return a student's feedback page."""
        page = self.folder / "feedback" / student / LESSON / f"{LESSON}.html"
        return page.read_text(encoding="utf-8")


def answers(choice: str, time: str = "2026-01-05T11:00:00+00:00", first: str | None = None) -> dict:
    """Return an answers record for the lesson's quiz."""
    tries = 1 if first is None else 2
    record = {"choice": choice, "first": first or choice, "tries": tries, "time": time}
    return {"schema": 1, "answers": {"attention": record}}
