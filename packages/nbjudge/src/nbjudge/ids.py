"""Which names a student's id may be: decided here, for every step that takes one in.

And what the engine's own folder in a course is called.
"""

from __future__ import annotations

import unicodedata

#: The engine's own folder in a course's folder.
OWN_FOLDER = ".nbjudge"

#: In bytes; a folder and a file in the exchange are named after it, with a time behind it.
MAX_ID = 150
#: Of paths, and what `glob` takes for a pattern: an id is a name in every step.
_FORBIDDEN = frozenset("/\\*?[]\0")

_WILD = frozenset("*?")

#: Not seen either, and needed to write names in Persian and in scripts of India.
_JOINERS = "\u200c\u200d"


def problem_with(name: str) -> str | None:
    """Return why `name` cannot be a student's id, as the end of a sentence; None if it can."""
    if not name or not name.strip():
        return "it is empty"
    if name != name.strip():
        return "it begins or ends with a space"
    if name.startswith(".") or name.startswith("~"):
        return f"it begins with {name[0]!r}"
    if len(name.encode("utf-8", "surrogateescape")) > MAX_ID:
        return f"it is longer than {MAX_ID} bytes"
    found = sorted(_FORBIDDEN.intersection(name))
    if found:
        return f"it holds {' '.join(map(repr, found))}"
    if has_unseen(name):
        return "it holds characters that are not shown"
    return None


def has_unseen(text: str) -> bool:
    """Return whether `text` holds controls, what turns its direction, or bytes that are no text."""
    return any(
        unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in _JOINERS
        for c in text
    )


def is_id(name: str) -> bool:
    """Return whether `name` can be a student's id."""
    return problem_with(name) is None


def stands_for_many(name: str) -> bool:
    """Return whether `name` is what is written for a whole class, or for a part of it."""
    return not _WILD.isdisjoint(name)


def printable(name: str, limit: int = 200) -> str:
    """Return a file's name as it may stand in a line of a log: one line, and nothing unseen."""
    shown = "".join("?" if has_unseen(c) else c for c in name)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"
