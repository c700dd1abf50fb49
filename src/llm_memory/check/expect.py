"""The comparison that hidden tests use: a message of their own, and no number given away."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def expect(got: Any, want: Any, message: str, rtol: float = 1e-6, atol: float = 1e-8) -> None:
    """Assert that `got` is an array (NumPy or torch) with `want`'s shape and numbers.

    Raises `AssertionError` with `message`, which names the mistake; numbers of the input or of
    the right answer never stand in it, so that feedback does not give a hidden test away.
    """
    got, want = _array(got), _array(want)
    assert got is not None, f"{message} (expected an array of shape {want.shape})"
    assert got.shape == want.shape, f"{message} (expected shape {want.shape}, came {got.shape})"
    assert not np.isnan(got).any() or np.isnan(want).any(), f"{message} (there are nan in it)"
    assert np.allclose(got, want, rtol=rtol, atol=atol), message


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
