"""Grades and feedback back to a learning platform, as the files that it imports.

Canvas' gradebook takes the CSV that it exports: columns about the learner up to `Section`, in their
order, and a column for each assignment, `name (number)`, with the points possible in a line of its
own. What it accepts is in its `lib/gradebook_importer.rb`
(https://github.com/instructure/canvas-lms/blob/master/lib/gradebook_importer.rb). By the first two
numbers in a file's name it knows whose feedback it is (`Assignment`'s
`infer_comment_context_from_filename`).

Moodle's "Grade import" takes any CSV with a column that identifies the user, an e-mail address or
an ID number, and a column a grade item (https://docs.moodle.org/en/Grade_import). An assignment's
own "offline grading worksheet" needs `Identifier`, `Grade` and `Last modified (grade)` as they came
(`mod/assign/feedback/offline/importgradeslib.php` in https://github.com/moodle/moodle), and its
feedback files the folders of the download (`mod/assign/feedback/file/importziplib.php` there).
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.classes.points import Grades, grades_of
from nbjudge.plugins.export import neutral

CANVAS_COLUMNS = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
MOODLE_COLUMNS = ("First name", "Last name", "ID number", "Email address")
PLATFORMS = ("canvas", "moodle")
#: What a roster's column may be called: by these a learner is recognised, in this order.
_KEYS = {
    "canvas": ("SIS Login ID", "SIS User ID", "ID", "Student"),
    "moodle": (
        *("Username", "ID number", "Email address", "Identifier", "Full name"),
        *("ID", "Email", "E-Mail"),
    ),
}
POINTS_POSSIBLE = "Points Possible"
#: Columns of a platform's own sums, which its import ignores or refuses.
_READ_ONLY = "(read only)"
#: Canvas' columns about a learner, as far as an export has them.
_CANVAS_STUDENT = {
    *CANVAS_COLUMNS,
    *("LastName", "FirstName", "Integration ID", "Root Account"),
}
#: Columns of Moodle's offline grading worksheet: who, the grade, and how much it can be.
_WORKSHEET = "Identifier", "Grade", "Maximum grade"


class RosterError(Exception):
    """A roster that cannot be used; the message says why, and what to do."""


@dataclass
class Written:
    """What was written, and who could not be matched."""

    path: Path
    learners: int = 0
    not_in_roster: list[str] = field(default_factory=list)
    not_graded: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    #: What the platform says that the assignment is worth, where that is not the lesson's.
    worth: str = ""


def read_roster(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV, by column, whoever wrote it: with or without a byte order mark,
    separated by commas, semicolons or tabs, in UTF-8 or Windows' Western encoding.

    Raises `RosterError`.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RosterError(f"{path} cannot be read ({error.strerror}).") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise RosterError(f"{path} is no CSV that can be read ({error}).") from error
    rows = [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise RosterError(f"{path} has no line of a learner: export the roster again.")
    header = rows[0]
    if len(set(filter(None, header))) < len([name for name in header if name]):
        raise RosterError(f"{path} has two columns of one name.")
    return [dict(zip(header, row + [""] * len(header), strict=False)) for row in rows[1:]]


def write_grades(
    course: CourseDirectory,
    assignment: str,
    platform: str,
    target: Path,
    *,
    roster: Path | None = None,
    column: str = "",
    exercises: bool = False,
) -> Written:
    """Write an assignment's grades as the CSV that a platform's gradebook imports.

    roster: the platform's own export, whose learners and columns are kept. column: the name of the
    assignment there, `attention` or Canvas' `attention (1234)`; found in the roster where it is
    not given. exercises: a column for each exercise, too.
    Raises `RosterError` and, where nothing was ever graded, `MissingEntry`.
    """
    summary = grades_of(course, assignment)
    people = _people(course, assignment, platform)
    points = _points(summary, exercises)
    lines = read_roster(roster) if roster else []
    title = column or _column_in(lines, assignment, platform)
    names = [title, *(f"{assignment}: {name}" for name in summary.exercises)][: len(points)]
    written = Written(target)
    if roster:
        rows, head = _into_roster(lines, platform, people, summary, points, names, written, roster)
    else:
        head = [*(CANVAS_COLUMNS if platform == "canvas" else MOODLE_COLUMNS), *names]
        make = _canvas_row if platform == "canvas" else _moodle_row
        points_of = _getter(points)
        rows = [[*make(student, people), *points_of(student)] for student in summary.scores]
        written.learners = len(rows)
        if platform == "canvas":
            most = [summary.maximum, *summary.maxima.values()]
            rows.insert(0, [POINTS_POSSIBLE, "", "", "", "", *most[: len(points)]])
    target.parent.mkdir(parents=True, exist_ok=True)
    # Spreadsheets take a file for UTF-8 by its byte order mark, behind which Canvas does not find
    # the one column that it compares with all of its name.
    encoding = "utf-8" if head[0] == "LastName" else "utf-8-sig"
    with (
        graders.replaced(target) as new,
        new.open("w", newline="", encoding=encoding) as file,
    ):
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow([neutral(name) for name in head])
        writer.writerows([neutral(cell) for cell in row] for row in rows)
    return written


def _points(summary: Grades, exercises: bool) -> list[dict[str, float]]:
    """Return each learner's points: of the whole, then of each exercise."""
    return [summary.scores, *(summary.exercises.values() if exercises else ())]


