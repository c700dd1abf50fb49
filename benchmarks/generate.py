"""Tokens per second by prompt length: recomputing, the lesson's caches, and `transformers`.

    python benchmarks/generate.py

All ways run on the shipped weights in one process and one thread, taking turns. What counts is the
thread's CPU time, which a busy machine hardly changes, and the fastest of the rounds. The caches
and loops are those of the reference solution, taken from `source/`. A second table is of a stream
of requests (`serving.py` beside this file). Prints both and writes `docs/generate.md` with the
curve of time against length beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nbformat
import serving
import torch
from course_tools.build import course
from course_tools.build.fingerprints import solved_namespace

from llm_memory.data import held_out
from llm_memory.model import SHIPPED, load_model

ROOT = course.root()
LENGTHS = (16, 64, 128, 256, 512)
RIVAL = "transformers, DynamicCache"
EXACT = ("recompute", "KVCache", "StaticKVCache", RIVAL)  # these must write the same tokens


def solution(name: str = "kv_cache") -> dict:
    """Return what a solved lesson in `source/` defines. Exits where it is not built."""
    path = ROOT / "source" / name / f"{name}.ipynb"
    if not path.is_file():
        sys.exit(f"{path} is not there: run `make build` first")
    return solved_namespace(nbformat.read(path, as_version=4), name)


def rival() -> Callable[[list[int], int], list[int]]:
    """Return `transformers`' own greedy generation with a DynamicCache on the shipped weights."""
    from transformers import DynamicCache, LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()

    def generate(prompt: list[int], n_new: int) -> list[int]:
        ids = torch.tensor([prompt])
        return model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=DynamicCache(config=model.config),
            do_sample=False,
            min_new_tokens=n_new,
            max_new_tokens=n_new,
            pad_token_id=0,
        )[0].tolist()

    return generate


def ways(n_most: int) -> dict[str, Callable[[list[int], int], list[int]]]:
    """Return each way to continue a prompt by a number of tokens, by name."""
    lesson, pages = solution(), solution("serving")["PagedKVCache"]
    model, _ = load_model()
    c = model.config

    def static() -> object:
        return lesson["StaticKVCache"](c.n_layers, 1, c.n_kv_heads, n_most, c.head_dim)

    def paged() -> object:
        pool = pages(c.n_layers, n_most // 16 + 1, 16, c.n_kv_heads, c.head_dim)
        return Sequence(pool, pool.new())

    caches = {
        "KVCache": partial(lesson["KVCache"], c.n_layers),
        "StaticKVCache": static,
        "RollingKVCache (4 + 128)": partial(lesson["RollingKVCache"], c.n_layers, 128, 4),
        "PagedKVCache": paged,
    }

    def cached(make: Callable[[], object], prompt: list[int], n_new: int) -> list[int]:
        return lesson["generate"](model, prompt, n_new, make())

    found = {"recompute": partial(lesson["generate_without_cache"], model)}
    found |= {name: partial(cached, make) for name, make in caches.items()}
    return found | {RIVAL: rival()}


class Sequence:
    """One sequence of the lesson's paged cache, with the interface of its KVCache."""

    def __init__(self, pool: object, seq: int):
        self.pool, self.seq = pool, seq

    @property
    def n_seen(self) -> int:
        """Tokens seen."""
        return self.pool.n_seen(self.seq)

    def append(self, layer: int, k: torch.Tensor, v: torch.Tensor) -> tuple:
        """As the pool's append."""
        return self.pool.append(self.seq, layer, k, v)


def measure(n_new: int, rounds: int) -> dict[str, dict[int, float]]:
    """Return the CPU seconds of each way, by prompt length: the fastest of `rounds`."""
    _, tokenizer = load_model()
    text = tokenizer.encode(held_out()[0])
    runs = ways(max(LENGTHS) + n_new)
    seconds: dict[str, dict[int, float]] = {name: {} for name in runs}
    for length in LENGTHS:
        prompt, wrote = text[:length], {}
        for turn in range(rounds + 1):  # the first one warms up
            for name, run in runs.items():
                start = time.process_time()
                wrote[name] = run(prompt, n_new)
                taken = time.process_time() - start
                if turn:
                    seconds[name][length] = min(taken, seconds[name].get(length, taken))
        for name in EXACT:
            if wrote[name] != wrote["recompute"]:
                sys.exit(f"{name} wrote other tokens than recomputing, prompt of {length}")
        print(f"prompt of {length}: done", file=sys.stderr)
    return seconds


def table(seconds: dict[str, dict[int, float]], n_new: int) -> str:
    """Return tokens per second, and the ratio to `transformers`, as a Markdown table."""
    lines = [
        "| prompt tokens | " + " | ".join(str(n) for n in LENGTHS) + " |",
        "|---|" + "---|" * len(LENGTHS),
    ]
    for name, taken in seconds.items():
        cells = [f"{n_new / taken[n]:,.0f} (×{seconds[RIVAL][n] / taken[n]:.2f})" for n in LENGTHS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(seconds: dict[str, dict[int, float]], n_new: int, path: Path) -> None:
    """Write the curve of time against length."""
    from llm_memory.plots.kv_cache import curves

    milliseconds = {
        name: {n: 1000 * taken / n_new for n, taken in by_length.items()}
        for name, by_length in seconds.items()
    }
    picture = curves(
        milliseconds, "tokens in the prompt", "milliseconds a new token, prefill included", log=True
    )
    path.write_bytes(picture.png)


def main() -> int:
    """Measure, print and write; return 1 if `transformers` beats one of the caches anywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--new", type=int, default=64, help="tokens to generate")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, the fastest counts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # prompts beyond the trained window are meant here
    with torch.inference_mode():
        seconds = measure(options.new, options.rounds)
        rates = serving.measure(solution("serving"), solution(), options.rounds)
    lines, served = table(seconds, options.new), serving.table(rates)
    print(lines, served, sep="\n\n")
    folder = ROOT / "docs"
    folder.mkdir(exist_ok=True)
    draw(seconds, options.new, folder / "generate.png")
    (folder / "generate.md").write_text(
        f"# Generation: tokens per second by prompt length\n\n"
        f"{options.new} new tokens, prefill included, CPU time of one thread, the shipped weights; "
        f"in brackets the ratio to `transformers`' own `generate` with its `DynamicCache`. Written "
        f"by `make bench-generate`: all in one run, taking turns, the fastest of {options.rounds} "
        f"rounds each.\n\n{lines}\n\n![milliseconds a new token by prompt length](generate.png)\n\n"
        f"## A stream of requests\n\nThe 32 requests of the lesson on many texts at once, all "
        f"there at the start; {serving.SLOTS} at a time, at most {serving.BUDGET} tokens a "
        f"step. Prefill included.\n\n{served}\n",
        encoding="utf-8",
    )
    slower = [
        (name, n)
        for name in seconds
        if name not in ("recompute", RIVAL)
        for n in LENGTHS
        if seconds[name][n] > seconds[RIVAL][n]
    ]
    for name, n in slower:
        print(f"transformers is faster than {name} at {n} tokens", file=sys.stderr)
    for sentence in serving.shortfalls(rates):
        print(sentence, file=sys.stderr)
    return 1 if slower or serving.shortfalls(rates) else 0


if __name__ == "__main__":
    sys.exit(main())
