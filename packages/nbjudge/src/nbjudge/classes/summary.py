"""What came of a class: scores, quiz answers, flags, the hardest cells, who is missing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.coursedir import CourseDirectory

from nbjudge.codes import KEY
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
    """A graded assignment, as the gradebook and `autograded/` hold it."""

    assignment: str
    maximum: float
    scores: dict[str, float] = field(default_factory=dict)
    cells: dict[str, Item] = field(default_factory=dict)
    exercises: dict[str, Item] = field(default_factory=dict)
    #: quiz → option → how many chose it (at the end, and at first).
    chosen: dict[str, Counter] = field(default_factory=dict)
    first: dict[str, Counter] = field(default_factory=dict)
    #: (student, reason code, cell, sentence)
    flags: list[tuple[str, str, str, str]] = field(default_factory=list)
    #: known mistake → the learners who made it
    made: dict[str, set[str]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

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
    """Return the summary of an assignment from the gradebook and the graded notebooks.

    Raises `MissingEntry` if the gradebook has no such assignment.
    """
    with Gradebook(course.db_url, course.course_id) as gradebook:
        found = gradebook.find_assignment(assignment)
        summary = Summary(assignment, found.max_score)
        graded = {submission.student.id for submission in found.submissions}
        for submission in found.submissions:
            student = submission.student.id
            summary.scores[student] = submission.score
            for notebook in submission.notebooks:
                for grade in notebook.grades:
                    item = summary.cells.setdefault(grade.name, Item(grade.name, grade.max_score))
                    item.scores.append(grade.score or 0.0)
                _read_graded(summary, student, _graded(course, student, assignment, notebook.name))
        summary.missing = sorted(s.id for s in gradebook.students if s.id not in graded)
        exercises = [cell.name for nb in found.notebooks for cell in nb.solution_cells]
    _group_by_exercise(summary, exercises)
    summary.scores = dict(sorted(summary.scores.items()))
    summary.flags.sort()
    return summary


def _graded(course: CourseDirectory, student: str, assignment: str, notebook: str) -> Path:
    folder = course.format_path(course.autograded_directory, student, assignment)
    return Path(folder, f"{notebook}.ipynb")


def _read_graded(summary: Summary, student: str, path: Path) -> None:
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary.flags.append((student, "not_graded", "", f"there is no graded {path.name}"))
        return
    ours = notebook.get("metadata", {}).get(KEY, {})
    for flag in ours.get("flags", []):
        summary.flags.append((student, flag["code"], flag["cell"], flag["sentence"]))
    for name, answer in ours.get("answers", {}).items():
        first, last = recorder().choices(answer)
        summary.chosen.setdefault(name, Counter())[last] += 1
        summary.first.setdefault(name, Counter())[first] += 1
    for cell in notebook.get("cells", []):
        for mistake in cell.get("metadata", {}).get(KEY, {}).get("mistakes", []):
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