def _getter(points: list[dict[str, float]]) -> Callable[[str], list[object]]:
    return lambda student: [
        "" if student not in column else round(column[student], 4) for column in points
    ]


def _people(
    course: CourseDirectory, assignment: str, platform: str
) -> dict[str, tuple[str, str, str, str, str]]:
    """Return of each learner first name, last name, e-mail address, the platform's id, and the
    number that the platform's download gave them, which its roster has, too.
    """
    numbers = {row["student_id"]: row["number"] for row in _collected(course, assignment)}
    with Gradebook(course.db_url, course.course_id) as gradebook:
        found = {}
        for s in gradebook.students:
            number, id_ = numbers.get(s.id, ""), s.lms_user_id or ""
            if platform == "canvas":  # there the two are one
                id_ = id_ or number
            found[s.id] = (s.first_name or "", s.last_name or "", s.email or "", id_, number)
        return found


def _collected(course: CourseDirectory, assignment: str) -> list[dict[str, str]]:
    """Return the files that `zip_collect` took, with whose they are; none where it was not run."""
    table = Path(course.root, "downloaded", assignment, "collected.csv")
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if not row["reason"]]
    return [row | {"student_id": row["student_id"].removeprefix("'")} for row in rows]


def _canvas_row(student: str, people: dict[str, tuple[str, str, str, str, str]]) -> list[object]:
    first, last, _, number, _ = people.get(student, ("",) * 5)
    name = ", ".join(part for part in (last, first) if part) or student
    return [name, number, "", student, ""]


def _moodle_row(student: str, people: dict[str, tuple[str, str, str, str, str]]) -> list[object]:
    first, last, email, number, _ = people.get(student, ("",) * 5)
    return [first, last, number or student, email]


def _column_in(lines: list[dict[str, str]], assignment: str, platform: str) -> str:
    """Return the roster's column of an assignment; Canvas puts its number behind the name."""
    for name in lines[0] if lines else ():
        base = name.rpartition(" (")[0] if name.endswith(")") else name
        if assignment.lower() in (base.lower(), name.lower()):
            return name
    identifier, grade, _ = _WORKSHEET
    if platform == "moodle" and lines and {identifier, grade} <= lines[0].keys():
        return grade
    return assignment


