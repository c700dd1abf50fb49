"""Files of a course that several graders write, as whoever owns the course's folder allows."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def folder(root: str | Path, *parts: str) -> Path:
    """Return a folder of the course's, made with the rights of the course's own.

    Whoever may write in the course may write there, whatever the umask of who made it.
    """
    path = Path(root)
    mode = stat.S_IMODE(os.stat(path).st_mode)
    for part in parts:
        path = path / part
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            with contextlib.suppress(OSError):
                os.chmod(path, mode | 0o700)
    return path


def file_mode(root: str | Path) -> int:
    """Return the mode of a file that whoever may write in the course may write, too."""
    return stat.S_IMODE(os.stat(root).st_mode) & 0o666 | 0o600


def write(path: Path, text: str, root: str | Path) -> None:
    """Put a text in the place of a file. The file may belong to another grader."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, file_mode(root))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
