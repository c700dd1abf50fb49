"""Leaves to a teacher what the grader could not check: no score, and Formgrader asks for one."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor

from nbjudge.codes import by_hand


class LeaveToTeacher(NbGraderPreprocessor):
    """Takes back nbgrader's score of each test that has to be graded by hand.

    Stands behind `SaveAutoGrades`, which has given such a cell 0 for the error in it. A score that
    a teacher has given stays.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Leave the tests of a notebook that `codes.by_hand` names without a score."""
        sentences = by_hand(nb)
        cells = {cell.metadata.get("nbgrader", {}).get("grade_id"): cell for cell in nb.cells}
        if not sentences:
            return nb, resources
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            for grade_id, sentence in sentences.items():
                grade = gradebook.find_grade(
                    grade_id, names["notebook"], names["assignment"], names["student"]
                )
                grade.auto_score, grade.needs_manual_grade = None, True
                cells[grade_id].outputs = [
                    new_output("stream", name="stdout", text=f"{sentence}\n")
                ]
            gradebook.db.commit()
        return nb, resources
