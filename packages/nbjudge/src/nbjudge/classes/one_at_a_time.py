"""One run grades a course at a time: a second one waits, and says for whom.

The operating system holds the lock and lets go of it when the process ends, however that happens:
nothing is left that somebody would have to remove.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER

try:
    import fcntl
except ImportError:  # Windows, where one person grades a course
    fcntl = None  # type: ignore[assignment]

#: How often a run that waits looks again, and says again that it waits.
LOOK_SECONDS, SAY_SECONDS = 0.2, 60.0


@contextlib.contextmanager
def grading(course: CourseDirectory, assignment: str, log: Logger) -> Iterator[None]:
    """Hold a course for grading; waits while another process does, and says who that is.

    Where the course's own folder cannot be written, nothing is held, and the log says so.
    """
    path = Path(course.root, OWN_FOLDER, "grading.lock")
    try:
        graders.folder(course.root, OWN_FOLDER)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        log.warning(
            "%s cannot be written (%s): nothing keeps two runs from grading at once.",
            *(path, error.strerror),
        )
        yield
        return
    try:
        with contextlib.suppress(OSError):
            os.chmod(path, 0o666)  # another grader of the course holds it, too
        _wait(handle, log)
        about = {
            "user": _me(),
            "process": os.getpid(),
            "machine": socket.gethostname(),
            "assignment": assignment,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with contextlib.suppress(OSError):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps(about).encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)  # which lets go of it


def _wait(handle: int, log: Logger) -> None:
    if fcntl is None:
        return
    said = float("-inf")
    while True:
        try:
            # Of the process, so that what it forks does not hold it.
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                log.warning("The course cannot be locked (%s).", error.strerror)
                return
        if time.monotonic() - said > SAY_SECONDS:
            log.warning("Waiting: %s.", _who(handle))
            said = time.monotonic()
        time.sleep(LOOK_SECONDS)


def _who(handle: int) -> str:
    try:
        about = json.loads(_text(handle))
        return (
            f"{about['user']} (process {about['process']} on {about['machine']}) is grading "
            f"{about['assignment']} since {about['since']}"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "another run is grading this course"


def _text(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 10_000)


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
