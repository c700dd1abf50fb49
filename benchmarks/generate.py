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

from llm_memory.data import held_out, prose
from llm_memory.known import is_here
from llm_memory.model import SHIPPED, load_model
from llm_memory.store import read_model

ROOT = course.root()
LENGTHS = (16, 64, 128, 256, 512)
RIVAL = "transformers, DynamicCache"
REAL_LENGTHS = (64, 512, 2_048)
REAL_WAYS = ("KVCache", "StaticKVCache", RIVAL)  # a prompt is recomputed, or rolled, nowhere here
FIRST_TOKEN_SLACK = 1.10  # of transformers' time to the first token
EXACT = ("recompute", "KVCache", "StaticKVCache", RIVAL)  # these must write the same tokens


def solution(name: str = "kv_cache") -> dict:
    """Return what a solved lesson in `source/` defines. Exits where it is not built."""
    path = ROOT / "source" / name / f"{name}.ipynb"
    if not path.is_file():
        sys.exit(f"{path} is not there: run `make build` first")
    return solved_namespace(nbformat.read(path, as_version=4), name)


def rival(folder: Path) -> Callable[[list[int], int], list[int]]:
    """Return `transformers`' own greedy generation with a DynamicCache on a folder's weights."""
    from transformers import DynamicCache, LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

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


def ways(model, folder: Path, n_most: int) -> dict[str, Callable[[list[int], int], list[int]]]:
    """Return each way to continue a prompt by a number of tokens, by name."""
    lesson, pages = solution(), solution("serving")["PagedKVCache"]
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
    return found | {RIVAL: rival(folder)}


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
    model, tokenizer = load_model()
    text = tokenizer.encode(held_out()[0])
    runs = ways(model, SHIPPED, max(LENGTHS) + n_new)
    return timed(runs, text, LENGTHS, n_new, rounds, EXACT)


def timed(runs, text, lengths, n_new, rounds, exact) -> dict[str, dict[int, float]]:
    """Run all ways in turns. Exits if those named in `exact` do not write the same tokens."""
    seconds: dict[str, dict[int, float]] = {name: {} for name in runs}
    for length in lengths:
        prompt, wrote = text[:length], {}
        for turn in range(rounds + 1):  # the first one warms up
            for name, run in runs.items():
                start = time.process_time()
                wrote[name] = run(prompt, n_new)
                taken = time.process_time() - start
                if turn:
                    seconds[name][length] = min(taken, seconds[name].get(length, taken))
        for name in exact:
            if wrote[name] != wrote[exact[0]]:
                sys.exit(f"{name} wrote other tokens than {exact[0]}, prompt of {length}")
        print(f"prompt of {length}: done", file=sys.stderr)
    return seconds


def measure_real(n_new: int, rounds: int) -> tuple[dict, dict]:
    """Return the CPU seconds on SmolLM2 for `n_new` tokens, and for the first one."""
    model, tokenizer = load_model("smollm2")
    text = tokenizer.encode(prose()[0])
    # Only the last token's scores are used, and `transformers` computes no others either.
    quick = partial(model, only_last=True)
    quick.config = model.config
    found = ways(quick, read_model("smollm2")[-1], max(REAL_LENGTHS) + n_new)
    runs = {name: found[name] for name in REAL_WAYS}
    first = timed(runs, text, REAL_LENGTHS, 1, rounds, REAL_WAYS)
    return timed(runs, text, REAL_LENGTHS, n_new, rounds, REAL_WAYS), first


def table(seconds: dict[str, dict[int, float]], n_new: int, digits: int = 0) -> str:
    """Return tokens per second, and the ratio to `transformers`, as a Markdown table."""
    lengths = list(seconds[RIVAL])
    lines = [
        "| prompt tokens | " + " | ".join(f"{n:,}" for n in lengths) + " |",
        "|---|" + "---|" * len(lengths),
    ]
    for name, taken in seconds.items():
        rates = [(n_new / taken[n], seconds[RIVAL][n] / taken[n]) for n in lengths]
        cells = [f"{rate:,.{digits}f} (×{ratio:.2f})" for rate, ratio in rates]
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
    parser.add_argument("--real-new", type=int, default=32, help="the same, in the real model")
    parser.add_argument("--real-rounds", type=int, default=3, help="the same, in the real model")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # prompts beyond the trained window are meant here
    with torch.inference_mode():
        seconds = measure(options.new, options.rounds)
        rates = serving.measure(solution("serving"), solution(), options.rounds)
    lines, served = table(seconds, options.new), serving.table(rates)
    print(lines, served, sep="\n\n")
    second, slower = "", []
    if is_here("smollm2"):
        with torch.inference_mode():
            real, first = measure_real(options.real_new, options.real_rounds)
        slower = behind(real, 1.0, "to write") + behind(first, FIRST_TOKEN_SLACK, "to begin")
        second = (
            "\n\n## SmolLM2-135M-Instruct\n\n"
            f"The same in a model that speaks English: {options.real_new} new tokens, prefill "
            f"included, the fastest of {options.real_rounds} rounds. `transformers` loads the same "
            f"float32 weights.\n\n{table(real, options.real_new, 1)}\n\n"
            f"To the first token, once a second:\n\n{table(first, 1, 2)}\n"
        )
        print(second)
    else:
        print("No second table, the model is not here: make model", file=sys.stderr)
    folder = ROOT / "docs"
    folder.mkdir(exist_ok=True)
    draw(seconds, options.new, folder / "generate.png")
    (folder / "generate.md").write_text(
        f"# Generation: tokens per second by prompt length\n\n"
        f"{options.new} new tokens, prefill included, CPU time of one thread, the shipped weights; "
        f"in brackets the ratio to `transformers`' own `generate` with its `DynamicCache`. Written "
        f"by `make bench-generate`: all in one run, taking turns, the fastest of {options.rounds} "
        f"rounds each.\n\n{lines}\n\n![milliseconds a new token by prompt length](generate.png)"
        f"{second}\n\n"
        f"## A stream of requests\n\nThe 32 requests of the lesson on many texts at once, all "
        f"there at the start; {serving.SLOTS} at a time, at most {serving.BUDGET} tokens a "
        f"step. Prefill included.\n\n{served}\n",
        encoding="utf-8",
    )
    caches = {name: taken for name, taken in seconds.items() if name != "recompute"}
    slower = behind(caches, 1.0, "to write") + slower + serving.shortfalls(rates)
    for line in slower:
        print(line, file=sys.stderr)
    return 1 if slower else 0


def behind(seconds: dict[str, dict[int, float]], slack: float, what: str) -> list[str]:
    """Return a line for each place where a cache takes over `slack` times transformers' time."""
    return [
        f"transformers is faster than {name} at {n} tokens, {what}"
        for name, taken in seconds.items()
        for n in taken
        if taken[n] > slack * seconds[RIVAL][n]
    ]


if __name__ == "__main__":
    sys.exit(main())
