"""Outputs of a learner's code as they may stand in a page that an instructor opens.

Formgrader and the feedback put HTML, scripts and vector graphics of an output into their page as
they are, with the rights of whoever reads it. So only text and bitmaps stay, within bounds.
"""

from __future__ import annotations

import re

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade
from traitlets import Integer

from nbjudge.codes import Flag, record

_BITMAPS = ("image/png", "image/jpeg")


class SafeOutputs(NbGraderPreprocessor):
    """Keeps text and bitmaps of each output. Stands after the execution.

    What a test cell writes to stderr counts as printed: a warning beside a right answer costs
    no points.
    """

    max_outputs = Integer(100, help="Outputs kept of a cell.").tag(config=True)
    max_text = Integer(20_000, help="Characters of text kept of an output.").tag(config=True)
    max_bitmap = Integer(2_000_000, help="Base64 characters of a picture kept.").tag(config=True)
    max_all_text = Integer(
        1_000_000, help="Characters of text kept of all outputs of a notebook together."
    ).tag(config=True)
    max_all_bitmaps = Integer(
        20_000_000, help="Base64 characters of all pictures of a notebook together."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Make the outputs of a notebook safe."""
        self._text_left, self._bitmaps_left = self.max_all_text, self.max_all_bitmaps
        self._cut_any = False
        nb, resources = super().preprocess(nb, resources)
        if self._cut_any:
            record(nb, [Flag("cut_in_page", detail="its outputs")])
        return nb, resources

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Make the outputs of a cell safe."""
        if cell.cell_type != "code":
            return cell, resources
        outputs = [self._safe(output, is_grade(cell)) for output in cell.outputs]
        # Whatever is cut, an error stays: it decides about the points.
        shown, rest = outputs[: self.max_outputs], outputs[self.max_outputs :]
        if rest:
            shown.append(new_output("stream", name="stdout", text=f"… {len(rest)} outputs cut\n"))
            shown.extend([output for output in rest if output.output_type == "error"][:1])
        cell.outputs = shown
        return cell, resources

    def _safe(self, output: NotebookNode, graded: bool) -> NotebookNode:
        kind = output.output_type
        if kind == "stream":
            name = "stdout" if graded else output.name
            return new_output("stream", name=name, text=self._cut(output.text))
        if kind == "error":
            return new_output(
                "error",
                ename=self._cut(output.ename)[:200],
                evalue=self._cut(output.evalue),
                traceback=[self._cut(line) for line in output.traceback[-50:]],
            )
        data = {mime: output.data[mime] for mime in _BITMAPS if self._takes(output.data.get(mime))}
        plain = output.data.get("text/plain")
        if plain is not None:
            data["text/plain"] = self._cut(plain)
        elif not data:
            data["text/plain"] = "(an output that is not shown here)"
        if kind == "execute_result":
            return new_output(kind, data, execution_count=output.get("execution_count"))
        return new_output("display_data", data)

    def _cut(self, text: str | list[str]) -> str:
        text = "".join(text)
        room = max(0, min(self.max_text, self._text_left))
        self._text_left -= min(len(text), room)
        if len(text) <= room:
            return text
        self._cut_any = self._cut_any or room < self.max_text
        return f"{text[:room]}\n… {len(text) - room:,} characters cut\n"

    def _takes(self, value: object) -> bool:
        """Whether a picture is kept: whether it is one, and there is room for it."""
        if not self._is_bitmap(value):
            return False
        size = len(value)  # type: ignore[arg-type]
        if size > self._bitmaps_left:
            self._cut_any = True
            return False
        self._bitmaps_left -= size
        return True

    def _is_bitmap(self, value: object) -> bool:
        return (
            isinstance(value, str)
            and len(value) <= self.max_bitmap
            and re.fullmatch(r"[A-Za-z0-9+/=\s]*", value) is not None
        )
