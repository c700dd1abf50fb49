"""Take a submitted folder in: a copy with plain files only, and the notebooks under their names.

nbgrader reads and copies what it finds in `submitted/`, wherever a link in it points. Here a
submission is first copied to a folder of the grader's own, by these rules:

- Regular files only, of at most `MAX_FILE` bytes each and `MAX_TOTAL` and `MAX_FILES` in all;
  no links, pipes or devices, no names with control characters. What is left out is flagged
  (`files-skipped`), and so are names that an import would take for Python's (`shadowing`).
- A learner's copy of one of the course's own files is no oddity, and gives way to the course's.
  Anything else in the place of such a file (a folder, a link) is left out and flagged.
- A notebook under another name, in a folder or in a zip counts (`renamed`). If there are several,
  `nbjudge.intake.choice` chooses by what is in them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path

from nbgrader.utils import parse_utc

from nbjudge import trees
from nbjudge.codes import Flag, shown
from nbjudge.intake.choice import Candidate, Choice, Content, candidates, choose, hidden
from nbjudge.intake.notebook import (
    MAX_NOTEBOOK,
    MAX_VALUES,
    Unreadable,
    read_bytes,
    read_json,
    slim,
)
from nbjudge.intake.recorded import is_answers, recorder
from nbjudge.wire import course

SETTLE_TRIES, SETTLE_SECONDS, RECENT_SECONDS = 4, 0.5, 60
#: What nbgrader puts beside a hand-in; no code may write it.
HAND_IN = ("timestamp.txt", "submission_secret.txt")
_COURSE_FILES = {"gradebook.db", "nbgrader_config.py"}
_LIBRARIES = (
    *("IPython", "ipykernel", "ipywidgets", "matplotlib", "numpy", "torch"),
    *("sitecustomize", "usercustomize"),
)
#: Bytes of a time stamp; nbgrader's have 30.
MAX_TIMESTAMP = 100
#: A zone's name is a path below the folder of zones, and is opened: not one that leads out of it.
_LEADS_ELSEWHERE = re.compile(r"\.\.|(^|\s)[:/~\\]|[^ -~]")
MAX_FILE, MAX_TOTAL, MAX_FILES, MAX_DEPTH = 20_000_000, 50_000_000, 1_000, 8


#: Names of notebooks, which are chosen, not copied.
_NOTEBOOKS = (".ipynb", ".ipynb.txt", ".ipynb.json")


class BeingWritten(Exception):
    """A submission that goes on changing while it is read."""


@dataclass(frozen=True)
class Look:
    """What a hand-in's entries were at a moment: size and time of change, by path."""

    entries: dict[str, tuple[int, int]]
    when: float

    @property
    def is_recent(self) -> bool:
        """Whether anything was written a moment ago, so that it may go on."""
        now = time.time_ns()
        return any(now - changed < RECENT_SECONDS * 10**9 for _, changed in self.entries.values())


def look(submitted: Path) -> Look:
    """Look at a hand-in, links not followed."""
    return Look(_entries_of(submitted), time.monotonic())


def take_in(
    submitted: Path,
    staged: Path,
    notebooks: list[str],
    ours: set[str],
    ignore: list[str],
    lesson: Mapping[str, Content] | None = None,
    earlier: Look | None = None,
) -> dict[str, list[Flag]]:
    """Copy a submission as `copy_in` does, once nobody writes to it any more.

    A half-written notebook must not be graded as a broken one: what changes while it is read, or
    is unreadable and changes a moment later, is read again. Raises `BeingWritten` if it goes on.

    earlier: what it was when the run began. One of many broken ones that has not changed since
    then is not waited for any longer.
    """
    for _ in range(SETTLE_TRIES):
        before = look(submitted)
        still_since = before.when
        if earlier is not None and earlier.entries == before.entries:
            still_since = earlier.when
        flags = copy_in(submitted, staged, notebooks, ours, ignore, lesson)
        broken = not all(_is_json(staged / f"{name}.ipynb") for name in notebooks)
        left = still_since + SETTLE_SECONDS - time.monotonic()
        if broken and left > 0 and before.is_recent:
            time.sleep(left)
        if _entries_of(submitted) == before.entries:
            return flags
        trees.remove(staged)
        time.sleep(SETTLE_SECONDS)
    raise BeingWritten(f"{submitted} is being written to. Run the same command again later.")


def _entries_of(submitted: Path) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for folder, _, files in trees.walk(submitted):
        for name in files:
            if len(found) >= MAX_FILES:
                return found
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                entry = os.lstat(path)
                found[path] = (entry.st_size, entry.st_mtime_ns)
    return found


def _is_json(path: Path) -> bool:
    try:
        read_json(path, MAX_NOTEBOOK)
    except Unreadable:
        return False
    return True


