"""Where an assignment stands, in one screen: what came in, what is graded, what to do next."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path

from nbgrader.api import Assignment, Gradebook, MissingEntry, SubmittedAssignment
from nbgrader.coursedir import CourseDirectory
from rich.console import Console
from rich.markup import escape

from nbjudge.classes.freshness import Freshness, Why
from nbjudge.plugins.folders import of_students

#: Of the learners named in one line.
NAMED = 8


@dataclass
class Status:
    """An assignment now. Lists hold learners' ids, in order."""

    assignment: str
    released: bool = False
    known: bool = False
    maximum: float = 0.0
    handed_in: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    graded: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, Why] = field(default_factory=dict)
    by_hand: list[str] = field(default_factory=list)
    flagged: list[str] = field(default_factory=list)
    no_feedback: list[str] = field(default_factory=list)
    old_feedback: list[str] = field(default_factory=list)
    last: str = ""

    def next(self) -> str:
        """Return the command to run next, with the reason; "" where nothing is left to do."""
        name = self.assignment
        if not self.released:
            return f"nbgrader generate_assignment {name}   (nothing is released yet)"
        if not self.handed_in:
            return f"nbgrader collect {name} --update   (nobody has handed in)"
        if self.waiting:
            return (
                f"nbgrader autograde {name}, or the class run   ({len(self.waiting)} are waiting)"
            )
        if self.by_hand:
            return f"nbgrader formgrade   ({len(self.by_hand)} need your look)"
        if self.no_feedback or self.old_feedback:
            stale = " --force" if self.old_feedback else ""
            return f"nbgrader generate_feedback {name}{stale}   (then release_feedback)"
        return ""


def look(course: CourseDirectory, assignment: str, log: Logger) -> Status:
    """Return where an assignment stands. Nothing is graded or written for it."""
    found = Status(assignment)
    release = Path(course.format_path(course.release_directory, ".", assignment))
    found.released = release.is_dir() and any(release.glob("*.ipynb"))
    course.assignment_id, course.student_id = assignment, "*"
    found.handed_in = [
        student for student, _ in of_students(course, course.submitted_directory, log)
    ]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        try:
            about = gradebook.find_assignment(assignment)
        except MissingEntry:
            found.waiting = dict.fromkeys(found.handed_in, Why.NEW)
            return found
        found.known, found.maximum = bool(about.notebooks), about.max_score
        rows = gradebook.db.query(
            SubmittedAssignment.student_id,
            SubmittedAssignment.score,
            SubmittedAssignment.needs_manual_grade,
        )
        rows = rows.join(Assignment).filter(Assignment.name == assignment)
        for student, score, by_hand in rows.order_by(SubmittedAssignment.student_id):
            found.graded[student] = score
            if by_hand:
                found.by_hand.append(student)
        if about.duedate is not None:
            found.late = sorted(
                submission.student.id
                for submission in about.submissions
                if submission.total_seconds_late > 0
            )
        there = set(found.handed_in) | set(found.graded)
        found.missing = sorted(s.id for s in gradebook.students if s.id not in there)
        names = sorted(notebook.name for notebook in about.notebooks)
        fresh = Freshness(course, assignment, names, gradebook, log)
        for student in found.handed_in:
            why = fresh.why(student)
            if why is not None:
                found.waiting[student] = why
    for student in found.handed_in:
        last = [fresh.record.of(student, name) for name in names]
        if any(one is not None and one.flags for one in last):
            found.flagged.append(student)
        found.last = max([found.last, *(one.when for one in last if one is not None)])
        if student in found.graded and student not in found.waiting:
            _look_at_feedback(course, assignment, student, found)
    return found


def _look_at_feedback(
    course: CourseDirectory, assignment: str, student: str, found: Status
) -> None:
    graded = Path(course.format_path(course.autograded_directory, student, assignment))
    pages = Path(course.format_path(course.feedback_directory, student, assignment))
    times = [os.stat(path).st_mtime for path in pages.glob("*.html")] if pages.is_dir() else []
    if not times:
        found.no_feedback.append(student)
    elif min(times) < max((p.stat().st_mtime for p in graded.glob("*.ipynb")), default=0.0):
        found.old_feedback.append(student)


def to_terminal(status: Status, console: Console) -> None:
    """Print where an assignment stands."""

    def line(what: str, who: list[str] | dict) -> None:
        names = list(who)
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        shown = f"  {', '.join(names[:NAMED])}{more}" if names else ""
        console.print(f"  {what:<22}{len(names):>5}{escape(shown)}", highlight=False)

    console.print(
        f"[bold]{escape(status.assignment)}[/bold]: "
        f"{'released' if status.released else 'not released'}, {status.maximum:g} points"
        + (f", graded last {status.last}" if status.last else "")
    )
    for what, who in (
        ("handed in", status.handed_in),
        ("graded", status.graded),
        ("waiting", status.waiting),
        ("late", status.late),
        ("missing", status.missing),
        ("need a manual look", status.by_hand),
        ("flagged", status.flagged),
        ("without feedback", status.no_feedback),
        ("feedback out of date", status.old_feedback),
    ):
        if who or what in ("handed in", "graded", "waiting"):
            line(what, who)
    for why in Why:
        those = [student for student, reason in status.waiting.items() if reason is why]
        if those:
            console.print(f"  waiting because {why.value}: {len(those)}", highlight=False)
    todo = status.next()
    console.print(f"Next: {escape(todo)}" if todo else "Nothing is left to do.", highlight=False)
