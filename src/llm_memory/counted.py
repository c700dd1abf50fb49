"""Count what passes through a model: work that is the same on every machine, unlike seconds."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from llm_memory.model import Llama, LlamaConfig

__all__ = ["Counted", "Largest", "held_bytes", "small_model"]


class Largest(TorchFunctionMode):
    """While it is open (`with Largest() as made:`), notes what PyTorch makes.

    `made.numbers` is how many numbers the largest tensor holds that was made, views of given ones
    left out; `made.shape` its shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.shape: tuple[int, ...] = ()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Run one function or method and look at what came out."""
        made = func(*args, **(kwargs or {}))
        given = {x.untyped_storage().data_ptr() for x in args if type(x) is torch.Tensor}
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if type(tensor) is not torch.Tensor:
                continue
            storage = tensor.untyped_storage()
            numbers = storage.nbytes() // tensor.element_size()
            if storage.data_ptr() not in given and numbers > self.numbers:
                self.numbers, self.shape = numbers, tuple(tensor.shape)
        return made


class Counted:
    """A model that counts: `per_pass` holds the number of tokens of each call so far.

    `shapes` holds (B, L) of each call: a batch has B times L tokens, for a cache could glue its
    texts together to one. Called like the model itself. The counts start again with `restart()`.
    """

    def __init__(self, model: Llama) -> None:
        """Wrap `model`; nothing in it changes."""
        self.model = model
        self.restart()

    @property
    def tokens(self) -> int:
        """Tokens forwarded so far, over all calls: those of every text in a batch, pads too."""
        return sum(self.per_pass)

    @property
    def places(self) -> int:
        """The same, as the places of a batch."""
        return self.tokens

    @property
    def config(self) -> LlamaConfig:
        """The wrapped model's shape."""
        return self.model.config

    def restart(self) -> None:
        """Forget what was counted."""
        self.per_pass: list[int] = []
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, ids: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Count `ids` and hand them on; a pass that somebody breaks off was one, too."""
        try:
            return self.model(ids, *args, **kwargs)
        finally:
            with contextlib.suppress(ValueError, TypeError, IndexError):  # they were no ids
                shape = torch.as_tensor(ids).shape
                batch, length = int(shape[0]) if len(shape) == 2 else 1, int(shape[-1])
                self.per_pass.append(batch * length)
                self.shapes.append((batch, length))


def held_bytes(thing: Any) -> int:
    """Return the bytes of all tensors and arrays that an object holds: measured, not asked.

    Looks into attributes, lists, tuples, sets and dicts, and into the objects in them.
    """
    found: dict[int, int] = {}
    seen: set[int] = set()

    def look(value: Any) -> None:
        if id(value) in seen or isinstance(value, str | bytes | int | float | None):
            return
        seen.add(id(value))
        if isinstance(value, torch.Tensor | np.ndarray):
            found[id(value)] = value.nbytes
        elif isinstance(value, dict):
            kept.extend(value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            kept.extend(value)
        else:
            kept.append(getattr(value, "__dict__", {}))
            for name in getattr(value, "__slots__", ()):
                kept.append(getattr(value, name, None))

    kept = [thing]  # what is looked at stays: no other object gets its id
    for value in kept:
        look(value)
    return sum(found.values())


def small_model(window: int = 512, seed: int = 7) -> Llama:
    """Return a model of 2 layers with fixed random weights in float64, for checks and tests.

    Its sizes are pairwise different (E 24, H 6, H_kv 2, D 8: H·D is not E) and its RoPE base is not
    the usual one, so that mistakes cannot hide behind sizes that happen to be equal.
    """
    config = LlamaConfig(
        vocab_size=29,
        width=24,
        hidden=36,
        n_layers=2,
        n_heads=6,
        n_kv_heads=2,
        head_dim=8,
        window=window,
        rope_theta=100.0,
    )
    model = Llama(config).double()
    # The legacy generator: its stream is frozen, in every version of NumPy.
    random = np.random.RandomState(seed)
    for name, weight in model.named_parameters():
        numbers = random.standard_normal(tuple(weight.shape))
        if weight.dim() == 1:
            weight.data = torch.from_numpy(1 + 0.1 * numbers)
        elif "embed" in name:
            weight.data = torch.from_numpy(0.6 * numbers)
        else:
            weight.data = torch.from_numpy(1.6 * numbers / weight.shape[1] ** 0.5)
    return model.requires_grad_(False).eval()
