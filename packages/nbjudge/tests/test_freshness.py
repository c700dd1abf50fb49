"""What is graded again: by content, and never for nothing."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbjudge.classes import record
from nbjudge.classes.freshness import Freshness, Why
from nbjudge.classes.record import Graded, Record
from nbjudge.intake import digests
from traitlets.config import Config

from tests.commands import new_gradebook

pytestmark = pytest.mark.slow

LOG = logging.getLogger("test")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "hand-in"
    (folder / "data").mkdir(parents=True)
    for name, text in (("ps.ipynb", "{}"), ("answers.json", "[]"), ("data/table.csv", "1,2")):
        (folder / name).write_text(text)
    return folder


def rewrite_at_the_same_time(path, text):
    """Change a file's content and leave its size and times as they are."""
    before = path.stat()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def link(folder):
    (folder / "ps.ipynb").unlink()
    (folder / "ps.ipynb").symlink_to("answers.json")


def pipe(folder):
    (folder / "ps.ipynb").unlink()
    os.mkfifo(folder / "ps.ipynb")


CHANGES = {
    "content of the same size and time": lambda f: rewrite_at_the_same_time(f / "ps.ipynb", "[]"),
    "an older file": lambda f: (
        (f / "ps.ipynb").write_text("[1]") and os.utime(f / "ps.ipynb", (1, 1))
    ),
    "in a folder below": lambda f: (f / "data" / "table.csv").write_text("1,3"),
    "one more": lambda f: (f / "zzz").write_text(""),
    "one less": lambda f: (f / "answers.json").unlink(),
    "another name": lambda f: (f / "answers.json").rename(f / "answers (1).json"),
    "one moved down": lambda f: (f / "answers.json").rename(f / "data" / "answers.json"),
    "a time stamp": lambda f: (f / "timestamp.txt").write_text("2026-01-05 12:00:00 UTC"),
    "a link in its place": link,
    "a pipe in its place": pipe,
    "a name that is no text": lambda f: open(os.fsencode(f) + b"/\xff", "w").close(),
    "content moved to the next file": lambda f: [
        (f / name).write_text(text) for name, text in (("answers.json", "[]2"), ("ps.ipynb", "}"))
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_different_in_a_hand_in_is_seen(folder, change):
    before = digests.of_folder(folder, [])
    CHANGES[change](folder)
    assert digests.of_folder(folder, []) != before


def test_the_same_hand_in_elsewhere_and_later_is_the_same(folder, tmp_path):
    before = digests.of_folder(folder, ["*.pyc", "__pycache__"])
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a").touch()
    (folder / "b.pyc").touch()
    os.utime(folder / "ps.ipynb", (1, 1))
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copyfile)
    assert digests.of_folder(tmp_path / "moved", ["*.pyc", "__pycache__"]) == before


def test_of_what_is_too_large_to_be_graded_the_size_and_time_count(folder, monkeypatch):
    monkeypatch.setattr(digests, "MAX_TOTAL", 10)
    large = folder / "data" / "large"
    large.write_text("x" * 11)
    before = digests.of_folder(folder, [])
    (folder / "data" / "table.csv").write_text("3,4")
    small = digests.of_folder(folder, [])
    assert small != before, "a large file hid a small one"
    os.utime(large, (1, 1))
    assert digests.of_folder(folder, []) != small


def notebook(source, **cell):
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], **cell}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4}).encode()


def test_a_lesson_that_was_only_executed_anew_is_the_same():
    before = digests.of_notebook(notebook("a = 1\nb"))
    ran = {"iopub.status.busy": "2026-01-05T12:00:00Z"}
    for same in (
        notebook("a = 1\nb", outputs=[{"output_type": "stream", "text": "x"}], execution_count=3),
        notebook(["a = 1\n", "b"]),
        notebook("a = 1\nb", metadata={"execution": ran}),
    ):
        assert digests.of_notebook(same) == before
    for other in (
        notebook("a = 2\nb"),
        notebook("a = 1\nb", metadata={"nbgrader": {"points": 2}}),
        notebook("a = 1\nb", metadata={"tags": ["judge-inside"]}),
        notebook("a = 1\nb", cell_type="markdown"),
        b"[" * 100_000,
        b"no notebook",
    ):
        assert digests.of_notebook(other) != before


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A new gradebook."""
    return new_gradebook(tmp_path_factory.mktemp("empty") / "gradebook.db")


@pytest.fixture
def course(tmp_path, empty):
    """A course with a released assignment of two notebooks, and two submissions."""
    root = tmp_path / "course"
    (root / "source" / "ps").mkdir(parents=True)
    for name in ("a", "b"):
        (root / "source" / "ps" / f"{name}.ipynb").write_bytes(notebook("x"))
    for student in ("ada", "ben"):
        place = root / "submitted" / student / "ps"
        place.mkdir(parents=True)
        (place / "a.ipynb").write_text(student)
    shutil.copy(empty, root)
    course = CourseDirectory(config=Config(CourseDirectory={"root": str(root)}))
    with Gradebook(course.db_url) as gradebook:
        gradebook.add_assignment("ps")
        for name in ("a", "b"):
            gradebook.add_notebook(name, "ps", kernelspec="{}")
            kind = {"cell_type": "code"}
            gradebook.add_source_cell("t", name, "ps", source="assert x", checksum="1", **kind)
            gradebook.add_grade_cell("t", name, "ps", max_score=2, **kind)
        for student in ("ada", "ben"):
            gradebook.add_student(student)
    return course


def look(course, *names):
    with Gradebook(course.db_url) as gradebook:
        return Freshness(course, "ps", list(names or ("a", "b")), gradebook, LOG)


def grade(course, student, *names):
    """Do what a run does around a grade."""
    fresh = look(course, *names)
    names = names or ("a", "b")
    fresh.hand_in(student)
    fresh.record.begin(student, names)
    graded = course_folder(course, "autograded", student)
    graded.mkdir(parents=True, exist_ok=True)
    for name in names:
        (graded / f"{name}.ipynb").touch()
    with Gradebook(course.db_url) as gradebook:
        gradebook.update_or_create_submission("ps", student)
    known = {name: Graded(fresh.hand_in(student), fresh.lessons[name]) for name in names}
    fresh.record.finish(student, known)


def course_folder(course, step, student):
    return Path(course.format_path(step, student, "ps"))


def in_gradebook(change):
    def changed(course):
        with Gradebook(course.db_url) as gradebook:
            change(gradebook)
            gradebook.db.commit()

    return changed


def write(course, path, text):
    """Write a file of the course's."""
    found = Path(course.root, path)
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_text(text)


