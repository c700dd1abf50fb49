"""Submissions for tests: a released lesson with some exercises filled in."""

import hashlib
import json
from pathlib import Path

import nbformat
from course_tools.build import course as clone
from course_tools.build.lesson import grade_id, is_exercise, is_test

from packages.nbjudge.tests.semester import scores as scores

ROOT = clone.root()


def released(lesson):
    """Return the lesson that learners get."""
    return nbformat.read(ROOT / "release" / lesson / f"{lesson}.ipynb", as_version=4)


def solutions(lesson):
    """Return the source of every solved exercise, by its grade_id."""
    source = nbformat.read(ROOT / "source" / lesson / f"{lesson}.ipynb", as_version=4)
    return {grade_id(cell): cell.source for cell in source.cells if is_exercise(cell)}


def solved(lesson, exercises=None, own=None):
    """Return the released lesson with `exercises` (default: all) solved, and `own` code put in."""
    answers = solutions(lesson)
    if exercises is not None:
        answers = {name: answers[name] for name in exercises}
    answers |= own or {}
    notebook = released(lesson)
    for cell in notebook.cells:
        if grade_id(cell) in answers and is_exercise(cell):
            cell.source = answers[grade_id(cell)]
    return notebook


def only_exercises_are_open(notebook):
    """Assert that in an unsolved lesson that was run nothing but tests and checks is stopped."""
    stopped = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr", f"{cell.id} warns: {output.text}"
            if output.output_type == "error":
                assert output.ename == "NotImplementedError", (cell.id, output.evalue)
                checks = is_test(cell) or cell.source.startswith("check(")
                assert checks, f"{cell.id} depends on an unsolved exercise"
                stopped.append(cell.id)
    assert stopped, "an unsolved exercise does not say so"


def hand_in(folder: Path, student, lesson, notebook, answers=None, name=None):
    """Write a submission as `nbgrader collect` leaves it, quiz answers included."""
    place = folder / "submitted" / student / lesson
    place.mkdir(parents=True)
    nbformat.write(notebook, place / (name or f"{lesson}.ipynb"))
    (place / "timestamp.txt").write_text("2026-01-05 12:00:00.000000 UTC")
    (place / "submission_secret.txt").write_text(hashlib.sha256(student.encode()).hexdigest())
    if answers is not None:
        (place / "quiz_answers.json").write_text(json.dumps(record(answers)))
    return place


def record(answers):
    """Return the answers file of a learner who chose `answers` at the first try."""
    return {
        "schema": 1,
        "answers": {
            quiz: {"choice": option, "first": option, "tries": 1, "time": "2026-01-05T11:00:00Z"}
            for quiz, option in answers.items()
        },
    }
