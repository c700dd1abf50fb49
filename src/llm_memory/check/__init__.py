"""Visible checks: a learner's function against stored fingerprints, and the mistake by its name."""

from __future__ import annotations

import functools
import json
import linecache
import re
import sys
import types
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any

from llm_memory.check import diagnose, limits, recognise, scenario
from llm_memory.check.given import make
from llm_memory.check.recognise import outcome_difference
from llm_memory.check.values import describe, encode

__all__ = ["CheckFailed", "check", "example", "exercises", "lessons", "results"]

OPEN = "not solved yet"
#: What the checks of this session said, by exercise: True, or the sentence.
results: dict[str, bool | str] = {}


class CheckFailed(AssertionError):
    """A learner's work does not do what the exercise asks.

    `mistakes` are the names of those that are known, `mistake` is the first of them or None.
    """

    def __init__(self, exercise: str, message: str, mistakes: tuple[str, ...] = ()):
        """`message` is the sentence for the learner."""
        super().__init__(message)
        self.exercise, self.mistakes = exercise, mistakes

    @property
    def mistake(self) -> str | None:
        """The name of the first known mistake."""
        return self.mistakes[0] if self.mistakes else None

    def _render_traceback_(self) -> list[str]:
        # The learner needs the sentence; the stack below it is our code, not theirs.
        return [f"✘ {self}"]


@functools.cache
def lessons() -> dict[str, dict]:
    """Return what `build` stored of each lesson: its quizzes' points and its exercises."""
    found = {}
    for path in sorted(files(__package__).joinpath("fingerprints").iterdir(), key=str):
        if path.name.endswith(".json"):
            stored = json.loads(path.read_text(encoding="utf-8"))
            found[stored["lesson"]] = stored
    return found


def exercises() -> dict[str, dict]:
    """Return the fingerprints of all lessons, by exercise: steps, right outcomes, mistakes."""
    return {
        name: item for stored in lessons().values() for name, item in stored["exercises"].items()
    }


def check(work: Callable, name: str | None = None, hard: bool | str = False) -> None:
    """Check a learner's function or class: the exercise by whose name the notebook calls it.

    That is the name in `check(…)`, so a lambda, a `partial`, an alias or a decorated function are
    as good as a `def`. What is tried out as another exercise, with `name`, leaves `results` as it
    is: grading looks at the notebook's name.

    The steps that a bank marks as hard count with `hard=True` only, or with the name of their part,
    so that work which is right but for the hard cases has its core points.

    Shows that it is right, or raises: `NotImplementedError` while the exercise is open,
    `CheckFailed` with the names of the mistakes where they are known, and otherwise with the kind
    of mistake and the first place where the result differs. `ValueError` if there is no such
    exercise.
    """
    known = exercises()
    own = _called(work, known, sys._getframe(1))
    noted = results if name in (None, own) else {}
    name = name or own
    if name not in known:
        asked = (
            "Give it the function itself: check(softmax)"
            if not callable(work)
            else ('Say which one it is: check(f, "softmax")')
        )
        said = f"no exercise {name!r}; there are: {', '.join(sorted(known))}. {asked}"
        raise _plain(ValueError(said))
    if not callable(work):
        noted[name] = said = (
            f"{name} is {describe(encode(work))}, which cannot be called. Is a result kept under "
            "the name of the function?"
        )
        raise CheckFailed(name, said)
    stored = _picked(known[name], hard)
    try:
        outcomes = _run(work, stored["steps"])
    except NotImplementedError:
        noted[name] = OPEN
        said = f"{name} is not solved yet: replace the line that raises this."
        raise _plain(NotImplementedError(said), "○") from None
    if not recognise.wrong_steps(stored, outcomes):
        noted[name] = True
        checks = "1 check" if len(outcomes) == 1 else f"{len(outcomes)} checks"
        _say(f"✔ {name}: right ({checks}{', hard cases too' if hard else ''}).")
        return
    message, mistakes = _judged(name, work, stored, outcomes)
    noted[name] = message
    raise CheckFailed(name, message, mistakes)


def example(name: str, step: int) -> str:
    """Return the code of one call of an exercise's check, to be copied into a cell and run.

    `print` it. It needs `import math, numpy as np, torch`, `llm_memory.shapes.MODELS` and
    `llm_memory.check.given.make`, as far as they stand in it. `ValueError` names what there is.
    """
    known = exercises()
    if name not in known:
        raise ValueError(f"no exercise {name!r}; there are: {', '.join(sorted(known))}")
    steps = known[name]["steps"]
    if not 0 <= step < len(steps):
        raise ValueError(f"{name} has steps 0 to {len(steps) - 1}, not {step}")
    return scenario.example(steps, step, name)


def _plain(error: Exception, sign: str = "✘") -> Exception:
    """Let a notebook show an exception as its sentence alone, without a stack of our code."""
    error._render_traceback_ = lambda: [f"{sign} {error}"]  # type: ignore[attr-defined]
    return error


