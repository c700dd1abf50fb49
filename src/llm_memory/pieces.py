"""Pieces of words, learned from text by byte-pair encoding (Sennrich et al. 2015, 1508.07909)."""

from __future__ import annotations

import itertools
from collections import Counter

__all__ = ["cut", "learn_merges"]


def learn_merges(text: str, n_merges: int) -> list[tuple[str, str]]:
    """Return up to `n_merges` pairs of pieces to join, the most frequent pair first.

    Starts from single characters; pairs are counted inside words only. Of equally frequent pairs,
    the one that comes first in the alphabet is joined. Stops early where every word is one piece.
    """
    words = {tuple(word): count for word, count in Counter(text.split()).items()}
    merges: list[tuple[str, str]] = []
    for _ in range(n_merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for pieces, count in words.items():
            for pair in itertools.pairwise(pieces):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {tuple(_join(pieces, best)): count for pieces, count in words.items()}
    return merges


def cut(text: str, merges: list[tuple[str, str]]) -> list[str]:
    """Return the pieces of `text`: its words cut into characters, then joined as `merges` say."""
    found: list[str] = []
    for word in text.split():
        pieces = list(word)
        for pair in merges:
            pieces = _join(pieces, pair)
        found += pieces
    return found


def _join(pieces: list[str] | tuple[str, ...], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    at = 0
    while at < len(pieces):
        if tuple(pieces[at : at + 2]) == pair:
            joined.append(pair[0] + pair[1])
            at += 2
        else:
            joined.append(pieces[at])
            at += 1
    return joined
