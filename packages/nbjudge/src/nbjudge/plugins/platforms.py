"""`nbgrader zip_collect`, second half: whose a file is, by the names that platforms give it.

Which names these are is in the platforms' own source: Canvas' `lib/content_zipper.rb`
(https://github.com/instructure/canvas-lms/blob/master/lib/content_zipper.rb) and Moodle's
`mod/assign/classes/downloader.php`
(https://github.com/moodle/moodle/blob/main/public/mod/assign/classes/downloader.php).
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
import shutil
import tempfile
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook
from nbgrader.apps import ZipCollectApp
from nbgrader.plugins import FileNameCollectorPlugin
from nbgrader.utils import find_all_notebooks
from traitlets import Dict, Enum

from nbjudge import graders, settings, trees
from nbjudge.ids import printable, problem_with
from nbjudge.intake.choice import HEAD, begins_as
from nbjudge.intake.notebook import Unreadable, read_bytes
from nbjudge.intake.recorded import is_answers
from nbjudge.plugins.export import neutral

#: Canvas' `ContentZipper`: the name in small letters, `LATE`, the user's and the file's number; for
#: an anonymous assignment `anon_` and an id of five letters and digits instead of name and number.
_CANVAS = re.compile(
    r"(?:(?P<name>.+?)_)??(?P<late>LATE_)?(?:(?P<number>\d+)|(?P<nobody>anon_[a-zA-Z0-9]+))"
    r"_(?P<hand_in>\d+)_(?P<file>.+)",
    re.DOTALL,
)
#: Moodle's `mod_assign\downloader`: the full name, a number, and the part of the submission.
_MOODLE = re.compile(
    r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_file(?:_(?P<file>.*))?", re.DOTALL
)
#: Blackboard's: the assignment, the user's name, and the time of the attempt.
_BLACKBOARD = re.compile(
    r"(?P<assignment>.+)_(?P<name>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<file>.+))?",
    re.DOTALL,
)
#: Brightspace's: the user's number and the file's, the full name, and the time.
_BRIGHTSPACE = re.compile(
    r"(?P<number>\d+)-\d+ - (?P<name>.+?) - (?P<time>[^-]*\d{4}[^-]*)(?: - (?P<file>.+))?",
    re.DOTALL,
)
_BRIGHTSPACE_TIMES = ("%b %d, %Y %I%M %p", "%B %d, %Y %I%M %p", "%d %B, %Y %H%M")
#: Of a learner's versions, which some platforms (Teams) put into folders.
_VERSION = re.compile(r"version[-_ ]?(\d{1,4})", re.IGNORECASE)
_AGAIN = re.compile(r"(?P<stem>.+)-(?P<number>\d{1,4})")
_COPY = re.compile(r"(?:[-_ ]?Copy\d*|\s*\(\d+\))+$", re.IGNORECASE)
#: Names of folders that say what is in them, and not whose it is.
_NOBODY = {
    *("work", "notebooks", "notebook", "submission", "submissions", "submitted", "homework", "hw"),
    *("files", "src", "code", "solution", "solutions", "assignment", "assignments", "lesson"),
    *(
        "abgabe",
        "abgaben",
        "submitted files",
        "devoir",
        "desktop",
        "downloads",
        "documents",
        "onlinetext",
        "content",
    ),
}
_NOTEBOOK = re.compile(r"\.ipynb(\W.*)?$", re.IGNORECASE | re.DOTALL)


@dataclass
class Found:
    """One file: whose it is, or why that is not known, and what its platform says of it."""

    path: Path
    student: str = ""
    number: str = ""
    file: str = ""
    platform: str = ""
    late: bool = False
    again: int = 0
    hand_in: int = 0
    reason: str = ""


class PlatformCollector(FileNameCollectorPlugin):
    """Takes platforms' names, and plain folders; a `named_regexp` goes before them.

    The platforms are Canvas, Moodle, Blackboard and Brightspace.
    """

    moodle_id = Enum(
        ["name", "number"],
        "name",
        help="What a student's id is in Moodle's zip: the full name, or Moodle's number, which is "
        "another one in each assignment.",
    ).tag(config=True)
    plan = Dict(help="What was found, by path.")

    def collect(self, submitted_file: str) -> dict[str, Any] | None:
        """Return the learner and the file's name; None for what is not collected."""
        if not self.plan:
            self.plan = {str(found.path): found for found in self._all()}
        found = self.plan.get(submitted_file)
        if found is None or found.reason:
            return None
        return {"student_id": found.student, "file_id": found.file}

    def _all(self) -> list[Found]:
        app = self.parent
        root = Path(app._format_collect_path(app.extracted_directory))
        steps = app.coursedir
        lessons: set[str] = set()
        for step in (steps.release_directory, steps.source_directory):
            folder = steps.format_path(step, ".", steps.assignment_id)
            lessons.update(Path(name).stem for name in find_all_notebooks(folder))
        lessons.add(steps.assignment_id)
        archives = set(app.extractor_plugin_inst.unpacked)
        every = []
        for folder, folders, names in trees.walk(root):
            folders.sort()
            every += [Path(folder, name) for name in sorted(names)]
        with Gradebook(steps.db_url, steps.course_id) as gradebook:
            roster = [
                (s.id, s.lms_user_id or "", f"{s.first_name or ''} {s.last_name or ''}")
                for s in gradebook.students
            ]
        people = _People(root, archives, every, lessons, {student for student, *_ in roster})
        found = [self._whose(path, root, people) for path in every]
        _enrolled(found, roster)
        self._same_name(found)
        for one in found:
            if not one.reason and not _wanted(one.path):
                one.reason = "it is neither a notebook nor a file of recorded answers"
            elif not one.reason and (problem := problem_with(one.student)):
                one.reason = f"{one.student!r} cannot be a student's id: {problem}"
        _leave_checkpoints(found)
        _newest(found)
        return found

    def _whose(self, path: Path, root: Path, people: _People) -> Found:
        if self.named_regexp:
            match = re.match(self.named_regexp, str(path))
            if match and match.groupdict().get("student_id"):
                name = match.groupdict().get("file_id") or path.name
                return Found(path, match["student_id"], file=_with_suffix(name, path))
        inside = path.relative_to(root).parts
        for part in inside:
            # Canvas' names of archives within its archive are those of folders here.
            canvas, moodle = _CANVAS.fullmatch(part), _MOODLE.fullmatch(part)
            if moodle:
                file = moodle["file"] if part == path.name and moodle["file"] else path.name
                student = moodle["name"] if self.moodle_id == "name" else moodle["number"]
                return Found(path, student, moodle["number"], file, "moodle")
            if canvas and (canvas["name"] or canvas["nobody"]):
                file = canvas["file"] if part == path.name else path.name
                stem, suffix = _split(canvas["file"])
                again = _AGAIN.fullmatch(stem)
                if again and part == path.name:
                    file = again["stem"] + suffix
                return Found(
                    path,
                    canvas["name"] or canvas["nobody"],
                    canvas["number"] or "",
                    file,
                    "canvas",
                    bool(canvas["late"]),
                    int(again["number"]) if again else 0,
                    int(canvas["hand_in"][:18]),
                )
            if blackboard := _BLACKBOARD.fullmatch(part):
                file = (blackboard["file"] or path.name) if part == path.name else path.name
                when = int(blackboard["time"].replace("-", ""))
                return Found(path, blackboard["name"], "", file, "blackboard", hand_in=when)
            if brightspace := _BRIGHTSPACE.fullmatch(part):
                file = (brightspace["file"] or path.name) if part == path.name else path.name
                number, when = brightspace["number"], _time_of(brightspace["time"])
                found = Found(path, brightspace["name"], number, file, "brightspace")
                found.hand_in = when
                return found
        found = people.whose(path)
        versions = [_VERSION.fullmatch(part) for part in inside[:-1]]
        found.again = max((int(version[1]) for version in versions if version), default=0)
        return found

    def _same_name(self, found: list[Found]) -> None:
        """Let two people of one name be two, by the platform's numbers."""
        numbers = defaultdict(set)
        for one in found:
            if one.number:
                numbers[one.student].add(one.number)
        for one in found:
            if len(numbers[one.student]) > 1:
                one.student = f"{one.student}_{one.number}"


