"""Scores and comments by nbgrader's rules, found where the notebook was run."""

from __future__ import annotations

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import compute_checksum, determine_grade, is_grade, is_solution, is_task

from nbjudge.codes import KEY
from nbjudge.steps.findings import FINDINGS, Findings


class FindGrades(NbGraderPreprocessor):
    """Finds each cell's score and comment, as nbgrader's `SaveAutoGrades` would write them.

    That one opens the gradebook, asks it for every cell and commits after each: which was more than
    half of what the process that owns the gradebook computed.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Begin the findings on a notebook that was run."""
        found = resources[FINDINGS] = Findings()
        for cell in nb.cells:
            about = cell.metadata.get("nbgrader", {})
            if is_grade(cell):
                found.scores[about["grade_id"]], _ = determine_grade(cell, self.log)
            if is_solution(cell) or is_task(cell):
                untouched = about.get("checksum") == compute_checksum(cell) and not is_task(cell)
                found.comments[about["grade_id"]] = "No response." if untouched else None
            found.mistakes += cell.metadata.get(KEY, {}).get("mistakes", [])
        found.answers = dict(nb.metadata.get(KEY, {}).get("answers", {}))
        return nb, resources
