"""A learner's code that never returns or prints without end must not take the notebook with it."""

from __future__ import annotations

import _thread
import contextlib
import io
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

#: Seconds for all calls of one check: the slowest right answer takes a hundredth of it.
SECONDS = 10
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
    ended, fired, lock = threading.Event(), threading.Event(), threading.Lock()

    def watch() -> None:
        wait, next_wait = seconds, 1.0
        while not ended.wait(wait):
            with lock:  # never after the end: it would hit the next cell
                if ended.is_set():
                    return
                fired.set()
                _interrupt()
            # A bare `except:` in a loop catches it: the more often, the sooner one hits outside.
            wait, next_wait = next_wait, max(0.001, next_wait / 2)

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


def _interrupt() -> None:
    # A true signal also wakes what sleeps or waits for a lock; Windows has none for a thread.
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


@dataclass
class _Seen:
    """What was printed so far, on both streams together."""

    left: int = PRINTED
    dropped: int = 0


class _Short(io.TextIOBase):
    """Hands the first characters on and counts the rest."""

    def __init__(self, stream: io.TextIOBase, seen: _Seen):
        self.stream, self.seen = stream, seen

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        kept = text[: self.seen.left]
        self.seen.left -= len(kept)
        self.seen.dropped += len(text) - len(kept)
        if kept:
            self.stream.write(kept)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


@contextlib.contextmanager
def short_prints() -> Iterator[None]:
    """Let through the first `PRINTED` characters that the code inside prints, warnings too."""
    seen = _Seen()
    try:
        with (
            contextlib.redirect_stdout(_Short(cast(io.TextIOBase, sys.stdout), seen)),
            contextlib.redirect_stderr(_Short(cast(io.TextIOBase, sys.stderr), seen)),
        ):
            yield
    finally:
        if seen.dropped:
            print(f"\n… and {seen.dropped:,} characters more were printed.")
