"""`python -m course_tools.afternoon`: record what a server does with the lesson's 32 requests.

Writes `data/lanes.json`, which the lesson on many texts at once draws. The continuous run is that
of the lesson's solution on the shipped model; the static one follows from the lengths.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from course_tools.build import course, fingerprints
from course_tools.build.lesson import read
from llm_memory.data import requests
from llm_memory.model import load_model

SLOTS, BUDGET = 4, 24
Lanes = list[dict[str, tuple[str, int]]]


def static(lengths: list[tuple[int, int, int]], slots: int) -> Lanes:
    """Return a static server's steps: batches of who is there, until the slowest is done.

    lengths: (arrives, prompt, new tokens) of each request. Pads count as places, and so does a
    finished row.
    """
    steps: Lanes = []
    waiting = list(range(len(lengths)))
    while waiting:
        here = [i for i in waiting if lengths[i][0] <= len(steps)][:slots]
        if not here:
            steps.append({})
            continue
        waiting = [i for i in waiting if i not in here]
        widest = max(lengths[i][1] for i in here)
        steps.append({str(i): ("read", widest) for i in here})
        for written in range(1, max(lengths[i][2] for i in here)):
            steps.append(
                {str(i): ("write" if written < lengths[i][2] else "idle", 1) for i in here}
            )
    return steps


def continuous(scheduler: Callable[..., Any], model: Any, asked: list[tuple[int, list, int]]):
    """Return the steps of a scheduler with `Lanes`, on requests (arrives, prompt, new tokens)."""
    server, steps, coming = scheduler(model, SLOTS, BUDGET), [], list(range(len(asked)))
    run, given = server.lanes.run, {}

    def watched(tokens):
        given.update({id: (server.lanes.n_seen(id), len(new)) for id, new in tokens.items()})
        return run(tokens)

    server.lanes.run = watched
    while coming or not all(server.done(id) for id in range(len(asked))):
        while coming and asked[coming[0]][0] <= len(steps):
            id = coming.pop(0)
            server.submit(id, *asked[id][1:])
        given.clear()
        server.step()
        steps.append(
            {
                str(id): ("write" if seen >= len(asked[id][1]) else "read", n)
                for id, (seen, n) in given.items()
            }
        )
    return steps


def record() -> dict[str, Lanes]:
    """Return the steps of both ways, by name."""
    folder = course.root()
    space = fingerprints.solved_namespace(
        read(folder / "notebooks" / "serving.md", folder), "serving"
    )
    model, tokenizer = load_model()
    asked = [(r["arrives"], tokenizer.encode(r["prompt"]), r["n_new"]) for r in requests()]
    lengths = [(arrives, len(prompt), n_new) for arrives, prompt, n_new in asked]
    return {
        "static": static(lengths, SLOTS),
        "continuous": continuous(space["Scheduler"], model, asked),
    }


if __name__ == "__main__":
    place = course.root() / "src" / "llm_memory" / "data" / "lanes.json"
    place.write_text(json.dumps(record()) + "\n", encoding="utf-8")
