"""What stock nbgrader does around a grade, with nbgrader's own command and the engine on."""

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from nbformat import NotebookNode, read, write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.apps import AutogradeApp
from nbjudge.classes.class_run import ClassRun

from tests.commands import nbgrader

pytestmark = pytest.mark.slow

CONFIG = """
from nbjudge import configure

c = get_config()
c.CourseDirectory.course_id = "stock"
configure(c)
c.ClearSolutions.begin_solution_delimeter = "SOLUTION{"
c.ClearSolutions.end_solution_delimeter = "}SOLUTION"
c.ClearSolutions.code_stub = {"python": "...  # yours", "echo": "yours"}
c.ClearHiddenTests.begin_test_delimeter = "HIDDEN{"
c.ClearHiddenTests.end_test_delimeter = "}HIDDEN"
c.IncludeHeaderFooter.header = "header.ipynb"
c.LateSubmissionPlugin.penalty_method = "zero"
c.Autograde.exclude_overwriting = {"ps1": ["data/theirs.txt"]}
"""

#: A kernel of another language: it prints what it is given, and `need x` fails before x was given.
ECHO = """
import os
from ipykernel.kernelbase import Kernel
from ipykernel.kernelapp import IPKernelApp
class Echo(Kernel):
    implementation = banner = "echo"
    implementation_version = "1"
    language_info = {"name": "echo", "mimetype": "text/plain", "file_extension": ".txt"}
    def do_execute(self, code, silent, *rest, **more):
        base = {"execution_count": self.execution_count}
        self.given = getattr(self, "given", []) + code.splitlines()
        if code.startswith("need") and code.split()[1] not in self.given:
            error = {"ename": "Missing", "evalue": code, "traceback": [code]}
            self.send_response(self.iopub_socket, "error", error)
            return {**base, **error, "status": "error"}
        if code.startswith("look"):
            code = str(os.path.exists(code.split()[1]))
        self.send_response(self.iopub_socket, "stream", {"name": "stdout", "text": code})
        return {**base, "status": "ok", "payload": [], "user_expressions": {}}
IPKernelApp.launch_instance(kernel_class=Echo)
"""


def cell(source, name=None, points=None, **kinds):
    """Return a cell with nbgrader's metadata: `solution`, `grade`, `task` or `locked` set."""
    text = kinds.pop("text", False)
    new = new_markdown_cell(source) if text else new_code_cell(source)
    if name is not None:
        flags = {kind: False for kind in ("solution", "grade", "task", "locked")} | kinds
        new.metadata.nbgrader = NotebookNode(flags, grade_id=name, schema_version=3)
        if points is not None:
            new.metadata.nbgrader.points = points
    return new


def save(path, *cells, kernel="python"):
    """Write a notebook of these cells."""
    nb = new_notebook(cells=list(cells))
    nb.metadata.kernelspec = {"name": kernel, "display_name": kernel, "language": kernel}
    path.parent.mkdir(parents=True, exist_ok=True)
    write(nb, path)


A_FILE = """
import os
os.makedirs("out", exist_ok=True)
open("out/result.txt", "w").write(open("data/table.csv").read().upper())
open("data/theirs.txt", "a").write(", and more")
"""
#: What a learner may try with files that they write.
HOSTILE_FILES = """
os.symlink("/etc/passwd", "link.txt")
os.symlink("/etc", "linked")
os.mkfifo("pipe")
open("data/table.csv", "w").write("mine")
open("a.ipynb", "w").write("{}")
open("timestamp.txt", "w").write("2099-01-01 00:00:00 UTC")
open("line\\nbreak", "w").write("x")
open("large.bin", "wb").truncate(300_000_000)
for number in range(500):
    open(f"many{number:03}", "w").write("x")
"""


