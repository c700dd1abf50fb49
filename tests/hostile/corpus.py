"""The hostile corpus: one submission each, with the outcome that it must have.

A case is a function that spoils an honest, solved submission. `@case(...)` registers it with the
cells that lose their points, the reason codes that the instructor sees and words of a sentence
that the student reads. A case without a flag says in its docstring by what rule: it is honest, or
it cannot be told. A case may return a function that looks at the graded class afterwards.

`files.py` and `notebooks.py` hold what can be done to files and notebooks, `running.py` what a
submission can do while it runs. All cases of a module are graded as one class, with honest
learners before, between and behind them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tests.hostile.classroom import FULL, LESSON, POINTS, Classroom, cell_of

HONEST = ["-first", "m-in-between", "~last"]
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
    module: str
    spoil: Callable[[Hand], Callable[[Classroom, str], None] | None]
    lost: frozenset[str]
    flags: tuple[frozenset[str], ...]
    says: str
    student: str


CASES: dict[str, Case] = {}


def case(
    lost: frozenset[str] | set[str] = frozenset(),
    flags: set[str] | list[set[str]] = frozenset(),
    says: str = "",
    student: str = "",
) -> Callable:
    """Register a case.

    Parameters
    ----------
    lost
        The cells that score 0; all others score full points.
    flags
        The reason codes, exactly; a list of sets where it depends on the machine's speed which of
        two limits is met first.
    says
        Words that the student's feedback must hold.
    student
        The student's id, if it matters.
    """

    def register(spoil: Callable) -> Callable:
        name = spoil.__name__
        module = spoil.__module__.rpartition(".")[2]
        assert name not in CASES, f"two cases are called {name}"
        rule = spoil.__doc__ or ""
        assert (says and flags) or rule.startswith("Not flagged"), f"{name} states no rule"
        each = tuple(map(frozenset, flags if isinstance(flags, list) else [flags]))
        CASES[name] = Case(name, module, spoil, frozenset(lost), each, says, student or name)
        return spoil

    return register


def cases_of(*modules: str) -> dict[str, Case]:
    """Return the cases that these modules register, by name."""
    return {case.name: case for case in CASES.values() if case.module in modules}


class Graded:
    """The class after grading, and what was seen on the way."""

    def __init__(self, room: Classroom, cases: Iterable[Case]):
        """Let `cases` hand in, and grade."""
        cases = list(cases)
        self.room, self.after = room, {}
        self.students = {*HONEST, *(case.student for case in cases)}
        room.hand_in(HONEST[0])
        for case in cases:
            hand = Hand(room, room.hand_in(case.student))
            before = hand.path.read_bytes()
            self.after[case.name] = case.spoil(hand)
            # A case that leaves the file alone has changed the notebook in memory.
            plain = hand.path.is_file() and not hand.path.is_symlink()
            if plain and hand.path.read_bytes() == before:
                hand.write()
        for student in HONEST[1:]:
            room.hand_in(student)
        self.untouched = self._course_files()
        self.printed = room.nbgrader("autograde", LESSON, code=None)
        room.nbgrader("generate_feedback", LESSON)

    def _course_files(self):
        """Return a fingerprint of each file that grading must leave alone."""
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("source", "release", "submitted/-first", "submitted/~last")
            for path in sorted((self.room.folder / folder).rglob("*"))
            if path.is_file()
        }

    def check_others(self) -> None:
        """Assert that every other submission is graded and untouched, and so is the course."""
        assert "not graded" not in self.printed, self.printed
        for student in HONEST:
            assert self.room.scores(student) == POINTS
            assert self.room.flags(student) == set()
            notebook, handed_in = self.room.autograded(student), self.room.solved()
            for name in ("double", "total"):
                assert cell_of(notebook, name).source == cell_of(handed_in, name).source
            assert f"(Score: {FULL} / {FULL})" in self.room.feedback(student)
        assert self._course_files() == self.untouched
        with self.room.gradebook() as gradebook:
            assert {student.id for student in gradebook.students} == self.students
            assert {
                grade.name: grade.max_score
                for notebook in gradebook.find_assignment(LESSON).notebooks
                for grade in notebook.grade_cells
            } == POINTS

    def check(self, case: Case) -> None:
        """Assert that a case has its outcome: score, flags, sentence, and what it says itself."""
        room, student = self.room, case.student
        assert room.scores(student) == {
            name: 0 if name in case.lost else points for name, points in POINTS.items()
        }
        flags = room.flags(student)
        assert flags in case.flags
        page = room.feedback(student).replace("&#39;", "'")
        assert case.says in page
        score = FULL - sum(POINTS[name] for name in case.lost)
        assert f"(Score: {score} / {FULL})" in page
        # In Formgrader, where the graded notebook is shown, and in the feedback.
        top = room.autograded(student).cells[0].source
        assert all(f"`{code}`" in top and f"<code>{code}</code>" in page for code in flags)
        assert flags or "What stood out" not in page
        assert not [line for line in _hidden_lines(room) if line in page]
        summary = self.printed[self.printed.rindex("Summary of") :]
        row = next(line for line in summary.splitlines() if f" {student}: " in line)
        assert all(code in row for code in flags)
        if self.after[case.name]:
            self.after[case.name](room, student)


def _hidden_lines(room: Classroom) -> Iterator[str]:
    source = nbformat.read(room.folder / "source" / LESSON / f"{LESSON}.ipynb", 4)
    for cell in source.cells:
        if "BEGIN HIDDEN" in cell.source:
            yield cell.source.split("BEGIN HIDDEN TESTS\n")[1].split("\n###")[0].split(",")[0]
