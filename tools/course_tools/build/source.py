"""Execute a solved lesson and make what nbgrader's `source/` holds, the same on every run."""

from __future__ import annotations

import re
import tempfile

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from course_tools.build.lesson import LessonError

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_TIMEOUT = 300  # seconds; a hang is an error, a slow machine is not


def execute(notebook: NotebookNode, lesson: str) -> NotebookNode:
    """Run every cell in place and return the notebook with outputs, its random parts dropped.

    Raises `LessonError` naming notebook and cell at the first error.
    """
    running: list[NotebookNode] = []
    with tempfile.TemporaryDirectory() as folder:
        # A folder of its own: a quiz answer written while building must not land in source/.
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            record_timing=False,
            coalesce_streams=True,  # else a print may come in one piece or two, by chance
            resources={"metadata": {"path": folder}},
            force_raise_errors=True,
            extra_arguments=["--log-level=ERROR"],
            on_cell_execute=lambda cell, cell_index: running.append(cell),
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell = running[-1].id if running else "?"
            raise LessonError(f"{lesson}, cell {cell}: {error}") from error
    return drop_random_parts(notebook)


def keep_outputs(notebook: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """Give `notebook` the outputs of one with the same code cells, and return it."""
    code = [
        [cell for cell in cells if cell.cell_type == "code"]
        for cells in (notebook.cells, executed.cells)
    ]
    for cell, run in zip(*code, strict=True):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    return drop_random_parts(notebook)


def drop_random_parts(notebook: NotebookNode) -> NotebookNode:
    """Drop widget state, model ids, timings and the interpreter's name; return the notebook.

    `metadata.widgets` would hold a solved picture, and nbgrader's `ClearOutput` leaves it there.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = NotebookNode(name="python")
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for index, output in enumerate(cell.get("outputs", [])):
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view:
                view["model_id"] = f"{cell.id}-{index}"
                text = output["data"].get("text/plain", "")
                # A widget's repr holds its whole value, pictures included.
                output["data"]["text/plain"] = re.sub(r"^([A-Z]\w+)\(.*\)$", r"\1()", text)
    return notebook