class _People:
    """Whose a file is in plain folders: a folder for each person, or a file for each."""

    def __init__(
        self,
        root: Path,
        archives: set[str],
        every: list[Path],
        lessons: set[str],
        known: set[str],
    ):
        self.lessons, self.known = lessons, known
        self.root = root
        self.inside = defaultdict(list)
        self.folders = defaultdict(set)
        for path in every:
            self.inside[path.parent].append(path)
            for parent in path.parents:
                if parent == root:
                    break
                self.folders[parent.parent].add(parent)
        self.archives = {Path(name) for name in archives}
        parents = defaultdict(set)
        for parent, inner in self.folders.items():
            # Several archives with a folder "class" in each are several classes.
            for folder in () if parent == root or parent in self.archives else inner:
                parents[folder.name, len(folder.parts)].add(parent)
        #: What several people call a folder names none of them.
        self.shared = {key for key, found in parents.items() if len(found) > 1}

    def whose(self, path: Path) -> Found:
        """Return whose `path` is, or the reason why that cannot be told."""
        folders = path.relative_to(self.root).parts[:-1]
        enrolled = [name for name in folders if name in self.known]
        if len(enrolled) == 1:
            return Found(path, enrolled[0], file=path.name)
        folder = self.root
        passed: list[str] = []
        for name in folders:
            below = folder / name
            if self.folders[below] and self._says_what(below):
                folder = below  # the lesson's own folder, say, with the learners' in it
                continue
            if not self._of_a_class(below):
                maybe = [*passed, name]
                if len(passed) > 1:
                    reason = f"any of its folders may name the learner: {', '.join(maybe)}"
                    return Found(path, reason=reason)
                return Found(path, name, file=path.name)
            if len(self.folders[below]) == 1 and below not in self.archives:
                passed.append(name)
            folder = below
        return self._by_file(path)

    def _of_a_class(self, folder: Path) -> bool:
        """Return whether a folder holds a class; otherwise it is one person's."""
        notebooks = [path for path in self.inside[folder] if _NOTEBOOK.search(path.name)]
        if notebooks:
            # Several notebooks none of which is the lesson: each bears its learner's name.
            return len(notebooks) > 1 and not any(self._lesson(path) for path in notebooks)
        inner = self.folders[folder]
        if not inner:
            return False
        if all(self._names_nobody(path) for path in inner):
            # What is called after an archive or a lesson may hold a class all the same, deeper.
            may = folder in self.archives or self._says_what(folder)
            return may and any(self._holds_people(path) for path in inner)
        return folder in self.archives or all(
            self.folders[path] or any(_NOTEBOOK.search(p.name) for p in self.inside[path])
            for path in inner
        )

    def _holds_people(self, folder: Path) -> bool:
        """Return whether a folder that names nobody holds, at some depth, several that may."""
        inner = self.folders[folder]
        people = [path for path in inner if not self._names_nobody(path)]
        deeper = (path for path in inner if self._names_nobody(path))
        return len(people) > 1 or any(self._holds_people(path) for path in deeper)

    def _names_nobody(self, folder: Path) -> bool:
        return self._says_what(folder) or (folder.name, len(folder.parts)) in self.shared

    def _says_what(self, folder: Path) -> bool:
        name = folder.name.lower()
        return name in _NOBODY or name in {lesson.lower() for lesson in self.lessons}

    def _lesson(self, path: Path) -> bool:
        return _COPY.sub("", _split(path.name)[0]) in self.lessons

    def _by_file(self, path: Path) -> Found:
        stem, suffix = _split(path.name)
        if not _NOTEBOOK.search(path.name):
            return Found(path, reason="its name and its folder name no learner")
        for lesson in sorted(self.lessons, key=len, reverse=True):
            rest = re.sub(rf"^{re.escape(lesson)}(?:[-_ ]+|$)", "", stem)
            rest = re.sub(rf"(?:^|[-_ ]+){re.escape(lesson)}$", "", _COPY.sub("", rest))
            if rest != _COPY.sub("", stem):
                if not rest:
                    return Found(path, reason="its name and its folder name no learner")
                return Found(path, rest, file=lesson + suffix)
        return Found(path, stem, file=path.name)


