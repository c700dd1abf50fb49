"""The instructor's cycle with stock nbgrader commands and no flags, from release to export."""

import csv
import getpass
import shutil

import nbformat
import pytest
from course_tools.build import course as clone
from course_tools.build.lesson import grade_id, is_quiz, is_test, quiz_name
from nbjudge.codes import all_flags

from llm_memory.quiz import BANK
from tests.submissions import ROOT, hand_in, released, scores, solutions, solved

pytestmark = pytest.mark.slow

LESSONS = [name for name in clone.LESSONS if (ROOT / "release" / name).is_dir()]


def right_answers(lesson):
    quizzes = {quiz_name(cell) for cell in released(lesson).cells if is_quiz(cell)}
    return {
        name: next(option.id for option in BANK[name].options if option.correct) for name in quizzes
    }


def points(lesson):
    """Return the points of each graded cell of a lesson, by grade_id."""
    return {
        grade_id(cell): cell.metadata.nbgrader.points
        for cell in released(lesson).cells
        if cell.metadata.get("nbgrader", {}).get("grade")
    }


def test_the_whole_cycle(course, tmp_path):
    lesson = LESSONS[0]
    me = getpass.getuser()
    course.nbgrader("generate_assignment", lesson)
    course.nbgrader("release_assignment", lesson)
    assert lesson in course.nbgrader("list")

    # A student's own folder, with nothing but the address of the exchange.
    student = tmp_path / "student"
    student.mkdir()
    (student / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'llm-memory'\n"
        f"c.Exchange.root = {str(course.folder / 'exchange')!r}\n"
    )
    at_home = type(course)(student)
    at_home.nbgrader("fetch_assignment", lesson)
    nbformat.write(solved(lesson), student / lesson / f"{lesson}.ipynb")
    place = hand_in(tmp_path / "elsewhere", me, lesson, solved(lesson), right_answers(lesson))
    shutil.copy(place / "quiz_answers.json", student / lesson)
    at_home.nbgrader("submit", lesson)

    hand_in(course.folder, "nothing", lesson, released(lesson))
    some = list(solutions(lesson))[:2]
    quizzes = dict(list(right_answers(lesson).items())[:1])
    hand_in(course.folder, "partly", lesson, solved(lesson, some), quizzes)

    assert me in course.nbgrader("list", "--inbound")
    course.nbgrader("collect", lesson)
    course.nbgrader("autograde", lesson)
    course.nbgrader("generate_feedback", lesson)
    course.nbgrader("release_feedback", lesson)
    course.nbgrader("export")

    full = points(lesson)
    found = scores(course.folder, lesson)
    assert found[me] == full
    assert found["nothing"] == dict.fromkeys(full, 0)
    earned = {
        grade_id(cell): full[grade_id(cell)]
        for cell in released(lesson).cells
        if grade_id(cell) in full
        and (
            (is_test(cell) and grade_id(cell).startswith(tuple(f"test_{name}_" for name in some)))
            or quiz_name(cell) in quizzes
        )
    }
    assert found["partly"] == {name: earned.get(name, 0) for name in full}

    with open(course.folder / "grades.csv", encoding="utf-8", newline="") as file:
        table = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    assert table == {name: sum(cells.values()) for name, cells in found.items()}
    at_home.nbgrader("fetch_feedback", lesson)
    assert list(student.glob(f"{lesson}/feedback/**/{lesson}.html"))
    nothing_is_odd(course.folder, lesson, found)


@pytest.mark.parametrize("lesson", LESSONS[1:])
def test_full_and_no_points(course, lesson):
    course.nbgrader("generate_assignment", lesson)
    hand_in(course.folder, "all", lesson, solved(lesson), right_answers(lesson))
    hand_in(course.folder, "none", lesson, released(lesson))
    course.nbgrader("autograde", lesson)
    found = scores(course.folder, lesson)
    assert found["all"] == points(lesson)
    assert found["none"] == dict.fromkeys(points(lesson), 0)
    nothing_is_odd(course.folder, lesson, found)


def nothing_is_odd(folder, lesson, students):
    """Honest work has no flags."""
    for student in students:
        graded = folder / "autograded" / student / lesson / f"{lesson}.ipynb"
        assert all_flags(nbformat.read(graded, as_version=4)) == []
