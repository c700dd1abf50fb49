"""Shows what stood out in a submission, and marks it as graded to the end."""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_solution

from nbjudge.codes import all_flags, own


class SaveFlags(NbGraderPreprocessor):
    """Shows the flags: in a cell at the top, and in Formgrader's comments on solution cells.

    Stands last, after the grades are saved, and marks the notebook as graded to the end.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Write them down."""
        names = resources["nbgrader"]
        found = all_flags(nb)
        with Gradebook(names["db_url"]) as gradebook:
            for cell in nb.cells:
                if not is_solution(cell):
                    continue
                grade_id = cell.metadata.nbgrader.grade_id
                said = [flag["sentence"] for flag in found if flag["cell"] == grade_id]
                if said:
                    comment = gradebook.find_comment(
                        grade_id, names["notebook"], names["assignment"], names["student"]
                    )
                    if comment.auto_comment:
                        said.insert(0, comment.auto_comment)
                    comment.auto_comment = "\n\n".join(said)
            gradebook.db.commit()
        own(nb).graded = True
        if found:
            lines = ["**What stood out in this submission**", ""]
            for flag in found:
                where = f" `{flag['cell']}`" if flag["cell"] else ""
                lines.append(f"- `{flag['code']}`{where}: {flag['sentence']}")
            note = new_markdown_cell("\n".join(lines), id="what-stood-out")
            if (nb.nbformat, nb.nbformat_minor) < (4, 5):
                del note["id"]
            nb.cells.insert(0, note)
        return nb, resources