MODES = json.dumps({"notebooks": {"a": {"cells": {"t": {"mode": "inside"}}}}})
#: What happens to the course → why a submission is graded again.
HAPPENS = {
    "nothing": (lambda c: None, None),
    "another hand-in": (lambda c: write(c, "submitted/ada/ps/a.ipynb", "new"), Why.HAND_IN),
    "a file more": (lambda c: write(c, "submitted/ada/ps/data.csv", "new"), Why.HAND_IN),
    "a new lesson": (lambda c: write(c, "source/ps/b.ipynb", "{}"), Why.LESSON),
    "a lesson that is gone": (lambda c: os.unlink(f"{c.root}/source/ps/b.ipynb"), Why.LESSON),
    "a file of the course's": (lambda c: write(c, "source/ps/tests.py", "1"), Why.LESSON),
    "another test": (
        in_gradebook(lambda g: setattr(g.find_source_cell("t", "b", "ps"), "source", "assert y")),
        Why.LESSON,
    ),
    "other points": (
        in_gradebook(lambda g: setattr(g.find_grade_cell("t", "b", "ps"), "max_score", 3)),
        Why.LESSON,
    ),
    "another way to check it": (lambda c: write(c, ".nbjudge/ps.json", MODES), Why.LESSON),
    "a graded notebook is gone": (
        lambda c: (course_folder(c, "autograded", "ada") / "b.ipynb").unlink(),
        Why.UNFINISHED,
    ),
    "all graded is gone": (
        lambda c: shutil.rmtree(course_folder(c, "autograded", "ada")),
        Why.NEW,
    ),
    "another gradebook": (
        in_gradebook(lambda g: g.remove_submission("ps", "ada")),
        Why.UNFINISHED,
    ),
    "a run that is cut off": (
        lambda c: look(c).record.begin("ada", ["a", "b"]),
        Why.UNFINISHED,
    ),
}


@pytest.mark.parametrize("happens", HAPPENS)
def test_what_happens_to_a_course_decides_who_is_graded_again(course, happens):
    assert look(course).why("ada") == Why.NEW
    grade(course, "ada")
    grade(course, "ben")
    change, why = HAPPENS[happens]
    change(course)
    found = look(course)
    assert found.why("ada") == why
    assert found.why("ben") == (why if why == Why.LESSON else None)


def test_a_notebook_that_is_graded_alone_leaves_the_others_as_they_were(course):
    grade(course, "ada")
    write(course, "submitted/ada/ps/a.ipynb", "new")
    grade(course, "ada", "a")
    assert look(course, "a").why("ada") is None
    assert look(course, "b").why("ada") == Why.HAND_IN
    assert look(course).why("ada") == Why.HAND_IN


def test_a_hand_in_that_changes_while_it_is_graded_is_graded_again(course):
    fresh = look(course)
    before = fresh.hand_in("ada")
    write(course, "submitted/ada/ps/a.ipynb", "while it runs")
    assert fresh.hand_in("ada") == before
    assert look(course).hand_in("ada") != before


def test_a_half_written_record_loses_no_more_than_its_last_line(course):
    grade(course, "ada")
    grade(course, "ben")
    path = Path(course.root, ".nbjudge", "graded", "ps.jsonl")
    text = path.read_text()
    path.write_text(text[: len(text) - 30])
    assert look(course).why("ada") is None and look(course).why("ben") == Why.UNFINISHED
    grade(course, "ben")
    assert look(course).why("ben") is None
    path.write_text("\n".join([path.read_text(), "7", "[]", '{"version": 1}', '{"version": 99}']))
    assert look(course).why("ada") is None and look(course).why("ben") is None


def test_a_record_does_not_grow_with_every_run(course, monkeypatch):
    told = Graded("1", "2", flags=[{"code": "x", "cell": "", "sentence": "Ł"}], answers={"q": 1})
    kept = Record(course, "ps", LOG)
    for _ in range(200):
        kept.begin("ada", ["a"])
        kept.finish("ada", {"a": told})
    path = kept._path
    long = path.stat().st_size
    assert Record(course, "ps", LOG).of("ada", "a") == told
    assert path.stat().st_size < long / 50
    assert Record(course, "ps", LOG).of("ada", "a") == told
    assert Record(course, "other", LOG).of("ada", "a") is None


def test_a_record_that_cannot_be_written_is_said_once(course, caplog):
    write(course, ".nbjudge/graded", "a file in the place of the folder")
    kept = Record(course, "ps", LOG)
    for student in ("ada", "ben"):
        kept.finish(student, {"a": Graded("1", "2")})
    said = [line for line in caplog.messages if "cannot be written" in line]
    assert len(said) == 1 and record.OWN_FOLDER in said[0]
