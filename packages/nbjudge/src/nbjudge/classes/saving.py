"""Writes what grading found into the gradebook: all of a submission in one transaction.

nbgrader opens the gradebook for every step of a submission and commits after every row. Here it is
open from the first submission of a run to the last, and what is half done is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from nbgrader.api import (
    BaseCell,
    Comment,
    Grade,
    Gradebook,
    MissingEntry,
    SubmittedAssignment,
    SubmittedNotebook,
)
from nbgrader.preprocessors import AssignLatePenalties
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from nbjudge.steps.findings import Findings


class _Held(Session):
    """A session whose `commit`, which nbgrader's functions call as they go, only sends."""

    def commit(self) -> None:
        """Send what is to be written; `RunGradebook.commit` makes it stand."""
        self.flush()


class RunGradebook(Gradebook):
    """nbgrader's gradebook, which only its own `commit` commits."""

    def __init__(self, db_url: str, course_id: str):
        """Open it, as `Gradebook`."""
        super().__init__(db_url, course_id)
        nbgraders: scoped_session = self.db
        nbgraders.remove()
        self.db: Any = scoped_session(sessionmaker(bind=self.engine, class_=_Held, future=True))

    def commit(self) -> None:
        """End the transaction. Raises what SQLAlchemy raises, and nothing is written then."""
        session = self.db()
        Session.commit(session)
        session.expunge_all()  # a class needs no more memory than one submission

    def undo(self) -> None:
        """Take back what is not committed."""
        session = self.db()
        session.rollback()
        session.expunge_all()


def save(
    gradebook: RunGradebook,
    assignment: str,
    student: str,
    timestamp: datetime | None,
    found: Mapping[str, Findings],
    not_handed_in: set[str],
    late: AssignLatePenalties,
    extension: timedelta | None = None,
) -> None:
    """Write the outcome of a submission, by notebook, and commit it; scores of a teacher's stay.

    timestamp: when it was handed in, in UTC, if that is known. not_handed_in: notebooks that are
    missing and were not graded: nbgrader gives them 0. late: says what lateness costs.
    extension: the time that was given before the submission was there.
    Raises what nbgrader and SQLAlchemy raise; nothing of the submission is written then.
    """
    about: dict[str, Any] = {} if timestamp is None else {"timestamp": timestamp}
    try:
        if extension and not _is_known(gradebook, assignment, student):
            about["extension"] = extension
        submission = gradebook.update_or_create_submission(assignment, student, **about)
        seconds = submission.total_seconds_late
        if seconds > 0:
            late.log.warning("%s is %s seconds late", submission, seconds)
        notebooks = {notebook.name: notebook for notebook in submission.notebooks}
        for name, outcome in found.items():
            notebook = notebooks[name]
            _save_rows(gradebook, notebook, outcome)
            notebook.late_submission_penalty = None
            if seconds > 0 and late.enabled:
                _save_penalty(gradebook, submission, notebook, seconds, late)
        for name in not_handed_in & notebooks.keys():
            for grade in notebooks[name].grades:
                grade.auto_score, grade.needs_manual_grade = 0, False
        gradebook.commit()
    except BaseException:
        gradebook.undo()
        raise


def _is_known(gradebook: Gradebook, assignment: str, student: str) -> bool:
    try:
        gradebook.find_submission(assignment, student)
    except MissingEntry:
        return False
    return True


def _save_rows(gradebook: Gradebook, notebook: SubmittedNotebook, outcome: Findings) -> None:
    grades = _by_cell(gradebook, Grade, notebook, outcome.scores)
    for name, score in outcome.scores.items():
        grade = grades[name]
        grade.auto_score = score
        grade.needs_manual_grade = grade.manual_score is not None or score is None
    comments = _by_cell(gradebook, Comment, notebook, outcome.comments)
    for name, text in outcome.comments.items():
        comments[name].auto_comment = text


def _by_cell(
    gradebook: Gradebook, kind: Any, notebook: SubmittedNotebook, names: Iterable[str]
) -> dict[str, Any]:
    """Return the grades or comments of a notebook by their cells' names, asked for at once.

    A cell that was released after the submission was first graded gets its row now.
    """
    rows = gradebook.db.query(kind, BaseCell.name).join(BaseCell, BaseCell.id == kind.cell_id)
    found = {name: row for row, name in rows.filter(kind.notebook_id == notebook.id)}
    if missing := [name for name in names if name not in found]:
        cells = gradebook.db.query(BaseCell.name, BaseCell.id)
        by_name = dict(cells.filter(BaseCell.notebook_id == notebook.notebook_id).all())
        new = {n: kind(cell_id=by_name[n], notebook_id=notebook.id) for n in missing}
        gradebook.db.add_all(new.values())
        found |= new
    return found


def _save_penalty(
    gradebook: Gradebook,
    submission: SubmittedAssignment,
    notebook: SubmittedNotebook,
    seconds: float,
    late: AssignLatePenalties,
) -> None:
    """Take off what the course's plugin says, by nbgrader's rules."""
    gradebook.db.flush()
    gradebook.db.refresh(notebook)  # its score is the sum of what was written just now
    late.init_plugin()
    penalty = late.plugin_inst.late_submission_penalty(
        submission.student_id, notebook.score, seconds
    )
    late.log.warning("Late submission penalty: %s", penalty)
    if penalty is not None:
        notebook.late_submission_penalty = late._check_late_penalty(notebook, penalty)
