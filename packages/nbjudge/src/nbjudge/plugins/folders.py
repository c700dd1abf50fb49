"""The learners' folders of a step, by name and never by pattern; trees copied without links."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from logging import Logger
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

from nbjudge.ids import has_unseen, printable, problem_with, stands_for_many

_MARKER = "\x01"
MAX_FILES, MAX_DEPTH = 1_000, 8
_CHUNK = 1 << 20


def of_students(
    course: CourseDirectory, step: str, log: Logger, *, graded: bool = False
) -> Iterator[tuple[str, Path]]:
    """Yield each learner with a folder of the assignment in `step` who is asked for, in order.

    `--student` names one; where nobody has that name it is a pattern. A folder whose name cannot
    be an id is named in the log and left out (of graded work only one that is a pattern).
    """
    before, after = course.format_path(step, _MARKER, course.assignment_id).split(_MARKER, 1)
    folder, prefix = os.path.split(before)
    excluded = {name.strip() for name in course.student_id_exclude.split(",")} - {""}
    wanted = course.student_id or "*"
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    # Where the structure goes on behind the id's own folder name ("{student_id}-work").
    suffix, _, rest = after.partition(os.sep)
    found = []
    for name in names:
        if not (name.startswith(prefix) and name.endswith(suffix)):
            continue
        student = name[len(prefix) : len(name) - len(suffix)]
        path = Path(folder, name, rest)
        if path.is_dir():
            found.append((student, path))
    named = any(student == wanted for student, _ in found) and (
        graded or problem_with(wanted) is None
    )
    for student, path in found:
        if student in excluded or not (student == wanted if named else fnmatch(student, wanted)):
            continue
        # What was graded is told so, unless the steps behind would take its name for a pattern.
        pattern = stands_for_many(student) or ("[" in student and not fnmatch(student, student))
        known = graded and not pattern
        problem = None if known else problem_with(student)
        if problem:
            log.error(
                "The folder %s was left out: its name cannot be a student's id, because %s.",
                printable(str(path)),
                problem,
            )
            continue
        yield student, path


class Refused(Exception):
    """What cannot be taken over, with the reason as a sentence."""


@dataclass
class Copy:
    """Copies one tree by file descriptors, so that nothing on the way can be exchanged for a link.

    owner: the user whose files they must be; None for anybody. max_file, max_total: in bytes.
    wanted: whether a name is to be copied at all.
    """

    owner: int | None
    max_file: float
    max_total: float
    wanted: Callable[[str], bool] = lambda _: True
    refused: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    total: int = 0

    def tree(self, source: str | Path, destination: Path) -> None:
        """Copy what may be copied and list the rest in `refused`, by path and reason.

        Raises `Refused` where the folder itself is none, or somebody else's.
        """
        try:
            opened = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            raise Refused(f"it is no folder that can be read ({error.strerror})") from error
        try:
            if self.owner is not None and os.fstat(opened).st_uid != self.owner:
                raise Refused("it belongs to somebody else")
            self._folder(opened, destination, "", 0)
        finally:
            os.close(opened)

    def _folder(self, opened: int, destination: Path, inside: str, depth: int) -> None:
        destination.mkdir(parents=True, exist_ok=True)
        for name in sorted(os.listdir(opened)):
            path = os.path.join(inside, name)
            try:
                self._entry(opened, name, destination, path, depth)
            except Refused as error:
                self.refused.append((path, str(error)))
            except OSError as error:
                self.refused.append((path, f"it cannot be read ({error.strerror})"))

    def _entry(self, parent: int, name: str, destination: Path, path: str, depth: int) -> None:
        if not self.wanted(name):
            return
        if has_unseen(name):
            raise Refused("its name holds characters that are not shown")
        kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if stat.S_ISLNK(kind):
            raise Refused("it is a link")
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise Refused("it is neither a file nor a folder")
        # A pipe that took the file's place meanwhile must not be waited for.
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        try:
            about = os.fstat(opened)
            if self.owner is not None and about.st_uid != self.owner:
                raise Refused("it belongs to somebody else")
            if stat.S_ISDIR(about.st_mode):
                if depth >= MAX_DEPTH:
                    raise Refused(f"it lies deeper than {MAX_DEPTH} folders")
                self._folder(opened, destination / name, path, depth + 1)
            elif not stat.S_ISREG(about.st_mode):
                raise Refused("it is neither a file nor a folder")
            elif about.st_nlink > 1:
                raise Refused("it is a hard link: the same file has another name elsewhere")
            else:
                self._file(opened, about, destination / name)
        finally:
            os.close(opened)

    def _file(self, opened: int, about: os.stat_result, destination: Path) -> None:
        if about.st_size > self.max_file:
            raise Refused(f"it is larger than {self.max_file / 1000:g} kB")
        if self.files >= MAX_FILES:
            raise Refused(f"there are more than {MAX_FILES} files")
        if self.total + about.st_size > self.max_total:
            raise Refused(f"all files together are larger than {self.max_total / 1000:g} kB")
        self.files += 1
        left = about.st_size  # A file that grows while it is read ends where it ended.
        with destination.open("xb") as file:
            while left > 0 and (data := os.read(opened, min(_CHUNK, left))):
                file.write(data)
                left -= len(data)
        self.total += about.st_size
        os.utime(destination, ns=(about.st_atime_ns, about.st_mtime_ns))
