"""Shapes of real models and memory of real cards, each with its source, from `data/shapes.json`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TypedDict, cast

import torch

__all__ = ["CARDS", "GIB", "MODELS", "Card", "ModelShape", "cache_bytes", "model_shape"]

GIB = 2**30  # bytes


class ModelShape(TypedDict):
    """What a model's memory depends on, as a plain dict with these keys.

    `weight_bytes` are those of the published 16-bit weights. `head_dim` stands on its own, because
    it is not always `width / n_heads`. `sliding_window` is the number of tokens that each of the
    `n_sliding_layers` keeps, or None. `max_tokens` is the longest text the model is made for.
    """

    name: str
    parameters: int
    weight_bytes: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    width: int
    sliding_window: int | None
    n_sliding_layers: int
    max_tokens: int
    source: str


class Card(TypedDict):
    """A graphics card: its memory in bytes (cards are sold in GB and made in GiB)."""

    name: str
    memory_bytes: int
    source: str


def _read() -> tuple[dict[str, ModelShape], dict[str, Card]]:
    text = files("llm_memory").joinpath("data", "shapes.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    models: dict[str, ModelShape] = {
        m["name"]: cast(ModelShape, {**m, "weight_bytes": 2 * m["parameters"]})
        for m in stored["models"]
    }
    cards: dict[str, Card] = {
        c["name"]: {
            "name": c["name"],
            "memory_bytes": c["gibibytes"] * GIB,
            "source": c["source"],
        }
        for c in stored["cards"]
    }
    return models, cards


#: By name, from the smallest context window to the largest; and cards, by memory.
MODELS, CARDS = _read()


def model_shape(name: str) -> ModelShape:
    """Return a copy of the shape of the model called `name`; `ValueError` lists those there are."""
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are: {', '.join(MODELS)}")
    return {**MODELS[name]}


def cache_bytes(shape: ModelShape, n_tokens: int, batch: int = 1, bits: int = 16) -> int:
    """Return the bytes of the keys and values of `n_tokens`, by making the tensors and looking.

    They are made on the `meta` device, which knows a tensor's size and allocates nothing.
    """
    total = 0
    for layer in range(shape["n_layers"]):
        tokens = range(n_tokens)
        window = shape["sliding_window"]
        if window is not None and layer < shape["n_sliding_layers"]:
            tokens = tokens[-window:]
        size = (batch, shape["n_kv_heads"], len(tokens), shape["head_dim"])
        keys = torch.empty(size, device="meta", dtype=torch.uint8)
        values = torch.empty_like(keys)
        total += keys.nbytes + values.nbytes
    return total * bits // 8
