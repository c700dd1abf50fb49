"""The package's own objects that a stored scenario may name as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _model() -> Any:
    from llm_memory.model import load_model

    return load_model()[0]


def _small_model(seed: int = 7, window: int = 512) -> Any:
    from llm_memory.counted import Counted, small_model

    return Counted(small_model(window, seed))


def _other_small_model(seed: int = 7) -> Any:
    return _small_model(seed + 1)


def _short_model(seed: int = 7) -> Any:
    import warnings

    from llm_memory.counted import Counted, small_model

    class Quiet(Counted):
        """Says nothing of a text that is longer than its window of 16."""

        def __call__(self, ids: Any, *args: Any, **kwargs: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return super().__call__(ids, *args, **kwargs)

    return Quiet(small_model(16, seed))


def _half_right_model(seed: int = 7) -> Any:
    from llm_memory.counted import Counted, small_model

    class HalfRight(Counted):
        """As small_model, but at every second place it takes another token for the best."""

        def __call__(self, ids: Any, cache: Any = None, **kwargs: Any) -> Any:
            seen = 0 if cache is None else cache.n_seen
            logits = super().__call__(ids, cache=cache, **kwargs)
            logits[:, seen % 2 :: 2] = logits[:, seen % 2 :: 2].roll(1, dims=-1)
            return logits

    return HalfRight(small_model(seed=seed))


def _foreign_draft() -> Any:
    from llm_memory.serving import LookupDraft

    return LookupDraft(vocab_size=31)


def _pool() -> Any:
    from llm_memory.serving import BlockPool

    pool = BlockPool(n_blocks=8, block_size=2)
    for _ in pool.users:
        pool.take()
    return pool


def _idle_pool() -> Any:
    from llm_memory.serving import BlockPool

    class Idle(BlockPool):
        """Lets a block be held that nobody took."""

        def hold(self, number: int) -> None:
            self.users[number] += 1

    return Idle(n_blocks=8, block_size=2)


def _loose_pool() -> Any:
    from llm_memory.serving import BlockPool

    class Loose(BlockPool):
        """Whoever holds a block gives it back at once: the cache stays its only user."""

        def hold(self, number: int) -> None:
            self.users[number] = 1

    return Loose(n_blocks=8, block_size=2)


def _layer() -> Any:
    from llm_memory.counted import small_model

    return small_model().layers[1].self_attn


def _cache() -> Any:
    from llm_memory.streaming import ModelCache

    return ModelCache()


def _forgetful_cache() -> Any:
    from llm_memory.streaming import ModelCache

    class Forgetful(ModelCache):
        """Hands out no more than the newest three tokens: what it returns begins anywhere."""

        def append(self, layer: int, k: Any, v: Any) -> tuple[Any, Any, Any]:
            keys, values, mask = super().append(layer, k, v)
            return keys[:, :, -3:], values[:, :, -3:], mask[:, -3:]

    return Forgetful()


def _gappy_cache() -> Any:
    from llm_memory.streaming import ModelCache

    class Gappy(ModelCache):
        """Hands out the first token and the newest, and shuts the oldest of these for some."""

        def append(self, layer: int, k: Any, v: Any) -> tuple[Any, Any, Any]:
            keys, values, mask = super().append(layer, k, v)
            n_keys, n_new = keys.shape[2], k.shape[2]
            places = sorted({0, *range(max(0, n_keys - n_new - 2), n_keys)})
            near = mask & ~mask.tril(n_keys - n_new - 2)
            near[:, 0] = True
            return keys[:, :, places], values[:, :, places], near[:, places]

    return Gappy()


def _latent_weights() -> Any:
    from llm_memory.latent import latent_weights

    return latent_weights()


def _latent_cache() -> Any:
    from llm_memory.latent import LatentCache

    return LatentCache()


def _beyond_floats(what: str) -> tuple[Any, Any]:
    from llm_memory.latent import LatentCache, beyond_floats

    weights, latents = beyond_floats(what)
    filled = LatentCache()
    filled.append(0, latents)
    return weights, filled


MAKERS: dict[str, Callable[..., Any]] = {
    "model": _model,
    "small_model": _small_model,  # random weights, two layers, counts what passes
    "short_model": _short_model,  # the same weights, a window of 16
    "other_small_model": _other_small_model,  # the same shape, other weights
    "half_right_model": _half_right_model,  # as small_model at every second place
    "foreign_draft": _foreign_draft,  # another vocabulary
    "pool": _pool,  # 8 blocks of 2 tokens, each used once
    "idle_pool": _idle_pool,  # as many, which nobody else uses
    "loose_pool": _loose_pool,  # as many, where nobody keeps what is held
    "other_loose_pool": _loose_pool,
    "layer": _layer,  # the projections of its layer 1
    "cache": _cache,
    "draft_cache": _cache,
    "another_cache": _cache,
    "forgetful_cache": _forgetful_cache,  # what it returns does not begin at position 0
    "gappy_cache": _gappy_cache,  # the first token, and the newest; a query sees one back
    "latent_weights": _latent_weights,  # E 24, H 3, D 8, R 5
    "latent_cache": _latent_cache,
    # Keys, or values, are larger than any float64: weights (E 5, H 2, D 4, R 3) and 7 held latents.
    "weights_of_huge_keys": lambda: _beyond_floats("keys")[0],
    "latents_of_huge_keys": lambda: _beyond_floats("keys")[1],
    "weights_of_huge_values": lambda: _beyond_floats("values")[0],
    "latents_of_huge_values": lambda: _beyond_floats("values")[1],
}


def make(name: str, **options: int) -> Any:
    """Return a new object called `name`; `ValueError` names those there are.

    A hidden test gives a model a `seed`: nobody else can then make the same one, and ask it
    uncounted.
    """
    if name not in MAKERS:
        raise ValueError(f"no object {name!r}; there are: {', '.join(sorted(MAKERS))}")
    return MAKERS[name](**options)
