"""What came of a class: scores, quiz answers, flags, the hardest cells, who is missing."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

from nbgrader.api import (
    BaseCell,
    Grade,
    Gradebook,
    MissingEntry,
    Student,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.coursedir import CourseDirectory

from nbjudge.classes.changes import Changes, note
from nbjudge.classes.record import Graded, Record
from nbjudge.intake.recorded import recorder
from nbjudge.wire import course as settings
from nbjudge.wire import named


@dataclass
class Item:
    """One exercise, test cell or quiz cell: its points, and what each learner got."""

    name: str
    maximum: float
    scores: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The mean share of the points, 0 to 1; 0 where nobody was graded."""
        return sum(self.scores) / (self.maximum * len(self.scores)) if self.scores else 0.0


@dataclass
class Summary:
    """A graded assignment, as the gradebook and the record of what was graded hold it."""

    assignment: str
    maximum: float
    scores: dict[str, float] = field(default_factory=dict)
    cells: dict[str, Item] = field(default_factory=dict)
    exercises: dict[str, Item] = field(default_factory=dict)
    #: quiz → option → how many chose it (at the end, and at first).
    chosen: dict[str, Counter] = field(default_factory=dict)
    first: dict[str, Counter] = field(default_factory=dict)
    #: (learner, reason code, cell, sentence)
    flags: list[tuple[str, str, str, str]] = field(default_factory=list)
    #: known mistake → the learners who made it
    made: dict[str, set[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    #: learner → by how many seconds the hand-in was late, extensions taken off
    late: dict[str, float] = field(default_factory=dict)
    #: who has a cell that waits for a teacher's points
    by_hand: list[str] = field(default_factory=list)
    changes: Changes = field(default_factory=Changes)
    #: learner → the folder of the graded notebooks, from the course's root
    graded_at: dict[str, str] = field(default_factory=dict)
    #: pairs of hand-ins that are the same but for names: both learners, and the exercises
    similar: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """The mean score; 0 where nobody was graded."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else 0.0

    @property
    def mistakes(self) -> Counter:
        """How many learners made each mistake, in however many cells it showed."""
        return Counter({name: len(learners) for name, learners in sorted(self.made.items())})

    @property
    def hardest(self) -> list[Item]:
        """The test cells, the least solved first."""
        tests = [item for item in self.cells.values() if item.name.startswith("test_")]
        return sorted(tests, key=lambda item: (item.share, item.name))


def summarize(course: CourseDirectory, assignment: str) -> Summary:
    """Return the summary of an assignment from the gradebook and the record of what was graded.

    Raises `MissingEntry` if the gradebook has no such assignment.
    """
    with Gradebook(course.db_url, course.course_id) as gradebook:
        found = gradebook.find_assignment(assignment)
        summary = Summary(assignment, found.max_score)
        notebooks = [notebook.name for notebook in found.notebooks]
        exercises = [cell.name for nb in found.notebooks for cell in nb.solution_cells]
        for notebook in found.notebooks:
            for cell in (*notebook.grade_cells, *notebook.task_cells):
                summary.cells[cell.name] = Item(cell.name, cell.max_score)
        # All rows at once: a class has ten thousand of them.
        rows = gradebook.db.query(SubmittedAssignment.student_id, SubmittedAssignment.score)
        summary.scores = dict(sorted(map(tuple, rows.filter_by(assignment_id=found.id))))
        grades = gradebook.db.query(SubmittedAssignment.student_id, BaseCell.name, Grade.score)
        grades = grades.select_from(Grade).join(BaseCell, BaseCell.id == Grade.cell_id)
        grades = grades.join(SubmittedNotebook, SubmittedNotebook.id == Grade.notebook_id)
        grades = grades.join(SubmittedAssignment)
        for _, name, score in sorted(map(tuple, grades.filter_by(assignment_id=found.id))):
            summary.cells[name].scores.append(score or 0.0)
        rows = gradebook.db.query(
            SubmittedAssignment.student_id, SubmittedAssignment.needs_manual_grade
        )
        waiting = rows.filter_by(assignment_id=found.id).all()
        summary.by_hand = sorted(student for student, by_hand in waiting if by_hand)
        if found.duedate is not None:
            seconds = {s.student_id: s.total_seconds_late for s in found.submissions}
            summary.late = {name: late for name, late in sorted(seconds.items()) if late > 0}
        students = {student for (student,) in gradebook.db.query(Student.id)}
    summary.cells = {name: item for name, item in summary.cells.items() if item.scores}
    summary.missing = sorted(students - summary.scores.keys())
    record = Record(course, assignment, getLogger(__name__))
    for student in summary.scores:
        for name in notebooks:
            _read_record(summary, student, name, record.of(student, name))
    _group_by_exercise(summary, exercises)
    summary.changes = note(course, assignment, summary.scores, getLogger(__name__))
    summary.flags.sort()
    for student in summary.scores:
        folder = course.format_path(course.autograded_directory, student, assignment)
        summary.graded_at[student] = Path(os.path.relpath(folder, course.root)).as_posix()
    return summary


def _read_record(summary: Summary, student: str, notebook: str, last: Graded | None) -> None:
    if last is None:
        sentence = f"{notebook}.ipynb was not graded to the end"
        summary.flags.append((student, "not_graded", "", sentence))
        return
    for flag in last.flags:
        summary.flags.append((student, flag["code"], flag["cell"], flag["sentence"]))
    for name, answer in last.answers.items():
        first, chosen = recorder().choices(answer)
        summary.chosen.setdefault(name, Counter())[chosen] += 1
        summary.first.setdefault(name, Counter())[first] += 1
    for mistake in last.mistakes:
        summary.made.setdefault(mistake, set()).add(student)


def _group_by_exercise(summary: Summary, names: list[str]) -> None:
    """Add up the cells of each exercise, as the course groups them."""
    rule = settings.here().exercise_of
    exercise_of = named.load(rule) if rule else lambda test, exercises: None
    for item in summary.cells.values():
        name = exercise_of(item.name, names) or item.name
        group = summary.exercises.setdefault(name, Item(name, 0.0, [0.0] * len(item.scores)))
        group.maximum += item.maximum
        group.scores = [a + b for a, b in zip(group.scores, item.scores, strict=True)]


__all__ = ["Item", "MissingEntry", "Summary", "summarize"]
