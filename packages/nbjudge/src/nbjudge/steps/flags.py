"""Flags: what stood out in a submission, for the instructor and, as a sentence, for the learner.

A flag has a reason code, the cell it is about (if any) and one sentence. Flags travel in the
notebook's metadata between nbgrader's two passes, stand at the top of the graded notebook and in
the comments of Formgrader, and are counted in the summary at the end of a run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_solution

from nbjudge.codes import KEY, REASONS


@dataclass(frozen=True)
class Flag:
    """One reason code with the grade_id it is about ("" for the whole notebook) and a detail."""

    code: str
    cell: str = ""
    detail: str = ""

    @property
    def sentence(self) -> str:
        """The sentence for the learner: plain text, never markup from the submission."""
        return REASONS[self.code].sentence.format(what=self.detail or self.cell)


def shown(name: str, limit: int = 60) -> str:
    """Return text of a learner's as it may stand in a page: short, and no markup in it."""
    return re.sub(r"[^\w .,:;()+-]", "?", name[:limit])


def record(nb: NotebookNode, flags: list[Flag]) -> None:
    """Add flags to those that the notebook carries, each once."""
    carried = nb.metadata.setdefault(KEY, NotebookNode()).setdefault("flags", [])
    for flag in flags:
        entry = NotebookNode(code=flag.code, cell=flag.cell, sentence=flag.sentence)
        if entry not in carried:
            carried.append(entry)


def all_flags(nb: NotebookNode | dict[str, Any]) -> list[dict[str, str]]:
    """Return the flags that a notebook carries: dicts with `code`, `cell` and `sentence`.

    The execution adds the reasons of the cells to those of the rebuild.
    """
    return nb["metadata"].get(KEY, {}).get("flags", [])


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
        nb.metadata.setdefault(KEY, NotebookNode()).graded = True
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
