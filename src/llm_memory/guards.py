"""Clear words for what reaches the model in the wrong shape."""

import warnings

import torch
from torch import Tensor


def expect(shape: torch.Size, got: object, what: str) -> Tensor:
    """Return `got`, or say who was asked for a tensor of which shape and what came instead."""
    if not isinstance(got, Tensor):
        raise TypeError(f"{what} must be a tensor {tuple(shape)}, not {type(got).__name__}")
    if got.shape != shape:
        raise ValueError(f"{what} must have shape {tuple(shape)}, but came with {tuple(got.shape)}")
    return got


def expect_pair(got: object, what: str) -> tuple | list:
    """Return `got`, or say that two things were asked for: (output, weights)."""
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise TypeError(f"{what} must return (output, weights), not {type(got).__name__}")
    return got


def expect_together(config, cache, attention, rope, attention_layer, hide) -> None:
    """Refuse parts that would be left out, or quietly wrong in this model, with ValueError."""
    rope_type = config.rope_scaling.name
    if rope_type != "default" and (rope is not None or attention_layer is not None):
        raise ValueError(
            f"this model scales its rotary positions (rope_type {rope_type!r}), which a function "
            "of positions and base does not: call it without rope= and attention_layer="
        )
    if attention_layer is not None and (attention is not None or rope is not None or len(hide)):
        raise ValueError(
            "attention_layer= replaces the whole attention of every layer: "
            "call it without attention=, rope= and hide="
        )
    if cache is not None and len(hide):
        raise ValueError("hide= works on a whole text: call it without cache=")


def expect_batch(ids: Tensor, positions, mask, start: int, attention_layer, hide) -> None:
    """Refuse positions or a mask that do not fit the ids (B, L), with ValueError or TypeError."""
    batch, n_new = ids.shape
    if positions is not None:
        if not isinstance(positions, Tensor) or positions.is_floating_point():
            raise TypeError("positions must be a tensor of whole numbers, (L,) or (B, L)")
        if positions.shape not in ((n_new,), (batch, n_new)):
            raise ValueError(
                f"positions must have shape {(n_new,)} or {(batch, n_new)} as the token ids, "
                f"not {tuple(positions.shape)}"
            )
        if positions.min() < 0:
            raise ValueError(f"positions begin at 0, not at {int(positions.min())}")
    if mask is None:
        return
    if attention_layer is not None or len(hide):
        raise ValueError("mask= says who may attend: call it without attention_layer= and hide=")
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError("mask must be a tensor of bools, True = may attend")
    n_keys = start + n_new
    if mask.shape not in ((n_new, n_keys), (1, 1, n_new, n_keys), (batch, 1, n_new, n_keys)):
        raise ValueError(
            f"mask must have shape {(n_new, n_keys)} or {(batch, 1, n_new, n_keys)}: one row a new "
            f"token, one column a token held or new; not {tuple(mask.shape)}"
        )


def as_ids(ids: object, vocab_size: int) -> Tensor:
    """Return token ids as a tensor (B, L), or raise ValueError with what is wrong with them."""
    ids = torch.as_tensor(ids, dtype=torch.long)
    ids = ids[None] if ids.dim() == 1 else ids
    if ids.dim() != 2 or ids.numel() == 0:
        raise ValueError(f"token ids must be (L,) or (B, L) with L ≥ 1, not {tuple(ids.shape)}")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(
            f"token ids must be 0 to {vocab_size - 1}, not {int(ids.min())} to {int(ids.max())}: "
            "were they made by this model's own tokenizer?"
        )
    return ids


def warn_past_window(n_tokens: int, window: int) -> None:
    """Warn, without stopping, if a text is longer than what the model was trained on."""
    if n_tokens > window:
        warnings.warn(
            f"The text is longer than the window of {window} tokens that this model was trained "
            "on: it has never seen such positions, expect worse predictions.",
            stacklevel=5,
        )
