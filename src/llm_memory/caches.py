"""What the KV cache lesson supplies: caches for two experiments, and stand-ins for solved parts.

The two caches, of rounded numbers and of renumbered positions, wrap any cache with `append` and
`n_seen`; neither is built to save memory or time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from llm_memory.model import rotate

__all__ = ["RenumberedCache", "RoundedCache", "check_shapes", "rounded", "staircase", "to_steps"]


def staircase(n_new: int, n_keys: int) -> Tensor:
    """Return the mask (n_new, n_keys), bool, of the newest n_new of n_keys tokens.

    Each sees itself and all before it; the last one sees everything.
    """
    places = torch.arange(n_keys)
    return places.le(places[n_keys - n_new :].unsqueeze(1))


def check_shapes(k: Tensor, v: Tensor, held: Tensor | None = None) -> None:
    """Raise ValueError unless k and v (B, H_kv, L, D) fit each other, and what is `held`.

    `held` is a tensor of held keys (or values), or None: only its number of tokens may differ.
    """

    def fixed(x: Tensor) -> tuple[int, ...]:
        return (*x.shape[:2], *x.shape[3:])

    if v.shape != k.shape or (held is not None and fixed(held) != fixed(k)):
        room = "" if held is None else f"; {tuple(held.shape)} is held"
        raise ValueError(
            f"keys {tuple(k.shape)} and values {tuple(v.shape)} do not fit{room}: only the number "
            "of held tokens may differ. A new text? Call reset() first"
        )


def rounded(x: Tensor, axis: int, bits: int) -> Tensor:
    """Return x as it comes back from `bits` bits, one scale per slice along `axis`.

    PyTorch's own fake quantisation, which gives floats and never the whole numbers between.
    """
    flat = x.movedim(axis, -1)
    rows = flat.reshape(-1, flat.shape[-1]).float()
    most = 2 ** (bits - 1) - 1
    scale = rows.abs().max(dim=1).values.div(most).clamp_min(torch.finfo(torch.float32).tiny)
    zero = torch.zeros(len(rows), dtype=torch.int32, device=x.device)
    rows = torch.fake_quantize_per_channel_affine(rows, scale, zero, 0, -most, most)
    return rows.reshape(flat.shape).movedim(-1, axis).to(x.dtype)


def to_steps(x: Tensor, axis: int, bits: int) -> tuple[Tensor, Tensor]:
    """Return (q, scale): whole steps, int8, and the size of a step for each slice along `axis`.

    Found from what `rounded` gives: its largest number is the last step.
    """
    near = rounded(x, axis, bits)
    size = near.abs().amax(axis, keepdim=True) / (2 ** (bits - 1) - 1)
    size = size.where(size > 0, torch.ones((), dtype=size.dtype))
    return (near / size).round().char(), size


class RoundedCache:
    """A cache whose keys and values come back as from a few bits.

    `through(x, axis) -> x` does the rounding. Everything held is rounded anew on every reading, so
    that keys may share a scale over tokens; a real cache would round groups of tokens once (KIVI,
    arXiv 2402.02750, which also keeps the newest tokens whole).
    """

    def __init__(
        self,
        cache: Any,
        through: Callable[[Tensor, int], Tensor],
        key_axis: int = -2,
        value_axis: int = -1,
    ) -> None:
        """The axes are those that share a scale: -2 the tokens, -1 the channels."""
        self.cache, self.through = cache, through
        self.key_axis, self.value_axis = key_axis, value_axis

    @property
    def n_seen(self) -> int:
        """Tokens seen."""
        return self.cache.n_seen

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As the wrapped cache's append, with rounded keys and values."""
        keys, values, mask = self.cache.append(layer, k, v)
        return self.through(keys, self.key_axis), self.through(values, self.value_axis), mask


class RenumberedCache:
    """Sinks and a window, the sinks moved up to stand right before the window (arXiv 2309.17453).

    StreamingLLM counts positions inside the cache, not in the text. Only differences of positions
    matter to RoPE, so it is enough to turn the sinks' keys by the gap between them and the window.
    Feed one token a call once the window is full.
    """

    def __init__(self, window: int, n_sinks: int, base: float) -> None:
        """Keep `n_sinks` first tokens and `window` last ones; `base` is the model's RoPE base."""
        self.window, self.n_sinks, self.base = window, n_sinks, base
        self.pairs: dict[int, Tensor] = {}
        self.counts: dict[int, int] = {}

    @property
    def n_seen(self) -> int:
        """Tokens seen, the forgotten ones too."""
        return min(self.counts.values(), default=0)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Add k and v (B, H_kv, L, D), forget, and return keys, values and the mask (L, S)."""
        pair = torch.stack((k, v))
        if layer in self.pairs:
            pair = torch.cat((self.pairs[layer], pair), dim=3)
        n_new, n_held = k.shape[2], pair.shape[3]
        seen = self.counts.get(layer, 0) + n_new
        if n_held > self.n_sinks + self.window:
            if n_new > 1:
                raise ValueError("the window is full: feed one token a call")
            pair = torch.cat(
                (
                    pair.narrow(3, 0, self.n_sinks),
                    pair.narrow(3, n_held - self.window, self.window),
                ),
                dim=3,
            )
        self.pairs[layer], self.counts[layer] = pair, seen
        keys, values = pair
        gap = seen - keys.shape[2]
        if gap:
            sinks = keys.narrow(2, 0, self.n_sinks)
            moved = rotate(sinks, torch.full((self.n_sinks,), gap, device=k.device), base=self.base)
            keys = torch.cat((moved, keys.narrow(2, self.n_sinks, self.window)), dim=2)
        places = torch.arange(keys.shape[2], device=k.device)
        return keys, values, places.le(places[-n_new:].unsqueeze(1))
