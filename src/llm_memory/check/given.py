"""The package's own objects that a stored scenario may name as arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _model() -> Any:
    from llm_memory.model import load_model

    return load_model()[0]


MAKERS: dict[str, Callable[[], Any]] = {"model": _model}


def make(name: str) -> Any:
    """Return a new object called `name`; `ValueError` names those there are."""
    if name not in MAKERS:
        raise ValueError(f"no object {name!r}; there are: {', '.join(sorted(MAKERS))}")
    return MAKERS[name]()