def copy_in(
    submitted: Path,
    staged: Path,
    notebooks: list[str],
    ours: set[str],
    ignore: list[str],
    lesson: Mapping[str, Content] | None = None,
) -> dict[str, list[Flag]]:
    """Copy a submission and return the flags of each notebook.

    `notebooks` are the lesson's notebook names without suffix. `ours` are the relative paths of the
    files that the course brings along. `ignore` are patterns of names to pass over. `lesson` says
    what each notebook of the lesson is known by, also one that is not asked for. A notebook that
    was not handed in, or cannot be copied, is flagged and not in `staged` afterwards.
    """
    staged.mkdir(parents=True)
    flags: dict[str, list[Flag]] = {name: [] for name in notebooks}
    if submitted.is_symlink() or not submitted.is_dir():
        what = "it is a link" if submitted.is_symlink() else "it is no folder"
        for name in notebooks:
            flags[name].append(Flag("unreadable", detail=f"{what} where a folder belongs"))
        return flags
    general = _copy_files(submitted, staged, ours, ignore) + _check_timestamp(staged)
    found, answers, choice = _choose(
        submitted, ignore, lesson or dict.fromkeys(notebooks, Content())
    )
    _lay_beside(answers, staged, ours)
    if names := _shadowing(staged):
        general.append(Flag("shadowing", detail=", ".join(map(shown, names[:5]))))
    taken = {chosen.taken.path for chosen in choice.values() if chosen is not None}
    extra = [shown(one.path) for one in found if one.path not in taken and one.as_saved]
    if extra:
        general.append(Flag("extra_notebooks", detail=", ".join(extra[:5])))
    for name in notebooks:
        flags[name].extend(general)
        chosen = choice[name]
        if chosen is None:
            flags[name].append(Flag("missing_notebook", detail=_what_is_there(name, submitted)))
            continue
        path = chosen.taken.path
        if path != f"{name}.ipynb":
            flags[name].append(Flag("renamed", detail=shown(path)))
        if chosen.why:
            flags[name].append(Flag("chosen", detail=chosen.why))
        if chosen.taken.slimmed:
            size = os.lstat(submitted / path).st_size if os.path.lexists(submitted / path) else 0
            many = f"{MAX_VALUES:,} values"
            most = many if size <= MAX_NOTEBOOK else f"{MAX_NOTEBOOK // 1_000_000} MB"
            flags[name].append(Flag("large_outputs", detail=most))
        try:
            # One that cannot be read is read again for the reason.
            data = chosen.taken.data or slim(submitted / path)[0]
            (staged / f"{name}.ipynb").write_bytes(data)
        except Unreadable as error:
            flags[name].append(Flag("unreadable", detail=str(error)))
            continue
        _bring_files_beside(staged, os.path.dirname(path), ours)
    return flags


def file_of(submitted: Path, name: str, ignore: list[str], lesson: Mapping[str, Content]) -> str:
    """Return the path in a hand-in of the file that counts as one of the lesson's notebooks.

    It is `name` with a notebook's suffix where there is none.
    """
    if submitted.is_symlink() or not submitted.is_dir():
        return f"{name}.ipynb"
    chosen = _choose(submitted, ignore, lesson)[2][name]
    return f"{name}.ipynb" if chosen is None else chosen.taken.path


def _choose(
    submitted: Path, ignore: list[str], lesson: Mapping[str, Content]
) -> tuple[list[Candidate], dict[str, bytes], dict[str, Choice | None]]:
    """Return what may be a notebook, the answers in archives, and the files that count.

    Hidden copies, such as Jupyter's checkpoints, are looked into where a notebook is missing or
    not begun, and count where they are.
    """
    found, answers = candidates(submitted, ignore)
    choice = choose(found, lesson)
    if all(one is not None and one.taken.begun(lesson[name]) for name, one in choice.items()):
        return found, answers, choice
    begun = [
        one
        for one in hidden(submitted, ignore)
        if any(one.begun(content) for content in lesson.values())
    ]
    if begun:
        found = [*found, *begun]
        choice = choose(found, lesson)
    return found, answers, choice


def _what_is_there(name: str, submitted: Path) -> str:
    """Return the name of what is missing, with the names of what is there instead."""
    there = sorted(
        os.path.relpath(os.path.join(folder, file), submitted)
        for folder, _, files in trees.walk(submitted)
        for file in files[:MAX_FILES]
        if file not in HAND_IN
    )
    if not there:
        return f"{name}.ipynb (there were no files at all)"
    more = f" and {len(there) - 5} more" if len(there) > 5 else ""
    return f"{name}.ipynb (there were: {', '.join(map(shown, there[:5]))}{more})"


def _lay_beside(answers: dict[str, bytes], staged: Path, ours: set[str]) -> None:
    """Put recorded answers out of a zip where they are looked for."""
    for number, data in enumerate(answers.values()):
        for file in recorder().files[:1]:
            stem, suffix = os.path.splitext(file)
            target = f"{stem} (zip {number + 1}){suffix}"
            if not _in_the_way(target, ours) and not (staged / target).exists():
                (staged / target).write_bytes(data[:MAX_FILE])


def _bring_files_beside(staged: Path, folder: str, ours: set[str]) -> None:
    """Let a notebook out of a folder find the files that lay beside it there."""
    place = staged / folder
    if not folder or not place.is_dir():
        return
    for path in sorted(place.iterdir()):
        target = staged / path.name
        if path.is_file() and not _in_the_way(path.name, ours) and not os.path.lexists(target):
            shutil.copyfile(path, target)


