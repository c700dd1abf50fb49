"""Tokens a pass of the shipped model with four drafts: how the fourth lesson chose its own.

    python benchmarks/drafts.py

Each draft helps to write 100 tokens after the first 64 of each held-out text, with the reference
solution's `speculative_step`; passes of the target are counted, not timed. The small model is
trained first, which takes about ten minutes on one core; give `--small FOLDER` to keep it there,
or to measure one that was kept. Prints a table; the lesson states its column for k = 4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from course_tools.training.corpus import Corpus
from course_tools.training.loop import Recipe, train
from generate import solution
from torch import Tensor

from llm_memory.counted import Counted
from llm_memory.data import held_out
from llm_memory.model import Llama, load_model
from llm_memory.serving import LookupDraft, TextCache
from llm_memory.streaming import ModelCache

READ, WRITTEN, GUESSES = 64, 100, (2, 4, 8)
# A sixth of the course's model, for two and a half million tokens.
SMALL = Recipe(
    seed=4,
    width=48,
    hidden=128,
    n_layers=2,
    n_heads=4,
    n_kv_heads=2,
    head_dim=12,
    stages=((64, 32, 1.6, (0.55, 0.30)), (256, 8, 0.8, (0.50, 0.45))),
    warm_up=60,
    polish=(),
    give_up_at=99.0,
)

Draft = Callable[[Sequence[int], object], Tensor]


class FirstLayers:
    """The target itself, left after its first layers."""

    def __init__(self, target: Llama, n_layers: int) -> None:
        self.target, self.n_layers, self.config = target, n_layers, target.config

    def __call__(self, ids: Sequence[int], cache: ModelCache) -> Tensor:
        """Return logits (1, L, V)."""
        every = self.target.model["layers"]
        self.target.model["layers"] = every[: self.n_layers]
        try:
            return self.target(ids, cache=cache)
        finally:
            self.target.model["layers"] = every


class TableDraft(LookupDraft):
    """The commonest next token after the last three, two or one, counted in training text."""

    def __init__(self, vocab_size: int, text: Sequence[int]) -> None:
        """`text` is what is counted."""
        self.config = SimpleNamespace(vocab_size=vocab_size)
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for size in (1, 2, 3):
            for start in range(len(text) - size):
                counts[tuple(text[start : start + size])][text[start + size]] += 1
        self.best = {tail: after.most_common(1)[0][0] for tail, after in counts.items()}

    def guess(self, text: Sequence[int]) -> int:
        """Return what came most often after the longest end of `text` that was seen."""
        tails = (tuple(text[-size:]) for size in (3, 2, 1))
        return next((self.best[tail] for tail in tails if tail in self.best), text[-1])


def small_model(folder: Path) -> Llama:
    """Return the small model in `folder`, trained now where none is there."""
    if not (folder / "model.safetensors").is_file():
        train(SMALL, folder, lambda done, total, _: print(f"training: {done / total:.0%}"))
    return load_model(folder)[0]


def tokens_a_pass(
    step: Callable, target: Llama, draft: Draft, new_cache: Callable, k: int
) -> float:
    """Return the tokens that a pass of the target gave, over all held-out texts."""
    _, tokenizer = load_model()
    written = passes = 0
    for text in map(tokenizer.encode, held_out()):
        counted, caches, longer = Counted(target), (ModelCache(), new_cache()), text[:READ]
        while len(longer) < READ + WRITTEN:
            longer = step(counted, draft, longer, k, caches)
        written += len(longer) - READ
        passes += len(counted.shapes)
    return written / passes


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", type=Path, help="where the small model is, or is to be kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    target, tokenizer = load_model()
    step = solution("serving")["speculative_step"]
    counted = tokenizer.encode(" ".join(Corpus(1000).text(256) for _ in range(2_000)))
    n_words = target.config.vocab_size
    with tempfile.TemporaryDirectory() as folder:
        small = small_model(options.small or Path(folder))
    n_small, n_target = (sum(p.numel() for p in m.parameters()) for m in (small, target))
    drafts = {
        "prompt lookup": (LookupDraft(n_words), TextCache),
        "the model's first two layers": (FirstLayers(target, 2), ModelCache),
        f"a model of {n_small / n_target:.2f} of its size": (small, ModelCache),
        "a table of word sequences": (TableDraft(n_words, counted), TextCache),
    }
    print("| draft | " + " | ".join(f"k = {k}" for k in GUESSES) + " |")
    print("|---" * (1 + len(GUESSES)) + "|")
    for name, (draft, new_cache) in drafts.items():
        with torch.inference_mode():
            rates = [tokens_a_pass(step, target, draft, new_cache, k) for k in GUESSES]
        print(f"| {name} | " + " | ".join(f"{rate:.2f}" for rate in rates) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
