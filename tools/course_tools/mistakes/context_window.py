"""How learners get the context window lesson's exercises wrong, and what else is right."""

from __future__ import annotations

import math

import numpy as np
import torch

from course_tools.mistakes.bank import Bank, call, hard, typed
from llm_memory.shapes import GIB, MODELS

bank = Bank("context_window")


# fit_to_window

_TOKENS = list(range(10, 20))

bank.calls(
    "fit_to_window",
    [
        call(_TOKENS, 6),
        call(_TOKENS, 6, reserve=2),
        call(_TOKENS, 6, reserve=1, keep_first=2),
        call(_TOKENS, 10, keep_first=3),
        call(_TOKENS[:4], 9, keep_first=3),
        call(_TOKENS[:3], 8, reserve=2),
        call(_TOKENS[:5], 6, reserve=2),
        hard(call([], 4)),
        hard(call(_TOKENS, 4, keep_first=4)),
        hard(call(_TOKENS, 3, reserve=2)),
        hard(call(_TOKENS, 0)),
        hard(call(_TOKENS, 5, keep_first=6)),
        hard(call(_TOKENS, 5, reserve=5)),
        hard(call(_TOKENS, 5, reserve=2, keep_first=4)),
        hard(call(_TOKENS[:2], 5, reserve=5)),
        hard(call(_TOKENS[:2], 5, reserve=2, keep_first=4)),
        hard(call([], 3, reserve=4)),
    ],
)


