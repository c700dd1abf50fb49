"""A scenario: calls of a learner's function, or of an object that it makes, and what came of them.

The same code runs the solution and the known mistakes when fingerprints are built, and the
learner's work when it is checked.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import linecache
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llm_memory.check import values
from llm_memory.check.limits import TookTooLong, limited
from llm_memory.check.values import decode, encode
from llm_memory.counted import Counted


def call(*args: Any, **kwargs: Any) -> dict:
    """One call of the exercise itself; for a class, it makes the object of the steps after it."""
    return {"step": "call", "args": list(args), "kwargs": kwargs}


def method(name: str, *args: Any, **kwargs: Any) -> dict:
    """One call of a method of the object that the last `call` made."""
    return {"step": "method", "name": name, "args": list(args), "kwargs": kwargs}


def get(name: str) -> dict:
    """One look at an attribute of the object that the last `call` made."""
    return {"step": "get", "name": name, "args": [], "kwargs": {}}


def passed(model: str, tokens: int, passes: int) -> dict:
    """One look at what the step before cost: what passed through the given model of that name.

    `tokens` of all texts, in `passes`, are enough; fewer are as good.
    """
    return {"step": "passed", "name": model, "args": [tokens, passes], "kwargs": {}}


def hard(step: dict, part: str | bool = True) -> dict:
    """Mark a step as one that only a check of the hard cases runs; such steps come last.

    `part` names the part of the hard cases it belongs to, where a lesson asks for them apart.
    """
    return {**step, "hard": part}


def typed(step: dict) -> dict:
    """Mark a step whose result must have the right dtype, not only the right numbers."""
    return {**step, "dtype": True}


class Given:
    """An argument that is an object of the package (the shipped model, a cache), by its name."""

    def __init__(self, name: str):
        """Name it as `llm_memory.check.given.MAKERS` does."""
        self.name = name


def encode_steps(steps: Iterable[dict]) -> list[dict]:
    """Return steps with their arguments as JSON data."""

    def one(value: Any) -> Any:
        if isinstance(value, tuple) and any(isinstance(item, Given) for item in value):
            return {"tuple": [one(item) for item in value]}
        return {"given": value.name} if isinstance(value, Given) else encode(value)

    return [
        {
            **step,
            "args": [one(value) for value in step["args"]],
            "kwargs": {key: one(value) for key, value in step["kwargs"].items()},
        }
        for step in steps
    ]


def is_object(data: Any) -> bool:
    """Tell whether encoded data stands for an object that is not plain data."""
    return isinstance(data, dict) and "object" in data


def spell(steps: list[dict], index: int, subject: str, whole: bool = False) -> str:
    """Return step `index` as a learner would write it.

    Arguments stand in full where they are short, or with `whole`; else in a few words.
    """
    step = steps[index]
    stateful = is_stateful(steps)
    if step["step"] == "passed":
        return f"what passed through the model in {spell(steps, index - 1, subject, whole)}"
    if step["step"] == "get":
        return f"{HELD}.{step['name']}"
    if step["step"] == "call":
        name = f"{HELD} = {subject}" if stateful and whole else subject
    else:
        name = f"{HELD}.{step['name']}"
    text = f"{name}({', '.join(_arguments(step, values.spell))})"
    if whole or len(text) <= SHORT:
        return text
    return f"{name}({', '.join(_arguments(step, values.describe))})"


def is_stateful(steps: list[dict]) -> bool:
    """Tell whether steps are about an object that the exercise's class makes."""
    return any(step["step"] in ("method", "get") for step in steps)


#: What the object that an exercise's class makes is called in a message.
HELD = "made"
#: Calls up to this many characters are shown in full.
SHORT = 160


def _arguments(step: dict, how: Callable[[Any], str]) -> list[str]:
    inside = [how(value).removeprefix("a ") for value in step["args"]]
    return inside + [f"{key}={how(value)}" for key, value in step["kwargs"].items()]


def example(steps: list[dict], index: int, subject: str) -> str:
    """Return code that makes step `index`, and those before it that it needs, ready to be run."""
    while steps[index]["step"] == "passed":
        index -= 1
    first = index
    if steps[index]["step"] != "call":
        first = max(i for i in range(index) if steps[i]["step"] == "call")
    shown = [i for i in range(first, index + 1) if steps[i]["step"] != "passed"]
    return "\n".join(spell(steps, i, subject, whole=True) for i in shown)