def _time_of(text: str) -> int:
    """Return a time of Brightspace's as a number that grows with it; 0 where it is none."""
    for form in _BRIGHTSPACE_TIMES:
        with contextlib.suppress(ValueError):
            return int(datetime.strptime(text, form).strftime("%Y%m%d%H%M"))
    return 0


def _leave_checkpoints(found: list[Found]) -> None:
    """Leave out Jupyter's own copies of the learners who handed in something else, too."""

    def is_hidden(one: Found) -> bool:
        return any(part.startswith(".") for part in one.path.parts[-3:])

    others = {one.student for one in found if not one.reason and not is_hidden(one)}
    for one in found:
        if not one.reason and is_hidden(one) and one.student in others:
            one.reason = "it is a copy that a program made, in a hidden folder"


def _enrolled(found: list[Found], roster: list[tuple[str, str, str]]) -> None:
    """Give who is in the roster their id there: by Canvas' number, or by the name in Moodle.

    roster: id, the platform's number, and full name of each learner. Where two have the same,
    it decides nothing.
    """
    by_number, by_name = defaultdict(set), defaultdict(set)
    for student, number, name in roster:
        by_number[number].add(student)
        by_name[_plain(name)].add(student)
    for one in found:
        if one.platform == "canvas" and one.number:
            those = by_number[one.number]
        elif one.platform in ("moodle", "brightspace") and one.student != one.number:
            # Before Moodle 4.1 the name of a group stood before the learner's.
            name, _, behind = one.student.partition("-")
            those = by_name[_plain(one.student)] or by_name[_plain(behind or name)]
        else:
            continue
        if len(those) == 1:
            (one.student,) = those


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


def _split(name: str) -> tuple[str, str]:
    match = _NOTEBOOK.search(name)
    return (name[: match.start()], match[0]) if match else os.path.splitext(name)


