"""Small files that go over the line between a test's folder and the learner's, as data.

Both sides look through a folder in the same bounded way: regular files only, no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

#: Bytes of files that go over the line at once, and of one of them.
MOST_BYTES = 1_000_000
#: Entries of a folder that are looked at, and how deep it is looked into.
MOST_ENTRIES, MOST_DEPTH = 500, 4

#: What tells whether a file was written since.
Stamp = tuple[int, int, int]


def stamp(path: str) -> Stamp | None:
    """Return the stamp of a regular file, None of anything else."""
    try:
        held = os.lstat(path)
    except (OSError, ValueError):
        return None
    return _stamp(held) if stat.S_ISREG(held.st_mode) else None


def _stamp(held: os.stat_result) -> Stamp:
    return held.st_ino, held.st_ctime_ns, held.st_size


def stamps(folder: str) -> dict[str, Stamp]:
    """Return the stamps of the regular files below a folder, by relative path."""
    return {os.path.relpath(path, folder): _stamp(held) for path, held in _files(folder)}


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    left = MOST_ENTRIES
    waiting = [(folder, 0)]
    while waiting:
        inside, depth = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(inside) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return
                with contextlib.suppress(OSError):
                    held = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(held.st_mode):
                        yield entry.path, held
                    elif stat.S_ISDIR(held.st_mode) and depth < MOST_DEPTH:
                        waiting.append((entry.path, depth + 1))


def read(path: str, most: int) -> bytes | None:
    """Return what a regular file holds; None if that is more than `most` bytes, or no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None


def write(path: str, data: bytes | None) -> None:
    """Make a file hold `data`, in folders that are made for it; None: there is none any more."""
    if data is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(path, flags, 0o644), "wb") as file:
        file.write(data)
