"""Files of a course that several graders write, as whoever owns the course's folder allows."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

try:
    import pwd
except ImportError:  # Windows, where one person grades a course
    pwd = None  # type: ignore[assignment]


@contextlib.contextmanager
def together(root: str | Path) -> Iterator[None]:
    """Let the group of a group-writable folder write what is made meanwhile, whatever the umask.

    nbgrader makes files and folders by the umask of whoever runs it.
    """
    try:
        shared = os.stat(root).st_mode & stat.S_IWGRP
    except OSError:
        shared = 0
    if not shared:
        yield
        return
    before = os.umask(0o077)
    os.umask(before & ~0o070)
    try:
        yield
    finally:
        os.umask(before)


def may_not(path: str | Path, root: str | Path) -> str:
    """Return the sentence, with a remedy, for a path of the course's that a grader may not use."""
    owner = ""
    # Of a path that may not even be looked at, the course says whose it is.
    for known in (path, root) if pwd is not None else ():
        with contextlib.suppress(OSError, KeyError):
            owner = f", which belongs to {pwd.getpwuid(os.stat(known).st_uid).pw_name}"
            break
    return (
        f"You may not use {path}{owner}. Let its owner share the course's folder with your "
        f"group: chgrp -R GROUP {root}; chmod -R g+rwX {root}; "
        f"find {root} -type d -exec chmod g+s {{}} +. Then run the same command again."
    )


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
    with replaced(path, root) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    os.umask(found := os.umask(0o077))
    return found


@contextlib.contextmanager
def replaced(path: Path, root: str | Path | None = None) -> Iterator[Path]:
    """Yield a path for the content that takes a file's place when it is whole.

    Until then, and where it does not come to that, the file is as it was. root: the course's
    folder, whose rights it gets; without it they are those of any new file. What is no file, such
    as a pipe, is written as it is.
    """
    if os.path.lexists(path) and not path.is_file():
        yield path
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o666 & ~_umask() if root is None else file_mode(root))
        os.replace(name, os.path.realpath(path))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