def run(
    subject: Callable,
    steps: list[dict],
    given: Callable[[str], Any] | None = None,
    seconds: float | None = None,
) -> list[dict]:
    """Run encoded `steps` on `subject` and return one outcome a step.

    An outcome is `{"value": …}` or `{"raises": class, "says": text, "where": line of code}`, and
    `"changed"` names the arguments that the call changed. `NotImplementedError` without a message
    is raised on: the exercise is open. After `seconds` for all steps, those that are left raise
    `TookTooLong`.
    """
    made: dict[str, Any] = {}

    def give(name: str) -> Any:
        if name not in made:
            if given is None:
                raise ValueError(f"nothing makes the object {name!r} here")
            made[name] = given(name)
        return made[name]

    outcomes: list[dict] = []
    target: Any = None
    stateful = is_stateful(steps)
    deadline = None if seconds is None else time.monotonic() + seconds
    for step in steps:
        args = [decode(value, give) for value in step["args"]]
        kwargs = {key: decode(value, give) for key, value in step["kwargs"].items()}
        outcome: dict[str, Any] = {}
        if step["step"] == "passed":
            outcomes.append({"value": _passed(give(step["name"]), *args)})
            continue
        _restart(made.values())
        try:
            if outcomes and outcomes[-1].get("raises") == TookTooLong.__name__:
                raise TookTooLong("not tried, after the call before it")
            with _until(deadline):
                if step["step"] == "get":
                    value = getattr(target, step["name"])
                else:
                    function = subject if step["step"] == "call" else getattr(target, step["name"])
                    value = function(*args, **kwargs)
                    if step["step"] == "call":
                        target = value
                outcome["value"] = _read(value)
            if step["step"] == "call" and stateful and is_object(outcome["value"]):
                # What a class is called is no outcome: variants and mistakes have other names.
                outcome["value"] = {"object": OWN}
        except (Exception, SystemExit) as error:  # what a learner's code raises is an outcome
            if isinstance(error, NotImplementedError) and not str(error):
                raise
            outcome = {"raises": type(error).__name__, "says": _says(error), "where": place(error)}
        changed = [
            index
            for index, (stored, now) in enumerate(zip(step["args"], args, strict=True))
            if not _is_given(stored) and encode(now) != stored
        ]
        if changed:
            outcome["changed"] = changed
        outcomes.append(outcome)
    return outcomes


def _restart(given: Iterable[Any]) -> None:
    for thing in given:
        if isinstance(thing, Counted):
            thing.restart()


def _passed(model: Counted, tokens: int, passes: int) -> str:
    if model.places <= tokens and len(model.shapes) <= passes:
        return f"at most {tokens} tokens in {passes} passes"
    return f"{model.places} tokens in {len(model.shapes)} passes"


def _is_given(stored: Any) -> bool:
    """Tell whether an argument is, or holds, an object that is only named."""
    if not isinstance(stored, dict):
        return False
    return "given" in stored or any(map(_is_given, stored.get("tuple", ())))


OWN = "the exercise's own"


def _read(value: Any) -> Any:
    if inspect.iscoroutine(value):
        value.close()  # else Python warns, with a line of ours, that nobody awaited it
    try:
        return copy.deepcopy(encode(value))
    except Exception:  # an array of a kind that has no numbers to be read, or the like
        return {"object": f"{type(value).__name__} (which cannot be read)"}


def _until(deadline: float | None) -> contextlib.AbstractContextManager:
    if deadline is None:
        return contextlib.nullcontext()
    return limited(max(0.1, deadline - time.monotonic()))


def _says(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "the function calls itself without end"
    if isinstance(error, TookTooLong):
        return str(error) or "it does not come back: is there a loop that never ends?"
    try:
        return str(error)[:300]
    except Exception:
        return "(an exception whose message cannot be read)"


def place(error: BaseException) -> str:
    """Return the learner's own line in which `error` was raised, or an empty text."""
    told = getattr(error, "place", None)  # from the learner's process, where it is another one
    if isinstance(told, str):
        return told
    own = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if not frame.filename.startswith(NOT_THEIRS):
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
            own = f"{frame.name}, line {frame.lineno}" + (f": {line}" if line else "")
    return own


def _folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    ours = str(Path(__file__).parents[1])
    return (
        ours,
        *{paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")},
        "<frozen",
    )


NOT_THEIRS = _folders()