def lay_out(files: dict[str, bytes], graded: Path, ours: set[str], ignore: list[str]) -> list[str]:
    """Write what a submission's code wrote into its graded folder; return what was left out.

    Never in the place of the course's own files, of a notebook, of a folder or of what grading
    reads. `graded` holds no links, since nothing but this module and nbgrader writes there.
    """
    left_out = []
    for relative, data in sorted(files.items()):
        parts = relative.split("/")
        if any(fnmatch(part, pattern) for part in parts for pattern in ignore):
            continue
        target = graded / relative
        try:
            if not _may_be_written(relative, parts, ours):
                raise OSError
            target.parent.mkdir(parents=True, exist_ok=True)
            # A file from an earlier run may be read-only.
            target.unlink(missing_ok=True)
            target.write_bytes(data)
        except OSError:
            left_out.append(relative)
    return left_out


def _may_be_written(relative: str, parts: list[str], ours: set[str]) -> bool:
    """Whether a path that a submission made up is one for an ordinary file of its own."""
    return (
        not any(part in ("", ".", "..") or not _plain_name(part) for part in parts)
        and len(parts) <= MAX_DEPTH
        and parts[-1] not in (*_COURSE_FILES, *HAND_IN)
        and not any(part.lower().endswith(".ipynb") for part in parts)
        and not _in_the_way(relative, ours)
    )


def _copy_files(submitted: Path, staged: Path, ours: set[str], ignore: list[str]) -> list[Flag]:
    total = count = 0
    skipped: list[str] = []
    # However many files there are: what grading itself reads is among those taken.
    every = _walk(submitted, "", ignore, skipped)
    for relative in sorted(every, key=lambda path: not _needed(path)):
        room = min(MAX_FILE, MAX_TOTAL - total)
        if relative in ours and _is_file(submitted / relative):
            continue
        if count >= MAX_FILES or _in_the_way(relative, ours):
            skipped.append(relative)
            continue
        try:
            data = read_bytes(submitted / relative, room)
        except Unreadable:
            skipped.append(relative)
            continue
        target = staged / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        count, total = count + 1, total + len(data)
    if not skipped:
        return []
    names = ", ".join(shown(name) for name in sorted(skipped)[:5])
    more = f" and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    return [Flag("files_skipped", detail=names + more)]


def _needed(relative: str) -> bool:
    return relative == "timestamp.txt" or is_answers(os.path.basename(relative))


def _walk(root: Path, folder: str, ignore: list[str], skipped: list[str]) -> Iterator[str]:
    """Yield the relative paths of what is no folder and no notebook, in sorted order."""
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError:
        skipped.append(folder)
        return
    for entry in entries:
        relative = os.path.join(folder, entry.name)
        if any(fnmatch(entry.name, pattern) for pattern in ignore):
            continue
        if not _plain_name(entry.name) or relative.count(os.sep) >= MAX_DEPTH:
            skipped.append(relative)
        elif entry.is_dir(follow_symlinks=False):
            if entry.name.endswith(".ipynb"):
                skipped.append(relative)
            else:
                yield from _walk(root, relative, ignore, skipped)
        elif not entry.name.lower().endswith(_NOTEBOOKS):
            yield relative


def _plain_name(name: str) -> bool:
    return name.isprintable()  # neither control characters nor bytes that are no text


def _shadowing(staged: Path) -> list[str]:
    """Return the files that an import would take for Python's, or a reader for the course's."""
    modules = {*sys.stdlib_module_names, *_LIBRARIES, *course.here().shared}
    modules |= {name.partition(":")[0] for name in course.here().preload}
    return sorted(
        path.name
        for path in staged.iterdir()
        if path.name in _COURSE_FILES
        or (path.suffix == ".py" and path.stem in modules)
        or (path.name in modules and (path / "__init__.py").is_file())
    )


def _in_the_way(relative: str, ours: set[str]) -> bool:
    """Whether a path is, lies below or holds a path of the course's own files."""
    return any(
        path == relative or path.startswith(relative + os.sep) or relative.startswith(path + os.sep)
        for path in ours
    )


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def time_of(text: str) -> datetime | None:
    """Return the time that a stamp says, in UTC, or None where it is empty; `ValueError`."""
    if len(text) > MAX_TIMESTAMP or _LEADS_ELSEWHERE.search(text):
        raise ValueError("not a time")
    try:
        return parse_utc(text) if text else None
    except (ArithmeticError, TypeError, AttributeError, RecursionError, Warning) as error:
        raise ValueError("not a time") from error


def _check_timestamp(staged: Path) -> list[Flag]:
    path = staged / "timestamp.txt"
    if not path.is_file():
        return []
    try:
        # Looking for a time in what is longer takes minutes, and finds none.
        text = read_bytes(path, MAX_TIMESTAMP).decode("utf-8").strip()
        time_of(text)
        return []
    except (Unreadable, ValueError):
        path.unlink()
        return [Flag("timestamp")]
