"""A learner's code that never returns or prints without end must not take the notebook with it."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from typing import cast

#: Seconds for all calls of one check: the slowest right answer takes a hundredth of it.
SECONDS = 20
#: Characters of a learner's own prints that one check lets through.
PRINTED = 2000


class TookTooLong(Exception):
    """The learner's code did not come back in time."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt the code inside after `seconds`, again and again until it gives up.

    Raises `TookTooLong` then. Only the main thread can be interrupted: elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import _thread

    ended, fired, lock = threading.Event(), threading.Event(), threading.Lock()

    def watch() -> None:
        wait = seconds
        while not ended.wait(wait):
            with lock:  # never after the end: it would hit the next cell
                if ended.is_set():
                    return
                fired.set()
                _thread.interrupt_main()
            wait = 1.0

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        try:
            yield
        finally:
            with lock:
                ended.set()
    except KeyboardInterrupt:
        if fired.is_set():
            raise TookTooLong from None
        raise


class _Short(io.TextIOBase):
    """Hands the first characters on and counts the rest."""

    def __init__(self, stream: io.TextIOBase):
        self.stream, self.left, self.dropped = stream, PRINTED, 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        kept = text[: self.left]
        self.left -= len(kept)
        self.dropped += len(text) - len(kept)
        if kept:
            self.stream.write(kept)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


@contextlib.contextmanager
def short_prints() -> Iterator[None]:
    """Let through the first `PRINTED` characters that the code inside prints."""
    short = _Short(cast(io.TextIOBase, sys.stdout))
    try:
        with contextlib.redirect_stdout(short):
            yield
    finally:
        if short.dropped:
            print(f"\n… and {short.dropped:,} characters more were printed.")
