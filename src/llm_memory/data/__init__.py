"""The shipped model's files, held-out text, and what was recorded of a real model."""

import json
from pathlib import Path


def held_out() -> list[str]:
    """Return held-out documents, each longer than twice the window, one string each.

    Words are separated by spaces. `held_out.txt` has one document a line; it was made from seeds
    that training does not use, and with pairs of role and event that training never joined.
    """
    path = Path(__file__).parent / "held_out.txt"
    return path.read_text(encoding="utf-8").splitlines()


def requests() -> list[dict]:
    """Return a recorded afternoon of 32 requests, in order of arrival.

    Each is a dict with `arrives` (a step of the server), `prompt` (text) and `n_new` (tokens to
    write). Three of four begin with the same text. Sentences of the held-out documents, lengths and
    gaps drawn once.
    """
    path = Path(__file__).parent / "requests.json"
    return json.loads(path.read_text(encoding="utf-8"))


def recorded_lanes() -> dict[str, list[dict[str, tuple[str, int]]]]:
    """Return what four places did with those requests, step by step, static and continuous.

    Each step: request → (kind, tokens), kind "read", "write" or "idle". Recorded with at most 24
    tokens a step by `python -m course_tools.afternoon`.
    """
    path = Path(__file__).parent / "lanes.json"
    ways = json.loads(path.read_text(encoding="utf-8"))
    return {
        way: [{name: tuple(what) for name, what in step.items()} for step in steps]
        for way, steps in ways.items()
    }


def recorded() -> dict:
    """Return what was measured on SmolLM2-135M-Instruct, as `course_tools.record` wrote it.

    `made` says when and where; losses are in nats a token, tables are lists by layer and head.
    """
    path = Path(__file__).parent / "smollm2.json"
    return json.loads(path.read_text(encoding="utf-8"))


def prose() -> list[str]:
    """Return the English texts that the recorded losses were measured on."""
    path = Path(__file__).parent / "prose.json"
    return json.loads(path.read_text(encoding="utf-8"))
