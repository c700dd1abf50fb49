"""Answers that a notebook recorded and no cell has to be run for, such as quizzes.

What they are and what they are worth is the course's; `c.NbJudge.recorder` names its object.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from nbformat import NotebookNode

from nbjudge import trees
from nbjudge.wire import course, named

MAX_ANSWER_FILES = 20


@dataclass(frozen=True)
class Question:
    """A recorded question, for the report: its options by id, the right ones among them."""

    name: str
    text: str
    options: dict[str, str] = field(default_factory=dict)
    right: frozenset[str] = frozenset()


class Recorder(Protocol):
    """What a course with recorded answers gives the engine. Answers are JSON data by name."""

    #: Names of the files, beside a notebook, that hold answers.
    files: tuple[str, ...]

    def question_of(self, cell: NotebookNode) -> str | None:
        """Return the name of the question with points that a cell of a lesson asks, or None."""

    def in_notebook(self, content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the answers in a notebook's JSON (hostile), and what was wrong with them."""

    def in_file(self, path: Path) -> tuple[dict[str, Any], list[str]]:
        """Return the answers in a file (hostile), none if it is not there, and what was wrong."""

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Return the answers that count where two records disagree."""

    def score(self, name: str, answer: Any, count: str) -> float:
        """Return the share of the points, 0 to 1; `count` is 'last' or 'first'."""

    def page(self, name: str, answer: Any, count: str) -> dict[str, str]:
        """Return question, answer and what it deserves to hear, by mime type; safe to show."""

    def choices(self, answer: Any) -> tuple[str, str]:
        """Return the ids of the first and of the last option that a learner chose."""

    def questions(self) -> dict[str, Question]:
        """Return every question, by its name."""


class NoRecords:
    """The recorder of a course that records nothing."""

    files: tuple[str, ...] = ()

    def question_of(self, cell: NotebookNode) -> str | None:
        """Return None."""
        return None

    def in_notebook(self, content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return nothing."""
        return {}, []

    def in_file(self, path: Path) -> tuple[dict[str, Any], list[str]]:
        """Return nothing."""
        return {}, []

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def score(self, name: str, answer: Any, count: str) -> float:
        """Return 0: no question has this name."""
        return 0.0

    def page(self, name: str, answer: Any, count: str) -> dict[str, str]:
        """Return nothing."""
        return {}

    def choices(self, answer: Any) -> tuple[str, str]:
        """Return no choice."""
        return "", ""

    def questions(self) -> dict[str, Question]:
        """Return none."""
        return {}


def recorder() -> Recorder:
    """Return the course's recorder. Raises `ImportError` that names it if it cannot be had."""
    return load(course.here().recorder)


def is_answers(name: str) -> bool:
    """Whether a file's name is that of recorded answers, as platforms and learners change it."""
    lower = _SEPARATORS.sub("_", name.lower())
    for answers in course.here().answer_files:
        stem, suffix = os.path.splitext(_SEPARATORS.sub("_", answers.lower()))
        if stem not in lower:
            continue
        behind = re.findall(r"\.[a-z]+", lower.partition(stem)[2])
        if suffix in behind or not behind or behind[-1] in _AS_TEXT:
            return True
    return False


#: What browsers, mail programs and learners put for the suffix of a file that they take for text.
_AS_TEXT = {".txt", ".download", ".bak", ".html", ".htm", ".bin"}
_SEPARATORS = re.compile(r"[-_\s]+")


def answer_files(folder: Path) -> list[Path]:
    """Return the files of recorded answers in a staged hand-in, wherever they lie in it."""
    found = []
    for place, folders, names in trees.walk(folder):
        folders.sort()
        found += [Path(place, name) for name in sorted(names) if is_answers(name)]
    return found[:MAX_ANSWER_FILES]


@functools.lru_cache(maxsize=4)
def load(name: str) -> Recorder:
    """Return the recorder that a setting names; one that records nothing for ''."""
    return named.load(name) if name else NoRecords()
