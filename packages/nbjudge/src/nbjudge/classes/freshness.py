"""Whether a submission has to be graded: by what it and its lesson hold, against the record.

A grade stands as long as four things are what they were: the hand-in's files, the lesson with its
tests and points, the course's own files beside it, and the way in which its tests are checked.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from logging import Logger
from pathlib import Path
from typing import Any

from nbgrader.api import Assignment, Gradebook, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory

from nbjudge.classes.record import Record
from nbjudge.codes import OWN_FOLDER
from nbjudge.intake import digests


class Why(Enum):
    """Why a submission is graded; the value says it in the log."""

    NEW = "it was not graded yet"
    UNFINISHED = "the last run was cut off, or what it wrote is gone"
    HAND_IN = "other files were handed in"
    LESSON = "the lesson or its tests have changed"
    FORCED = "--force asks for it"


class Freshness:
    """Which parts of an assignment have not changed since it was graded.

    notebooks: the names of the assignment's notebooks that are asked for.
    """

    def __init__(
        self,
        course: CourseDirectory,
        assignment: str,
        notebooks: list[str],
        gradebook: Gradebook,
        log: Logger,
    ):
        self.record = Record(course, assignment, log)
        self._course, self._assignment, self._notebooks = course, assignment, notebooks
        self._hand_ins: dict[str, str] = {}
        rows = gradebook.db.query(SubmittedAssignment.student_id)
        found = rows.join(Assignment).filter(Assignment.name == assignment).all()
        self._in_gradebook = {student for (student,) in found}
        self.look_at_lesson(gradebook)

    def look_at_lesson(self, gradebook: Gradebook) -> None:
        """Take the lesson, and how it is checked, as they are now."""
        self.lessons = lesson_digests(self._course, self._assignment, self._notebooks, gradebook)

    def hand_in(self, student: str) -> str:
        """Return the digest of a submission as it was when this run first looked at it."""
        if student not in self._hand_ins:
            folder = self._folder(self._course.submitted_directory, student)
            self._hand_ins[student] = digests.of_hand_in(folder, self._course.ignore)
        return self._hand_ins[student]

    def why(self, student: str) -> Why | None:
        """Return why a submission has to be graded; None if its grade stands."""
        graded = self._folder(self._course.autograded_directory, student)
        there = [os.path.isfile(Path(graded, f"{name}.ipynb")) for name in self._notebooks]
        known = [self.record.of(student, name) for name in self._notebooks]
        if None in known or not all(there) or student not in self._in_gradebook:
            return Why.UNFINISHED if os.path.isdir(graded) else Why.NEW
        hand_in = self.hand_in(student)
        for name, last in zip(self._notebooks, known, strict=True):
            assert last is not None
            if last.hand_in != hand_in:
                return Why.HAND_IN
            if last.lesson != self.lessons[name]:
                return Why.LESSON
        return None

    def _folder(self, step: str, student: str) -> str:
        return self._course.format_path(step, student, self._assignment)


def lesson_digests(
    course: CourseDirectory, assignment: str, notebooks: list[str], gradebook: Gradebook
) -> dict[str, str]:
    """Return a digest of all that decides about an assignment's grades, by notebook.

    That is the notebook in `source/`, what the gradebook recorded of its cells when it was
    released, the course's own files beside it, and the mode in which each test cell is checked.
    """
    folder = Path(course.format_path(course.source_directory, ".", assignment))
    files = digests.of_folder(folder, [*course.ignore, "*.ipynb"])
    modes = stored_modes(course, assignment)
    return {
        name: digests.of_data(
            [
                digests.of_source(folder / f"{name}.ipynb"),
                _recorded(gradebook, assignment, name),
                files,
                modes.get(name),
            ]
        )
        for name in notebooks
    }


def _recorded(gradebook: Gradebook, assignment: str, name: str) -> list[Any]:
    notebook = gradebook.find_notebook(name, assignment)
    cells = [[cell.name, cell.cell_type, cell.source] for cell in notebook.source_cells]
    graded = [*notebook.grade_cells, *notebook.task_cells]
    points = [[cell.name, float(cell.max_score)] for cell in graded]
    return [notebook.kernelspec, sorted(cells), sorted(points)]


def stored_modes(course: CourseDirectory, assignment: str) -> dict[str, dict[str, str]]:
    """Return how each test cell is checked as `calibration` keeps it: notebook → cell → mode."""
    path = Path(course.root, OWN_FOLDER, f"{assignment}.json")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: {cell: tested["mode"] for cell, tested in notebook["cells"].items()}
            for name, notebook in data["notebooks"].items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
