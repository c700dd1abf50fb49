"""The files that a submission wrote, brought out of its box.

The box's folder is in memory and in a namespace of its own, so nobody outside can look into it.
What runs inside beside the kernel (`forkserver`, init) packs the files when the kernel has ended,
and the grader reads them from a socket. Both ends bound what passes; the reader believes nothing.

    for each file: length of the name (4 bytes), length of the data (8 bytes), name, data
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import time
from collections.abc import Iterator

from nbjudge import trees

_HEAD = struct.Struct("!IQ")
#: The request: how many files, how many bytes in all.
_REQUEST = struct.Struct("!QQ")
_LONGEST_NAME = 4096
_CHUNK = 1 << 16

State = dict[str, tuple[int, int]]


def state_of(folder: str) -> State:
    """Return what tells whether a regular file below `folder` was written: by its path.

    The time of the last change of its state, which no program can set.
    """
    found = {}
    for name, held in _files(folder):
        found[name] = (held.st_ino, held.st_ctime_ns)
    return found


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    for inside, folders, names in trees.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(inside, name)
            with contextlib.suppress(OSError):
                held = os.lstat(path)
                if stat.S_ISREG(held.st_mode):
                    yield os.path.relpath(path, folder), held


def serve(line: socket.socket, folder: str, before: State) -> None:
    """Send what was written below `folder` since `before`, as the request on `line` allows."""
    files, left = _REQUEST.unpack(_receive(line, _REQUEST.size))
    for name, held in _files(folder):
        if before.get(name) == (held.st_ino, held.st_ctime_ns) or held.st_size > left:
            continue
        if not files:
            return
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(os.path.join(folder, name), flags)
        except OSError:
            continue
        with open(descriptor, "rb") as file:
            data = file.read(held.st_size)
        encoded = os.fsencode(name)
        line.sendall(_HEAD.pack(len(encoded), len(data)) + encoded + data)
        files, left = files - 1, left - len(data)


def request(
    line: socket.socket, most_files: int, most_bytes: int, seconds: float
) -> dict[str, bytes]:
    """Ask at `line` for the files and return those that came, by relative path.

    A name that is no text, and whatever goes beyond the bounds, the time or the form, is left
    out, with all that follows.
    """
    found: dict[str, bytes] = {}
    end = time.monotonic() + seconds
    with contextlib.suppress(OSError, EOFError, UnicodeDecodeError):
        line.settimeout(seconds)
        line.sendall(_REQUEST.pack(most_files, most_bytes))
        while len(found) < most_files:
            length, size = _HEAD.unpack(_receive(line, _HEAD.size, end))
            if length > _LONGEST_NAME or size > most_bytes:
                break
            name = _receive(line, length, end).decode()
            found[name] = _receive(line, size, end)
            most_bytes -= size
    return found


def _receive(line: socket.socket, size: int, end: float | None = None) -> bytes:
    """Return exactly `size` bytes; `EOFError` if fewer come, `TimeoutError` after `end`."""
    parts = []
    while size:
        if end is not None:
            line.settimeout(max(0.01, end - time.monotonic()))
        part = line.recv(min(size, _CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
