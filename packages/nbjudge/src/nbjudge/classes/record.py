"""What was graded last, and of what: an assignment's record in the course's own folder.

A submission's notebook gets a line when its grade is in the gradebook and its files are in place.
Before it is graded, a line says that nothing is known of it: so a run that is killed leaves nothing
that looks like a grade. The last line about a notebook counts. A line that is half written does
not.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER

#: Version of the stored form. A line of another version counts as unknown.
_VERSION = 1


@dataclass(frozen=True)
class Graded:
    """The last grading of a notebook.

    hand_in, lesson: the digests of the files that were handed in, and of the lesson as its tests
    grade it (`nbjudge.classes.freshness`). when: UTC, in ISO form.
    flags: as `codes.all_flags` gives them. answers: the recorded ones, as the course's recorder
    keeps them. mistakes: the names of known ones that were recognised.
    """

    hand_in: str
    lesson: str
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    flags: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)


class Record:
    """The record of an assignment; read when it is made, and kept up with what is graded."""

    def __init__(self, course: CourseDirectory, assignment: str, log: Logger):
        self._path = Path(course.root, OWN_FOLDER, "graded", f"{assignment}.jsonl")
        self._root, self._mode = course.root, graders.file_mode(course.root)
        self._log = log
        self._warned = False
        self._known: dict[tuple[str, str], Graded] = {}
        self._shorten(self._read())

    def of(self, student: str, notebook: str) -> Graded | None:
        """Return the last grading of a notebook; None where none came to its end."""
        return self._known.get((student, notebook))

    def begin(self, student: str, notebooks: Iterable[str]) -> None:
        """Forget how notebooks of a submission were graded: they are about to be graded again."""
        known = [name for name in notebooks if self._known.pop((student, name), None)]
        self._append([(student, name, None) for name in known])

    def finish(self, student: str, notebooks: Mapping[str, Graded]) -> None:
        """Keep how notebooks of a submission were graded. The last step of grading it."""
        self._known.update({(student, name): graded for name, graded in notebooks.items()})
        self._append([(student, name, graded) for name, graded in notebooks.items()])

    def _append(self, entries: list[tuple[str, str, Graded | None]]) -> None:
        if not entries:
            return
        # A line end first: what a killed run left half written is a line of its own.
        data = "".join(f"\n{_line(*entry)}" for entry in entries).encode("ascii")
        try:
            graders.folder(self._root, OWN_FOLDER, "graded")
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            handle = os.open(self._path, flags, self._mode)
            try:
                with contextlib.suppress(OSError):  # the umask may have taken something off it
                    os.chmod(self._path, self._mode)
                os.write(handle, data)
            finally:
                os.close(handle)
        except OSError as error:
            if not self._warned:
                self._warned = True
                self._log.warning(
                    "%s cannot be written (%s): what is graded now will be graded again by the "
                    "next run. See to its permissions.",
                    *(self._path, error.strerror),
                )

    def _read(self) -> int:
        """Read all lines and return their number."""
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return 0
        for line in lines:
            try:
                found = json.loads(line)
                if found["version"] != _VERSION:
                    continue
                key = (found["student"], found["notebook"])
                self._known.pop(key, None)
                if found["graded"] is not None:
                    self._known[key] = Graded(**found["graded"])
            except (ValueError, KeyError, TypeError):
                continue
        return len(lines)

    def _shorten(self, lines: int) -> None:
        """Write the record anew where most of its lines count no more."""
        if lines <= 3 * len(self._known) + 100:
            return
        with contextlib.suppress(OSError):
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".graded-")
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.writelines(f"{_line(*key, graded)}\n" for key, graded in self._known.items())
            os.chmod(temporary, self._mode)
            os.replace(temporary, self._path)


def _line(student: str, notebook: str, graded: Graded | None) -> str:
    about = {"version": _VERSION, "student": student, "notebook": notebook}
    return json.dumps({**about, "graded": None if graded is None else asdict(graded)})
