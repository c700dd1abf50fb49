"""The feedback page: what was tested and what went wrong, without the hidden tests' code."""

from __future__ import annotations

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, NbGraderPreprocessor
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
