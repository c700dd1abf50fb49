"""A class's life: a release that is mended, hand-ins of the old one, a fresh clone."""

import copy
import logging
import os
import subprocess
import sys

import nbformat
import pytest
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbjudge.classes.one_at_a_time import grading

from packages.nbjudge.tests.semester import Semester, exercise, lesson

FULL = {"test_double": 2, "test_square": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a course whose lesson was released, with nothing handed in."""
    semester = Semester(tmp_path_factory.mktemp("semester") / "course")
    semester.run("generate_assignment", "small")
    return semester


@pytest.fixture
def semester(made, tmp_path):
    return made.copy(tmp_path / "course")


def test_a_fresh_clone_is_ready_by_the_first_command(semester):
    (semester.folder / "gradebook.db").unlink()
    release = semester.folder / "release/small/small.ipynb"
    # As it was committed: by hand, with what nbgrader would write otherwise.
    release.write_text(release.read_text() + "\n\n")
    before = release.read_bytes(), release.stat().st_mtime_ns
    printed = semester.run("generate_assignment", "small")
    assert "stays as it is" in printed and "--force" in printed
    assert (release.read_bytes(), release.stat().st_mtime_ns) == before
    semester.hand_in("ada", semester.solved(double="x + x", square="x ** 2"))
    semester.run("autograde", "small")
    assert semester.scores() == {"ada": FULL}
    assert semester.codes("ada") == []


def test_grading_fills_a_gradebook_that_lacks_the_assignment(semester):
    (semester.folder / "gradebook.db").unlink()
    release = semester.folder / "release/small/small.ipynb"
    before = release.read_bytes()
    semester.hand_in("ada", semester.solved(double="x + x"))
    printed = semester.run("autograde", "small")
    assert "filled from source/" in printed
    assert semester.scores() == {"ada": {"test_double": 2, "test_square": 0}}
    assert release.read_bytes() == before


def test_a_release_that_fails_leaves_the_old_one(semester):
    release = semester.folder / "release/small/small.ipynb"
    before = release.read_bytes()
    broken = lesson()
    broken.cells[1].source = "def double(x):\n    ### BEGIN SOLUTION\n    return 2 * x"
    semester.write(broken)
    printed = semester.run("generate_assignment", "small", "--force", code=1)
    assert "There was an error processing assignment" in printed
    assert release.read_bytes() == before
    assert sorted(path.name for path in (semester.folder / "release").iterdir()) == ["small"]


def mended(semester):
    """Correct a visible test, reword the beginning, and add an exercise, after the hand-ins."""
    new = lesson()
    new.cells[0].source = "# A small lesson, reworded"
    new.cells[4].source = new.cells[4].source.replace("square(2) == 4", "square(4) == 16")
    new.cells[4].metadata.nbgrader.points = 3
    new.cells += exercise("triple", "3 * x", 6, 9)
    semester.write(new)
    return semester.run("generate_assignment", "small", "--force")


def test_a_lesson_that_was_mended_after_hand_ins_is_graded_anew(semester):
    before = semester.solved(double="x + x", square="x ** 2")
    semester.hand_in("ada", before)
    cheat = copy.deepcopy(before)
    cheat.cells[4].source = "pass"
    semester.hand_in("ben", cheat)
    semester.run("autograde", "small")
    assert semester.scores()["ada"] == FULL
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        grade = gradebook.find_grade("test_double", "small", "small", "ada")
        grade.manual_score, grade.extra_credit = 1, 0.5
        gradebook.find_comment("double", "small", "small", "ada").manual_comment = "Well done"
        gradebook.db.commit()

    printed = mended(semester)
    assert "2 submissions have to be graded again" in printed
    semester.run("autograde", "small", "--force")
    assert semester.scores()["ada"] == {"test_double": 1.5, "test_square": 3, "test_triple": 0}
    found = semester.codes("ada")
    assert found == ["older_release", "new_exercise triple"]
    assert "tampered test_square" in semester.codes("ben")
    assert "tampered test_double" not in semester.codes("ben")
    graded = nbformat.read(semester.folder / "autograded/ada/small/small.ipynb", as_version=4)
    assert "reworded" in "".join(cell.source for cell in graded.cells)
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        comment = gradebook.find_comment("double", "small", "small", "ada")
        assert comment.manual_comment == "Well done"

    # Who hands in the new release has nothing that stands out.
    semester.hand_in("cem", semester.solved(double="2*x", square="x*x", triple="3*x"))
    semester.run("autograde", "small", "--student=cem")
    assert sum(semester.scores()["cem"].values()) == 7
    assert semester.codes("cem") == []


def test_what_a_teacher_gave_for_a_cell_that_goes_is_kept(semester):
    semester.hand_in("ada", semester.solved(double="x + x", square="x ** 2"))
    semester.run("autograde", "small")
    with Gradebook(f"sqlite:///{semester.folder / 'gradebook.db'}") as gradebook:
        gradebook.find_grade("test_square", "small", "small", "ada").manual_score = 1.5
        gradebook.find_comment("square", "small", "small", "ada").manual_comment = "By hand"
        gradebook.db.commit()
    new = lesson()
    new.cells = [new.cells[0], *exercise("twice", "2 * x", 4, 6), *new.cells[3:3]]
    semester.write(new)
    printed = semester.run("generate_assignment", "small", "--force")
    kept = (semester.folder / ".nbjudge/taken-out.jsonl").read_text()
    assert "taken-out.jsonl" in printed
    assert '"manual_score": 1.5' in kept and "By hand" in kept
    semester.run("autograde", "small", "--force")
    assert semester.scores()["ada"] == {"test_twice": 0}
    assert "older_release" in semester.codes("ada")


def test_right_work_that_cannot_run_here_says_why(semester):
    newer = semester.solved(double="x + x", square="x * x")
    newer.metadata["language_info"] = {"name": "python", "version": "3.99.1"}
    newer.cells[1].source = "type Number = int\ndef double[T](x: T) -> T:\n    return x + x"
    newer.cells[3].source = "import not_there_at_all\nimport json\ndef square(x):\n    return x * x"
    newer.cells.insert(
        1, nbformat.v4.new_code_cell("try:\n    import nor_this\nexcept ImportError:\n    pass")
    )
    semester.hand_in("ada", newer)
    semester.run("autograde", "small")
    said = {code: (cell, sentence) for code, cell, sentence in semester.flags("ada")}
    assert said["syntax"][0] == "double" and "written with Python 3.99.1" in said["syntax"][1]
    assert said["not_installed"][0] == "square"
    assert "not_there_at_all" in said["not_installed"][1]
    assert "nor_this" not in str(said)


def test_a_notebook_of_another_lesson_is_called_that(semester):
    other = lesson()
    other.cells = [other.cells[0], *exercise("triple", "3 * x", 6, 9)]
    semester.write(other, "other")
    semester.hand_in("ada", other)
    semester.hand_in("ben", semester.solved(double="x + x", square="x * x"), "work/Mine (2).ipynb")
    semester.run("autograde", "small")
    assert [code for code, _, _ in semester.flags("ada")] == ["other_lesson"]
    assert "(other)" in semester.flags("ada")[0][2]
    assert semester.scores() == {"ada": dict.fromkeys(FULL, 0), "ben": FULL}
    assert semester.codes("ben") == ["renamed"]


def test_a_second_run_waits_and_says_for_whom(semester):
    semester.hand_in("ada", semester.solved(double="x + x", square="x * x"))
    command = [sys.executable, "-m", "nbgrader", "autograde", "small"]
    course = CourseDirectory(root=str(semester.folder))
    with grading(course, "small", logging.getLogger()):
        second = subprocess.Popen(
            command, cwd=semester.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        waits = next(line for line in second.stderr if "Waiting" in line)
        assert f"(process {os.getpid()} on " in waits and "is grading small since" in waits
        assert not (semester.folder / "autograded").exists()
    second.communicate()
    assert second.returncode == 0
    assert semester.scores() == {"ada": FULL}
