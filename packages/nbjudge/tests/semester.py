"""A small course for the tests of a class's life: two exercises, a check each, nbgrader's way."""

import json
import shutil
from pathlib import Path

import nbformat
from nbformat import v4
from nbgrader.api import Gradebook

from tests.commands import nbgrader

CONFIG = """
from nbjudge import configure
c = get_config()
c.CourseDirectory.root = {root!r}
c.CourseDirectory.course_id = "small"
c.Exchange.root = {root!r} + "/exchange"
configure(c)
{more}
"""
SOLUTION = """def {name}(x):
    ### BEGIN SOLUTION
    return {body}
    ### END SOLUTION"""
TEST = """assert {name}(2) == {two}
### BEGIN HIDDEN TESTS
assert {name}(3) == {three}
### END HIDDEN TESTS"""


def about(grade_id, **values):
    """Return nbgrader's metadata of a cell."""
    start = {"grade": False, "locked": False, "solution": False, "task": False}
    return {"nbgrader": {**start, "schema_version": 3, "grade_id": grade_id, **values}}


def exercise(name, body, two, three, points=2):
    """Return the cells of an exercise: its solution and its test."""
    solution = v4.new_code_cell(
        SOLUTION.format(name=name, body=body), metadata=about(name, solution=True)
    )
    test = v4.new_code_cell(
        TEST.format(name=name, two=two, three=three),
        metadata=about(f"test_{name}", grade=True, locked=True, points=points),
    )
    solution.id, test.id = name, f"test-{name}"
    return [solution, test]


def lesson():
    """Return the lesson as its author wrote it."""
    head = v4.new_markdown_cell("# A small lesson", metadata={})
    head.id = "head"
    cells = [head, *exercise("double", "2 * x", 4, 6), *exercise("square", "x * x", 4, 9)]
    nb = v4.new_notebook(cells=cells)
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    return nb


def scores(folder: Path, assignment: str):
    """Return each student's scores by cell, from a course's gradebook."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        return {
            submission.student.id: {
                grade.name: grade.score
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in gradebook.assignment_submissions(assignment)
        }


class Semester:
    """A course in a folder, and what happens to it."""

    def __init__(self, folder: Path, more: str = ""):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "exchange").mkdir(exist_ok=True)
        (folder / "exchange").chmod(0o777)
        (folder / "nbgrader_config.py").write_text(CONFIG.format(root=str(folder), more=more))
        self.write(lesson())

    def write(self, notebook, assignment="small"):
        """Write the author's notebook."""
        place = self.folder / "source" / assignment
        place.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, place / f"{assignment}.ipynb")

    def run(self, *arguments, code=0, **env):
        """Run an nbgrader command, and return what it printed."""
        return nbgrader(self.folder, *arguments, code=code, **env)

    @property
    def released(self):
        """The notebook that learners get."""
        return nbformat.read(self.folder / "release/small/small.ipynb", as_version=4)

    def solved(self, **answers):
        """Return the released notebook with functions filled in: name → expression of x."""
        notebook = self.released
        for cell in notebook.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in answers:
                cell.source = f"def {name}(x):\n    return {answers[name]}"
        return notebook

    def hand_in(self, student, notebook, name="small.ipynb", assignment="small"):
        """Write a submission as it may come from anywhere; return its folder."""
        place = self.folder / "submitted" / student / assignment
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(json.dumps(notebook))
        return place

    def scores(self, assignment="small"):
        """Return each student's scores by cell."""
        return scores(self.folder, assignment)

    def flags(self, student, name="small", assignment="small"):
        """Return the flags of a graded notebook: code, cell and sentence of each."""
        path = self.folder / "autograded" / student / assignment / f"{name}.ipynb"
        found = nbformat.read(path, as_version=4).metadata["nbjudge"]["flags"]
        return [(flag["code"], flag["cell"], flag["sentence"]) for flag in found]

    def codes(self, student):
        """Return the codes of a graded notebook's flags, with their cells."""
        return [f"{code} {cell}".strip() for code, cell, _ in self.flags(student)]

    def copy(self, folder):
        """Return a copy of this course in another folder."""
        shutil.copytree(self.folder, folder)
        text = (folder / "nbgrader_config.py").read_text()
        (folder / "nbgrader_config.py").write_text(
            text.replace(repr(str(self.folder)), repr(str(folder)))
        )
        other = object.__new__(Semester)
        other.folder = folder
        return other
