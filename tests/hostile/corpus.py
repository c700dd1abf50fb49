"""The hostile corpus: one submission each, with the outcome that it must have.

A case is a function that spoils an honest, solved submission. `@case(...)` registers it with the
cells that lose their points, the reason codes that the instructor sees and words of a sentence
that the student reads. A case may return a function that looks at the graded class afterwards.

`files.py` and `notebooks.py` hold what can be done to files and notebooks, `running.py` what a
submission can do while it runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode

from tests.hostile.classroom import LESSON, POINTS, Classroom

#: Every graded cell, and every one that needs the notebook.
ALL = frozenset(POINTS)
TESTS = ALL - {"quiz_attention"}
DOUBLE = frozenset(name for name in POINTS if name.startswith("test_double"))


@dataclass
class Hand:
    """A submission about to be spoiled: its folder, and the notebook that stands in it."""

    room: Classroom
    folder: Path
    notebook: NotebookNode = field(init=False)

    def __post_init__(self) -> None:
        """Take the solved notebook."""
        self.notebook = self.room.solved()

    @property
    def path(self) -> Path:
        """The file of the notebook."""
        return self.folder / f"{LESSON}.ipynb"

    def write(self) -> None:
        """Write the notebook as it now is, valid or not."""
        self.path.write_text(json.dumps(self.notebook), encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """One hostile submission and its outcome."""

    name: str
    spoil: Callable[[Hand], Callable[[Classroom, str], None] | None]
    lost: frozenset[str]
    flags: frozenset[str]
    says: str
    student: str


CASES: dict[str, Case] = {}


def case(
    lost: frozenset[str] | set[str] = frozenset(),
    flags: set[str] = frozenset(),
    says: str = "",
    student: str = "",
) -> Callable:
    """Register a case.

    Parameters
    ----------
    lost
        The cells that score 0; all others score full points.
    flags
        The reason codes, exactly.
    says
        Words that the student's feedback must hold.
    student
        The student's id, if it matters.
    """

    def register(spoil: Callable) -> Callable:
        name = spoil.__name__
        assert name not in CASES, f"two cases are called {name}"
        CASES[name] = Case(name, spoil, frozenset(lost), frozenset(flags), says, student or name)
        return spoil

    return register
