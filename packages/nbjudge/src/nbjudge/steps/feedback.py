"""The feedback page: what was tested and what went wrong, without the hidden tests' code."""

from __future__ import annotations

from typing import Any

from nbformat import NotebookNode
from nbgrader.api import BaseCell, Comment, Grade, Gradebook, MissingEntry
from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    GetGrades,
    NbGraderPreprocessor,
)
from nbgrader.utils import is_grade, is_solution


class WithoutHiddenTests(NbGraderPreprocessor):
    """Leaves of each test cell what learners were given, and of an error its message.

    A traceback quotes the line that failed, which may be a hidden one, and the file names of the
    grader's machine: it goes, but for the judge's word on where in the learner's code it was.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Clean a graded notebook for its learner."""
        for step in (ClearHiddenTests, ClearMarkScheme):
            nb, resources = step(parent=self).preprocess(nb, resources)
        return super().preprocess(nb, resources)

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


def _message(output: NotebookNode) -> str:
    if output.ename in ("AssertionError", "CheckFailed") and output.evalue:
        return f"✘ {output.evalue}"
    return f"✘ {output.ename}: {output.evalue}" if output.evalue else f"✘ {output.ename}"


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