def _fit(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget < 1 or keep_first > budget:
        raise ValueError("no room")
    if len(tokens) <= budget:
        return list(tokens)
    return tokens[:keep_first] + tokens[len(tokens) - (budget - keep_first) :]


@bank.mistake(
    "fit_to_window",
    "When the first tokens fill the window, no recent token has room, but yours bring the "
    "whole list: tokens[-0:] is all of it. From which end can you count so that 0 tokens are "
    "none?",
)
def fit_with_minus_zero(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget < 1 or keep_first > budget:
        raise ValueError("no room")
    if len(tokens) <= budget:
        return tokens
    return tokens[:keep_first] + tokens[-(budget - keep_first) :]


@bank.mistake(
    "fit_to_window",
    "You keep the oldest tokens. Look at the end from which a model goes on.",
)
def fit_keeps_the_head(tokens, window, reserve=0, keep_first=0):
    _fit(tokens, window, reserve, keep_first)
    return tokens[: window - reserve]


@bank.mistake(
    "fit_to_window",
    "`reserve` is not used: the answer is written into the same window, so that many tokens of it "
    "must stay free.",
)
def fit_without_reserve(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    return _fit(tokens, window, 0, keep_first)


@bank.mistake(
    "fit_to_window",
    "The first `keep_first` tokens are cut away. They hold what must not be forgotten, such as a "
    "chat's instructions.",
)
def fit_drops_the_first(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    return _fit(tokens, window, reserve, 0)


@bank.mistake(
    "fit_to_window",
    "The first tokens come on top of a full window, so the result is longer than "
    "`window - reserve`. They are part of the budget.",
)
def fit_first_on_top(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    budget = window - reserve
    if len(tokens) <= budget:
        return list(tokens)
    return tokens[:keep_first] + tokens[len(tokens) - budget :]


@bank.mistake(
    "fit_to_window",
    "A list that fits comes back with its first tokens doubled. Only a list that is too long "
    "is cut: look at what your code does before the slices.",
)
def fit_doubles_the_first(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    recent = window - reserve - keep_first
    return tokens[:keep_first] + tokens[max(len(tokens) - recent, 0) :]


@bank.mistake(
    "fit_to_window",
    "A list that fits is cut all the same, by one token. A list as long as the budget comes back "
    "whole.",
)
def fit_off_by_one(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    budget = window - reserve
    if len(tokens) < budget:
        return list(tokens)
    return tokens[:keep_first] + tokens[len(tokens) - (budget - keep_first) + 1 :]


@bank.mistake(
    "fit_to_window",
    "With no room at all (`window - reserve` below 1) you still return something. Raise a "
    "ValueError, however short the list is.",
)
def fit_without_error(tokens, window, reserve=0, keep_first=0):
    if keep_first > max(window - reserve, 1):
        raise ValueError("no room")
    budget = max(window - reserve, keep_first, 1)
    return _fit(tokens, budget, 0, keep_first)


@bank.mistake(
    "fit_to_window",
    "Your function raises only when the list is too long. A budget that cannot work is wrong "
    "whatever the length: otherwise the error comes in the middle of a chat, not at its start.",
)
def fit_checks_late(tokens, window, reserve=0, keep_first=0):
    if len(tokens) <= window - reserve:
        return list(tokens)
    return _fit(tokens, window, reserve, keep_first)


@bank.mistake(
    "fit_to_window",
    "`keep_first` may not be more than the whole budget: raise a ValueError, so that nobody "
    "believes that those tokens are kept.",
)
def fit_cuts_the_first(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget < 1:
        raise ValueError("no room")
    return _fit(tokens, window, reserve, min(keep_first, budget))


@bank.mistake(
    "fit_to_window",
    "Your function shortens the list that it was given: the caller still needs it. Build a new "
    "list instead of `del` or `pop`.",
)
def fit_changes_the_list(tokens, window, reserve=0, keep_first=0):
    _fit([], window, reserve, keep_first)
    while len(tokens) > window - reserve:
        tokens.pop(keep_first)
    return tokens


@bank.mistake(
    "fit_to_window",
    "A list that fits the window comes back whole, though the answer needs room in it, "
    "too. Look at "
    "what the length of the list is compared with.",
)
def fit_compares_with_the_window(tokens, window, reserve=0, keep_first=0):
    right = _fit(tokens, window, reserve, keep_first)
    return list(tokens) if len(tokens) <= window else right


@bank.mistake(
    "fit_to_window", "`reserve` makes the window larger. Look at what it is kept free for."
)
def fit_adds_the_reserve(tokens, window, reserve=0, keep_first=0):
    _fit(tokens, window, reserve, keep_first)
    return _fit(tokens, window + reserve, 0, keep_first)


@bank.mistake(
    "fit_to_window",
    "A list that is too long comes back with one token too many. Look at where the second slice "
    "begins.",
)
def fit_keeps_one_more(tokens, window, reserve=0, keep_first=0):
    right = _fit(tokens, window, reserve, keep_first)
    if len(tokens) <= window - reserve:
        return right
    at = len(tokens) - (window - reserve - keep_first) - 1
    return tokens[:keep_first] + tokens[at:]


@bank.mistake(
    "fit_to_window",
    "A list that is too long comes back with one token too few. Look at where the second slice "
    "begins.",
)
def fit_keeps_one_less(tokens, window, reserve=0, keep_first=0):
    right = _fit(tokens, window, reserve, keep_first)
    if len(tokens) <= window - reserve:
        return right
    at = len(tokens) - (window - reserve - keep_first) + 1
    return tokens[:keep_first] + tokens[at:]


@bank.variant("fit_to_window")
def fit_by_positions(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget <= 0 or keep_first > budget:
        raise ValueError("no room")
    too_many = max(len(tokens) - budget, 0)
    return [t for i, t in enumerate(tokens) if not keep_first <= i < keep_first + too_many]


@bank.variant("fit_to_window")
def fit_with_a_copy(tokens, window, reserve=0, keep_first=0):
    if window - reserve < 1 or window - reserve - keep_first < 0:
        raise ValueError("no room")
    kept = list(tokens)
    del kept[keep_first : max(keep_first, keep_first + len(kept) - (window - reserve))]
    return kept


@bank.variant("fit_to_window")
def fit_from_the_end(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget < 1 or keep_first > budget:
        raise ValueError("no room")
    if len(tokens) <= budget:
        return tokens
    head, tail = tokens[:keep_first], tokens[keep_first:]
    return [*head, *tail[::-1][: budget - keep_first][::-1]]


@bank.variant("fit_to_window")
def fit_by_deleting(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if budget <= 0 or keep_first > budget:
        raise ValueError("no room")
    kept = tokens.copy()
    del kept[keep_first : max(keep_first, keep_first + len(kept) - budget)]
    return kept


@bank.variant("fit_to_window")
def fit_with_a_deque(tokens, window, reserve=0, keep_first=0):
    from collections import deque

    budget = window - reserve
    if budget < 1:
        raise ValueError("no room")
    if keep_first > budget:
        raise ValueError("no room for the first")
    return [*tokens[:keep_first], *deque(tokens[keep_first:], maxlen=budget - keep_first)]


@bank.variant("fit_to_window")
def fit_by_the_end_of_the_gap(tokens, window, reserve=0, keep_first=0):
    room = window - reserve
    if room < max(1, keep_first):
        raise ValueError("no room")
    gap = max(0, len(tokens) - room)
    return tokens[:keep_first] + tokens[keep_first + gap :] if gap else tokens[:]


@bank.mistake(
    "fit_to_window",
    "What cannot work is judged by `window`, not by what `reserve` leaves of it. Look at what the "
    "row *raises* compares.",
)
def fit_guards_the_window(tokens, window, reserve=0, keep_first=0):
    budget = window - reserve
    if window < 1 or keep_first > window:
        raise ValueError("no room")
    if len(tokens) <= budget:
        return list(tokens)
    return tokens[:keep_first] + tokens[len(tokens) - (budget - keep_first) :]


@bank.mistake(
    "fit_to_window",
    "The tokens come back without their order, or each only once. Look at what a set does to a "
    "text.",
)
def fit_as_a_set(tokens, window, reserve=0, keep_first=0):
    return set(_fit(tokens, window, reserve, keep_first))


# apply_rope


def _numbers(seed: int, *shape: int) -> torch.Tensor:
    """Return numbers with two decimals, so that a fingerprint file holds them exactly."""
    return torch.from_numpy(np.round(np.random.default_rng(seed).normal(size=shape), 2))


bank.calls(
    "apply_rope",
    [
        call(_numbers(1, 3, 6), torch.tensor([0, 1, 2])),
        call(_numbers(2, 2, 4, 8), torch.tensor([5, 0, 9, 30])),
        call(_numbers(3, 3, 6), torch.tensor([1, 2, 7]), base=50.0),
        call(_numbers(4, 3, 6), torch.tensor([1, 4, 6]), scale=4.0),
        call(_numbers(7, 1, 3, 2, 4), torch.tensor([6, 2])),
        hard(typed(call(_numbers(6, 2, 4).float(), torch.tensor([3, 1])))),
        hard(typed(call(_numbers(8, 2, 4).half(), torch.tensor([3, 3001])))),
        hard(typed(call(_numbers(9, 2, 4).bfloat16(), torch.tensor([2, 20011])))),
        hard(call(_numbers(5, 3, 5), torch.tensor([0, 1, 2]))),
    ],
)
bank.terms("apply_rope", turned="text head token number")


def _rope(x, positions, base=10000.0, scale=1.0, sign=1.0, exponent=2.0, half=None):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    steps = torch.arange(size // 2, dtype=torch.float64)
    angles = torch.outer(positions.double() / scale, base ** (-exponent * steps / size))
    cos, sin = angles.cos().to(x.dtype), sign * angles.sin().to(x.dtype)
    first, second = x[..., : size // 2], x[..., size // 2 :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


@bank.mistake(
    "apply_rope",
    "Your vectors turn by the angles of position + 1. Take `positions` as they come: they count "
    "from 0, and a vector at position 0 does not turn at all.",
)
def rope_from_one(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions + 1, base, scale)


@bank.mistake(
    "apply_rope",
    "`positions` is not used: you count 0, 1, 2, … yourself. A token that comes later, on its own, "
    "has a position of its own.",
)
def rope_counts_itself(x, positions, base=10000.0, scale=1.0):
    return _rope(x, torch.arange(x.shape[-2]), base, scale)


@bank.mistake(
    "apply_rope",
    "You pair neighbours (0 with 1, 2 with 3), and with this layout the model's weights do "
    "not fit. Look at which numbers make a pair in the table.",
)
def rope_pairs_neighbours(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    order = torch.cat([torch.arange(0, size, 2), torch.arange(1, size, 2)])
    turned = _rope(x[..., order], positions, base, scale)
    out = torch.empty_like(x)
    out[..., order] = turned
    return out


@bank.mistake(
    "apply_rope",
    "Your vectors turn the other way round. Look at the signs in the formula.",
)
def rope_turns_backwards(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, scale, sign=-1.0)


@bank.mistake(
    "apply_rope",
    "Both halves have the same sign, so vectors change their length. Look at the two lines "
    "of the formula.",
)
def rope_two_minuses(x, positions, base=10000.0, scale=1.0):
    good = _rope(x, positions, base, scale)
    half = x.shape[-1] // 2
    back = _rope(x, positions, base, scale, sign=-1.0)
    return torch.cat([good[..., :half], back[..., half:]], dim=-1)


@bank.mistake(
    "apply_rope",
    "All but the first pair turn too fast: your exponent runs half as far as it should. "
    "Look at the exponent in the formula.",
)
def rope_half_exponent(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, scale, exponent=1.0)


@bank.mistake(
    "apply_rope",
    "The speeds grow from pair to pair: the exponent needs a minus. Pair 0 turns fastest, by one "
    "radian a token.",
)
def rope_positive_exponent(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, scale, exponent=-2.0)


@bank.mistake(
    "apply_rope",
    "`base` is not used: you always take 10000. Look at the line with the speeds.",
)
def rope_ignores_base(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, 10000.0, scale)


@bank.mistake(
    "apply_rope",
    "`scale` is not used. It stands in the formula beside the position: look at the angles.",
)
def rope_ignores_scale(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, 1.0)


@bank.mistake(
    "apply_rope",
    "You multiply positions by `scale`, so they move apart. It should squeeze them closer "
    "together: look at the formula.",
)
def rope_multiplies_scale(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, 1 / scale)


@bank.mistake(
    "apply_rope",
    "`scale` multiplies the base. That is another way to stretch RoPE; here it divides the "
    "positions.",
)
def rope_scales_the_base(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base * scale, 1.0)


@bank.mistake(
    "apply_rope",
    "Every pair turns at the same speed. Look at where i comes in.",
)
def rope_one_speed(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, scale, exponent=0.0)


@bank.mistake(
    "apply_rope",
    "The angles are taken for degrees. torch.cos and torch.sin want radians, and the formula gives "
    "radians.",
)
def rope_in_degrees(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions, base, scale * 180 / math.pi)


@bank.mistake(
    "apply_rope",
    "The second half is computed from the first half that was already turned. Keep both old halves "
    "until both new ones are there.",
)
def rope_overwrites_the_first_half(x, positions, base=10000.0, scale=1.0):
    out = _rope(x, positions, base, scale)
    half = x.shape[-1] // 2
    steps = torch.arange(half, dtype=torch.float64)
    angles = torch.outer(positions.double() / scale, base ** (-2 * steps / x.shape[-1]))
    second = x[..., half:] * angles.cos() + out[..., :half] * angles.sin()
    return torch.cat([out[..., :half], second.to(x.dtype)], dim=-1)


@bank.mistake(
    "apply_rope",
    "An odd number D cannot be cut into pairs, and your function does not say so: raise a "
    "ValueError.",
)
def rope_accepts_odd(x, positions, base=10000.0, scale=1.0):
    if x.shape[-1] % 2:
        return torch.cat([_rope(x[..., :-1], positions, base, scale), x[..., -1:]], dim=-1)
    return _rope(x, positions, base, scale)


@bank.mistake(
    "apply_rope",
    "Your function writes into the tensor that it was given: the caller still needs it. Look "
    "for a slice of x on the left of an equals sign.",
)
def rope_changes_its_input(x, positions, base=10000.0, scale=1.0):
    x.copy_(_rope(x, positions, base, scale))
    return x


@bank.mistake(
    "apply_rope",
    "The angles are brought to x's dtype before the cosine. In 16 bits a position of 1,000 is "
    "known to a radian or so: make the angles in float32 or more, and round cosine and sine.",
)
def rope_rounds_the_angles(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    speeds = base ** (-torch.arange(0, size, 2).double() / size)
    angles = (positions[:, None].double() / scale * speeds).to(x.dtype)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


@bank.mistake(
    "apply_rope",
    "The turns run along the heads: positions belong to the tokens, the axis before the last.",
)
def rope_turns_by_heads(x, positions, base=10000.0, scale=1.0):
    if x.ndim < 4:
        return _rope(x, positions, base, scale)
    places = torch.arange(x.shape[1])
    return _rope(x.transpose(1, 2), places, base, scale).transpose(1, 2)


@bank.mistake(
    "apply_rope",
    "The result has another dtype than x, and a model that multiplies it with its weights "
    "fails. Look at where numbers of another dtype come in: the angles.",
)
def rope_changes_the_dtype(x, positions, base=10000.0, scale=1.0):
    return _rope(x.double(), positions, base, scale)


@bank.variant("apply_rope")
def rope_by_complex_numbers(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2 != 0:
        raise ValueError("odd")
    angles = positions[:, None] / scale * base ** (-torch.arange(0, size, 2) / size)
    pairs = torch.complex(x[..., : size // 2].double(), x[..., size // 2 :].double())
    turned = pairs * torch.polar(torch.ones_like(angles).double(), angles.double())
    return torch.cat([turned.real, turned.imag], dim=-1).to(x.dtype)


@bank.variant("apply_rope")
def rope_as_in_transformers(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    inverse = 1.0 / (base ** (torch.arange(0, size, 2, dtype=torch.float32) / size))
    angles = torch.einsum("i,j->ij", positions.float() / scale, inverse)
    angles = torch.cat((angles, angles), dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    rotated = torch.cat((-x[..., size // 2 :], x[..., : size // 2]), dim=-1)
    return x * cos + rotated * sin


@bank.variant("apply_rope")
def rope_by_matrices(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    out = torch.zeros_like(x)
    half = size // 2
    for row, position in enumerate(positions.tolist()):
        for i in range(half):
            angle = position / scale * base ** (-2 * i / size)
            a, b = x[..., row, i], x[..., row, i + half]
            out[..., row, i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., row, i + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


@bank.variant("apply_rope")
def rope_by_stacked_pairs(x, positions, base=10000.0, scale=1.0):
    half, odd = divmod(x.shape[-1], 2)
    if odd:
        raise ValueError("odd")
    speeds = torch.pow(torch.tensor(base).double(), -torch.arange(half).double() / half)
    angles = torch.outer(positions.double(), speeds) / scale
    pairs = torch.stack((x[..., :half], x[..., half:]), dim=-1).double()
    turns = torch.stack((angles.cos(), -angles.sin(), angles.sin(), angles.cos()), dim=-1)
    turned = (turns.unflatten(-1, (2, 2)) @ pairs[..., None])[..., 0]
    return torch.cat((turned[..., 0], turned[..., 1]), dim=-1).to(x.dtype)


@bank.variant("apply_rope")
def rope_by_chunks(x, positions, base=10000.0, scale=1.0):
    if x.shape[-1] % 2 == 1:
        raise ValueError("odd")
    low, high = x.double().chunk(2, dim=-1)
    exponents = torch.linspace(0, 1, low.shape[-1] + 1, dtype=torch.float64)[:-1]
    angles = positions.unsqueeze(1) / scale / base**exponents
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.cat((low * cos - high * sin, low * sin + high * cos), -1).type_as(x)


@bank.variant("apply_rope")
def rope_with_angles_in_float32(x, positions, base=10000.0, scale=1.0):
    half = x.shape[-1] // 2
    if x.shape[-1] != 2 * half:
        raise ValueError("odd")
    angles = (positions.float() / scale)[:, None] * base ** -(torch.arange(half).float() / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    out = torch.empty_like(x)
    out[..., :half] = x[..., :half] * cos - x[..., half:] * sin
    out[..., half:] = x[..., half:] * cos + x[..., :half] * sin
    return out


@bank.mistake(
    "apply_rope",
    "Neighbours are turned together, and come back in two halves. Look at which number goes with "
    "number i, before the turn and after it.",
)
def rope_takes_neighbours_gives_halves(x, positions, base=10000.0, scale=1.0):
    pairs = torch.cat((x[..., ::2], x[..., 1::2]), dim=-1)
    return _rope(pairs if x.shape[-1] % 2 == 0 else x, positions, base, scale)


@bank.mistake(
    "apply_rope",
    "The positions are divided by `scale` without a remainder, so neighbours stand at the same "
    "place. Look at the division.",
)
def rope_divides_without_remainder(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions // scale, base)


@bank.mistake(
    "apply_rope",
    "The positions lose their digits: in 16 bits 3,001 and 3,002 are one number. Look at the dtype "
    "in which the angles begin.",
)
def rope_rounds_the_positions(x, positions, base=10000.0, scale=1.0):
    rounded = positions.half() if x.dtype == torch.float16 else positions.to(x.dtype)
    return _rope(x, rounded.double(), base, scale)


@bank.mistake(
    "apply_rope",
    "The speeds are rounded to x's dtype, and a large position makes the error large. Look at "
    "where 16 bits come in.",
)
def rope_rounds_the_speeds(x, positions, base=10000.0, scale=1.0):
    size = x.shape[-1]
    if size % 2:
        raise ValueError("odd")
    speeds = (base ** (-torch.arange(0, size, 2).double() / size)).to(x.dtype).double()
    angles = positions[:, None].double() / scale * speeds
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., : size // 2], x[..., size // 2 :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@bank.mistake(
    "apply_rope",
    "Far out the positions begin again, as if a table had come to its end. Look for the length of "
    "a table, or a remainder.",
)
def rope_begins_again_far_out(x, positions, base=10000.0, scale=1.0):
    return _rope(x, positions % 2048, base, scale)


# scaled_speeds

bank.calls(
    "scaled_speeds",
    [
        call(4, 100.0, 2.0, 63, low=1, high=2),
        call(16, 10000.0, 8.0, 2048, low=1, high=4),
        call(12, 500000.0, 4.0, 8192),
        hard(call(2, 77.0, 5.0, 8 * math.pi, low=2, high=6)),
        hard(call(6, 500.0, 1.0, 4096)),
        hard(call(8, 10.0, 3.0, 100000)),
        hard(call(8, 10000.0, 3.0, 6, low=1, high=9)),
    ],
)
bank.terms("scaled_speeds", speeds="pair")


def _scaled(head_dim, base, factor, trained, low=1, high=32, around=2 * math.pi, size=None):
    speeds = base ** (-torch.arange(0, head_dim, 2).double() / (size or head_dim))
    stays = ((trained * speeds / around - low) / (high - low)).clamp(0, 1)
    return speeds, stays


@bank.mistake(
    "scaled_speeds",
    "Every pair is divided by `factor`: that is position interpolation. Look at the pairs"
    " that turn often within the trained window.",
)
def speeds_all_divided(head_dim, base, factor, trained, low=1, high=32):
    return _scaled(head_dim, base, factor, trained, low, high)[0] / factor


@bank.mistake(
    "scaled_speeds", "These are the old speeds: no pair is slowed. Look at where `factor` comes in."
)
def speeds_unchanged(head_dim, base, factor, trained, low=1, high=32):
    return _scaled(head_dim, base, factor, trained, low, high)[0]


@bank.mistake(
    "scaled_speeds",
    "The wrong end is slowed. Which pairs leave the angles that were trained: those with "
    "many turns, or those with few?",
)
def speeds_fast_ones_divided(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return (1 - stays) * speeds + stays * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "You count radians as turns. Look at how many radians a whole turn has.",
)
def speeds_turns_in_radians(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high, around=1)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "Half a circle counts as a turn in your code. Look at how many radians a whole turn has.",
)
def speeds_half_turns(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high, around=math.pi)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "There is a step where a ramp should be. Look at the pairs between `low` and `high`.",
)
def speeds_with_a_step(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return torch.where(stays > 0.5, speeds, speeds / factor)


@bank.mistake(
    "scaled_speeds",
    "The ramp goes on past its ends: fast pairs become faster, and slow ones slower than "
    "divided. Look at the shares above 1 and below 0.",
)
def speeds_without_ends(head_dim, base, factor, trained, low=1, high=32):
    speeds, _ = _scaled(head_dim, base, factor, trained, low, high)
    stays = (trained * speeds / (2 * math.pi) - low) / (high - low)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "You mix the *divisors*, 1 and `factor`. Look at the table: what goes over in a straight line?",
)
def speeds_mixed_divisors(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return speeds / (stays + (1 - stays) * factor)


@bank.mistake(
    "scaled_speeds",
    "`low` and `high` are not used: you always take 1 and 32. Look at the lines of the ramp.",
)
def speeds_with_fixed_ends(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "The exponent runs only half as far as it should. Look at the row `base` of the table.",
)
def speeds_with_half_the_exponent(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high, size=2 * head_dim)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds", "Each speed stands there twice. Look at how many numbers the table asks for."
)
def speeds_twice(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return (stays * speeds + (1 - stays) * speeds / factor).repeat(2)


@bank.mistake(
    "scaled_speeds",
    "The turns are counted in the stretched window. Look at the window in which the pairs"
    " have learned.",
)
def speeds_turns_in_the_long_window(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained * factor, low, high)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "The ramp runs straight in the wavelength. Look at the table: in which number is it straight?",
)
def speeds_with_a_ramp_in_wavelengths(head_dim, base, factor, trained, low=1, high=32):
    speeds, _ = _scaled(head_dim, base, factor, trained, low, high)
    length, shortest, longest = 2 * math.pi / speeds, trained / high, trained / low
    slowed = ((length - shortest) / (longest - shortest)).clamp(0, 1)
    return (1 - slowed) * speeds + slowed * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "The ramp runs straight in the logarithm of the turns. Look at the table: in which number is "
    "it straight?",
)
def speeds_with_a_ramp_in_logarithms(head_dim, base, factor, trained, low=1, high=32):
    speeds, _ = _scaled(head_dim, base, factor, trained, low, high)
    turned = (trained * speeds / (2 * math.pi)).log()
    stays = ((turned - math.log(low)) / (math.log(high) - math.log(low))).clamp(0, 1)
    return stays * speeds + (1 - stays) * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "The ramp runs straight from pair to pair, as in YaRN's own code. Look at the table: in which "
    "number is it straight here?",
)
def speeds_with_a_ramp_in_pairs(head_dim, base, factor, trained, low=1, high=32):
    speeds, _ = _scaled(head_dim, base, factor, trained, low, high)

    def pair_of(turned):
        around = trained / (turned * 2 * math.pi)
        return head_dim * math.log(around) / (2 * math.log(base))

    first, last = math.floor(pair_of(high)), math.ceil(pair_of(low))
    pairs = torch.arange(head_dim // 2).double()
    slowed = ((pairs - first) / max(last - first, 1e-3)).clamp(0, 1)
    return (1 - slowed) * speeds + slowed * speeds / factor


@bank.mistake(
    "scaled_speeds",
    "Slow pairs are multiplied by `factor`, so they turn faster still. Look at the row `low`, "
    "`high` of the table.",
)
def speeds_multiplied(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return stays * speeds + (1 - stays) * speeds * factor


@bank.variant("scaled_speeds")
def speeds_pair_by_pair(head_dim, base, factor, trained, low=1, high=32):
    found = []
    for i in range(head_dim // 2):
        speed = base ** (-2 * i / head_dim)
        rounds = trained * speed / (2 * math.pi)
        if rounds >= high:
            found.append(speed)
        elif rounds <= low:
            found.append(speed / factor)
        else:
            share = (rounds - low) / (high - low)
            found.append(speed * (share + (1 - share) / factor))
    return torch.tensor(found)


@bank.variant("scaled_speeds")
def speeds_by_wavelength(head_dim, base, factor, trained, low=1, high=32):
    """Llama 3's own words: wavelengths beside the window's parts."""
    speeds = 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    waves = 2 * math.pi / speeds
    smooth = (trained / waves - low) / (high - low)
    mixed = (1 - smooth) * speeds / factor + smooth * speeds
    slowed = torch.where(waves > trained / low, speeds / factor, mixed)
    return torch.where(waves < trained / high, speeds, slowed)


@bank.variant("scaled_speeds")
def speeds_by_lerp(head_dim, base, factor, trained, low=1, high=32):
    speeds, stays = _scaled(head_dim, base, factor, trained, low, high)
    return torch.lerp(speeds / factor, speeds, stays)


@bank.variant("scaled_speeds")
def speeds_in_float32(head_dim, base, factor, trained, low=1, high=32):
    speeds = torch.exp(-math.log(base) * torch.arange(0, head_dim, 2).float() / head_dim)
    stays = torch.clip((trained * speeds / (2 * math.pi) - low) / (high - low), 0, 1)
    return speeds / factor + stays * (speeds - speeds / factor)


# sliding_window_mask

bank.calls(
    "sliding_window_mask",
    [
        call(5, 5, 3),
        call(3, 7, 2),
        call(4, 9, 3, n_sinks=2),
        call(1, 6, 4, n_sinks=1),
        call(4, 4, 1),
        call(4, 4, 2, n_sinks=3),
        call(3, 3, 8),
        hard(call(3, 3, 1, n_sinks=5)),
        hard(call(0, 3, 2)),
        hard(call(1, 0, 1)),
        hard(call(2, 4, 0)),
        hard(call(5, 3, 2)),
    ],
)
bank.terms("sliding_window_mask", mask="query key")


def _slide(n_queries, n_keys, window, n_sinks=0):
    if window < 1 or n_queries > n_keys:
        raise ValueError("bad sizes")
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]
    key = torch.arange(n_keys)
    return (key <= query) & ((query - key < window) | (key < n_sinks))


@bank.mistake(
    "sliding_window_mask",
    "Each query sees one key too many. Look at whether the window counts the query itself.",
)
def slide_one_too_many(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    return _slide(n_queries, n_keys, window + 1, n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "Each query sees one key too few: the window counts the query itself.",
)
def slide_one_too_few(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]
    key = torch.arange(n_keys)
    near = (query - key < window - 1) | (query == key) | (key < n_sinks)
    return (key <= query) & near


@bank.mistake(
    "sliding_window_mask",
    "Your mask is aligned with the first keys. The queries are the last tokens: the last query is "
    "the last key.",
)
def slide_aligned_with_the_first(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    query, key = torch.arange(n_queries)[:, None], torch.arange(n_keys)
    return (key <= query) & ((query - key < window) | (key < n_sinks))


@bank.mistake(
    "sliding_window_mask",
    "The window lets queries see what comes after them. Only keys at or before the query count.",
)
def slide_without_causality(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]
    key = torch.arange(n_keys)
    return ((query - key).abs() < window) | (key < n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "Some queries see sinks that come after them. A sink, too, is seen only by itself and by what "
    "comes later.",
)
def slide_sinks_in_the_future(n_queries, n_keys, window, n_sinks=0):
    mask = _slide(n_queries, n_keys, window)
    mask[:, :n_sinks] = True
    return mask


@bank.mistake(
    "sliding_window_mask",
    "`n_sinks` is not used. The first keys stay visible to everyone after them: which "
    "comparison says that a key is a sink?",
)
def slide_without_sinks(n_queries, n_keys, window, n_sinks=0):
    return _slide(n_queries, n_keys, window)


@bank.mistake(
    "sliding_window_mask",
    "This is the full causal mask: the window is not used. Which comparison says that a key is "
    "near?",
)
def slide_without_window(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    return _slide(n_queries, n_keys, n_keys, n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "Your mask works the wrong way round: True means *may attend*.",
)
def slide_inverted(n_queries, n_keys, window, n_sinks=0):
    return ~_slide(n_queries, n_keys, window, n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "A key must be near and a sink at the same time in your code. Look at how the two are joined.",
)
def slide_sinks_with_and(n_queries, n_keys, window, n_sinks=0):
    mask = _slide(n_queries, n_keys, window)
    return mask & (torch.arange(n_keys) < n_sinks) if n_sinks else mask


@bank.mistake(
    "sliding_window_mask",
    "The sinks are taken out of the window, so the queries see fewer near keys. They come in "
    "addition.",
)
def slide_sinks_inside_the_window(n_queries, n_keys, window, n_sinks=0):
    _slide(n_queries, n_keys, window)
    return _slide(n_queries, n_keys, max(window - n_sinks, 1), n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "The mask holds numbers. It needs True and False (dtype torch.bool): added to scores or used "
    "with ~, numbers mean something else.",
)
def slide_of_numbers(n_queries, n_keys, window, n_sinks=0):
    return _slide(n_queries, n_keys, window, n_sinks).float()


@bank.mistake(
    "sliding_window_mask",
    "A window below 1 leaves a query with nothing to see, and its softmax gives nan: raise a "
    "ValueError.",
)
def slide_accepts_no_window(n_queries, n_keys, window, n_sinks=0):
    return _slide(n_queries, n_keys, max(window, 1), n_sinks)


@bank.mistake(
    "sliding_window_mask",
    "More queries than keys cannot be: each query is one of the keys. Raise a ValueError.",
)
def slide_accepts_more_queries(n_queries, n_keys, window, n_sinks=0):
    if window < 1:
        raise ValueError("bad window")
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]
    key = torch.arange(n_keys)
    return (key <= query) & ((query - key < window) | (key < n_sinks))


@bank.variant("sliding_window_mask")
def slide_by_triangles(n_queries, n_keys, window, n_sinks=0):
    if window < 1 or n_queries > n_keys:
        raise ValueError("bad sizes")
    offset = n_keys - n_queries
    causal = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(offset)
    near = torch.ones(n_queries, n_keys, dtype=torch.bool).triu(offset - window + 1)
    near[:, :n_sinks] = True
    return causal & near


@bank.variant("sliding_window_mask")
def slide_by_loop(n_queries, n_keys, window, n_sinks=0):
    if window <= 0:
        raise ValueError("bad window")
    if n_keys < n_queries:
        raise ValueError("too many queries")
    mask = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    for row in range(n_queries):
        position = n_keys - n_queries + row
        mask[row, max(0, position - window + 1) : position + 1] = True
        mask[row, : min(n_sinks, position + 1)] = True
    return mask


@bank.variant("sliding_window_mask")
def slide_last_rows_of_the_square(n_queries, n_keys, window, n_sinks=0):
    if window < 1 or n_queries > n_keys:
        raise ValueError("bad sizes")
    distance = torch.arange(n_keys)[:, None] - torch.arange(n_keys)[None, :]
    square = distance.ge(0).logical_and(distance.lt(window))
    square[:, :n_sinks] = distance[:, :n_sinks].ge(0)
    return square[n_keys - n_queries :]


@bank.variant("sliding_window_mask")
def slide_by_distances(n_queries, n_keys, window, n_sinks=0):
    if window < 1 or n_queries > n_keys:
        raise ValueError("no such mask")
    back = torch.arange(n_keys - n_queries, n_keys)[:, None] - torch.arange(n_keys)[None]
    near = back.clamp(min=0) == back
    return near & (back.lt(window) | torch.arange(n_keys).lt(n_sinks))


@bank.variant("sliding_window_mask")
def slide_by_filling(n_queries, n_keys, window, n_sinks=0):
    if window <= 0 or n_keys < n_queries:
        raise ValueError("no such mask")
    mask = torch.zeros(n_queries, n_keys, dtype=torch.bool)
    for row in range(n_queries):
        end = n_keys - n_queries + row + 1
        mask[row, : min(n_sinks, end)] = True
        mask[row, max(0, end - window) : end] = True
    return mask


@bank.variant("sliding_window_mask")
def slide_without_what_is_too_old(n_queries, n_keys, window, n_sinks=0):
    if window < 1:
        raise ValueError("no window")
    if n_queries > n_keys:
        raise ValueError("too many queries")
    last = n_keys - n_queries
    past = torch.ones(n_queries, n_keys).tril(last)
    too_old = torch.ones(n_queries, n_keys).tril(last - window)
    too_old[:, :n_sinks] = 0
    return (past - too_old).bool()


# kv_cache_bytes

_LLAMA2, _LLAMA3 = MODELS["Llama-2-7B"], MODELS["Llama-3.1-8B"]
_QWEN3, _GEMMA2 = MODELS["Qwen3-0.6B"], MODELS["Gemma-2-9B"]
_MISTRAL, _SMOL = MODELS["Mistral-7B-v0.1"], MODELS["SmolLM2-135M"]
_GLM, _QWEN35 = MODELS["GLM-4.7-Flash"], MODELS["Qwen3.5-9B"]
_KIMI = MODELS["Kimi-Linear-48B-A3B"]


def _without_head_size(shape):
    return {key: value for key, value in shape.items() if key != "head_dim"}


bank.calls(
    "kv_cache_bytes",
    [
        call(dict(_LLAMA2), 1),
        call(dict(_LLAMA3), 1000),
        call(dict(_QWEN3), 512, batch=3),
        call(dict(_SMOL), 100, bits=4),
        call(dict(_SMOL), _SMOL["max_tokens"] + 7),
        hard(call(dict(_GEMMA2), 4000), "hard"),
        hard(call(dict(_GEMMA2), 6000), "hard"),
        hard(call(dict(_MISTRAL), 20000), "hard"),
        hard(call(dict(_LLAMA3), 0), "hard"),
        hard(call(_without_head_size(_QWEN3), 10), "hard"),
        hard(call({**_QWEN3, "head_dim": None}, 10), "hard"),
        hard(call(dict(_LLAMA3), -1), "hard"),
        hard(call(dict(_GLM), 1000), "kinds"),
        hard(call(dict(_QWEN35), 1000, batch=3), "kinds"),
        hard(call(dict(_KIMI), 0), "kinds"),
        hard(call(dict(_KIMI), 4096, bits=8), "kinds"),
    ],
)


def _bytes(shape, n_tokens, batch=1, bits=16, **other):
    shape = {**shape, **other}
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    if n_tokens < 0:
        raise ValueError("below 0")
    sliding = shape["n_sliding_layers"]
    latent, state = shape.get("n_latent_layers", 0), shape.get("n_state_layers", 0)
    held = n_tokens * (shape["n_layers"] - sliding - latent - state)
    if sliding:
        held += min(n_tokens, shape["sliding_window"]) * sliding
    numbers = 2 * held * shape["n_kv_heads"] * shape["head_dim"]
    numbers += latent * n_tokens * shape.get("latent_dim", 0)
    numbers += state * shape.get("state_numbers", 0)
    return numbers * batch * bits // 8


@bank.mistake(
    "kv_cache_bytes",
    "Half is missing. Look at what is kept for every token.",
)
def bytes_of_keys_only(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits) // 2


@bank.mistake(
    "kv_cache_bytes",
    "You count the query heads. Look at which heads keep anything.",
)
def bytes_of_query_heads(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits, n_kv_heads=shape["n_heads"])


@bank.mistake(
    "kv_cache_bytes",
    "The head size is worked out as width / heads. It stands on its own in the shape, and in some "
    "models it is another number (Qwen3-0.6B: 128, not 1024 / 16).",
)
def bytes_of_width_over_heads(shape, n_tokens, batch=1, bits=16):
    _bytes(shape, n_tokens)
    return _bytes(shape, n_tokens, batch, bits, head_dim=shape["width"] // shape["n_heads"])


@bank.mistake(
    "kv_cache_bytes",
    "This is the cache of a single layer. Every layer keeps keys and values of its own.",
)
def bytes_of_one_layer(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits) // shape["n_layers"]


@bank.mistake(
    "kv_cache_bytes",
    "`batch` is not used: texts do not share their keys and values.",
)
def bytes_without_batch(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, 1, bits)


@bank.mistake(
    "kv_cache_bytes",
    "These are bits, not bytes. Look at the last step: how many bits are a byte?",
)
def bytes_in_bits(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits) * 8


@bank.mistake(
    "kv_cache_bytes",
    "`bits` is not used: you always take 2 bytes a number.",
)
def bytes_always_sixteen(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, 16)


@bank.mistake(
    "kv_cache_bytes",
    "Your memory grows with the square of the length. That is the number of scores, and they are "
    "not kept; a key and a value per token are.",
)
def bytes_squared(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits) * n_tokens


@bank.mistake(
    "kv_cache_bytes",
    "The sliding window is not used: a sliding layer keeps no more than its last "
    "`sliding_window` tokens.",
)
def bytes_without_window(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits, n_sliding_layers=0)


@bank.mistake(
    "kv_cache_bytes",
    "The sliding window is used on every layer. Only `n_sliding_layers` of them slide, the others "
    "keep the whole text.",
)
def bytes_window_everywhere(shape, n_tokens, batch=1, bits=16):
    sliding = shape["n_layers"] if shape["sliding_window"] else 0
    return _bytes(shape, n_tokens, batch, bits, n_sliding_layers=sliding)


@bank.mistake(
    "kv_cache_bytes",
    "Sliding layers count with their whole window even when the text is shorter. Look at "
    "how many tokens such a text has to keep.",
)
def bytes_window_always_full(shape, n_tokens, batch=1, bits=16):
    right = _bytes(shape, n_tokens, batch, bits)
    missing = max((shape["sliding_window"] or 0) - n_tokens, 0) * shape["n_sliding_layers"]
    return right + 2 * missing * shape["n_kv_heads"] * shape["head_dim"] * batch * bits // 8


@bank.mistake(
    "kv_cache_bytes",
    "This is the number of GiB (or MiB, KiB), not of bytes. Leave dividing to whoever prints it.",
)
def bytes_in_gib(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits) / GIB


@bank.mistake(
    "kv_cache_bytes",
    "You count the full width for each token: that is what *all* query heads together would need, "
    "if each had keys of its own.",
)
def bytes_of_the_width(shape, n_tokens, batch=1, bits=16):
    _bytes(shape, n_tokens)
    return _bytes(shape, n_tokens, batch, bits, n_kv_heads=1, head_dim=shape["width"])


@bank.mistake(
    "kv_cache_bytes",
    "When the shape has no head size, you guess it. A guess is wrong for some models and nobody "
    "would notice: raise a ValueError.",
)
def bytes_guesses_head_size(shape, n_tokens, batch=1, bits=16):
    guess = shape.get("head_dim") or shape["width"] // shape["n_heads"]
    return _bytes(shape, n_tokens, batch, bits, head_dim=guess)


@bank.mistake(
    "kv_cache_bytes",
    "A missing head size ends in a KeyError (or TypeError) from deep inside. Raise a ValueError "
    "that says what is missing.",
)
def bytes_raises_key_error(shape, n_tokens, batch=1, bits=16):
    shape["head_dim"] * 1
    return _bytes(shape, n_tokens, batch, bits)


@bank.mistake(
    "kv_cache_bytes",
    "A negative number of tokens gives a negative memory. Look at the row *raises* of the table.",
)
def bytes_below_zero(shape, n_tokens, batch=1, bits=16):
    return int(math.copysign(_bytes(shape, abs(n_tokens), batch, bits), n_tokens))


@bank.mistake(
    "kv_cache_bytes",
    "Layers of other kinds count like full ones. Look at the second table, row by row: "
    "what does each kind keep?",
)
def bytes_without_kinds(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits, n_latent_layers=0, n_state_layers=0)


@bank.mistake(
    "kv_cache_bytes",
    "You count the latent vector twice. Look at the second table: in place of what does it stand?",
)
def bytes_of_two_latents(shape, n_tokens, batch=1, bits=16):
    twice = 2 * shape.get("latent_dim", 0)
    return _bytes(shape, n_tokens, batch, bits, latent_dim=twice)


@bank.mistake(
    "kv_cache_bytes",
    "You keep a latent vector for every key/value head. Look at the second table: how "
    "many has a token?",
)
def bytes_of_latents_per_head(shape, n_tokens, batch=1, bits=16):
    each = shape["n_kv_heads"] * shape.get("latent_dim", 0)
    return _bytes(shape, n_tokens, batch, bits, latent_dim=each)


@bank.mistake(
    "kv_cache_bytes",
    "The state grows with the text in your count. Look at what its row in the second "
    "table says of the length.",
)
def bytes_of_growing_states(shape, n_tokens, batch=1, bits=16):
    grown = n_tokens * shape.get("state_numbers", 0)
    return _bytes(shape, n_tokens, batch, bits, state_numbers=grown)


@bank.mistake(
    "kv_cache_bytes",
    "One state is counted for the whole batch. Look at where `batch` comes in for each "
    "kind of layer.",
)
def bytes_of_one_state(shape, n_tokens, batch=1, bits=16):
    states = shape.get("n_state_layers", 0) * shape.get("state_numbers", 0) * bits // 8
    return _bytes(shape, n_tokens, batch, bits) - (batch - 1) * states


@bank.mistake(
    "kv_cache_bytes",
    "An empty text costs nothing in your count. Look at what a state layer holds before "
    "the first token.",
)
def bytes_without_an_empty_state(shape, n_tokens, batch=1, bits=16):
    right = _bytes(shape, n_tokens, batch, bits)
    return right if n_tokens else 0


@bank.mistake(
    "kv_cache_bytes",
    "Latent layers are counted rightly, and once more among the full ones. Look at how "
    "you count the full layers.",
)
def bytes_of_latent_layers_twice(shape, n_tokens, batch=1, bits=16):
    latent = shape.get("n_latent_layers", 0)
    also = 2 * latent * n_tokens * shape["n_kv_heads"] * shape["head_dim"] * batch * bits // 8
    return _bytes(shape, n_tokens, batch, bits) + also


@bank.mistake(
    "kv_cache_bytes",
    "Tokens beyond `max_tokens` are not counted. Look at the row `n_tokens` of the table.",
)
def bytes_up_to_the_limit(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, min(n_tokens, shape["max_tokens"]), batch, bits)


@bank.mistake(
    "kv_cache_bytes",
    "`bits` is made whole bytes first, and 4 bits are none. Look at where you divide by 8.",
)
def bytes_of_whole_bytes(shape, n_tokens, batch=1, bits=16):
    return _bytes(shape, n_tokens, batch, bits // 8 * 8)


@bank.variant("kv_cache_bytes")
def bytes_layer_by_layer(shape, n_tokens, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    if n_tokens < 0:
        raise ValueError("below 0")
    total = 0
    for layer in range(shape["n_layers"]):
        held = n_tokens
        if layer < shape["n_sliding_layers"]:
            held = min(held, shape["sliding_window"])
        latent = shape["n_sliding_layers"] + shape.get("n_latent_layers", 0)
        state = latent + shape.get("n_state_layers", 0)
        if shape["n_sliding_layers"] <= layer < latent:
            total += batch * held * shape["latent_dim"]
        elif latent <= layer < state:
            total += batch * shape["state_numbers"]
        else:
            for _ in ("keys", "values"):
                total += batch * held * shape["n_kv_heads"] * shape["head_dim"]
    return total * bits // 8


@bank.variant("kv_cache_bytes")
def bytes_with_fractions(shape, n_tokens, batch=1, bits=16):
    if "head_dim" not in shape or shape["head_dim"] is None or n_tokens < 0:
        raise ValueError("the shape lacks its head size, or there are fewer than 0 tokens")
    window = shape["sliding_window"] or n_tokens
    get = {"n_latent_layers": 0, "n_state_layers": 0, "latent_dim": 0, "state_numbers": 0, **shape}
    less = get["n_sliding_layers"] + get["n_latent_layers"] + get["n_state_layers"]
    layers = [n_tokens] * (shape["n_layers"] - less)
    layers += [min(window, n_tokens)] * shape["n_sliding_layers"]
    sizes = [2 * shape["n_kv_heads"] * shape["head_dim"] * n for n in layers]
    sizes += [get["latent_dim"] * n_tokens] * get["n_latent_layers"]
    sizes += [get["state_numbers"]] * get["n_state_layers"]
    return int(batch * (bits / 8) * sum(sizes))


@bank.variant("kv_cache_bytes")
def bytes_as_a_float(shape, n_tokens, batch=1, bits=16):
    return float(_bytes(shape, n_tokens, batch, bits))


@bank.variant("kv_cache_bytes")
def bytes_of_a_token_first(shape, n_tokens, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    if n_tokens < 0:
        raise ValueError("below 0")
    n_latent, n_state = shape.get("n_latent_layers", 0), shape.get("n_state_layers", 0)
    n_sliding, window = shape["n_sliding_layers"], shape["sliding_window"]
    pair = 2 * shape["n_kv_heads"] * shape["head_dim"]
    each = pair * (shape["n_layers"] - n_sliding - n_latent - n_state)
    each += n_latent * shape["latent_dim"] if n_latent else 0
    fixed = pair * n_sliding * (min(n_tokens, window) if window else 0)
    fixed += n_state * shape["state_numbers"] if n_state else 0
    return batch * bits * (n_tokens * each + fixed) // 8


@bank.variant("kv_cache_bytes")
def bytes_by_the_shape_of_an_array(shape, n_tokens, batch=1, bits=16):
    try:
        size = int(shape["head_dim"])
    except (KeyError, TypeError):
        raise ValueError("the head size is missing") from None
    if n_tokens < 0:
        raise ValueError("below 0")
    shapes = [(2, shape["n_kv_heads"], n_tokens, size)] * shape["n_layers"]
    for layer in range(shape["n_sliding_layers"]):
        shapes[layer] = (2, shape["n_kv_heads"], min(n_tokens, shape["sliding_window"]), size)
    first = shape["n_sliding_layers"]
    for layer in range(first, first + shape.get("n_latent_layers", 0)):
        shapes[layer] = (n_tokens, shape["latent_dim"])
    for layer in range(1, 1 + shape.get("n_state_layers", 0)):
        shapes[-layer] = (shape["state_numbers"],)
    return batch * sum(map(math.prod, shapes)) * bits // 8


# max_context

bank.calls(
    "max_context",
    [
        call(dict(_LLAMA3), 16 * GIB),
        call(dict(_LLAMA3), 80 * GIB),
        call(dict(_LLAMA3), 12 * GIB),
        call(dict(_LLAMA2), 15 * GIB, batch=2),
        call(dict(_LLAMA3), 16 * GIB, bits=8),
        hard(call(dict(_GEMMA2), 18 * GIB)),
        hard(call(dict(_GEMMA2), 19 * GIB)),
        hard(call(dict(_MISTRAL), 24 * GIB)),
        hard(call(dict(_LLAMA3), _LLAMA3["weight_bytes"] + 5 * 131072)),
        hard(call(dict(_LLAMA3), _LLAMA3["weight_bytes"] + 5 * 131072 - 1)),
        hard(call(_without_head_size(_QWEN3), 16 * GIB)),
        hard(call(_without_head_size(_QWEN3), 0)),
        hard(call({**_QWEN3, "head_dim": None}, 16 * GIB)),
        hard(call(dict(_QWEN35), 20 * GIB, batch=3)),
        hard(call(dict(_KIMI), _KIMI["weight_bytes"] + _bytes(_KIMI, 7, 1, 16))),
        hard(call(dict(_KIMI), _KIMI["weight_bytes"] + _bytes(_KIMI, 7, 1, 16) - 1)),
    ],
)


def _longest(shape, memory_bytes, batch=1, bits=16, weights=None, **other):
    room = memory_bytes - (shape["weight_bytes"] if weights is None else weights)
    if room < _bytes(shape, 1, batch, bits, **other):
        return 0
    low, high = 1, shape["max_tokens"]
    while low < high:
        middle = (low + high + 1) // 2
        if _bytes(shape, middle, batch, bits, **other) <= room:
            low = middle
        else:
            high = middle - 1
    return low


@bank.mistake(
    "max_context",
    "The states are not counted: a layer that keeps one needs it before the first token. Look at "
    "what an empty text costs.",
)
def longest_without_states(shape, memory_bytes, batch=1, bits=16):
    empty = _bytes(shape, 0, batch, bits)
    return _longest(shape, memory_bytes + empty, batch, bits)


@bank.mistake(
    "max_context",
    "Every layer is counted like a full one. Look at what the kinds of layers in exercise 5 keep.",
)
def longest_without_kinds(shape, memory_bytes, batch=1, bits=16):
    plain = {**shape, "n_sliding_layers": 0, "n_latent_layers": 0, "n_state_layers": 0}
    return _longest(plain, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "A head size of None was let through, or ended in a TypeError. Look at the row *raises* of the "
    "table: missing may be said in two ways.",
)
def longest_with_a_head_size_of_none(shape, memory_bytes, batch=1, bits=16):
    if "head_dim" not in shape:
        raise ValueError("the head size is missing")
    return _longest({**shape, "head_dim": 0 + shape["head_dim"]}, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "The shape that was passed in has changed, and the caller still needs it. Look for `pop`, or "
    "an assignment to one of its keys.",
)
def longest_changes_the_shape(shape, memory_bytes, batch=1, bits=16):
    weights = shape.pop("weight_bytes")
    return _longest(shape, memory_bytes, batch, bits, weights=weights)


@bank.mistake(
    "max_context",
    "The weights are forgotten. Look at what else lies in the same memory.",
)
def longest_without_weights(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, batch, bits, weights=0)


@bank.mistake(
    "max_context",
    "More tokens than the model is made for: `max_tokens` is a limit, too, however large the card.",
)
def longest_without_limit(shape, memory_bytes, batch=1, bits=16):
    return _longest({**shape, "max_tokens": 2**33}, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "A negative number comes back where not even the weights fit. Look at the row *returns* "
    "of the table.",
)
def longest_below_zero(shape, memory_bytes, batch=1, bits=16):
    room = memory_bytes - shape["weight_bytes"]
    if room < 0:
        return room // _bytes(shape, 1, batch, bits)
    return _longest(shape, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "One token too many at the edge. Look at what happens to a token that fits in part.",
)
def longest_rounds_up(shape, memory_bytes, batch=1, bits=16):
    found = _longest(shape, memory_bytes, batch, bits)
    room = memory_bytes - shape["weight_bytes"]
    if 0 < found < shape["max_tokens"] and _bytes(shape, found, batch, bits) < room:
        found += 1
    return found


@bank.mistake(
    "max_context",
    "One token too few: a cache that fills the memory to the last byte still fits. Look at "
    "your comparison.",
)
def longest_wants_a_byte_free(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes - 1, batch, bits)


@bank.mistake(
    "max_context",
    "`batch` is not used: each text of the batch needs a cache of its own.",
)
def longest_without_batch(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, 1, bits)


@bank.mistake(
    "max_context",
    "`bits` is not used: a cache of 8-bit numbers holds twice as many tokens.",
)
def longest_always_sixteen(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, batch, 16)


@bank.mistake(
    "max_context",
    "`bits` shrinks the weights too. It is about the cache; the weights' bytes stand in the shape.",
)
def longest_shrinks_weights(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, batch, bits, weights=shape["weight_bytes"] * bits // 16)


@bank.mistake(
    "max_context",
    "You divide by the bytes of the first token. Where layers slide, look at what a token"
    " costs past the window.",
)
def longest_by_division(shape, memory_bytes, batch=1, bits=16):
    room = max(memory_bytes - shape["weight_bytes"], 0)
    return min(room // _bytes(shape, 1, batch, bits), shape["max_tokens"])


@bank.mistake(
    "max_context",
    "The batch's weights are counted once per text. All texts are read with the same weights.",
)
def longest_weights_per_text(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, batch, bits, weights=batch * shape["weight_bytes"])


@bank.mistake(
    "max_context",
    "The result is the memory that is left, not the number of tokens that fit in it.",
)
def longest_returns_bytes(shape, memory_bytes, batch=1, bits=16):
    _bytes(shape, 1)
    return max(memory_bytes - shape["weight_bytes"], 0)


@bank.mistake(
    "max_context",
    "Query heads are counted where the key/value heads (`n_kv_heads`) keep the cache.",
)
def longest_with_query_heads(shape, memory_bytes, batch=1, bits=16):
    return _longest(shape, memory_bytes, batch, bits, n_kv_heads=shape["n_heads"])


@bank.mistake(
    "max_context",
    "When the shape has no head size, you guess it. Look at the row *raises* of the table.",
)
def longest_guesses_head_size(shape, memory_bytes, batch=1, bits=16):
    shape = {"head_dim": shape["width"] // shape["n_heads"], **shape}
    return _longest(shape, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "Just past the sliding window a few tokens more would fit. Look at what a token costs there.",
)
def longest_by_division_up_to_the_window(shape, memory_bytes, batch=1, bits=16):
    found = longest_by_division(shape, memory_bytes, batch, bits)
    if found > (shape["sliding_window"] or found):
        found = _longest(shape, memory_bytes, batch, bits)
    return found


@bank.mistake(
    "max_context",
    "The head size is asked for only when there is room. A shape that lacks it is wrong whatever "
    "the memory: raise the ValueError first.",
)
def longest_asks_late_for_head_size(shape, memory_bytes, batch=1, bits=16):
    room = memory_bytes - shape["weight_bytes"]
    return _longest(shape, memory_bytes, batch, bits) if room > 0 else 0


@bank.mistake(
    "max_context",
    "A missing head size ends in a KeyError (or TypeError) from deep inside. Look at the row "
    "*raises* of the table.",
)
def longest_raises_key_error(shape, memory_bytes, batch=1, bits=16):
    if shape.get("head_dim") is None:
        shape["head_dim"] * shape["n_kv_heads"]
    return _longest(shape, memory_bytes, batch, bits)


@bank.mistake(
    "max_context",
    "Where everything fits, one token less than `max_tokens` comes back. Look at the upper end of "
    "your search.",
)
def longest_below_the_limit(shape, memory_bytes, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    return min(_longest(shape, memory_bytes, batch, bits), shape["max_tokens"] - 1)


@bank.mistake(
    "max_context",
    "At least one token comes back, though not even one may fit. Look at the lower end of your "
    "search.",
)
def longest_at_least_one(shape, memory_bytes, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    return max(1, _longest(shape, memory_bytes, batch, bits))


@bank.variant("max_context")
def longest_by_solving(shape, memory_bytes, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    n_sliding, n_latent, n_state = (
        shape.get(f"n_{kind}_layers", 0) for kind in ("sliding", "latent", "state")
    )
    room = (memory_bytes - shape["weight_bytes"]) * 8
    room -= n_state * shape.get("state_numbers", 0) * batch * bits
    per_layer = 2 * shape["n_kv_heads"] * shape["head_dim"] * batch * bits
    each = per_layer * (shape["n_layers"] - n_sliding - n_latent - n_state)
    each += n_latent * shape.get("latent_dim", 0) * batch * bits
    n = max(room, 0) // (each + per_layer * n_sliding)
    if n_sliding and n >= shape["sliding_window"]:
        rest = room - per_layer * n_sliding * shape["sliding_window"]
        n = rest // each if each else shape["max_tokens"]
    return min(n, shape["max_tokens"])


@bank.variant("max_context")
def longest_by_doubling_steps(shape, memory_bytes, batch=1, bits=16):
    room = memory_bytes - shape["weight_bytes"]
    found, step = 0, 1 << shape["max_tokens"].bit_length()
    while step:
        longer = found + step
        if longer <= shape["max_tokens"] and _bytes(shape, longer, batch, bits) <= room:
            found = longer
        step //= 2
    if "head_dim" not in shape:
        raise ValueError("the head size is missing")
    return found


@bank.variant("max_context")
def longest_by_bisect(shape, memory_bytes, batch=1, bits=16):
    from bisect import bisect_right

    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    room = memory_bytes - shape["weight_bytes"]
    lengths = range(shape["max_tokens"] + 1)
    return max(0, bisect_right(lengths, room, key=lambda n: _bytes(shape, n, batch, bits)) - 1)


@bank.variant("max_context")
def longest_in_two_stretches(shape, memory_bytes, batch=1, bits=16):
    if shape.get("head_dim") is None:
        raise ValueError("the head size is missing")
    room, longest = memory_bytes - shape["weight_bytes"], shape["max_tokens"]
    bend = min(shape["sliding_window"] if shape["n_sliding_layers"] else longest, longest)
    fixed = _bytes(shape, 0, batch, bits * 8)  # in bits, so that nothing is rounded
    first = _bytes(shape, 1, batch, bits * 8) - fixed
    if room * 8 < _bytes(shape, bend, batch, bits * 8):
        return max(0, (room * 8 - fixed) // first)
    per_later = _bytes(shape, bend + 1, batch, bits * 8) - _bytes(shape, bend, batch, bits * 8)
    if per_later == 0:
        return longest
    return min(longest, bend + (room * 8 - _bytes(shape, bend, batch, bits * 8)) // per_later)


@bank.variant("max_context")
def longest_as_a_float(shape, memory_bytes, batch=1, bits=16):
    return float(longest_by_solving(shape, memory_bytes, batch, bits))
