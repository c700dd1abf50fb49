"""Tokens per second over a recorded stream of 32 requests: four ways to serve, and `transformers`.

Run by `benchmarks/generate.py`. All ways are the reference solution's, on the shipped weights in
one process and one thread, taking turns; the thread's CPU time counts, the fastest of the rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch

from llm_memory.data import requests
from llm_memory.model import SHIPPED, load_model
from llm_memory.serving import BlockPool
from llm_memory.streaming import ModelCache

SLOTS, BUDGET, BLOCK = 16, 128, 8
ALONE, STATIC, CONTINUOUS = "one after another", "static batches", "continuous"
PREFIX, RIVAL = "continuous, prefix cache", "transformers, static batches"

Requests = list[tuple[list[int], int]]
Texts = list[list[int]]


def stream() -> Requests:
    """Return the recorded requests: (prompt, tokens to write), in order of arrival."""
    _, tokenizer = load_model()
    return [(tokenizer.encode(r["prompt"]), r["n_new"]) for r in requests()]


def _groups(asked: Requests) -> list[Requests]:
    return [asked[i : i + SLOTS] for i in range(0, len(asked), SLOTS)]


def _cut(texts: Texts, group: Requests) -> Texts:
    """Return of each text what was asked for: a static batch writes as long as its slowest."""
    return [t[: len(prompt) + n] for t, (prompt, n) in zip(texts, group, strict=True)]


def ways(lesson: dict, caches: dict) -> dict[str, Callable[[Requests], Texts]]:
    """Return each way to serve requests, by name; `lesson` and `caches` are solved lessons."""
    model, _ = load_model()

    def alone(asked: Requests) -> Texts:
        make = caches["KVCache"]
        return [caches["generate"](model, p, n, make(model.config.n_layers)) for p, n in asked]

    def static(asked: Requests) -> Texts:
        texts: Texts = []
        for group in _groups(asked):
            prompts, most = [p for p, _ in group], max(n for _, n in group)
            texts += _cut(lesson["generate_batch"](model, prompts, most), group)
        return texts

    def serve(server: object, asked: Requests) -> Texts:
        texts = [list(prompt) for prompt, _ in asked]
        for id, (prompt, n_new) in enumerate(asked):
            server.submit(id, prompt, n_new)
        while not all(server.done(id) for id in range(len(asked))):
            for id, tokens in server.step().items():
                texts[id] += tokens
        return texts

    def continuous(asked: Requests) -> Texts:
        return serve(lesson["Scheduler"](model, SLOTS, BUDGET), asked)

    def prefixed(asked: Requests) -> Texts:
        return serve(with_prefixes(lesson)(model, SLOTS, BUDGET), asked)

    found = {ALONE: alone, STATIC: static, CONTINUOUS: continuous, PREFIX: prefixed}
    return found | {RIVAL: rival()}


def with_prefixes(lesson: dict) -> type:
    """Return the solution's Scheduler, which looks into the solution's PrefixCache on admission."""

    class Prefixed(lesson["Scheduler"]):
        """What is found is put into the lanes as if it had been read."""

        def __init__(self, model, slots, budget):
            super().__init__(model, slots, budget)
            self.pool = BlockPool(1024, BLOCK)
            self.prefixes, self.looked = lesson["PrefixCache"](self.pool), set()

        def step(self):
            room = self.slots - len(self.running)
            for id in self.queue[:room]:
                self.put(id)
            before = [id for id in self.running if id not in self.looked]
            new = super().step()
            for id in [*before, *new]:
                if id not in self.looked and id in self.running and id in new:
                    self.remember(id)
            return new

        def put(self, id):
            n, blocks = self.prefixes.match(self.texts[id])
            if not n:
                return
            for layer, (keys, values) in _layers(self.pool.load(blocks)).items():
                self.lanes.cache.append(layer, keys, values)
            self.lanes.names += [id] * n
            self.lanes.places += range(n)
            for block in blocks:
                self.pool.release(block)

        def remember(self, id):
            self.looked.add(id)
            prompt = self.texts[id][: self.prompt_length[id]]
            own = [i for i, name in enumerate(self.lanes.names) if name == id]
            cache = ModelCache()
            for layer, (keys, values) in _layers(self.lanes.cache).items():
                cache.append(layer, keys[:, :, own], values[:, :, own])
            blocks = [self.pool.take() for _ in range(len(prompt) // BLOCK)]
            for i, block in enumerate(blocks):
                self.pool.store(block, cache, i * BLOCK)
            self.prefixes.insert(prompt, blocks)
            for block in blocks:
                self.pool.release(block)

    return Prefixed


def _layers(cache: ModelCache) -> dict[int, torch.Tensor]:
    return {layer: block[:, :, :, : cache.n_seen] for layer, block in cache.blocks.items()}


def rival() -> Callable[[Requests], Texts]:
    """Return `transformers`' own greedy generation on static batches of the same requests."""
    from transformers import LlamaForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model = LlamaForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32).eval()

    def serve(asked: Requests) -> Texts:
        texts: Texts = []
        for group in _groups(asked):
            most, width = max(n for _, n in group), max(len(p) for p, _ in group)
            ids = torch.tensor([[0] * (width - len(p)) + p for p, _ in group])
            real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p, _ in group])
            wrote = model.generate(
                ids,
                attention_mask=real,
                do_sample=False,
                min_new_tokens=most,
                max_new_tokens=most,
                pad_token_id=0,
            ).tolist()
            rows = [row[width - len(p) :] for row, (p, _) in zip(wrote, group, strict=True)]
            texts += _cut(rows, group)
        return texts

    return serve


def measure(lesson: dict, caches: dict, rounds: int) -> dict[str, float]:
    """Return tokens per second of each way. Exits if one of ours wrote another text."""
    asked, best, wrote = stream(), {}, {}
    runs = ways(lesson, caches)
    n_new = sum(n for _, n in asked)
    for turn in range(rounds + 1):  # the first one warms up
        for name, run in runs.items():
            start = time.process_time()
            wrote[name] = run(asked)
            taken = time.process_time() - start
            if turn:
                best[name] = max(best.get(name, 0.0), n_new / taken)
    for name in (STATIC, CONTINUOUS, PREFIX):
        if wrote[name] != wrote[ALONE]:
            sys.exit(f"{name} wrote other texts than one after another")
    return best


def table(rates: dict[str, float]) -> str:
    """Return the rates, and the ratio to one after another, as a Markdown table."""
    lines = ["| 32 requests | tokens a second | times one after another |", "|---|---|---|"]
    for name, rate in rates.items():
        lines.append(f"| {name} | {rate:,.0f} | {rate / rates[ALONE]:.2f} |")
    return "\n".join(lines)


def shortfalls(rates: dict[str, float]) -> list[str]:
    """Return a sentence for each promise that the rates do not keep."""
    found = []
    if rates[CONTINUOUS] < 3 * rates[ALONE]:
        found.append("continuous batching is not three times as fast as one after another")
    if rates[CONTINUOUS] < rates[RIVAL]:
        found.append("transformers' static batches are faster than continuous batching")
    return found
