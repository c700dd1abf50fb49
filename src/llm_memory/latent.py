"""Multi-head latent attention (MLA, arXiv 2405.04434): its weights and its cache.

A layer keeps one short vector a token, the latent, and makes keys and values of it. The part that
carries positions (decoupled RoPE) is left out. Shapes: B batch, E width, H heads, D head size, R
numbers in a latent, L new tokens, S tokens held.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["LatentCache", "LatentWeights", "beyond_floats", "latent_weights"]


@dataclass(frozen=True)
class LatentWeights:
    """Matrices (out, in) as in `nn.Linear`: w_q, w_uk and w_uv have H·D rows, head 0 first."""

    w_q: Tensor  # (H·D, E), queries from tokens
    w_d: Tensor  # (R, E), down: latents from tokens
    w_uk: Tensor  # (H·D, R), up: keys from latents
    w_uv: Tensor  # (H·D, R), up: values from latents
    w_o: Tensor  # (E, H·D)
    n_heads: int
    head_dim: int


def latent_weights(
    width: int = 24, n_heads: int = 3, head_dim: int = 8, rank: int = 5, seed: int = 11
) -> LatentWeights:
    """Return fixed random weights in float64, of such a size that numbers stay near 1."""
    random = np.random.RandomState(seed)  # a frozen stream, in every version of NumPy

    def matrix(rows: int, columns: int) -> Tensor:
        return torch.from_numpy(random.standard_normal((rows, columns)) / columns**0.5)

    inner = n_heads * head_dim
    sizes = ((inner, width), (rank, width), (inner, rank), (inner, rank), (width, inner))
    made = [matrix(*size) for size in sizes]
    return LatentWeights(made[0], made[1], made[2], made[3], made[4], n_heads, head_dim)


def beyond_floats(what: str, seed: int = 17) -> tuple[LatentWeights, Tensor]:
    """Return weights, and latents (1, 7, R), whose keys or values no float64 can hold.

    `what` is "keys" or "values". The answer is an ordinary number: queries are as small as keys
    are large, and values cancel. So nobody gets it who makes keys or values on the way. Numbers are
    whole ones times powers of two, and every sum of them is exact, in any order.
    """
    if what not in ("keys", "values"):
        raise ValueError(f"keys or values can be beyond floats, not {what!r}")
    random = np.random.RandomState(seed)

    def whole(*shape: int) -> Tensor:
        return torch.from_numpy(random.choice([-3, -2, -1, 1, 2, 3], shape)).double()

    n_heads, half, rank, width = 2, 2, 3, 5
    rows = 2 * half * n_heads
    if what == "keys":
        # The halves of a key cancel in q·k but for 2^480: its numbers are about 2^1040.
        huge, rest = whole(n_heads, half, rank), whole(n_heads, half, rank)
        up_k = torch.cat((huge * 2.0**520, rest * 2.0**480 - huge * 2.0**520), dim=1)
        asking = whole(n_heads, half, width).repeat(1, 2, 1) * 2.0**-1006
        down, held = whole(rank, width) * 2.0**520, whole(1, 7, rank) * 2.0**520
        up_v = whole(rows, rank) * 2.0**-520
        return (
            LatentWeights(
                asking.flatten(0, 1), down, up_k.flatten(0, 1), up_v, whole(width, rows), n_heads, 4
            ),
            held,
        )
    # All eight tokens weigh the same; the last numbers of their latents, about 2^600, cancel.
    held, down, up_v = whole(1, 7, rank), whole(rank, width), whole(rows, rank)
    down[-1], up_v[:, -1] = 0, up_v[:, -1] * 2.0**500
    pairs = whole(3) * 2.0**600
    held[0, :, -1] = torch.cat((pairs, -pairs, torch.zeros(1)))
    no_query = torch.zeros(rows, width, dtype=torch.float64)
    return (
        LatentWeights(no_query, down, whole(rows, rank), up_v, whole(width, rows), n_heads, 4),
        held,
    )


class LatentCache:
    """The latents of all tokens seen so far, for every layer."""

    def __init__(self) -> None:
        self.held: dict[int, Tensor] = {}

    @property
    def n_seen(self) -> int:
        """Tokens seen, read between passes."""
        return min((latents.shape[1] for latents in self.held.values()), default=0)

    @property
    def n_bytes(self) -> int:
        """Bytes of what is held."""
        return sum(latents.nbytes for latents in self.held.values())

    def append(self, layer: int, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Keep latents (B, L, R); return all of that layer (B, S, R) and the mask (L, S).

        Raises ValueError for anything that is not (B, L, R), or does not fit what is held.
        """
        if latents.dim() != 3:
            raise ValueError(f"a latent cache holds (B, L, R), not {tuple(latents.shape)}")
        parts = [self.held[layer], latents] if layer in self.held else [latents]
        if len({(len(part), part.shape[2]) for part in parts}) > 1:
            raise ValueError(
                f"layer {layer} holds latents of shape {tuple(parts[0].shape)}; "
                f"{tuple(latents.shape)} does not fit: only the number of tokens may differ"
            )
        self.held[layer] = whole = torch.cat(parts, dim=1)
        places = torch.arange(whole.shape[1])
        return whole, places.le(places[-latents.shape[1] :].unsqueeze(1))
