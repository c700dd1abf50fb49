"""The comparison that hidden tests use: a message of their own, and no number given away."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from llm_memory.check.values import ABSOLUTE, RELATIVE


def expect(
    got: Any, want: Any, message: str, rtol: float = RELATIVE, atol: float | None = None
) -> None:
    """Assert that `got` is an array (NumPy or torch) with `want`'s shape and numbers.

    The tolerance is the contract's: `rtol`, and for numbers near 0 as much as the largest of `want`
    allows, unless `atol` says otherwise.

    Raises `AssertionError` with `message`, which names the mistake; numbers of the input or of
    the right answer never stand in it, so that feedback does not give a hidden test away.
    """
    got, want = _array(got), _array(want)
    assert got is not None, f"{message} (expected an array of shape {want.shape})"
    assert got.shape == want.shape, f"{message} (expected shape {want.shape}, came {got.shape})"
    assert not np.isnan(got).any() or np.isnan(want).any(), f"{message} (there are nan in it)"
    if atol is None:
        finite = np.abs(want[np.isfinite(want)])
        atol = ABSOLUTE * float(finite.max(initial=0.0))
    assert np.allclose(got, want, rtol=rtol, atol=atol), message


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.dtype == torch.bfloat16 else value.numpy()
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None
