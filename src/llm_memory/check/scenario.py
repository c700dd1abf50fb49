"""A scenario: calls of a learner's function, or of an object that it makes, and what came of them.

The same code runs the solution and the known mistakes when fingerprints are built, and the
learner's work when it is checked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from llm_memory.check.values import decode, describe, encode


def call(*args: Any, **kwargs: Any) -> dict:
    """One call of the exercise itself; for a class, it makes the object of the steps after it."""
    return {"step": "call", "args": list(args), "kwargs": kwargs}


def method(name: str, *args: Any, **kwargs: Any) -> dict:
    """One call of a method of the object that the last `call` made."""
    return {"step": "method", "name": name, "args": list(args), "kwargs": kwargs}


def get(name: str) -> dict:
    """One look at an attribute of the object that the last `call` made."""
    return {"step": "get", "name": name, "args": [], "kwargs": {}}


def hard(step: dict) -> dict:
    """Mark a step as one that only a check of the hard cases runs; such steps come last."""
    return {**step, "hard": True}


class Given:
    """An argument that is an object of the package (the shipped model, a cache), by its name."""

    def __init__(self, name: str):
        """Name it as `llm_memory.check.given.MAKERS` does."""
        self.name = name


def encode_steps(steps: Iterable[dict]) -> list[dict]:
    """Return steps with their arguments as JSON data."""

    def one(value: Any) -> Any:
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


def spell(steps: list[dict], index: int, subject: str) -> str:
    """Return step `index` as a learner would write it, with shapes in place of arrays."""
    step = steps[index]
    if step["step"] == "get":
        return f".{step['name']}"
    inside = [describe(value).removeprefix("a ") for value in step["args"]]
    inside += [f"{key}={describe(value)}" for key, value in step["kwargs"].items()]
    name = subject if step["step"] == "call" else f".{step['name']}"
    return f"{name}({', '.join(inside)})"


def run(
    subject: Callable, steps: list[dict], given: Callable[[str], Any] | None = None
) -> list[dict]:
    """Run encoded `steps` on `subject` and return one outcome a step.

    An outcome is `{"value": …}` or `{"raises": class, "says": text}`, and `"changed"` names the
    arguments that the call changed. `NotImplementedError` is raised on: the exercise is open.
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
    for step in steps:
        args = [decode(value, give) for value in step["args"]]
        kwargs = {key: decode(value, give) for key, value in step["kwargs"].items()}
        outcome: dict[str, Any] = {}
        try:
            if step["step"] == "get":
                value = getattr(target, step["name"])
            else:
                function = subject if step["step"] == "call" else getattr(target, step["name"])
                value = function(*args, **kwargs)
                if step["step"] == "call":
                    target = value
            outcome["value"] = copy.deepcopy(encode(value))
            if step["step"] == "call" and is_object(outcome["value"]):
                # What a class is called is no outcome: variants and mistakes have other names.
                outcome["value"] = {"object": "the exercise's own"}
        except NotImplementedError:
            raise
        except Exception as error:  # whatever a learner's code raises is an outcome of the check
            outcome = {"raises": type(error).__name__, "says": str(error)[:300]}
        changed = [
            index
            for index, (stored, now) in enumerate(zip(step["args"], args, strict=True))
            if not (isinstance(stored, dict) and "given" in stored) and encode(now) != stored
        ]
        if changed:
            outcome["changed"] = changed
        outcomes.append(outcome)
    return outcomes
