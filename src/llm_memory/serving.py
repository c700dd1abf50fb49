"""What the lesson on many texts at once is given: padded batches, lanes, a pool, a free draft.

`padded` does what an exercise asks for, in another way: text by text.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from llm_memory.streaming import ModelCache

__all__ = ["BlockPool", "Lanes", "LookupDraft", "TextCache", "padded"]


def padded(prompts: Sequence[Sequence[int]], pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids (B, L), positions (B, L) and mask (B, 1, L, L) of a batch padded on the left.

    Raises ValueError for an empty list and for an empty prompt in it.
    """
    if len(prompts) == 0:
        raise ValueError("there are no prompts: give at least one")
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad)
    positions = torch.zeros_like(ids)
    mask = torch.zeros(len(prompts), 1, width, width, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {row} is empty: give at least one token to continue")
        own = slice(width - len(prompt), width)
        ids[row, own] = torch.as_tensor(prompt)
        positions[row, own] = torch.arange(len(prompt))
        mask[row, 0, own, own] = torch.ones(len(prompt), len(prompt)).tril().bool()
        mask[row, 0].fill_diagonal_(True)
    return ids, positions, mask


class Lanes:
    """Many texts in one row of one pass, told apart by positions and a mask; greedy.

    Nothing is padded: what is given to `run` is what passes through the model.
    """

    def __init__(self, model: Any) -> None:
        """`model` is called as `model(ids, cache=, positions=, mask=)`."""
        self.model, self.cache = model, ModelCache()
        self.names: list[Hashable] = []  # whose the tokens in the cache are
        self.places: list[int] = []  # and where in its text each stands

    def n_seen(self, name: Hashable) -> int:
        """How many tokens of a text the model has seen."""
        return self.names.count(name)

    def run(self, tokens: Mapping[Hashable, Sequence[int]]) -> dict[Hashable, int]:
        """Give each text its next tokens, in one pass; return each one's best token after them.

        Raises ValueError where a text has no token.
        """
        if not tokens or not all(map(len, tokens.values())):
            raise ValueError("give each text at least one token, and at least one text")
        row: list[int] = []
        ends: dict[Hashable, int] = {}
        for name, new in tokens.items():
            start = self.n_seen(name)
            row += new
            ends[name] = len(row) - 1
            self.names += [name] * len(new)
            self.places += range(start, start + len(new))
        number = {name: i for i, name in enumerate(dict.fromkeys(self.names))}
        owner = torch.tensor([number[name] for name in self.names])
        place = torch.tensor(self.places)
        own = owner == owner[-len(row) :, None]
        earlier = place <= place[-len(row) :, None]
        logits = self.model(row, cache=self.cache, positions=place[-len(row) :], mask=own & earlier)
        best = logits[0].argmax(dim=-1).tolist()
        return {name: best[end] for name, end in ends.items()}

    def drop(self, name: Hashable) -> None:
        """Forget a text; nothing happens if there is none of this name."""
        if name not in self.names:
            return
        kept = [i for i, owner in enumerate(self.names) if owner != name]
        self.cache.keep_tokens(kept)
        self.names = [self.names[i] for i in kept]
        self.places = [self.places[i] for i in kept]


class BlockPool:
    """Blocks of keys and values, each with a count of its users.

    A block is free while nobody uses it. `store` and `load` move whole blocks from a `ModelCache`
    of one text, and into a new one.
    """

    def __init__(self, n_blocks: int, block_size: int) -> None:
        """Make `n_blocks` free blocks of `block_size` tokens."""
        self.block_size = block_size
        self.users = n_blocks * [0]
        self.held: dict[int, dict[int, Tensor]] = {}

    @property
    def n_free(self) -> int:
        """How many blocks nobody uses."""
        return sum(n == 0 for n in self.users)

    def take(self) -> int:
        """Return the free block with the lowest number, now used once; ValueError if all are."""
        if 0 not in self.users:
            raise ValueError("the pool is full: no block is free")
        number = self.users.index(0)
        self.users[number] += 1
        return number

    def hold(self, number: int) -> None:
        """Add a user to a block that is in use; ValueError for a free one."""
        if self.users[number] == 0:
            raise ValueError(f"block {number} is free: take it first")
        self.users[number] += 1

    def release(self, number: int) -> None:
        """Take a user away; ValueError for a free block."""
        if self.users[number] == 0:
            raise ValueError(f"block {number} is free already")
        self.users[number] -= 1

    def store(self, block: int, cache: ModelCache, start: int) -> None:
        """Copy `block_size` tokens of a text, from place `start` on, into a block."""
        size = self.block_size
        self.held[block] = {
            layer: held[:, :, :, start : start + size].clone()
            for layer, held in cache.blocks.items()
        }

    def load(self, blocks: Sequence[int]) -> ModelCache:
        """Return a cache that has seen the tokens of these blocks, in this order."""
        cache = ModelCache()
        for number in blocks:
            for layer, (keys, values) in self.held[number].items():
                cache.append(layer, keys, values)
        return cache


class TextCache:
    """What a `LookupDraft` remembers: the tokens themselves."""

    def __init__(self) -> None:
        self.tokens: list[int] = []

    @property
    def n_seen(self) -> int:
        """Tokens seen."""
        return len(self.tokens)

    def truncate(self, n_seen: int) -> None:
        """Forget all but the first `n_seen` tokens; ValueError if there are not so many."""
        if not 0 <= n_seen <= self.n_seen:
            raise ValueError(f"cannot keep {n_seen} of {self.n_seen} tokens")
        del self.tokens[n_seen:]


class LookupDraft:
    """A draft without weights: what followed the last time that the text read like this.

    Called like a model, with a `TextCache`. It looks for the longest of the last three, two or one
    tokens earlier in the text (prompt lookup; Saxena 2023), the newest place first.
    """

    def __init__(self, vocab_size: int) -> None:
        """`vocab_size` is the target's."""
        self.config = SimpleNamespace(vocab_size=vocab_size)

    def __call__(self, ids: Sequence[int], cache: TextCache) -> Tensor:
        """Return logits (1, L, V): the last row is 1 at the guess; the others are 0."""
        cache.tokens.extend(ids)
        logits = torch.zeros(1, len(ids), self.config.vocab_size)
        logits[0, -1, self.guess(cache.tokens)] = 1.0
        return logits

    def guess(self, text: Sequence[int]) -> int:
        """Return the token that came after the newest earlier place like the end of `text`."""
        for size in (3, 2, 1):
            tail = text[-size:]
            for start in range(len(text) - size - 1, -1, -1):
                if text[start : start + size] == tail:
                    return text[start + size]
        return text[-1]
