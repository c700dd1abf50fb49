"""A student takes the attention lesson in a real JupyterLab, and what they saved is graded."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbgrader.api import Gradebook
from playwright.sync_api import expect

from llm_memory.quiz import BANK, answers_in_notebook, read_answers
from llm_memory.quiz.record import FILE_NAME
from tests.submissions import ROOT, only_exercises_are_open, solutions

pytestmark = pytest.mark.slow

LESSON = "attention"


def collected(course, student: str, lesson: Path, *files: str) -> None:
    """Lay files of a student's folder out as `nbgrader collect` does."""
    place = course.folder / "submitted" / student / LESSON
    place.mkdir(parents=True)
    for name in files:
        shutil.copy(lesson / name, place)
    (place / "timestamp.txt").write_text("2026-03-01 12:00:00.000000 UTC")


def earned(course, student: str) -> dict[str, float]:
    """What a student was given points for, by grade_id."""
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as gradebook:
        notebook = gradebook.find_submission_notebook(LESSON, LESSON, student)
        assert not [grade.name for grade in notebook.grades if grade.needs_manual_grade]
        return {grade.name: grade.score for grade in notebook.grades if grade.score}


def test_from_the_first_look_to_the_grade(lab, course):
    folder = lab.folder / LESSON
    shutil.copytree(ROOT / "release" / LESSON, folder)
    file = folder / f"{LESSON}.ipynb"
    right = {name: next(o for o in BANK[name].options if o.correct) for name in BANK}

    # Nothing has run yet, and the question can be read.
    page = lab.open(f"{LESSON}/{LESSON}.ipynb")
    expect(page.quiz("attention").output).to_contain_text(right["attention"].text)
    page.screenshot("journey-1-opened")

    page.run_all()
    assert page.quiz("attention").chosen() == [False, False, False]
    page.screenshot("journey-2-ran")
    page.save()
    only_exercises_are_open(nbformat.read(file, as_version=4))

    page.quiz("guess-they").choose_with_mouse("A")
    expect(page.quiz("guess-they").output).to_contain_text("Your guess is noted.")
    page.quiz("attention-scale").choose_with_mouse("B")
    expect(page.quiz("attention-scale").output).to_contain_text("Not yet.")

    quiz = page.quiz("attention")
    quiz.choose_with_mouse("A")
    expect(quiz.output).to_contain_text("Try again!")
    expect(quiz.output).to_contain_text(BANK["attention"].option("recent").feedback)
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")
    expect(quiz.output).to_contain_text("Great job!")
    expect(quiz.output).to_contain_text(right["attention"].feedback)
    assert quiz.chosen() == [False, True, False]
    assert quiz.focused() == 1, "the keyboard keeps its place when the record is written"
    assert quiz.focus_is_visible()
    page.screenshot("journey-3-answered")
    page.save()

    page.restart_and_run_all()
    assert page.quiz("attention").chosen() == [False, True, False]
    expect(page.quiz("attention").output).to_contain_text("Great job!")
    assert page.quiz("attention-scale").chosen() == [False, True, False]
    assert page.quiz("attention-grouped").chosen() == [False, False, False]
    page.screenshot("journey-4-restarted")

    check = page.cell("check(softmax)")
    expect(check.locator(".jp-Cell-outputArea")).to_contain_text("softmax is not solved yet")
    exercise = page.cell("def softmax(x, axis=-1):")
    solution = solutions(LESSON)["softmax"].splitlines()
    page.write(exercise, "\n".join(line for line in solution if "###" not in line))
    page.run_cell(exercise)
    page.run_cell(check)
    expect(check.locator(".jp-Cell-outputArea")).to_contain_text("softmax: right")
    page.screenshot("journey-5-solved")
    page.save()

    answers, problems = read_answers(folder / FILE_NAME)
    assert not problems
    assert {name: answer["choice"] for name, answer in answers.items()} == {
        "attention": "relevant",
        "attention-scale": "sum",
        "guess-they": "exam",
    }
    assert answers["attention"]["first"] == "recent"
    assert answers_in_notebook(nbformat.read(file, as_version=4)) == (answers, [])

    collected(course, "with-file", folder, file.name, FILE_NAME)
    collected(course, "notebook-only", folder, file.name)
    course.nbgrader("generate_assignment", LESSON)
    course.nbgrader("autograde", LESSON)
    expected = {"test_softmax_core": 1, "test_softmax_hard": 2, "quiz_attention": 1}
    assert earned(course, "with-file") == expected
    assert earned(course, "notebook-only") == expected
