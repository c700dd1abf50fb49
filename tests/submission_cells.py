"""Notebooks made of a few cells, run as a submission's are."""

from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.run.execution import SandboxedExecute
from traitlets.config import Config

from tests.settings import COURSE


def test_cell(source, name="test_it_core"):
    """Return a test cell, as nbgrader knows it."""
    about = {
        "schema_version": 3,
        "grade_id": name,
        "grade": True,
        "points": 1,
        "locked": True,
        "solution": False,
        "task": False,
    }
    return new_code_cell(source, metadata={"nbgrader": about})


test_cell.__test__ = False


def run_cells(*cells, folder: Path | None = None, config: dict | None = None, **traits):
    """Run cells (sources or cells) in `folder`; returns the notebook.

    config: traits by class name, as in a configuration file; traits: the preprocessor's own.
    """
    cells = [new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    execute = SandboxedExecute(
        config=Config({"NbJudge": COURSE.NbJudge, **(config or {})}), **traits
    )
    resources = {"metadata": {"path": str(folder)}} if folder else {}
    notebook, _ = execute.preprocess(new_notebook(cells=cells), resources)
    return notebook


def printed(cell) -> str:
    """Return what a cell printed, and its value."""
    texts = [o.text for o in cell.outputs if o.output_type == "stream"]
    texts += [o.data["text/plain"] for o in cell.outputs if o.output_type == "execute_result"]
    return "".join(texts)


def errors(cell) -> list[str]:
    """Return the names of a cell's errors."""
    return [output.ename for output in cell.outputs if output.output_type == "error"]


def reason(cell) -> str | None:
    """Return the reason code that stands in a cell."""
    return cell.metadata.get("nbjudge", {}).get("reason")
