"""What the learner's code says besides printing, while a test listens: warnings and log records."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nbjudge.wire.calls import describe_error
from nbjudge.wire.limits import Limits

#: How much of it one call may say.
_MOST = 1000
WARNING, RECORD = 2, 3


class _Handler(logging.Handler):
    def __init__(self, kept: list[list[Any]]):
        super().__init__(logging.NOTSET)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        if len(self._kept) < _MOST:
            said = [record.name, record.levelno, record.getMessage()]
            self._kept.append([RECORD, said])


@contextmanager
def heard(levels: list[list[Any]], limits: Limits) -> Iterator[list[list[Any]]]:
    """Collect every warning, and the records of loggers from their levels on: [name, level]."""
    kept: list[list[Any]] = []
    handler, before = _Handler(kept), []
    for name, level in levels:
        logger = logging.getLogger(name)
        before.append((logger, logger.level))
        logger.setLevel(level)
        # One of a logger above hears it, too, once.
        if not any(name.startswith(f"{other}.") for other, _ in levels) and name != "root":
            logger.addHandler(handler)
    if any(name == "root" for name, _ in levels):
        for logger, _ in before:
            logger.removeHandler(handler)
        logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield kept
    finally:
        for logger, level in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
        logging.getLogger().removeHandler(handler)
    for warning in caught[:_MOST]:
        said = warning.message
        made = said if isinstance(said, Warning) else warning.category(said)
        kept.append([WARNING, describe_error(made, limits)])