class Course:
    """A course of two notebooks in one assignment, and another in another language."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.db = f"sqlite:///{folder / 'gradebook.db'}"
        (folder / "nbgrader_config.py").write_text(CONFIG)
        save(folder / "header.ipynb", cell("from math import floor"))
        source = folder / "source" / "ps1"
        save(
            source / "a.ipynb",
            cell(
                "def double(x):\n    SOLUTION{\n    return 2 * floor(x)\n    }SOLUTION",
                "double",
                solution=True,
            ),
            cell(
                "assert double(1) == 2\nHIDDEN{\nassert double(3) == 6\n}HIDDEN".replace(
                    "HIDDEN{", "# HIDDEN{"
                ).replace("}HIDDEN", "# }HIDDEN"),
                "test_double",
                2,
                grade=True,
                locked=True,
            ),
            cell("# the file\nSOLUTION{\npass\n}SOLUTION", "file", solution=True),
            cell("double(2) / 4", "part", 2, grade=True, locked=True),
            cell("Why?", "why", 3, solution=True, grade=True, text=True),
            cell("Draw it.", "draw", 4, task=True, locked=True, text=True),
        )
        save(
            source / "b.ipynb",
            cell("y = 0", "y", solution=True),
            cell("assert y == 1", "test_y", 5, grade=True, locked=True),
        )
        for name in ("helper.py", "data/table.csv", "data/theirs.txt"):
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_text(f"course: {name}")
        save(
            folder / "source" / "ps2" / "e.ipynb",
            cell("SOLUTION{\nhello\n}SOLUTION", "say", solution=True),
            cell("need hello", "test_say", 1, grade=True, locked=True),
            cell(f"look {folder}", "look"),
            kernel="echo",
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run an nbgrader command in the course."""
        return nbgrader(self.folder, *arguments, code=code)

    def hand_in(self, student: str, assignment: str = "ps1", late: bool = False, **answers: str):
        """Hand the released notebooks in, with the answers in place of the stubs."""
        place = self.folder / "submitted" / student / assignment
        shutil.copytree(self.folder / "release" / assignment, place)
        for path in place.glob("*.ipynb"):
            nb = read(path, 4)
            for each in nb.cells:
                name = each.metadata.get("nbgrader", {}).get("grade_id")
                each.source = answers.get(name, each.source)
            write(nb, path)
        day = 3 if late else 1
        (place / "timestamp.txt").write_text(f"2026-01-0{day} 12:00:00 UTC")
        return place

    def graded(self, student: str, assignment: str = "ps1") -> Path:
        """Return the graded folder of a submission."""
        return self.folder / "autograded" / student / assignment

    def scores(self, student: str, assignment: str = "ps1") -> dict[str, float | None]:
        """Return what the gradebook holds of each graded cell."""
        with Gradebook(self.db, "stock") as gradebook:
            found = gradebook.find_submission(assignment, student)
            grades = [grade for nb in found.notebooks for grade in nb.grades]
            return {g.cell.name: g.auto_score for g in grades if g.cell.name != "draw"}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Return a course in which three students were graded once."""
    folder = tmp_path_factory.mktemp("stock")
    kernel = folder / "data" / "kernels" / "echo"
    kernel.mkdir(parents=True)
    argv = ["python", "-c", ECHO, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Echo", "language": "echo"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))
        (folder / "course").mkdir()
        made = Course(folder / "course")
        made.run("db", "assignment", "add", "ps1", "--duedate", "2026-01-02 12:00:00 UTC")
        made.run("generate_assignment", "ps1")
        made.run("generate_assignment", "ps2")
        right = {"double": "def double(x):\n    return 2 * floor(x)", "y": "y = 1"}
        place = made.hand_in("good", **right, file=A_FILE, why="Because.")
        (place / "data" / "table.csv").write_text("the learner's")
        (place / "data" / "theirs.txt").write_text("the learner's")
        made.hand_in("bad", file="import os" + HOSTILE_FILES, double="def double(x): return 2")
        made.hand_in("late", late=True, **right)
        made.hand_in("good", "ps2", say="hello")
        made.hand_in("bad", "ps2", say="good day")
        made.said = made.run("autograde", "ps1")
        yield made


def test_the_course_s_delimiters_and_stubs_count(course):
    released = (course.folder / "release" / "ps1" / "a.ipynb").read_text()
    assert "...  # yours" in released
    assert "HIDDEN" not in released
    assert course.scores("good") == {"test_double": 2, "part": 1, "why": None, "test_y": 5}
    # `double` passes the visible test and fails the hidden one; untouched text earns nothing.
    assert course.scores("bad") == {"test_double": 0, "part": 0.5, "why": 0, "test_y": 0}


def test_the_course_s_files_win_over_the_learner_s_without_a_flag(course):
    graded = course.graded("good")
    assert (graded / "data" / "table.csv").read_text() == "course: data/table.csv"
    assert (graded / "helper.py").read_text() == "course: helper.py"
    assert "files-skipped" not in re.search("  good: .*", course.said)[0]


def test_files_that_the_code_writes_are_there_afterwards(course):
    graded = course.graded("good")
    assert (graded / "out" / "result.txt").read_text() == "COURSE: DATA/TABLE.CSV"
    # One that the course leaves to the learner.
    assert (graded / "data" / "theirs.txt").read_text() == "the learner's, and more"


def test_no_file_that_the_code_writes_does_harm(course):
    graded = course.graded("bad")
    there = {str(path.relative_to(graded)) for path in graded.rglob("*")}
    written = {name for name in there if name.startswith("many")}
    assert 100 < len(written) <= 200
    assert there - written == {
        *("a.ipynb", "b.ipynb", "timestamp.txt", "helper.py", "data", "data/table.csv"),
        "data/theirs.txt",
    }
    assert not any(path.is_symlink() for path in graded.rglob("*"))
    assert (graded / "data" / "table.csv").read_text() == "course: data/table.csv"
    assert "2026" in (graded / "timestamp.txt").read_text()


def test_late_penalties(course):
    with Gradebook(course.db, "stock") as gradebook:
        late, good = (gradebook.find_submission("ps1", name) for name in ("late", "good"))
        assert [nb.late_submission_penalty for nb in late.notebooks] == [
            nb.score for nb in late.notebooks
        ]
        assert [nb.late_submission_penalty for nb in good.notebooks] == [None, None]


def test_what_a_grader_gave_is_kept_over_a_regrade(course):
    with Gradebook(course.db, "stock") as gradebook:
        why = gradebook.find_grade("why", "a", "ps1", "good")
        draw = gradebook.find_grade("draw", "a", "ps1", "good")
        double = gradebook.find_grade("test_double", "a", "ps1", "good")
        assert why.needs_manual_grade
        why.manual_score, draw.manual_score, double.extra_credit = 2.5, 4, 1.5
        gradebook.find_comment("why", "a", "ps1", "good").manual_comment = "Nearly."
        gradebook.db.commit()
        before = gradebook.find_submission("ps1", "good").score
    before_others = {name: course.scores(name) for name in ("bad", "late")}
    stamp = (course.graded("bad") / "a.ipynb").stat().st_mtime_ns
    course.run("autograde", "ps1", "--student", "good", "--force")
    with Gradebook(course.db, "stock") as gradebook:
        assert gradebook.find_grade("why", "a", "ps1", "good").manual_score == 2.5
        assert gradebook.find_grade("draw", "a", "ps1", "good").manual_score == 4
        assert gradebook.find_grade("test_double", "a", "ps1", "good").extra_credit == 1.5
        assert gradebook.find_comment("why", "a", "ps1", "good").comment == "Nearly."
        assert gradebook.find_submission("ps1", "good").score == before == 2 + 1 + 2.5 + 4 + 1.5 + 5
    assert before_others == {name: course.scores(name) for name in ("bad", "late")}
    assert (course.graded("bad") / "a.ipynb").stat().st_mtime_ns == stamp


def test_one_notebook_of_several(course):
    a, b = (course.graded("late") / name for name in ("a.ipynb", "b.ipynb"))
    before = a.read_bytes(), a.stat().st_mtime_ns
    b.unlink()
    course.run("autograde", "ps1", "--student", "late", "--notebook", "b")
    assert (a.read_bytes(), a.stat().st_mtime_ns) == before
    assert b.is_file()
    assert course.scores("late")["test_y"] == 5


def test_more_points_than_there_are_is_an_error_that_loses_nobody_else(course):
    place = course.hand_in("over", double="def double(x): return 40")
    course.hand_in("zoe", double="def double(x): return 2 * x")
    said = course.run("autograde", "ps1", code=1)
    assert "partial credit cannot be greater than maximum points" in said
    assert not course.graded("over").exists()
    assert course.scores("zoe")["part"] == 1
    shutil.rmtree(place)


def test_a_class_at_once_leaves_the_same_files(course, monkeypatch):
    def state():
        paths = [p for name in ("good", "bad") for p in course.graded(name).rglob("*")]
        return {
            path: path.read_bytes() for path in paths if path.suffix != ".ipynb" and path.is_file()
        }

    before = state()
    monkeypatch.chdir(course.folder)
    app = AutogradeApp()
    app.initialize(["--assignment=ps1", "--force"])
    app.log.setLevel("ERROR")
    ClassRun(coursedir=app.coursedir, parent=app, workers=1).start()
    assert state() == before


def test_another_language_runs_in_its_kernel_and_in_the_box(course):
    assert "language" not in course.run("autograde", "ps2")
    assert course.scores("good", "ps2") == {"test_say": 1}
    assert course.scores("bad", "ps2") == {"test_say": 0}
    graded = read(course.graded("good", "ps2") / "e.ipynb", 4)
    printed = {c.source: c.outputs[0].get("text") for c in graded.cells if c.get("outputs")}
    assert printed["hello"] == "hello"
    assert printed[f"look {course.folder}"] == "False"


@pytest.fixture
def broken(course, tmp_path):
    """Return a copy of the course, to break."""
    shutil.copytree(course.folder, tmp_path / "course", symlinks=True)
    copy = object.__new__(Course)
    copy.folder = tmp_path / "course"
    copy.db = f"sqlite:///{copy.folder / 'gradebook.db'}"
    return copy


def refused(course, assignment="ps1"):
    """Return what a run says that must not grade, having seen that it left all as it was."""

    def state():
        paths = (course.folder / name for name in ("autograded", "gradebook.db"))
        files = [p for path in paths for p in (path, *path.rglob("*")) if p.is_file()]
        return {path: path.read_bytes() for path in files}

    before = state()
    said = course.run("autograde", assignment, "--force", code=1)
    assert state() == before
    assert "Traceback" not in said
    return said


def test_a_course_without_its_source(broken):
    shutil.rmtree(broken.folder / "source")
    said = refused(broken)
    assert str(broken.folder / "source" / "ps1" / "a.ipynb") in said
    assert "generate_assignment ps1" in said


def test_a_course_that_never_had_a_source(broken):
    shutil.rmtree(broken.folder / "source")
    words = f"no folder {broken.folder / 'source'}"
    assert words in refused(broken, "ps3")
    assert words in broken.run("generate_assignment", "ps3", code=1)


def test_a_notebook_that_is_none_is_named_and_the_release_stays(broken):
    notebook = broken.folder / "source" / "ps1" / "a.ipynb"
    notebook.write_text('{"cells": [')
    before = (broken.folder / "release" / "ps1" / "a.ipynb").read_bytes()
    said = broken.run("generate_assignment", "ps1", "--force", code=1)
    assert "a.ipynb is no notebook that can be used" in said and "Traceback" not in said
    assert (broken.folder / "release" / "ps1" / "a.ipynb").read_bytes() == before


def test_an_assignment_that_is_not_there(broken):
    assert "There are: ps1, ps2." in refused(broken, "ps3")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no notebook that can be used"),
        ("{}", "no notebook that can be used"),
        ('{"cells": 1, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "can be used"),
        (None, "no notebook that can be used"),
    ],
    ids=["empty", "no notebook", "cells that are none", "a folder"],
)
def test_a_broken_source_notebook(broken, content, says):
    path = broken.folder / "source" / "ps1" / "b.ipynb"
    path.unlink()
    path.mkdir() if content is None else path.write_text(content)
    said = refused(broken)
    assert str(path) in said
    assert says in said or "cannot be read" in said


def test_a_kernel_that_is_not_there(broken):
    database = sqlite3.connect(broken.folder / "gradebook.db")
    spec = json.dumps({"name": "befunge", "display_name": "B", "language": "befunge"})
    database.execute("UPDATE notebook SET kernelspec = ? WHERE name = 'e'", [spec])
    database.commit()
    database.close()
    said = refused(broken, "ps2")
    assert "e.ipynb" in said
    assert "'befunge' is not installed" in said


@pytest.mark.parametrize(
    ("revision", "remedy"),
    [("b6d005d67074", "nbgrader db upgrade"), ("ffffffffffff", "the version of nbgrader that")],
    ids=["older", "newer"],
)
def test_a_gradebook_of_another_version(broken, revision, remedy):
    database = sqlite3.connect(broken.folder / "gradebook.db")
    database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    database.commit()
    database.close()
    said = refused(broken)
    assert "gradebook.db" in said
    assert remedy in said


def test_a_damaged_gradebook(broken):
    (broken.folder / "gradebook.db").write_bytes(os.urandom(5000))
    said = refused(broken)
    assert "gradebook.db cannot be used" in said
