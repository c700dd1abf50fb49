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
