"""`nbgrader collect`: only a learner's own files, from a folder of the learner's own.

nbgrader's copies whatever a link in the exchange points to, with the grader's rights, and its
`check_owner` only warns: the newest folder that carries a name is taken, whoever made it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.exchange.default import ExchangeCollect
from nbgrader.utils import check_mode

from nbjudge import graders
from nbjudge.ids import printable, problem_with
from nbjudge.intake.folder import MAX_TIMESTAMP, time_of
from nbjudge.plugins.folders import Copy, Refused

try:
    import pwd
except ImportError:  # Windows, where nbgrader has no exchange
    pwd = None  # type: ignore[assignment]


class Collect(ExchangeCollect):
    """As nbgrader's, but refuses links and what is somebody else's; the rest goes on.

    `c.ExchangeCollect.check_owner = False` is for an exchange whose folders all belong to one
    user; then nobody can say who handed in what.
    """

    def init_src(self) -> None:
        """List for each learner the folder to collect; `ExchangeError` where there is no course."""
        course = self.coursedir
        if course.course_id == "":
            self.fail("No course id specified. Re-run with --course flag.")
        self.course_path = os.path.join(self.root, course.course_id)
        self.inbound_path = os.path.join(self.course_path, "inbound")
        if not os.path.isdir(self.inbound_path):
            self.fail(f"Course not found: {self.inbound_path}")
        if not check_mode(self.inbound_path, read=True, execute=True):
            self.fail(f"You don't have read permissions for the directory: {self.inbound_path}")
        handed_in: dict[str, list[dict[str, Any]]] = {}
        for name in sorted(os.listdir(self.inbound_path)):
            try:
                record = self._record(name)
            except Refused as error:
                self.log.error("Not collected: %s, because %s.", printable(name), error)
                continue
            if record:
                handed_in.setdefault(record["username"], []).append(record)
        due = self._due()
        self.src_records = []
        for records in handed_in.values():
            newest = sorted(records, key=lambda record: record["timestamp"], reverse=True)
            in_time = [record for record in newest if due and record["timestamp"] <= due]
            self.src_records.append((in_time or newest)[0])

    def _due(self) -> datetime | None:
        if not self.before_duedate:
            return None
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as gradebook:
            try:
                return gradebook.find_assignment(self.coursedir.assignment_id).duedate
            except MissingEntry:
                return None

    def _record(self, name: str) -> dict[str, Any] | None:
        """Return what an entry of the exchange is, None for one that is not asked for.

        Raises `Refused`.
        """
        middle = re.escape(f"+{self.coursedir.assignment_id}+")
        match = re.fullmatch(rf"(.*){middle}([^+]*)(?:\+[^+]*)?", name, re.DOTALL)
        if not match:
            return None
        student, time = match.groups()
        wanted = self.coursedir.student_id or "*"
        if student != wanted and not fnmatch(student, wanted):
            return None
        problem = problem_with(student)
        if problem:
            raise Refused(f"its name names no learner: {problem}")
        about = os.lstat(os.path.join(self.inbound_path, name))
        if stat.S_ISLNK(about.st_mode):
            raise Refused("it is a link")
        if not stat.S_ISDIR(about.st_mode):
            raise Refused("it is no folder")
        if self.check_owner and pwd is not None:
            owner = _user(about.st_uid)
            if owner != student:
                raise Refused(
                    f"it names {student} and belongs to {owner} (where the exchange cannot tell "
                    "users apart, set c.ExchangeCollect.check_owner = False)"
                )
        timestamp = _time(time)
        if timestamp is None:
            raise Refused("its name holds no time that can be read")
        return {
            "username": student,
            "filename": name,
            "timestamp": timestamp,
            "owner": about.st_uid,
        }

    def copy_files(self) -> None:
        """Copy each learner's folder to `submitted/`; one that cannot be copied is named."""
        with graders.together(self.coursedir.root):
            self._copy_files()

    def _copy_files(self) -> None:
        course = self.coursedir
        failed = []
        if not self.src_records:
            self.log.warning(
                "No submissions of '%s' for course '%s' to collect",
                course.assignment_id,
                course.course_id,
            )
        for record in self.src_records:
            student = record["username"]
            destination = Path(
                course.format_path(course.submitted_directory, student, course.assignment_id)
            )
            if destination.is_dir():
                there = _time_in(destination)
                newer = there is None or record["timestamp"] > there
                if not (
                    (self.update and newer)
                    or (self.before_duedate and there != record["timestamp"])
                ):
                    self.log.info(
                        "No newer submission to collect: %s %s"
                        if self.update
                        else "Submission already exists, use --update to update: %s %s",
                        student,
                        course.assignment_id,
                    )
                    continue
            self.log.info("Collecting submission: %s %s", student, course.assignment_id)
            try:
                self._take(record, destination)
            except (Refused, OSError) as error:
                self.log.error("Not collected: %s, because %s.", student, error)
                if isinstance(error, OSError):
                    failed.append(student)
        if failed:
            self.fail(
                f"Not collected: {', '.join(failed)}. See to the space and the permissions of "
                f"{self.root} and {course.root}, then run the same command again."
            )

    def _take(self, record: dict[str, Any], destination: Path) -> None:
        """Put a copy in the place of what is there; that stays until the copy is whole."""
        course = self.coursedir
        copy = Copy(
            record["owner"],
            1000 * course.max_file_size,
            1000 * course.max_dir_size,
            lambda name: (
                not any(fnmatch(name, pattern) for pattern in course.ignore)
                and (
                    not course.include or any(fnmatch(name, pattern) for pattern in course.include)
                )
            ),
        )
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".collect-", dir=destination.parent) as temporary:
            new = Path(temporary, "new")
            copy.tree(os.path.join(self.inbound_path, record["filename"]), new)
            for path, reason in copy.refused:
                self.log.error(
                    "Left out of %s: %s, because %s.", record["username"], printable(path), reason
                )
            if course.groupshared:
                for folder, _, files in os.walk(new):
                    os.chmod(folder, 0o2770 | os.stat(folder).st_mode & 0o777)
                    for name in files:
                        os.chmod(os.path.join(folder, name), 0o664)
            if os.path.lexists(destination):
                os.rename(destination, Path(temporary, "old"))
            os.rename(new, destination)
            shutil.rmtree(Path(temporary, "old"), ignore_errors=True)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}, whom this machine does not know"


def _time(text: str) -> datetime | None:
    try:
        return time_of(text)
    except ValueError:
        return None


def _time_in(folder: Path) -> datetime | None:
    try:
        with (folder / "timestamp.txt").open(encoding="utf-8", errors="replace") as file:
            return _time(file.read(MAX_TIMESTAMP + 1).strip())
    except OSError:
        return None
