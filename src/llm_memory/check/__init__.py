"""Visible checks: a learner's function against stored fingerprints, and the mistake by its name."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any

from llm_memory.check import scenario
from llm_memory.check.given import make
from llm_memory.check.values import describe, difference

__all__ = ["CheckFailed", "check", "exercises", "lessons", "results"]

OPEN = "not solved yet"
#: What the checks of this session said, by exercise: True, or the sentence.
results: dict[str, bool | str] = {}


class CheckFailed(AssertionError):
    """A learner's work does not do what the exercise asks; `mistake` is its name, if known."""

    def __init__(self, exercise: str, message: str, mistake: str | None = None):
        """`message` is the sentence for the learner."""
        super().__init__(message)
        self.exercise, self.mistake = exercise, mistake

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


def check(work: Callable, name: str | None = None, hard: bool = False) -> None:
    """Check a learner's function or class, by its own name unless `name` is given.

    What is tried out under another name leaves `results` as it is: grading looks at the name.

    The steps that a bank marks as hard count with `hard=True` only, so that work which is right
    but for the hard cases has its core points.

    Shows that it is right, or raises: `NotImplementedError` while the exercise is open,
    `CheckFailed` with the mistake's name where it is a known one, and otherwise with the first
    place where the result differs. `ValueError` if there is no such exercise.
    """
    own = getattr(work, "__name__", None)
    name = name or own
    noted = results if name == own else {}
    known = exercises()
    if name not in known:
        raise ValueError(f"no exercise {name!r}; there are: {', '.join(sorted(known))}")
    stored = known[name] if hard else _core(known[name])
    try:
        outcomes = scenario.run(work, stored["steps"], make)
    except NotImplementedError:
        noted[name] = OPEN
        error = NotImplementedError(f"{name} is not solved yet: replace the line that raises this.")
        error._render_traceback_ = lambda: [f"○ {error}"]
        raise error from None
    found = _first_difference(name, stored, outcomes)
    if found is None:
        noted[name] = True
        checks = "1 check" if len(outcomes) == 1 else f"{len(outcomes)} checks"
        _say(f"✔ {name}: right ({checks}{', hard cases too' if hard else ''}).")
        return
    mistake = next((m for m in stored["mistakes"] if _same(m["outcomes"], outcomes)), None)
    message = f"{name}: {mistake['sentence']}\n  {found}" if mistake else f"{name}: {found}"
    noted[name] = message
    raise CheckFailed(name, message, mistake and mistake["name"])


def _core(stored: dict) -> dict:
    kept = [index for index, step in enumerate(stored["steps"]) if not step.get("hard")]
    mistakes = [
        {**mistake, "outcomes": [mistake["outcomes"][index] for index in kept]}
        for mistake in stored["mistakes"]
    ]
    picked = {key: [stored[key][index] for index in kept] for key in ("steps", "right")}
    return {**stored, **picked, "mistakes": mistakes}


def outcome_difference(want: dict, came: dict) -> str | None:
    """Return a sentence on how one outcome differs from the one that is wanted, or None."""
    if "raises" in want:
        if came.get("raises") == want["raises"]:
            return None
        got = f"{came['raises']}: {came['says']}" if "raises" in came else describe(came["value"])
        return f"expected a {want['raises']}, came {got}"
    if "raises" in came:
        return f"expected {describe(want['value'])}, came {came['raises']}: {came['says']}"
    found = difference(want["value"], came["value"])
    if found is None and want.get("changed") != came.get("changed"):
        changed = ", ".join(str(index + 1) for index in came.get("changed", []))
        return f"the call changed its argument {changed}; work on a copy"
    return found


def _same(want: list[dict], came: list[dict]) -> bool:
    return all(outcome_difference(a, b) is None for a, b in zip(want, came, strict=True))


def _first_difference(name: str, stored: dict, outcomes: list[dict]) -> str | None:
    for index, (want, came) in enumerate(zip(stored["right"], outcomes, strict=True)):
        found = outcome_difference(want, came)
        if found:
            return f"{scenario.spell(stored['steps'], index, name)}: {found}"
    return None


def _say(text: str) -> None:
    try:
        from IPython import get_ipython
        from IPython.display import display
    except ImportError:
        return
    if get_ipython() is not None:
        bundle: dict[str, Any] = {
            "text/plain": text,
            "text/html": f'<div role="status"><b>{escape(text)}</b></div>',
        }
        display(bundle, raw=True)
