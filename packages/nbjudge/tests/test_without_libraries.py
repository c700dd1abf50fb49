"""The engine where no torch, no NumPy, no Matplotlib, no pandas and no SymPy is installed."""

import os
import subprocess
import sys
import textwrap

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.api import Gradebook

LIBRARIES = ("torch", "numpy", "matplotlib", "pandas", "sympy", "scipy")
# Read by each Python that starts: the commands, the fork server, and so kernels and judges.
ABSENT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LIBRARIES!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
"""
CONFIG = """
from nbjudge import configure

c = get_config()
configure(c)
"""
SOLVED = """
def mean(numbers):
    ### BEGIN SOLUTION
    return sum(numbers) / len(numbers)
    ### END SOLUTION
"""
TEST = """
import fractions
assert mean([1, 2, 6]) == 3
assert mean([fractions.Fraction(1, 2), 1]) == fractions.Fraction(3, 4)
try:
    import numpy
except ImportError:
    pass
else:
    raise RuntimeError("the test of this test: NumPy is there")
"""


def cell(source: str, grade_id: str, test: bool):
    made = new_code_cell(textwrap.dedent(source).strip(), id=grade_id)
    made.metadata["nbgrader"] = {
        "schema_version": 3,
        "grade_id": grade_id,
        "solution": not test,
        "grade": test,
        "locked": test,
        "task": False,
    } | ({"points": 2} if test else {})
    return made


@pytest.fixture
def course(tmp_path):
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "sitecustomize.py").write_text(ABSENT)
    folder = tmp_path / "course"
    (folder / "source" / "ps").mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(CONFIG)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(
        cells=[cell(SOLVED, "mean", False), cell(TEST, "test_mean", True)], metadata=kernel
    )
    nbformat.write(notebook, folder / "source" / "ps" / "ps.ipynb")
    paths = [str(absent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return folder, run


def test_an_assignment_is_released_graded_and_fed_back(course):
    folder, run = course
    run("nbgrader", "generate_assignment", "ps")
    released = nbformat.read(folder / "release" / "ps" / "ps.ipynb", as_version=4)
    answers = {"right": "return sum(numbers) / len(numbers)", "wrong": "return numbers[0]"}
    for student, answer in answers.items():
        handed_in = nbformat.from_dict(released)
        handed_in.cells[0].source = f"def mean(numbers):\n    {answer}"
        place = folder / "submitted" / student / "ps"
        place.mkdir(parents=True)
        nbformat.write(handed_in, place / "ps.ipynb")
    run("nbgrader", "autograde", "ps")
    run("nbgrader", "generate_feedback", "ps")
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        scores = {one.student.id: one.score for one in gradebook.assignment_submissions("ps")}
    assert scores == {"right": 2, "wrong": 0}
    assert (folder / "feedback" / "right" / "ps" / "ps.html").is_file()
