"""Take a submitted folder in: a copy with plain files only, and the notebooks under their names.

nbgrader reads and copies what it finds in `submitted/`, wherever a link in it points. Here a
submission is first copied to a folder of the grader's own, by these rules:

- Regular files only, of at most `MAX_FILE` bytes each and `MAX_TOTAL` and `MAX_FILES` in all;
  no links, pipes or devices, no names with control characters. What is left out is flagged
  (`files-skipped`), and so are names that an import would take for Python's (`shadowing`).
- A learner's copy of one of the course's own files is no oddity, and gives way to the course's.
  Anything else in the place of such a file (a folder, a link) is left out and flagged.
- A notebook handed in under another name counts if its name is the lesson's with something
  behind it (`attention (1).ipynb`, `attention-Copy1.ipynb`; the last of several in sorted
  order), or if it is the only notebook there and the lesson has only one (`renamed`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from nbgrader.utils import parse_utc

from nbjudge.codes import Flag, shown
from nbjudge.intake.notebook import MAX_NOTEBOOK, Unreadable, read_bytes, read_json
from nbjudge.intake.recorded import recorder
from nbjudge.wire import course

SETTLE_TRIES, SETTLE_SECONDS = 4, 0.5
_COURSE_FILES = {"gradebook.db", "nbgrader_config.py"}
_LIBRARIES = (
    *("IPython", "ipykernel", "ipywidgets", "matplotlib", "numpy", "torch"),
    *("sitecustomize", "usercustomize"),
)
#: Bytes of a time stamp; nbgrader's have 30.
MAX_TIMESTAMP = 100
MAX_FILE, MAX_TOTAL, MAX_FILES, MAX_DEPTH = 20_000_000, 50_000_000, 1_000, 8


class BeingWritten(Exception):
    """A submission that goes on changing while it is read."""


def take_in(
    submitted: Path, staged: Path, notebooks: list[str], ours: set[str], ignore: list[str]
) -> dict[str, list[Flag]]:
    """Copy a submission as `copy_in` does, once nobody writes to it any more.

    A half-written notebook must not be graded as a broken one: what changes while it is read, or
    is unreadable and changes a moment later, is read again. Raises `BeingWritten` if it goes on.
    """
    for _ in range(SETTLE_TRIES):
        before = _state(submitted)
        flags = copy_in(submitted, staged, notebooks, ours, ignore)
        if not all(_is_json(staged / f"{name}.ipynb") for name in notebooks):
            time.sleep(SETTLE_SECONDS)
        if _state(submitted) == before:
            return flags
        shutil.rmtree(staged)
        time.sleep(SETTLE_SECONDS)
    raise BeingWritten(f"{submitted} is being written to. Run the same command again later.")


def _state(submitted: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each entry, links not followed."""
    found: dict[str, tuple[int, int]] = {}
    for folder, _, files in os.walk(submitted):
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
    submitted: Path, staged: Path, notebooks: list[str], ours: set[str], ignore: list[str]
) -> dict[str, list[Flag]]:
    """Copy a submission and return the flags of each notebook.

    `notebooks` are the lesson's notebook names without suffix, `ours` the relative paths of the
    files that the course brings along, `ignore` patterns of names to pass over. A notebook that
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
    there = _notebooks_in(submitted)
    if names := _shadowing(staged):
        general.append(Flag("shadowing", detail=", ".join(map(shown, names[:5]))))
    choice = _choose(there, notebooks)
    extra = [shown(name) for name in there if name not in choice.values()]
    if extra:
        general.append(Flag("extra_notebooks", detail=", ".join(extra[:5])))
    for name, chosen in choice.items():
        flags[name].extend(general)
        if chosen is None:
            flags[name].append(Flag("missing_notebook", detail=f"{name}.ipynb"))
            continue
        if chosen != f"{name}.ipynb":
            flags[name].append(Flag("renamed", detail=shown(chosen)))
        try:
            (staged / f"{name}.ipynb").write_bytes(read_bytes(submitted / chosen, MAX_NOTEBOOK))
        except Unreadable as error:
            flags[name].append(Flag("unreadable", detail=str(error)))
    return flags


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
        and parts[-1] not in (*_COURSE_FILES, "timestamp.txt")
        and not any(part.lower().endswith(".ipynb") for part in parts)
        and not _in_the_way(relative, ours)
    )


def _copy_files(submitted: Path, staged: Path, ours: set[str], ignore: list[str]) -> list[Flag]:
    total = count = 0
    skipped: list[str] = []
    # However many files there are: what grading itself reads is among those taken.
    needed = (*recorder().files, "timestamp.txt")
    for relative in sorted(_walk(submitted, "", ignore, skipped), key=lambda p: p not in needed):
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
        elif not entry.name.endswith(".ipynb") or folder:
            yield relative


def _plain_name(name: str) -> bool:
    return name.isprintable()  # neither control characters nor bytes that are no text


def _shadowing(staged: Path) -> list[str]:
    """Return the files that an import would take for Python's, or a reader for the course's."""
    modules = {*sys.stdlib_module_names, *_LIBRARIES, *course.here().preload, *course.here().shared}
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


def _check_timestamp(staged: Path) -> list[Flag]:
    path = staged / "timestamp.txt"
    if not path.is_file():
        return []
    try:
        # Looking for a time in what is longer takes minutes, and finds none.
        text = read_bytes(path, MAX_TIMESTAMP).decode("utf-8")
        if text.strip():
            parse_utc(text.strip())
        return []
    except (Unreadable, ValueError, OverflowError, TypeError, AttributeError, RecursionError):
        path.unlink()
        return [Flag("timestamp")]


def _notebooks_in(submitted: Path) -> list[str]:
    return sorted(
        name
        for name in os.listdir(submitted)
        if name.endswith(".ipynb") and not name.startswith(".")
    )


def _choose(there: list[str], notebooks: list[str]) -> dict[str, str | None]:
    """Return the file that counts for each notebook of the lesson."""
    chosen: dict[str, str | None] = {
        name: f"{name}.ipynb" if f"{name}.ipynb" in there else None for name in notebooks
    }
    spare = [name for name in there if name not in chosen.values()]
    for name in notebooks:
        if chosen[name] is None:
            alike = [other for other in spare if _variant(other, name)]
            if alike:
                chosen[name] = alike[-1]
                spare.remove(alike[-1])
    if len(notebooks) == len(there) == 1:
        chosen[notebooks[0]] = there[0]
    return chosen


def _variant(file: str, name: str) -> bool:
    """Whether a file's name is a notebook's name with something behind it, or in other case."""
    pattern = re.escape(name) + r"([\W_].*|copy.*|\d+)?"
    return re.fullmatch(pattern, file.removesuffix(".ipynb"), re.IGNORECASE | re.DOTALL) is not None
