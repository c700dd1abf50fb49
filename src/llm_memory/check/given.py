"""The package's own objects that a stored scenario may name as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _model() -> Any:
    from llm_memory.model import load_model

    return load_model()[0]


def _small_model() -> Any:
    from llm_memory.counted import Counted, small_model

    return Counted(small_model())


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


def _latent_weights() -> Any:
    from llm_memory.latent import latent_weights

    return latent_weights()


def _latent_cache() -> Any:
    from llm_memory.latent import LatentCache

    return LatentCache()


MAKERS: dict[str, Callable[[], Any]] = {
    "model": _model,
    "small_model": _small_model,  # random weights, two layers, counts what passes
    "layer": _layer,  # the projections of its layer 1
    "cache": _cache,
    "forgetful_cache": _forgetful_cache,  # what it returns does not begin at position 0
    "latent_weights": _latent_weights,  # E 24, H 3, D 8, R 5
    "latent_cache": _latent_cache,
}


def make(name: str) -> Any:
    """Return a new object called `name`; `ValueError` names those there are."""
    if name not in MAKERS:
        raise ValueError(f"no object {name!r}; there are: {', '.join(sorted(MAKERS))}")
    return MAKERS[name]()
