"""The engine where none of the libraries is installed whose values it knows how to send."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook

from packages.nbjudge.tests.test_as_stock import cell, save

pytestmark = pytest.mark.slow

#: Python loads a module of this name from its path before anything else runs.
BLOCK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "numpy", "matplotlib", "pandas", "sympy", "scipy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
CONFIG = """
from nbjudge import configure
c = get_config()
c.CourseDirectory.course_id = "bare"
configure(c)
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    """Release a small assignment, hand in a right and a wrong notebook, and grade them."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "block").mkdir()
    (folder / "block" / "sitecustomize.py").write_text(BLOCK, encoding="utf-8")
    (folder / "nbgrader_config.py").write_text(CONFIG, encoding="utf-8")
    answer = "def f(words):\n    ### BEGIN SOLUTION\n    return sorted(words)\n    ### END SOLUTION"
    test = cell("assert f({'b', 'a'}) == ['a', 'b']", "test_f", 2, grade=True, locked=True)
    save(folder / "source" / "ps" / "a.ipynb", cell(answer, "f", solution=True), test)
    for student, source in {"ada": answer, "bob": "def f(words): return list('ba')"}.items():
        save(
            folder / "submitted" / student / "ps" / "a.ipynb",
            cell(source, "f", solution=True),
            test,
        )
    paths = os.pathsep.join([str(folder / "block"), *filter(None, sys.path)])
    for command in ("generate_assignment", "autograde"):
        done = subprocess.run(
            [sys.executable, "-m", "nbgrader", command, "ps"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
    return folder


def test_nothing_of_them_is_needed(course):
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        found = {s: gradebook.find_submission("ps", s).score for s in ("ada", "bob")}
    assert found == {"ada": 2, "bob": 0}


def test_they_are_missing_indeed(course):
    paths = os.pathsep.join([str(course / "block"), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", "import numpy"],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert "No module named 'numpy'" in done.stderr
