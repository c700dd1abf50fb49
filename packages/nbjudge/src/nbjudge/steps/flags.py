"""Shows what stood out in a submission, and marks it as graded to the end."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_solution

from nbjudge.codes import all_flags, own
from nbjudge.steps.findings import FINDINGS, Findings


class SaveFlags(NbGraderPreprocessor):
    """Shows the flags: in a cell at the top, and in Formgrader's comments on solution cells.

    Stands last, after the grades are found, and marks the notebook as graded to the end.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Write them down."""
        found: Findings = resources[FINDINGS]
        flags = found.flags = [dict(flag) for flag in all_flags(nb)]
        for cell in nb.cells:
            if not is_solution(cell):
                continue
            grade_id = cell.metadata.nbgrader.grade_id
            said = [flag["sentence"] for flag in flags if flag["cell"] == grade_id]
            if said:
                before = found.comments[grade_id]
                found.comments[grade_id] = "\n\n".join([before, *said] if before else said)
        own(nb).graded = True
        if flags:
            lines = ["**What stood out in this submission**", ""]
            for flag in flags:
                where = f" `{flag['cell']}`" if flag["cell"] else ""
                lines.append(f"- `{flag['code']}`{where}: {flag['sentence']}")
            note = new_markdown_cell("\n".join(lines), id="what-stood-out")
            if (nb.nbformat, nb.nbformat_minor) < (4, 5):
                del note["id"]
            nb.cells.insert(0, note)
        return nb, resources
