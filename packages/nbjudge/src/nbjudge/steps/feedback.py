"""The feedback page: what was tested and what went wrong, without the hidden tests' code."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.api import BaseCell, Comment, Grade, Gradebook, MissingEntry
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    GetGrades,
    NbGraderPreprocessor,
)
from nbgrader.utils import is_grade, is_solution

from nbjudge.codes import KEY
from nbjudge.wire import course, named

#: Characters of what a table says of an exercise.
MAX_SAID = 300


class WithoutHiddenTests(NbGraderPreprocessor):
    """Leaves of each test cell what learners were given, and of an error its message.

    A traceback quotes the line that failed, which may be a hidden one, and the file names of the
    grader's machine: it goes, but for the judge's word on where in the learner's code it was.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Clean a graded notebook for its learner."""
        for step in (ClearHiddenTests, ClearMarkScheme):
            nb, resources = step(parent=self).preprocess(nb, resources)
        nb, resources = super().preprocess(nb, resources)
        overview = _overview(nb)
        if overview:
            cell = new_markdown_cell(overview, id="overview")
            if (nb.nbformat, nb.nbformat_minor) < (4, 5):
                del cell["id"]
            nb.cells.insert(0, cell)
        return nb, resources

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Clean the outputs of a cell."""
        if cell.cell_type == "code" and is_grade(cell) and not is_solution(cell):
            for output in cell.outputs:
                if output.output_type == "error":
                    where = [line for line in output.traceback if line.startswith("in your ")]
                    output.traceback = [_message(output), *where]
        return cell, resources


@dataclass
class _Row:
    score: float = 0.0
    points: float = 0.0
    open: bool = False
    said: list[str] = field(default_factory=list)


def _overview(nb: NotebookNode) -> str:
    """Return the table that a page opens with: each exercise, its points, and what was said."""
    rule = course.here().exercise_of
    exercise_of = named.load(rule) if rule else lambda test, exercises: None
    exercises = [cell.metadata.nbgrader.grade_id for cell in nb.cells if is_solution(cell)]
    rows: dict[str, _Row] = {}
    for cell in nb.cells:
        if not is_grade(cell):
            continue
        about = cell.metadata.nbgrader
        row = rows.setdefault(exercise_of(about.grade_id, exercises) or about.grade_id, _Row())
        row.points += float(about.get("points") or 0)
        row.score += float(about.get("score") or 0)
        ours = cell.metadata.get(KEY, {})
        row.open |= ours.get("reason") in ("unchecked", "by_hand")
        row.said += [said] if (said := said_of(cell)) else []
    if not rows:
        return ""
    lines = ["| Exercise | Points | |", "|:---|---:|:---|"]
    for name, row in rows.items():
        said = _one_line(row.said[0]) if row.said else ""
        if not said:
            said = "a teacher will look at it" if row.open else ""
        if not said:
            said = "✔" if row.score >= row.points else "no points yet"
        lines.append(f"| {_one_line(name)} | {row.score:g} of {row.points:g} | {said} |")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    """Return text as one cell of a table, whatever a learner's code wrote into it."""
    shown = html.escape(" ".join(text.split())[:MAX_SAID])
    return re.sub(r"([\\`*_\[\]|$~^])", lambda match: f"&#{ord(match[1])};", shown)


def said_of(cell: Mapping[str, Any]) -> str:
    """Return the sentence that a graded cell's learner is told first; "" if there is none."""
    ours = cell["metadata"].get(KEY, {})
    if ours.get("detail"):
        return str(ours["detail"])
    errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
    return _message(errors[0]) if errors else ""


def _message(output: Mapping[str, Any]) -> str:
    name, value = output["ename"], output["evalue"]
    if name in ("AssertionError", "CheckFailed") and value:
        return f"✘ {value}"
    return f"✘ {name}: {value}" if value else f"✘ {name}"


class ReadGrades(GetGrades):
    """Puts scores and comments into a notebook, as nbgrader's `GetGrades`, which asks cell by cell.

    The gradebook stays open from one notebook to the next.
    """

    _opened: Gradebook | None = None

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Read what the gradebook holds of a notebook; `MissingEntry` if that is nothing."""
        names = resources["nbgrader"]
        if self._opened is None:
            self._opened = Gradebook(names["db_url"])
        db = self._opened.db
        try:
            notebook = self._opened.find_submission_notebook(
                names["notebook"], names["assignment"], names["student"]
            )
            grades = db.query(BaseCell.name, Grade.score, Grade.max_score)
            grades = grades.join(Grade, Grade.cell_id == BaseCell.id)
            comments = db.query(BaseCell.name, Comment.comment)
            comments = comments.join(Comment, Comment.cell_id == BaseCell.id)
            self._grades = {
                name: (score, most)
                for name, score, most in grades.filter(Grade.notebook_id == notebook.id)
            }
            self._comments = dict(comments.filter(Comment.notebook_id == notebook.id).all())
            nb, resources = NbGraderPreprocessor.preprocess(self, nb, resources)
            penalty = notebook.late_submission_penalty or 0
            if penalty:
                self.log.warning("Late submission penalty: %s", penalty)
            names["score"] = notebook.score - penalty
            names["max_score"] = notebook.max_score
            names["late_penalty"] = penalty
        finally:
            db.rollback()  # holds nothing back from who writes meanwhile
        return nb, resources

    def _get_comment(self, cell: NotebookNode, resources: dict) -> None:
        cell.metadata.nbgrader["comment"] = _of(self._comments, cell)

    def _get_score(self, cell: NotebookNode, resources: dict) -> None:
        about = cell.metadata.nbgrader
        about["score"], about["points"] = _of(self._grades, cell)


def _of(rows: dict[str, Any], cell: NotebookNode) -> Any:
    name = cell.metadata.nbgrader["grade_id"]
    try:
        return rows[name]
    except KeyError:
        raise MissingEntry(f"The gradebook has nothing about {name!r} of this submission") from None
