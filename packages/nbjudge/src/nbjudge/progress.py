"""How far a command is, with an estimate: a line in nbgrader's log, which has no bar."""

from __future__ import annotations

import time
from collections.abc import Callable
from logging import Logger

#: Between two lines. A command that is done before says nothing.
SECONDS = 5.0


class Progress:
    """Counts what a command does one after the other, and says so every few seconds."""

    def __init__(
        self, what: str, total: int, log: Logger, clock: Callable[[], float] = time.monotonic
    ):
        """Begin. what: the work, as in 'feedback'. total: how many there are."""
        self._what, self._total, self._log, self._clock = what, total, log, clock
        self._done = 0
        self._began = self._said = clock()

    def skip(self, count: int = 1) -> None:
        """Leave out what turned out to be done already."""
        self._total -= count

    def step(self) -> None:
        """Count one, and say so where some time has passed."""
        self._done += 1
        now = self._clock()
        if now - self._said < SECONDS or self._done >= self._total:
            return
        self._said = now
        left = (now - self._began) / self._done * (self._total - self._done)
        self._log.info("%s: %d of %d, %s left", self._what, self._done, self._total, _about(left))


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min"