def _into_roster(
    lines: list[dict[str, str]],
    platform: str,
    people: dict[str, tuple[str, str, str, str, str]],
    summary: Grades,
    points: list[dict[str, float]],
    names: list[str],
    written: Written,
    roster: Path,
) -> tuple[list[list[object]], list[str]]:
    """Fill the grades into a roster's own lines, in its own columns and order."""
    keys = [key for key in _KEYS[platform] if key in lines[0]]
    if not keys:
        raise RosterError(
            f"{roster} has none of the columns by which a learner is known "
            f"({', '.join(_KEYS[platform])}). It has: {', '.join(filter(None, lines[0]))}. Export "
            "it from the platform's gradebook, unchanged."
        )
    about = _CANVAS_STUDENT if platform == "canvas" else lines[0].keys()
    head = [name for name in lines[0] if name in about and _READ_ONLY not in name]
    head += [name for name in names if name not in head]
    by_name = _by_every_name(people, summary.scores)
    get, rows, seen = _getter(points), [], set()
    for line in lines:
        row: dict[str, object] = {name: line.get(name, "") for name in head}
        if any(value.strip() == POINTS_POSSIBLE for value in line.values()):
            _worth(line.get(names[0], ""), summary.maximum, written)
            most = [summary.maximum, *summary.maxima.values()]
            # Where the platform says something else, it is not for us to change.
            kept = names[:1] if written.worth else []
            row.update({n: m for n, m in zip(names, most, strict=False) if n not in kept})
            rows.append([row[name] for name in head])
            continue
        if not any(line[key] for key in keys):  # Canvas' line on how grades are posted
            continue
        _worth(line.get(_WORKSHEET[2], ""), summary.maximum, written)
        found = {by_name[value] for key in keys if (value := _folded(line[key])) in by_name}
        if len(found) > 1:
            written.twice.append(line[keys[0]])
        elif found:
            student = found.pop()
            if student in seen:
                written.twice.append(student)
            seen.add(student)
            row.update(zip(names, get(student), strict=True))
            written.learners += 1
        else:
            written.not_graded.append(" ".join(filter(None, (line[key] for key in keys[:2]))))
        rows.append([row[name] for name in head])
    written.not_in_roster = sorted(set(summary.scores) - seen)
    return rows, head


def _worth(said: str, maximum: float, written: Written) -> None:
    """Note what a platform says that an assignment is worth, where it is something else."""
    try:
        if float(said.replace(",", ".")) != maximum:
            written.worth = f"{said} points there, {maximum:g} here"
    except ValueError:
        pass  # nothing is said, or a scale


def _by_every_name(
    people: dict[str, tuple[str, str, str, str, str]], scores: Iterable[str]
) -> dict[str, str]:
    """Return the learner of each id, address and full name that only one of them has."""
    found: dict[str, set[str]] = {}
    for student in scores:
        first, last, email, *numbers = people.get(student, ("",) * 5)
        full = (f"{last}, {first}", f"{first} {last}") if first and last else ()
        for name in (student, email, *numbers, *full):
            if name:
                found.setdefault(_folded(name), set()).add(student)
    return {name: those.pop() for name, those in found.items() if len(those) == 1}


def _folded(name: str) -> str:
    return " ".join(name.replace("Participant ", "").casefold().split())


def write_feedback(course: CourseDirectory, assignment: str, target: Path) -> Written:
    """Write the feedback pages as the zip that a platform's bulk upload takes.

    Each page has the name of the file that its learner handed in, as the platform gave it in the
    download that `zip_collect` took. Raises `RosterError` where there was none.
    """
    collected = _collected(course, assignment)
    if not collected:
        raise RosterError(
            f"{Path(course.root, 'downloaded', assignment, 'collected.csv')} is missing, or names "
            "nobody: a platform knows feedback by the names in its own download, which `nbgrader "
            "zip_collect` writes there."
        )
    written = Written(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        graders.replaced(target) as new,
        zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for row in collected:
            if not row["collected_as"].lower().endswith((".ipynb", ".ipynb.txt", ".ipynb.json")):
                continue
            student = row["student_id"]
            folder = Path(course.format_path(course.feedback_directory, student, assignment))
            pages = sorted(folder.glob("*.html")) if folder.is_dir() else []
            if not pages:
                written.not_graded.append(student)
                continue
            # The platform knows whose it is by the beginning of the name.
            stem = _from_platform(row["file"].removeprefix("'"))
            for page in pages:
                more = f"_{page.stem}" if len(pages) > 1 else ""
                archive.write(page, f"{stem}{more}.html")
            written.learners += 1
    return written


def _from_platform(name: str) -> str:
    """Return a collected file's path under its archive's own folder, without its suffix."""
    parts = name.replace("\\", "/").split("/")
    inside = parts[1:] if len(parts) > 1 else parts
    return "/".join(inside).rpartition(".")[0] or parts[-1]


__all__ = ["RosterError", "read_roster", "write_feedback", "write_grades"]
