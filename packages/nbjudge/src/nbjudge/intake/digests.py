"""What a grade came of, as digests: a hand-in's files, and a lesson as its tests grade it.

Content decides, never a time stamp: a copy of the same files has the same digest, and a lesson that
was executed anew has the digest that it had. Nothing is copied or taken apart for it, so a class of
a thousand is looked through in a moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

#: Bytes read of one file, and of all files of a folder. Beyond that, size and time of change count:
#: `nbjudge.intake.folder` leaves larger files out of what is graded.
MAX_FILE, MAX_TOTAL = 32_000_000, 100_000_000
_CHUNK = 1 << 20


def of_folder(folder: str | os.PathLike[str], ignore: Iterable[str]) -> str:
    """Return the digest of all files below a folder: their names and their content.

    folder: hostile; no link is followed and no pipe waited for. What is no file counts by what it
    is, and what cannot be read by that. ignore: patterns of names that do not count.
    """
    found = hashlib.sha256()
    room = MAX_TOTAL
    for relative, entry in _entries(os.fspath(folder), "", tuple(ignore)):
        kind, content, read = _of_entry(entry, min(room, MAX_FILE))
        room -= read
        for part in (os.fsencode(relative), kind, content):
            found.update(b"%d:" % len(part) + part)
    return found.hexdigest()


def of_hand_in(folder: str | os.PathLike[str], ignore: Iterable[str]) -> str:
    """Return the digest of what a learner handed in; ignore: the course's patterns.

    A notebook can be graded out of a folder that nbgrader passes over.
    """
    return of_folder(folder, [pattern for pattern in ignore if not pattern.startswith(".")])


def of_notebook(data: bytes) -> str:
    """Return the digest of a course's notebook without what executing it leaves in it."""
    try:
        notebook = json.loads(data)
        cells = [_lasting(cell) for cell in notebook["cells"]]
        lasting: Any = [notebook.get("metadata", {}).get("kernelspec"), cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return hashlib.sha256(data).hexdigest()
    return of_data(lasting)


def of_data(data: Any) -> str:
    """Return the digest of plain JSON data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _lasting(cell: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        key: cell[key] for key in ("cell_type", "id", "attachments") if key in cell
    }
    source = cell["source"]
    kept["source"] = source if isinstance(source, str) else "".join(source)
    about = cell.get("metadata", {})
    kept["metadata"] = {key: value for key, value in about.items() if key != "execution"}
    return kept


def _entries(
    root: str, folder: str, ignore: tuple[str, ...]
) -> Iterator[tuple[str, os.DirEntry[str] | None]]:
    """Yield what is below a folder, files before folders: those are what a learner means first."""
    try:
        with os.scandir(os.path.join(root, folder)) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        yield folder, None
        return
    deeper = []
    for entry in entries:
        if any(fnmatch(entry.name, pattern) for pattern in ignore):
            continue
        relative = os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            deeper.append(relative)
        else:
            yield relative, entry
    for relative in deeper:
        yield from _entries(root, relative, ignore)


def _of_entry(entry: os.DirEntry[str] | None, room: int) -> tuple[bytes, bytes, int]:
    """Return what an entry is, what is in it, and how many bytes were read for that."""
    if entry is None:
        return b"unreadable", b"", 0
    try:
        state = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(state.st_mode):
            return b"link", os.fsencode(os.readlink(entry.path)), 0
        if not stat.S_ISREG(state.st_mode):
            return b"special", b"%d" % stat.S_IFMT(state.st_mode), 0
        if state.st_size > room:
            return b"large", b"%d %d" % (state.st_size, state.st_mtime_ns), 0
        return b"file", *_content(entry.path, room)
    except OSError as error:
        return b"unreadable", b"%d" % (error.errno or 0), 0


def _content(path: str, room: int) -> tuple[bytes, int]:
    # What has become a link or a pipe since it was looked at must not be followed or waited for.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    found, read = hashlib.sha256(), 0
    with open(os.open(path, flags | getattr(os, "O_BINARY", 0)), "rb", buffering=0) as file:
        while read <= room and (data := file.read(_CHUNK)):
            found.update(data)
            read += len(data)
    return found.digest(), read


def of_source(path: Path) -> str:
    """Return the digest of a course's notebook file; "" where it cannot be read."""
    try:
        return of_notebook(path.read_bytes())
    except OSError:
        return ""
