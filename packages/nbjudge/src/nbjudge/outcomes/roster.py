"""Learners out of a roster: nbgrader's own CSV, or what Canvas and Moodle export.

Canvas' gradebook export has a learner's name, Canvas' own number and the school's ids; that number
stands in the names of files that it lets a teacher download, so `zip_collect` knows them by it.
Moodle's lists have names, an e-mail address and an ID number, and its files the full name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory

from nbjudge.ids import problem_with
from nbjudge.outcomes.platform_grades import POINTS_POSSIBLE, RosterError, read_roster

#: A learner's columns in the gradebook, without the id.
ABOUT = ("first_name", "last_name", "email", "lms_user_id")
#: Of a platform, whose ids are taken: the first of these columns that the file has.
IDS = {
    "Canvas": ("SIS Login ID", "SIS User ID", "ID"),
    "Moodle": ("Username", "Email address", "ID number"),
}
_FIRST, _LAST = ("First name", "First Name"), ("Last name", "Last Name", "Surname")
#: The learner whom Canvas makes up for a teacher's student view.
_TEST_STUDENT = "Student, Test"


@dataclass
class Taken:
    """What came of a roster: who is new, who was known, which lines were left out, and why."""

    format: str
    new: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def take(course: CourseDirectory, path: Path, id_column: str = "") -> Taken:
    """Put a roster's learners into the gradebook; nobody is taken out of it.

    id_column: the column that holds the ids, where it is not the usual one of the format.
    Raises `RosterError` where the file cannot be used; nothing is changed then.
    """
    lines = read_roster(path)
    form, column, used = _format(list(lines[0]), id_column, path)
    taken = Taken(form, unused=[name for name in lines[0] if name and name not in used])
    learners: dict[str, dict[str, str]] = {}
    for number, line in enumerate(lines, 2):
        about = _about(form, line)
        if about is None:
            continue
        student = line[column]
        problem = problem_with(student) if student else f"there is nothing under {column!r}"
        if student in learners:
            problem = f"{student} has a line already"
        if problem:
            who = student or " ".join(filter(None, line.values()))
            taken.left_out.append((f"line {number} ({who})", problem))
        else:
            learners[student] = about
    with Gradebook(course.db_url, course.course_id) as gradebook:
        there = {student.id for student in gradebook.students}
        for student, about in learners.items():
            # What a roster leaves empty stays as it is known.
            given = {name: value for name, value in about.items() if value}
            gradebook.update_or_create_student(student, **given)
            (taken.known if student in there else taken.new).append(student)
    return taken


def _format(columns: list[str], id_column: str, path: Path) -> tuple[str, str, set[str]]:
    """Return the format, the column of ids, and the columns that are used."""
    has = set(columns)
    if id_column and id_column not in has:
        raise RosterError(f"{path} has no column {id_column!r}. It has: {', '.join(columns)}.")
    if "id" in has:
        return "nbgrader", id_column or "id", {"id", id_column, *ABOUT}
    if ("Student" in has or {"LastName", "FirstName"} <= has) and has & set(IDS["Canvas"]):
        form, used = "Canvas", {"Student", "LastName", "FirstName", "ID"}
    elif has & set(_FIRST) and has & set(_LAST) and has & set(IDS["Moodle"]):
        form, used = "Moodle", {*_FIRST, *_LAST, "Email address", "ID number"}
    else:
        raise RosterError(
            f"{path} is no roster that is known: nbgrader's has a column id, Canvas' gradebook "
            "export has Student and ID, Moodle's has First name, Last name and Email address (in "
            f"English). It has: {', '.join(filter(None, columns))}. Rename its columns to "
            f"id, {', '.join(ABOUT)}."
        )
    column = id_column or next(name for name in IDS[form] if name in has)
    return form, column, used | {column}


def _about(form: str, line: Mapping[str, str]) -> dict[str, str] | None:
    """Return what the gradebook keeps of a learner; None for a line that is no learner's."""
    if form == "nbgrader":
        return {name: line.get(name, "") for name in ABOUT}
    if form == "Canvas":
        name = line.get("Student") or f"{line.get('LastName', '')}, {line.get('FirstName', '')}"
        # Beside learners there are the points, how grades are posted, and somebody made up.
        nobody = not any(line.get(key) for key in ("Student", "LastName", *IDS["Canvas"]))
        if POINTS_POSSIBLE in line.values() or name == _TEST_STUDENT or nobody:
            return None
        last, _, first = name.partition(", ")
        if not first:
            first, _, last = name.rpartition(" ")
        return {"first_name": first, "last_name": last, "lms_user_id": line.get("ID", "")}
    return {
        "first_name": next(line[name] for name in _FIRST if name in line),
        "last_name": next(line[name] for name in _LAST if name in line),
        "email": line.get("Email address", ""),
        "lms_user_id": line.get("ID number", ""),
    }


__all__ = ["Taken", "take"]
