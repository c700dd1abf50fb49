"""The bank of mistakes: how learners get an exercise wrong, and what else is right.

One module a lesson, named like it. Each mistake must fail the lesson's hidden tests with a
message of its own, and each variant must pass; `make build` turns the mistakes into the
fingerprints by which a visible check names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llm_memory.check.scenario import Given, call, get, hard, method, passed, typed

__all__ = ["Bank", "Given", "call", "get", "hard", "method", "passed", "typed"]


@dataclass
class Mistake:
    """One way to get an exercise wrong; `visible` if the fingerprints' inputs tell it."""

    name: str
    work: Callable
    sentence: str
    visible: bool = True


@dataclass
class Exercise:
    """What the bank knows of one exercise."""

    steps: list[dict] = field(default_factory=list)
    terms: dict[str, list] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    variants: list[Callable] = field(default_factory=list)


class Bank:
    """The mistakes and variants of one lesson."""

    def __init__(self, lesson: str):
        """`lesson` is the file name in notebooks/, without its ending."""
        self.lesson = lesson
        self.exercises: dict[str, Exercise] = {}

    def _of(self, exercise: str) -> Exercise:
        return self.exercises.setdefault(exercise, Exercise())

    def calls(self, exercise: str, steps: list[dict]) -> None:
        """Set the inputs on which a visible check runs the learner's work."""
        self._of(exercise).steps = steps

    def terms(self, exercise: str, of: str = "call", **parts: str) -> None:
        """Say what a learner calls the parts of a result, and their last axes ("query key").

        `of` is the method that gives it, or "call"; a result that is one array has one part.
        """
        words = [[name.replace("_", " "), axes.split()] for name, axes in parts.items()]
        self._of(exercise).terms[of] = words

    def mistake(self, exercise: str, sentence: str, visible: bool = True) -> Callable:
        """Add a mistake; `sentence` is what a learner who makes it is told.

        `visible=False` marks one that the check's small inputs cannot tell from the right
        answer, so that only the hidden tests find it.
        """

        def add(work: Callable) -> Callable:
            name = work.__name__
            self._of(exercise).mistakes.append(Mistake(name, work, sentence, visible))
            return work

        return add

    def variant(self, exercise: str) -> Callable:
        """Add a way of solving the exercise that must pass."""

        def add(work: Callable) -> Callable:
            self._of(exercise).variants.append(work)
            return work

        return add
