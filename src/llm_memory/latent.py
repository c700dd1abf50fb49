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

__all__ = ["LatentCache", "LatentWeights", "latent_weights"]


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
