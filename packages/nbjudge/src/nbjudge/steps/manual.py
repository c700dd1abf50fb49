"""Leaves to a teacher what the grader could not check: no score, and Formgrader asks for one."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor

from nbjudge.codes import by_hand
from nbjudge.steps.findings import FINDINGS, Findings


class LeaveToTeacher(NbGraderPreprocessor):
    """Takes back the score of each test that has to be graded by hand.

    Stands behind `FindGrades`, which has given such a cell 0 for the error in it. A score that a
    teacher has given stays.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Leave the tests of a notebook that `codes.by_hand` names without a score."""
        found: Findings = resources[FINDINGS]
        sentences = by_hand(nb)
        for cell in nb.cells:
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
            if grade_id in sentences:
                found.scores[grade_id] = None
                text = f"{sentences[grade_id]}\n"
                cell.outputs = [new_output("stream", name="stdout", text=text)]
        return nb, resources
