"""Run each released lesson, unsolved, from top to bottom; say what stops where it should not."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS = 600  # for one cell: a slow machine is not a fault


def faults(path: Path) -> list[str]:
    """Return what went wrong in a lesson besides its open exercises, a line for each."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, allow_errors=True, timeout=SECONDS, resources=resources).execute()
    return [
        f"{path}, cell {cell.id}: {output.ename}: {output.evalue}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "error" and output.ename != "NotImplementedError"
    ]


def main() -> int:
    """Run all lessons of this folder; return the exit code."""
    found = []
    for path in sorted(Path(__file__).resolve().parent.glob("release/*/*.ipynb")):
        print(f"{path.stem} …", flush=True)
        found += faults(path)
    print("\n".join(found) or "Every lesson runs to its end; only exercises are open.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
