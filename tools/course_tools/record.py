"""Compute what the lessons show of the real model, and store it as data.

    python -m course_tools.record       # some 10 minutes on one core; needs the model

Writes `src/llm_memory/data/smollm2.json`, with the date and the machine, and `prose.json`, the
texts that the losses are measured on: the lessons' own prose as it was on that day. Losses are in
nats a token. Forgetting is computed with masks in one pass, which is what a rolling cache gives
token by token (keys keep the turn that they got); a test holds one against the other.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from course_tools.build import course
from llm_memory import data
from llm_memory.caches import RoundedCache, rounded
from llm_memory.model import attention_weights, load_model
from llm_memory.streaming import ModelCache

SENTENCE = "When the student finished the exam, they felt"
LESSONS = ("context_window", "kv_cache")
LENGTH, SHORTER = 2_048, 1_024
BINS = (0, 16, 64, 128, 256, 512, 768, 1_024, 1_280, 1_536, 1_792, 2_048)
FORGETTING = (
    (128, 0),
    (127, 1),
    (124, 4),
    (64, 0),
    (60, 4),
)  # window, sinks
BITS = (2, 3, 4)
GROUPINGS = {
    "keys per channel": (-2, None),
    "keys per token": (-1, None),
    "values per token": (None, -1),
    "values per channel": (None, -2),
}
FACT, QUESTION = (
    " The name of the ship was Aurora.",
    " What was the ship called? The name of the ship was",
)
DISTANCES, DEPTHS = (128, 256, 512), (0.0, 0.5, 0.95)


def prose(lesson: str) -> str:
    """The running text of a lesson: no code, tables, headings or links."""
    text = (course.root() / "notebooks" / f"{lesson}.md").read_text(encoding="utf-8")
    text = re.sub(r"\A---.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if re.match(r"[A-Z“\"]", line)]
    return "\n\n".join(line.strip() for line in lines)


def losses(model, ids: list[int], cache=None, attention=None) -> Tensor:
    """The loss (L − 1,) of each next token of a text."""
    with torch.inference_mode():
        scores = model(ids, cache=cache, attention=attention)[0, :-1]
        return F.cross_entropy(scores, torch.tensor(ids[1:]), reduction="none")


def forgetting(n_tokens: int, window: int, n_sinks: int):
    """An attention that sees the first `n_sinks` tokens and the last `window` ones."""
    places = torch.arange(n_tokens)
    back = places[:, None] - places
    seen = (back >= 0) & ((back < window) | (places < n_sinks))

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, None]:
        return F.scaled_dot_product_attention(q, k, v, seen, enable_gqa=True), None

    return attention


def sentence(model, tokenizer) -> dict:
    """Who looks at whom in the course's sentence, and what the model would write next."""
    ids = tokenizer.encode(SENTENCE)
    looks = attention_weights(model, ids)
    tokens = tokenizer.tokens(SENTENCE)
    they = tokens.index(" they")
    chances = model(ids)[0, -1].softmax(dim=-1)
    best = chances.topk(8)
    return {
        "tokens": tokens,
        "they": they,
        "looks": _short(looks[:, :, they, : they + 1]),
        "next": {
            tokenizer.decode([i]): round(p, 3)
            for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        },
    }


def sinks(model, ids: list[int]) -> list:
    """By layer and head: the mean weight that tokens 16 and later give to token 0."""
    return _short(attention_weights(model, ids)[:, :, 16:, 0].mean(dim=-1))


def by_position(texts: list[Tensor]) -> dict[str, float]:
    """The mean loss of texts by position, in bins that end at the key."""
    together = torch.stack(texts)
    return {str(end): float(together[:, start:end].mean()) for start, end in pairwise(BINS)}


