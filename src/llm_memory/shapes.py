"""Shapes of real models and memory of real cards, each with its source, from `data/shapes.json`."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import NotRequired, TypedDict, cast

import torch

__all__ = [
    "CARDS",
    "CHECKED",
    "GIB",
    "MODELS",
    "Card",
    "ModelShape",
    "cache_bytes",
    "model_shape",
]

GIB = 2**30  # bytes


class ModelShape(TypedDict):
    """What a model's memory depends on, as a plain dict with these keys.

    `weight_bytes` are those of the published weights, 16 bits a number where nothing else is
    published. `head_dim` stands on its own, because it is not always `width / n_heads`.

    Layers are of kinds. Each of the `n_sliding_layers` keeps the last `sliding_window` tokens. Each
    of the `n_latent_layers` keeps one vector of `latent_dim` numbers a token, in place of keys and
    values (multi-head latent attention). Each of the `n_state_layers` keeps `state_numbers`
    numbers, however long the text is (linear attention). All others keep keys and values of every
    token. A kind that a model does not have may be missing from its shape.

    `max_tokens` is the longest text that the configuration allows, `trained_tokens` the longest
    that the makers say they trained with, or None where they do not say.
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
    n_latent_layers: NotRequired[int]
    latent_dim: NotRequired[int]
    n_state_layers: NotRequired[int]
    state_numbers: NotRequired[int]
    trained_tokens: int | None
    max_tokens: int
    year: int
    source: str


class Card(TypedDict):
    """A graphics card.

    `memory_bytes` is what PyTorch finds on it: what it is sold with (`sold_gigabytes`), less what
    error correction and the driver keep for themselves.
    """

    name: str
    sold_gigabytes: int
    memory_bytes: int
    source: str


def _read() -> tuple[dict[str, ModelShape], dict[str, Card], str]:
    text = files("llm_memory").joinpath("data", "shapes.json").read_text(encoding="utf-8")
    stored = json.loads(text)
    models = {
        m["name"]: cast(ModelShape, {"weight_bytes": 2 * m["parameters"], **m})
        for m in stored["models"]
    }
    cards: dict[str, Card] = {
        c["name"]: {
            "name": c["name"],
            "sold_gigabytes": c["sold_gigabytes"],
            "memory_bytes": round(c["usable_gibibytes"] * GIB),
            "source": c["source"],
        }
        for c in stored["cards"]
    }
    return models, cards, stored["checked"]


#: By name, from the smallest context window to the largest; cards, by memory; and the date on which
#: both were last checked against their sources.
MODELS, CARDS, CHECKED = _read()


def model_shape(name: str) -> ModelShape:
    """Return a copy of the shape of the model called `name`; `ValueError` lists those there are."""
    if name not in MODELS:
        raise ValueError(f"no model {name!r}; there are: {', '.join(MODELS)}")
    return {**MODELS[name]}


def cache_bytes(shape: ModelShape, n_tokens: int, batch: int = 1, bits: int = 16) -> int:
    """Return the bytes that `n_tokens` leave in the cache, by making the tensors and looking.

    They are made on the `meta` device, which knows a tensor's size and allocates nothing.
    """
    tokens = range(n_tokens)
    sizes: list[tuple[int, ...]] = []
    kinds = [
        *["sliding"] * shape["n_sliding_layers"],
        *["latent"] * shape.get("n_latent_layers", 0),
        *["state"] * shape.get("n_state_layers", 0),
    ]
    for kind in kinds + ["full"] * (shape["n_layers"] - len(kinds)):
        if kind == "latent":
            sizes.append((batch, len(tokens), shape["latent_dim"]))
        elif kind == "state":
            sizes.append((batch, shape["state_numbers"]))
        else:
            window = shape["sliding_window"] if kind == "sliding" else None
            held = tokens if window is None else tokens[-window:]
            sizes += 2 * [(batch, shape["n_kv_heads"], len(held), shape["head_dim"])]
    made = (torch.empty(size, device="meta", dtype=torch.uint8) for size in sizes)
    return sum(tensor.nbytes for tensor in made) * bits // 8
