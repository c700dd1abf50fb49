"""Watch a model write, and the cache that the lessons' demonstrations use.

Both do what exercises of the KV cache lesson ask for, in another way: `Stream` is an iterator that
never ends, `ModelCache` keeps keys and values in one block that doubles when it is full.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


class ModelCache:
    """Keys and values of the tokens seen so far, one block of memory per layer."""

    def __init__(self) -> None:
        self.blocks: dict[int, Tensor] = {}  # layer → (2, B, H_kv, room, D), keys then values
        self.used: dict[int, int] = {}

    def reset(self) -> None:
        """Forget everything, to begin a new text."""
        self.blocks.clear()
        self.used.clear()

    @property
    def n_seen(self) -> int:
        """How many tokens every layer has seen."""
        return min(self.used.values(), default=0)

    def truncate(self, n_seen: int) -> None:
        """Forget all but the first `n_seen` tokens; ValueError if there are not so many."""
        if not 0 <= n_seen <= self.n_seen:
            raise ValueError(f"cannot keep {n_seen} of {self.n_seen} tokens")
        self.used = dict.fromkeys(self.used, n_seen)

    def keep_rows(self, rows: list[int]) -> None:
        """Keep these texts of the batch, in this order."""
        self.blocks = {layer: block[:, rows] for layer, block in self.blocks.items()}

    def keep_tokens(self, places: list[int]) -> None:
        """Keep the tokens at these places, in this order, in every layer and text."""
        if any(not 0 <= place < self.n_seen for place in places):
            raise ValueError(f"places must be 0 to {self.n_seen - 1}, the tokens that are held")
        for layer, block in self.blocks.items():
            block[:, :, :, : len(places)] = block[:, :, :, places]
            self.used[layer] = len(places)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keep k and v (B, H_kv, L, D); return all keys, all values and the mask (L, S)."""
        pair = torch.stack((k, v))
        old = self.used.get(layer, 0)
        new = old + k.shape[2]
        block = self.blocks.get(layer)
        if block is None or block.shape[3] < new:
            bigger = pair.new_zeros(*pair.shape[:3], max(64, 2 * new), pair.shape[4])
            if block is not None:
                bigger.narrow(3, 0, old).copy_(block.narrow(3, 0, old))
            self.blocks[layer] = block = bigger
        block.narrow(3, old, new - old).copy_(pair)
        self.used[layer] = new
        keys, values = block.narrow(3, 0, new)
        places = torch.arange(new, device=k.device)
        return keys, values, places.le(places.narrow(0, old, new - old).unsqueeze(1))


class Stream(Iterator[int]):
    """The model's first choice for the next token, again and again; `tokens` holds the whole text.

    With a cache only the tokens that it has not seen are forwarded, without one all of them:
    `islice(Stream(model, ids, ModelCache()), 20)` gives 20 tokens. Raises ValueError for empty ids.
    """

    def __init__(self, model, ids: list[int], cache=None) -> None:
        self.model, self.cache, self.tokens = model, cache, list(ids)
        self.forwarded = 0  # tokens that went through the model, counted over all steps

    def __next__(self) -> int:
        """Forward what is needed and return the best next token."""
        seen = self.cache.n_seen if self.cache is not None else 0
        unseen = self.tokens[seen:]
        self.forwarded += len(unseen)
        with torch.inference_mode():
            scores = self.model(unseen, cache=self.cache)
        self.tokens += scores[0, -1:].argmax(dim=-1).tolist()
        return self.tokens[-1]


def stream(model, ids: list[int], cache=None) -> Stream:
    """Return a `Stream`: greedy continuation of token ids, one token for each step of a loop."""
    return Stream(model, ids, cache)
