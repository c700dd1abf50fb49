"""Temporary folders for what learners handed in; none is left for good, even by a killed run.

A run that is killed cannot remove its own folders; the next run does. A lock on each folder says
that it is in use. The lock ends with its process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nbjudge import trees

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OPEN_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


@contextlib.contextmanager
def folder_for_submissions() -> Iterator[Path]:
    """Yield a new folder that no other user can read, and remove it afterwards.

    Folders of this user's that killed runs left are removed first, where the platform has locks.
    """
    with _parent() as parent:
        folder = tempfile.TemporaryDirectory(prefix="grading-", dir=parent)
        lock = None if parent is None else _locked(Path(folder.name))
    try:
        yield Path(folder.name).resolve()
    finally:
        folder.cleanup()
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def _parent() -> Iterator[Path | None]:
    """Yield this user's folder of such folders, swept, while no other process changes it.

    None where there can be none: no locks, or another user has taken its name.
    """
    if fcntl is None:
        yield None
        return
    parent = Path(tempfile.gettempdir(), f"nbjudge-{os.getuid()}")
    ours = False
    with contextlib.ExitStack() as opened:
        try:
            parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(parent, _OPEN_FOLDER)
            opened.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _sweep(parent)
                ours = True
        except OSError:
            ours = False
        yield parent if ours else None


def _sweep(parent: Path) -> None:
    for path in parent.iterdir():
        with contextlib.suppress(OSError):  # what is no folder is none of ours
            lock = _locked(path)
            if lock is not None:
                trees.remove(path)
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """Return a descriptor that holds the lock of a folder, or None where another process does."""
    descriptor = os.open(folder, _OPEN_FOLDER)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