def cost_of_forgetting(model, ids: list[int]) -> dict[str, float]:
    """The mean loss past the middle of a text, by what is kept: "window + sinks"."""
    found = {"all": float(losses(model, ids)[len(ids) // 2 :].mean())}
    for window, n_sinks in FORGETTING:
        attention = forgetting(len(ids), window, n_sinks)
        loss = losses(model, ids, attention=attention)[len(ids) // 2 :].mean()
        found[f"{window} + {n_sinks}"] = float(loss)
    return found


def cost_of_bits(model, ids: list[int], bits=BITS) -> dict[str, dict[str, float]]:
    """The mean loss of a text by what shares a scale, and by bits; the other half is untouched."""
    found: dict[str, dict[str, float]] = {"unrounded": {"32": float(losses(model, ids).mean())}}
    for name, (key_axis, value_axis) in GROUPINGS.items():
        found[name] = {}
        for n in bits:

            def through(x: Tensor, axis: int | None, n: int = n) -> Tensor:
                return x if axis is None else rounded(x, axis, n)

            cache = RoundedCache(ModelCache(), through, key_axis, value_axis)
            found[name][str(n)] = float(losses(model, ids, cache=cache).mean())
    return found


def recall(model, tokenizer, filler: list[int]) -> dict[str, dict[str, float]]:
    """How likely a fact's own word is at the end, by length of the text and depth of the fact."""
    fact, question = tokenizer.encode(FACT), tokenizer.encode(QUESTION)
    (wanted,) = (tokenizer.encode(" Aurora")[:1],)
    found: dict[str, dict[str, float]] = {}
    for length in DISTANCES:
        room = length - len(fact) - len(question)
        found[str(length)] = {}
        for depth in DEPTHS:
            cut = round(depth * room)
            ids = filler[:cut] + fact + filler[cut:room] + question
            with torch.inference_mode():
                chances = model(ids, only_last=True)[0, -1].softmax(dim=-1)
            found[str(length)][str(depth)] = round(float(chances[wanted[0]]), 4)
    return found


def _short(x: Tensor) -> list:
    return [
        [round(n, 3) if isinstance(n, float) else [round(m, 3) for m in n] for n in row]
        for row in x.tolist()
    ]


def _rounded(found):
    if isinstance(found, dict):
        return {key: _rounded(value) for key, value in found.items()}
    return round(found, 4) if isinstance(found, float) else found


def texts_of_today(tokenizer) -> list[str]:
    """The prose of the lessons that have enough of it, `LENGTH` tokens of each."""
    encoded = [tokenizer.encode(prose(lesson))[:LENGTH] for lesson in LESSONS]
    return [tokenizer.decode(ids) for ids in encoded if len(ids) == LENGTH]


def steps(model, tokenizer, texts: list[str]) -> dict[str, Callable[[], object]]:
    """Each figure by its name in the record, to be computed when called."""
    encoded = [tokenizer.encode(text)[:LENGTH] for text in texts]
    return {
        "sentence": lambda: sentence(model, tokenizer),
        "sinks": lambda: sinks(model, encoded[0][:128]),
        "loss by position": lambda: by_position([losses(model, encoded[0])]),
        "forgetting": lambda: cost_of_forgetting(model, encoded[0][:SHORTER]),
        "bits": lambda: cost_of_bits(model, encoded[0][: SHORTER // 2]),
        "recall": lambda: recall(model, tokenizer, encoded[1]),
    }


def main(arguments: list[str] | None = None) -> int:
    """Record everything, or some of it anew; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(data.__file__).parent)
    parser.add_argument("--only", nargs="*", help="figures to compute anew, on the stored prose")
    options = parser.parse_args(arguments)
    model, tokenizer = load_model("smollm2")
    figures, stored = options.out / "smollm2.json", options.out / "prose.json"
    if options.only is None:
        found, texts = {}, texts_of_today(tokenizer)
        stored.write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    else:
        found = json.loads(figures.read_text(encoding="utf-8"))
        texts = json.loads(stored.read_text(encoding="utf-8"))
    todo = steps(model, tokenizer, texts)
    unknown = set(options.only or ()) - set(todo)
    if unknown:
        parser.error(f"no figure {', '.join(sorted(unknown))}: there are {', '.join(todo)}")
    for name in options.only or todo:
        start = time.perf_counter()
        found[name] = _rounded(todo[name]())
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    found["made"] = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "model": "SmolLM2-135M-Instruct, Q4_1",
    }
    figures.write_text(json.dumps(found, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