def _with_suffix(name: str, path: Path) -> str:
    return name if os.path.splitext(name)[1] else name + path.suffix


def _wanted(path: Path) -> bool:
    """Whether a file is a notebook, by its name or its beginning, or one of recorded answers."""
    if _NOTEBOOK.search(path.name) or is_answers(path.name):
        return True
    try:
        return begins_as(read_bytes(path, HEAD, cut=True)) == "notebook"
    except Unreadable:
        return False


def _newest(found: list[Found]) -> None:
    """Leave of a learner's files with one name the last: by resubmission, then by hand-in."""
    best: dict[tuple[str, str], Found] = {}
    for one in found:
        if one.reason:
            continue
        key = (one.student, one.file)
        other = best.get(key)
        if other is None:
            best[key] = one
            continue
        order = (one.again, one.hand_in), (other.again, other.hand_in)
        newer, older = (one, other) if order[0] > order[1] else (other, one)
        best[key] = newer
        older.reason = (
            "a newer one of this learner was handed in"
            if order[0] != order[1]
            else f"this learner has another file {one.file}, and nothing says which is newer"
        )


def install() -> None:
    """Let `zip_collect` say what became of each file: nbgrader has no setting for that."""
    ZipCollectApp._transfer_files = _transfer
    if not hasattr(ZipCollectApp.start, "replaced"):
        before = ZipCollectApp.start

        def start(self: ZipCollectApp) -> None:
            settings.apply(self.config)
            self.collected_students = 0
            with graders.together(self.coursedir.root):
                before(self)
                _finish(self)

        start.replaced = before  # type: ignore[attr-defined]
        ZipCollectApp.start = start


def _transfer(app: ZipCollectApp, collected: dict[str, Any]) -> None:
    """Put each learner's files in `submitted/`; one for whom that fails is named."""
    steps = app.coursedir
    for student, data in (collected or {}).items():
        folder = Path(steps.format_path(steps.submitted_directory, student, steps.assignment_id))
        problem = problem_with(student)
        if problem is None and folder.is_dir() and any(folder.iterdir()) and not app.force:
            problem = "there is a submission already; --force puts the new one in its place"
        try:
            if problem is None:
                _put(folder, data)
        except OSError as error:
            problem = f"the files cannot be written ({error})"
        if problem:
            app.log.error("Not collected: %s, because %s.", printable(student), problem)
            _say(app, data["src_files"], problem)
        else:
            app.collected_students += 1


def _put(folder: Path, data: dict[str, Any]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".collect-", dir=folder.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        for source, name in zip(data["src_files"], data["file_ids"], strict=True):
            shutil.copyfile(source, new / Path(name).name)
        if data["timestamp"] is not None and not (new / "timestamp.txt").exists():
            (new / "timestamp.txt").write_text(data["timestamp"].isoformat(" "))
        if os.path.lexists(folder):
            os.rename(folder, Path(temporary, "old"))
        os.rename(new, folder)


def _say(app: ZipCollectApp, files: list[str], problem: str) -> None:
    plan = getattr(app.collector_plugin_inst, "plan", {})
    for path in files:
        if path in plan:
            plan[path].reason = problem


def _finish(app: ZipCollectApp) -> None:
    """List every file with what became of it; end with an error where nobody was collected."""
    collector, extractor = app.collector_plugin_inst, app.extractor_plugin_inst
    plan = list(getattr(collector, "plan", {}).values())
    root = Path(app._format_collect_path(app.extracted_directory))
    table = root.parent / "collected.csv"
    if root.parent.is_dir():
        with (
            graders.replaced(table, app.coursedir.root) as new,
            new.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["file", "student_id", "number", "late", "resubmission", "collected_as", "reason"]
            )
            for one in plan:
                row = [str(one.path.relative_to(root)), one.student, one.number]
                row += ["LATE" if one.late else "", str(one.again or "")]
                row += ["" if one.reason else one.file, one.reason]
                writer.writerow([neutral(cell) for cell in row])
            for name, reason in getattr(extractor, "left_out", []):
                writer.writerow([neutral(cell) for cell in (name, *[""] * 5, reason)])
    for one in plan:
        if one.reason:
            app.log.warning(
                "Not collected: %s, because %s.",
                printable(str(one.path.relative_to(root))),
                printable(one.reason),
            )
    late = sorted({one.student for one in plan if one.late and not one.reason})
    if late:
        app.log.info("Marked as late by the platform: %s", ", ".join(late))
    app.log.info("%d learners collected; every file is listed in %s", app.collected_students, table)
    if not app.collected_students:
        app.fail(
            f"Nobody was collected. Put the platform's zip into "
            f"{app._format_collect_path(app.archive_directory)}."
        )
