"""What each step of a lesson's build is made from, as one digest a step.

A step is done again when its digest changed, and only then: an edit of prose makes a new release,
and executes nothing. The steps and what they are made from:

fingerprints
    the exercises' cells, the points of their tests, the bank of mistakes, and what compares both
run
    the code cells, the package that they import, and the releases of the libraries below it
release
    the source notebook, nbgrader and its configuration, and the whole grading engine

The outputs of the last run are taken out of `source/`, which has them already. jupyter-cache does
not fit: it would keep every output a second time, in a database, and it knows a notebook by its
code cells alone, so a change of the package would go unnoticed.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from nbformat import NotebookNode
from packaging.requirements import Requirement

from course_tools.build.lesson import grade_id, is_exercise, is_graded, is_quiz, quiz_name, tags

PACKAGE = "src/llm_memory"
TOOLS = "tools/course_tools"
ENGINE = "packages/nbjudge/src/nbjudge"
FINGERPRINTS = f"{PACKAGE}/check/fingerprints"
#: Read and write every lesson.
SHARED = (f"{TOOLS}/build/lesson.py", f"{TOOLS}/build/course.py")


def of_fingerprints(folder: Path, name: str, notebook: NotebookNode) -> str:
    """Return the digest of what the fingerprints of the lesson `name` are made from."""
    asked = [
        [cell.source, cell.metadata.get("nbgrader"), quiz_name(cell)]
        for cell in notebook.cells
        if is_exercise(cell) or is_graded(cell) or is_quiz(cell) or grade_id(cell) == "imports"
    ]
    files = [
        *(f"{TOOLS}/mistakes/bank.py", f"{TOOLS}/mistakes/{name}.py"),
        *(*SHARED, f"{TOOLS}/build/fingerprints.py"),
    ]
    return _digest(folder, [*files, *_package(folder)], [asked, _releases("llm-memory")])


def of_run(folder: Path, name: str, notebook: NotebookNode) -> str:
    """Return the digest of what the outputs of the lesson `name` depend on."""
    code = [[cell.source, tags(cell)] for cell in notebook.cells if cell.cell_type == "code"]
    files = [*SHARED, f"{TOOLS}/build/source.py", f"{FINGERPRINTS}/{name}.json"]
    return _digest(folder, [*files, *_package(folder)], [code, _releases("llm-memory")])


def of_release(folder: Path, name: str) -> str:
    """Return the digest of what the release of the lesson `name` is made from."""
    files = [
        *(f"source/{name}/{name}.ipynb", "nbgrader_config.py", f"{TOOLS}/grading.py"),
        *(*_python(folder / ENGINE, folder), f"{PACKAGE}/quiz/bank.json"),
    ]
    return _digest(folder, files, [_releases("nbjudge")])


def of_file(path: Path) -> str:
    """Return the digest of one file's content; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _package(folder: Path) -> list[str]:
    """Return the files of what lessons import, without the fingerprints, which are built."""
    return [
        name
        for name in _python(folder / PACKAGE, folder)
        if not name.startswith(f"{FINGERPRINTS}/")
    ]


def _python(part: Path, folder: Path) -> list[str]:
    paths = (path for path in part.rglob("*") if path.is_file())
    return sorted(
        path.relative_to(folder).as_posix() for path in paths if "__pycache__" not in path.parts
    )


def _releases(distribution: str) -> list[str]:
    """Return Python's release and those of the libraries that a distribution requires."""
    found = [f"python {platform.python_version()}"]
    for line in metadata.requires(distribution) or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found.append(f"{needed.name} {metadata.version(needed.name)}")
    return sorted(found)


def _digest(folder: Path, files: Iterable[str], data: list) -> str:
    """Return one digest of files, by name and content, and of JSON data."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for name in files:
        digest.update(f"{name}\0{of_file(folder / name)}\0".encode())
    return digest.hexdigest()
