"""What stays of a notebook's outputs when a lesson is released, and when it is graded."""

from __future__ import annotations

from nbformat import NotebookNode
from nbgrader.preprocessors import ClearOutput as StockClearOutput
from nbgrader.preprocessors import NbGraderPreprocessor

#: A cell with this tag keeps its output in the release: a quiz, a picture without a solution.
KEEP_OUTPUT = "keep-output"
_WIDGET = "application/vnd.jupyter.widget-"


def drop_widget_state(nb: NotebookNode) -> None:
    """Remove the state of widgets, which holds whatever they last showed."""
    nb.metadata.pop("widgets", None)


class ClearOutput(StockClearOutput):
    """nbgrader's, except for cells tagged `keep-output`.

    Of those the parts that differ from run to run go: execution counts and references to
    widgets, which live in a kernel. The notebook's widget state goes in any case.
    """

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Clear a notebook."""
        drop_widget_state(nb)
        return super().preprocess(nb, resources)

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Clear a cell, or the random parts of it."""
        if cell.cell_type != "code" or KEEP_OUTPUT not in cell.metadata.get("tags", []):
            return super().preprocess_cell(cell, resources, index)
        cell.execution_count = None
        cell.metadata.pop("execution", None)
        kept = []
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = None
            if "data" in output:
                for mime in [mime for mime in output.data if mime.startswith(_WIDGET)]:
                    del output.data[mime]
                if not output.data and not output.metadata:
                    continue
            kept.append(output)
        cell.outputs = kept
        return cell, resources


class DropWidgetState(NbGraderPreprocessor):
    """Removes what an execution stores about widgets in a notebook's metadata."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Drop it."""
        drop_widget_state(nb)
        return nb, resources
