"""A mutant before the hidden tests of its exercise, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from nbformat import NotebookNode

from course_tools.build import lesson as reading
from course_tools.build.fingerprints import solved_namespace
from course_tools.mutants.operators import Mutant
from llm_memory.check import check

#: A mutant that runs longer never ends: the tests of one exercise take less than a second.
SECONDS = 30
#: Address space that a mutant may take beyond what there is.
BYTES = 4 * 2**30

#: Bits of the exit code of a mutant's process: what it passes.
HIDDEN, CHECK = 1, 2


@dataclass(frozen=True)
class Verdict:
    """Whether a mutant gets past the hidden tests, and past the visible check."""

    mutant: Mutant
    passes_hidden_tests: bool
    passes_check: bool


class Trial:
    """One exercise: its reference solution, and its hidden tests alone."""

    def __init__(self, notebook: NotebookNode, lesson: str, exercise: str, space: dict[str, Any]):
        """`space` is the lesson's solved namespace."""
        names = [reading.grade_id(c) for c in notebook.cells if reading.is_exercise(c)]
        self.lesson, self.exercise, self.space = lesson, exercise, space
        self.source = next(c.source for c in notebook.cells if reading.grade_id(c) == exercise)
        self.tests = [
            compile(cell.source, cell.id, "exec")
            for cell in notebook.cells
            if reading.is_test(cell) and reading.tested_exercise(cell.id, names) == exercise
        ]

    def passes(self, source: str) -> bool:
        """Tell whether a solution passes every hidden test; runs it in this process."""
        return not any(self.fails(test, source) for test in self.tests)

    def fails(self, test: CodeType, source: str) -> bool:
        """Tell whether a solution fails one test cell; runs it in this process."""
        space = dict(self.space)
        try:
            exec(source, space)
            exec(test, {self.exercise: space[self.exercise], "check": lambda *_, **__: None})
        except Exception:
            return True
        return False

    def accepted(self, source: str) -> bool:
        """Tell whether the visible check calls a solution right; runs it in this process."""
        space = dict(self.space)
        try:
            exec(source, space)
            check(space[self.exercise], self.exercise, hard=True)
        except Exception:
            return False
        return True

    def run(self, changed: Iterable[Mutant], processes: int) -> Iterator[Verdict]:
        """Yield what hidden tests and check make of each mutant, each in a process of its own."""
        if not self.passes(self.source):
            raise ValueError(f"{self.exercise}: the reference itself fails its hidden tests")
        running: dict[int, Mutant] = {}
        for mutant in changed:
            if len(running) >= processes:
                yield _ended(running)
            running[self._start(mutant)] = mutant
        while running:
            yield _ended(running)

    def _start(self, mutant: Mutant) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = 0
        try:
            signal.alarm(SECONDS)
            pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]
            used = int(pages) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, used + BYTES))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed by `with`
            with nowhere, contextlib.redirect_stdout(nowhere):
                os.dup2(nowhere.fileno(), 2)
                warnings.simplefilter("ignore")
                status = HIDDEN * self.passes(mutant.source) + CHECK * self.accepted(mutant.source)
        finally:
            os._exit(status)


def _ended(running: dict[int, Mutant]) -> Verdict:
    child, status = os.waitpid(-1, 0)
    code = os.waitstatus_to_exitcode(status)
    passed = max(code, 0)  # one that was ended from outside passed nothing
    return Verdict(running.pop(child), bool(passed & HIDDEN), bool(passed & CHECK))


def trials(notebook: NotebookNode, lesson: str) -> Iterator[Trial]:
    """Yield a trial for every exercise of a lesson that has hidden tests."""
    space = solved_namespace(notebook, lesson)
    for cell in filter(reading.is_exercise, notebook.cells):
        trial = Trial(notebook, lesson, cell.id, space)
        if trial.tests:
            yield trial
