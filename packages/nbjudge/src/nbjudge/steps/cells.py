"""Records a lesson's cells in the gradebook, whether anybody was graded already or not.

nbgrader refuses a lesson with a cell more or less once somebody was graded. Here the cell is put
into, or taken out of, what is recorded of everybody: scores, comments and extra credit that a
teacher gave elsewhere stay, and those of a cell that goes are kept in a file.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from nbformat import NotebookNode
from nbgrader.api import (
    Comment,
    Grade,
    Gradebook,
    MissingEntry,
    Notebook,
    SubmittedNotebook,
)
from nbgrader.preprocessors import SaveCells as StockSaveCells

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER


class SaveCells(StockSaveCells):
    """As nbgrader's, for a lesson that was handed in before it was mended, too."""

    gradebook: Gradebook

    def _create_notebook(self, nb: NotebookNode) -> None:
        try:
            notebook = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        except MissingEntry:
            super()._create_notebook(nb)
            self._hand_in_too()
            return
        if not notebook.submissions:
            super()._create_notebook(nb)
            return
        self._take_out(notebook)
        self.gradebook.db.expire_all()
        for add, kind in (
            (self.gradebook.update_or_create_grade_cell, self.new_grade_cells),
            (self.gradebook.update_or_create_solution_cell, self.new_solution_cells),
            (self.gradebook.update_or_create_task_cell, self.new_task_cells),
            (self.gradebook.update_or_create_source_cell, self.new_source_cells),
        ):
            for name, about in kind.items():
                add(name, self.notebook_id, self.assignment_id, **about)
        notebook = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        notebook.kernelspec = json.dumps(nb.metadata.get("kernelspec", {}))
        new = 0
        for submitted in notebook.submissions:
            new += self._fill_in(notebook, submitted)
        self.gradebook.db.commit()
        if new:
            self.log.warning(
                "%s has cells that it had not when it was handed in: %d submissions have to be "
                "graded again. Run `nbgrader autograde %s` or a class run.",
                *(self.assignment_id, len(notebook.submissions), self.assignment_id),
            )

    def _hand_in_too(self) -> None:
        """Let who has handed in the assignment have handed in the notebook that is new in it."""
        assignment = self.gradebook.find_assignment(self.assignment_id)
        notebook = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        for submission in assignment.submissions:
            submitted = SubmittedNotebook(notebook=notebook, assignment=submission)
            self.gradebook.db.add(submitted)
            self.gradebook.db.flush()
            self._fill_in(notebook, submitted)
        self.gradebook.db.commit()

    def _fill_in(self, notebook: Notebook, submitted: SubmittedNotebook) -> int:
        """Make the rows for grades and comments that a submission lacks; return their number."""
        graded = {grade.cell_id for grade in submitted.grades}
        commented = {comment.cell_id for comment in submitted.comments}
        new: list[Any] = [
            Grade(cell_id=cell.id, notebook=submitted)
            for cell in [*notebook.grade_cells, *notebook.task_cells]
            if cell.id not in graded
        ]
        new += [
            Comment(cell_id=cell.id, notebook=submitted)
            for cell in [*notebook.solution_cells, *notebook.task_cells]
            if cell.id not in commented
        ]
        self.gradebook.db.add_all(new)
        return len(new)

    def _take_out(self, notebook: Notebook) -> None:
        """Take the cells that the lesson has no longer out of the gradebook."""
        database, lost = self.gradebook.db, []
        for cells, new in (
            (notebook.grade_cells, self.new_grade_cells),
            (notebook.task_cells, self.new_task_cells),
            (notebook.solution_cells, self.new_solution_cells),
            (notebook.source_cells, self.new_source_cells),
        ):
            for cell in [cell for cell in cells if cell.name not in new]:
                for grade in list(getattr(cell, "grades", [])):
                    given = {
                        "manual_score": grade.manual_score,
                        "extra_credit": grade.extra_credit,
                    }
                    if any(value is not None for value in given.values()):
                        lost.append({"student": grade.student.id, "cell": cell.name, **given})
                    database.delete(grade)
                for comment in list(getattr(cell, "comments", [])):
                    if comment.manual_comment:
                        lost.append(
                            {
                                "student": comment.student.id,
                                "cell": cell.name,
                                "manual_comment": comment.manual_comment,
                            }
                        )
                    database.delete(comment)
                database.flush()
                database.delete(cell)
        if lost:
            self._keep(lost)
        database.commit()

    def _keep(self, lost: list[dict[str, Any]]) -> None:
        """Write down what a teacher gave for cells that are no more."""
        course = self.parent.parent.coursedir if self.parent is not None else None
        root = course.root if course else os.getcwd()
        path = graders.folder(root, OWN_FOLDER) / "taken-out.jsonl"
        about = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "assignment": self.assignment_id,
            "notebook": self.notebook_id,
        }
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({**about, **entry}) + "\n" for entry in lost)
        self.log.warning(
            "%d scores and comments that a teacher gave were of cells that the lesson no longer "
            "has. They are kept in %s.",
            *(len(lost), path),
        )