def _called(work: Callable, known: dict, frame: types.FrameType) -> str | None:
    """Return the exercise that the caller means: by its own words, else by what it calls `work`."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    own = getattr(work, "__name__", None)
    # One name after the other, the likely ones first: in a judge each look asks another process.
    for name in (*re.findall(r"\bcheck\(\s*(\w+)", line), own, *known):
        if name in known and frame.f_locals.get(name, frame.f_globals.get(name)) is work:
            return name
    return own


def _picked(stored: dict, hard: bool | str) -> dict:
    """Return an exercise with the steps that count, each with its number in the whole check."""
    kept = [
        index
        for index, step in enumerate(stored["steps"])
        if hard is True or step.get("hard", hard) == hard or not step.get("hard")
    ]
    mistakes = [
        {**mistake, "outcomes": [mistake["outcomes"][index] for index in kept]}
        for mistake in stored["mistakes"]
    ]
    picked = {key: [stored[key][index] for index in kept] for key in ("steps", "right")}
    return {**stored, **picked, "mistakes": mistakes, "numbers": kept}


def _run(work: Callable, steps: list[dict]) -> list[dict]:
    # The judge has limits of its own, and no notebook.
    seconds = limits.SECONDS if _notebook() is not None else None
    with limits.short_prints():
        return scenario.run(work, steps, make, seconds)


def _judged(
    name: str, work: Callable, stored: dict, outcomes: list[dict]
) -> tuple[str, tuple[str, ...]]:
    """Return the sentences for the learner, and the names of the known mistakes in them."""
    found = recognise.explain(stored, outcomes)
    lines: list[str] = []

    def sentence(mistake: dict) -> None:
        lines.append(f"{'Besides: ' if lines else f'{name}: '}{mistake['sentence']}")
        if len(lines) == 1:
            shown = found.evidence[mistake["name"]]
            lines.append(f"  {_difference(name, stored, outcomes, shown[0])}")

    def unknown(index: int) -> None:
        start = "Besides, " if lines else f"{name}: "
        lines.append(f"{start}{_difference(name, stored, outcomes, index)}")
        lines.extend(_sort(work, stored, outcomes, index, found.rest))

    # What is computed comes before what is refused: a guard is quickly added.
    for mistake in found.mistakes:
        sentence(mistake)
    for index in found.rest[:1]:
        unknown(index)
    for mistake in found.guards:
        sentence(mistake)
    for index in found.unguarded[:1]:
        unknown(index)
    return "\n".join(lines), tuple(m["name"] for m in found.mistakes + found.guards)


def _sort(
    work: Callable, stored: dict, outcomes: list[dict], index: int, rest: list[int]
) -> list[str]:
    want, came = stored["right"][index], outcomes[index]
    if "value" not in want or "value" not in came:
        return []
    # First of all: of numbers that come by chance every other kind may seem to be true.
    if _changes(work, stored, outcomes):
        return [
            "  Two runs of the same call gave different results: is there a random number, or "
            "something that is kept from call to call?"
        ]

    def kind(i: int) -> str | None:
        values = stored["right"][i].get("value"), outcomes[i].get("value")
        return diagnose.kind(*values, masked=_has_mask(stored["steps"][i]))

    said = kind(index)
    if said == diagnose.NEAR and any(kind(i) != said for i in rest if "value" in outcomes[i]):
        return []  # elsewhere it is far away
    return [f"  {said}"] if said else []


def _has_mask(step: dict) -> bool:
    """Tell whether a call is given a mask."""
    given = [*step["args"], *step["kwargs"].values()]
    return any(isinstance(value, dict) and value.get("dtype") == "bool" for value in given)


def _changes(work: Callable, stored: dict, outcomes: list[dict]) -> bool:
    """Tell whether a second run gives something else."""
    try:
        again = _run(work, stored["steps"])
    except NotImplementedError:
        return True
    return [item.get("value") for item in again] != [item.get("value") for item in outcomes]


def _difference(name: str, stored: dict, outcomes: list[dict], index: int) -> str:
    steps = stored["steps"]
    found = outcome_difference(stored["right"][index], outcomes[index], steps[index])
    call = scenario.spell(steps, index, name)
    after = any(step["step"] in ("method", "get") for step in steps[: index + 1])
    if after or call != scenario.spell(steps, index, name, whole=True):
        number = stored["numbers"][index]
        found = f'{found}\n  To run it: print(example("{name}", {number}))'
    return f"{call}: {found}"


def _notebook() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    return get_ipython()


def _say(text: str) -> None:
    if _notebook() is None:
        return
    from IPython.display import display

    bundle: dict[str, Any] = {
        "text/plain": text,
        "text/html": f'<div role="status"><b>{escape(text)}</b></div>',
    }
    display(bundle, raw=True)
