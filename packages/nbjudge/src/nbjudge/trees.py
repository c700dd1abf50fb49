"""Folders that somebody else has made, however deep: looked through, and removed.

`os.walk` and `shutil.rmtree` call themselves for each folder in a folder. A thousand of them, one
in another, end both with a `RecursionError`, which no `ignore_errors` covers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

#: Folders below this depth are listed by nobody.
MAX_DEPTH = 100


def walk(root: str | os.PathLike[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield folder, names of folders and names of files as `os.walk`, down to `MAX_DEPTH`.

    Links are not followed. What is taken out of the list of folders is not looked into.
    """
    waiting = [(os.fspath(root), 0)]
    while waiting:
        folder, depth = waiting.pop()
        folders: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    (folders if _is_folder(entry) else files).append(entry.name)
        except OSError:
            continue
        yield folder, folders, files
        if depth < MAX_DEPTH:
            below = (os.path.join(folder, name) for name in reversed(folders))
            waiting += [(path, depth + 1) for path in below if not os.path.islink(path)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def remove(root: str | os.PathLike[str]) -> None:
    """Remove a folder with all that is in it, as far as that goes; nobody may write to it now."""
    try:
        shutil.rmtree(root, ignore_errors=True)
    except RecursionError:
        _flatten(os.fspath(root))
        shutil.rmtree(root, ignore_errors=True)


def _flatten(root: str) -> None:
    """Move every folder below `root` up into it: a path to the deepest would be too long."""
    number = 0
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            for path in inner:
                if folder != root:
                    number += 1
                    moved = os.path.join(root, f"moved-{number}")
                    os.rename(path, moved)
                    path = moved
                waiting.append(path)
