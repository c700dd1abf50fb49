"""A full disk: recognised whoever reports it, and said in one sentence instead of a traceback."""

from __future__ import annotations

import errno
import logging
import sys
from types import TracebackType

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What SQLite says, and PostgreSQL's server, which nbgrader passes on as text.
_WORDS = ("database or disk is full", "No space left on device")


def is_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that it came from, says that there is no room to write."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if any(word in str(error) for word in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def said(done: str = "What was there before is as it was") -> str:
    """Return the sentence, with the remedy. done: what became of what the command was to do."""
    return f"The disk is full. {done}. Make room, then run the same command again."


def speak() -> None:
    """Let a command that ends for want of room say so, whichever of nbgrader's it is."""
    if getattr(sys.excepthook, "speaks", False):
        return
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if is_full(error):
            print(said(), file=sys.stderr)
        else:
            before(kind, error, trace)

    hook.speaks = True  # type: ignore[attr-defined]
    sys.excepthook = hook
    logging.getLogger("tornado.application").addFilter(_is_news)


def shorten(record: logging.LogRecord) -> bool:
    """Put the sentence in the place of the traceback that nbgrader's converters log; keep all."""
    text = record.getMessage()
    if text.startswith("Traceback") and any(word in text for word in _WORDS):
        record.msg, record.args = said("Nothing was written"), None
    return True


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out the traceback that nbgrader logs of an exception which it raises, too."""
    error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
    return not is_full(error)
