"""What a page can show of a learner's source: highlighting takes seconds for what nobody reads."""

from __future__ import annotations

import re

from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_locked, is_solution
from traitlets import Integer

from nbjudge.codes import Flag, record

#: More empty lines than this in a row: the highlighter needs their square.
_MANY_EMPTY = re.compile(r"(?:[^\S\n]*\n){20,}")
#: More blanks than this in a row, likewise.
_MANY_BLANKS = re.compile(r"[^\S\n]{200,}")


class FitPages(NbGraderPreprocessor):
    """Cuts the sources of a graded notebook that are too large for a page, and says so.

    Stands behind the grades. Feedback and Formgrader show what is left; `submitted/` has all of it.
    What the course wrote stays as it is.
    """

    max_source = Integer(12_000, help="Characters shown of one cell.").tag(config=True)
    max_lines = Integer(600, help="Lines shown of one cell.").tag(config=True)
    max_line = Integer(2_000, help="Characters shown of one line.").tag(config=True)
    max_sources = Integer(
        200_000, help="Characters shown of all cells of a learner's together."
    ).tag(config=True)
    max_cells = Integer(500, help="Cells shown that a learner added.").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Cut what is too large."""
        left, added, cut, kept = self.max_sources, 0, [], []
        for cell in nb.cells:
            if is_locked(cell) or (is_grade(cell) and not is_solution(cell)):
                kept.append(cell)
                continue
            if "nbgrader" not in cell.metadata and str(cell.get("id", "")).startswith("added-"):
                added += 1
                if added > self.max_cells:
                    continue
            whole = cell.source
            shown = self._fitting(whole, left)
            left -= min(left, len(shown))
            if shown != whole:
                cell.source = _closed(shown, whole, cell.cell_type)
                cut.append(cell.metadata.get("nbgrader", {}).get("grade_id") or "an added cell")
            kept.append(cell)
        if added > self.max_cells:
            cut.append(f"{added - self.max_cells} added cells")
            nb.cells = kept
        if cut:
            names = list(dict.fromkeys(cut))
            record(nb, [Flag("cut_in_page", detail=", ".join(names[:5]))])
        return nb, resources

    def _fitting(self, source: str, room: int) -> str:
        """Return as much of a source as fits."""
        if (
            len(source) <= min(room, self.max_line)
            and source.count("\n") < 20
            and not _MANY_BLANKS.search(source)
        ):
            return source
        # In this order: lines of blanks without end take the second its square, too.
        text = _MANY_BLANKS.sub(" ", source[: 4 * self.max_source])
        text = _MANY_EMPTY.sub("\n\n", text)
        text = text[: min(room, self.max_source)]
        lines = text.split("\n")[: self.max_lines]
        return "\n".join(line[: self.max_line] for line in lines)


def _closed(shown: str, whole: str, kind: str) -> str:
    """Return what is left of a source with a word about the rest; a fence around it is closed."""
    said = f"… {len(whole) - len(shown):,} characters are not shown. They were graded, too."
    if kind == "code":
        return f"{shown}\n# {said}"
    fence = re.match(r"`{3,}\n", whole)
    return f"{shown}\n{fence[0]}\n{said}" if fence else f"{shown}\n\n{said}"
