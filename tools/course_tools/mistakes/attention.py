"""How learners get the attention lesson's exercises wrong, and what else is right."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from course_tools.mistakes.bank import Bank, call, hard, typed

bank = Bank("attention")


def _numbers(seed: int, *shape: int, scale: float = 1.0) -> np.ndarray:
    """Return numbers with two decimals, so that a fingerprint file holds them exactly."""
    return np.round(np.random.default_rng(seed).normal(scale=scale, size=shape), 2)


def _tensor(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(_numbers(seed, *shape, scale=scale))


def _softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponentials / np.sum(exponentials, axis=axis, keepdims=True)


# softmax

bank.calls(
    "softmax",
    [
        call(np.array([2.0, 1.0, 0.0])),
        call(_numbers(1, 3, 4)),
        call(_numbers(2, 2, 3, 4), axis=1),
        hard(call(np.array([[900.0, 899.0, 898.0], [-900.0, -899.0, -898.0]]))),
        hard(call(np.array([[-900.0, -899.0, -898.0], [-895.0, -894.0, -897.0]]))),
        hard(call(np.array([[0.5, -np.inf, 1.5]]))),
    ],
)
bank.terms("softmax", weights="")


@bank.mistake(
    "softmax",
    "Large entries overflow: np.exp(900) is inf, and inf / inf is nan. A softmax does not change "
    "when the same number is taken from every entry of a row; which number keeps all exponents "
    "at 0 or below?",
)
def softmax_overflows(x, axis=-1):
    exponentials = np.exp(x)
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@bank.mistake(
    "softmax",
    "Your weights sum to 1 over the whole array, not along `axis`. Look at the sum: along "
    "which axis does it add up?",
)
def softmax_over_everything(x, axis=-1):
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponentials / exponentials.sum()


@bank.mistake(
    "softmax",
    "You always work along the last axis: the argument `axis` is not used. Look at each place "
    "where an axis is named.",
)
def softmax_ignores_axis(x, axis=-1):
    return _softmax(x, -1)


@bank.mistake(
    "softmax",
    "One maximum for the whole array is taken from every row, and in a row far below it all "
    "becomes 0 / 0. Look at the axis of the maximum.",
)
def softmax_one_maximum(x, axis=-1):
    exponentials = np.exp(x - np.max(x))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@bank.mistake(
    "softmax",
    "You take the largest absolute value off each row, which moves large negative numbers "
    "further down, to 0 / 0. Look at which entry has to come to 0.",
)
def softmax_takes_the_absolute_maximum(x, axis=-1):
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(
            x - np.max(np.abs(x), axis=axis, keepdims=True, initial=0, where=np.isfinite(x))
        )
        return exponentials / exponentials.sum(axis=axis, keepdims=True)


@bank.mistake(
    "softmax",
    "The sum lost its axis, so it cannot be lined up with the rows again when you divide. "
    "Look up what `keepdims` does in NumPy's sum and max.",
)
def softmax_without_keepdims(x, axis=-1):
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis)


@bank.mistake(
    "softmax",
    "Your function changes the array that it was given: the caller still needs it. Work on a new "
    "array instead of `-=` or `out=`.",
)
def softmax_changes_its_input(x, axis=-1):
    x -= x.max(axis=axis, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=axis, keepdims=True)
    return x


@bank.mistake(
    "softmax",
    "These are the logarithms of the weights. Weights are positive and sum to 1: what undoes a "
    "logarithm?",
)
def softmax_of_logarithms(x, axis=-1):
    with np.errstate(divide="ignore"):
        return np.log(_softmax(x, axis))


@bank.mistake(
    "softmax",
    "You divide by the sum of the entries themselves, and entries can be negative. Look at "
    "the formula.",
)
def softmax_without_exponential(x, axis=-1):
    return x / x.sum(axis=axis, keepdims=True)


@bank.mistake(
    "softmax",
    "The exponentials are right, but nothing makes them sum to 1 yet. Look at what the "
    "formula does after them.",
)
def softmax_without_sum(x, axis=-1):
    return np.exp(x - np.max(x, axis=axis, keepdims=True))


@bank.mistake(
    "softmax",
    "Large entries are cut off before the exponential, so entries that differ come out "
    "equal. Look for a change that leaves all differences as they are.",
)
def softmax_clips(x, axis=-1):
    exponentials = np.exp(np.clip(x, -700, 700))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


@bank.mistake(
    "softmax",
    "Minus infinity became something other than 0, although a key that is shut out must get no "
    "weight at all. Look at what your code does with infinite entries before the exponential.",
)
def softmax_loses_minus_infinity(x, axis=-1):
    return _softmax(np.nan_to_num(x, neginf=0.0), axis)


@bank.variant("softmax")
def softmax_by_torch(x, axis=-1):
    return torch.softmax(torch.from_numpy(np.array(x, dtype=float)), dim=axis).numpy()


@bank.variant("softmax")
def softmax_in_float32(x, axis=-1):
    return torch.softmax(torch.from_numpy(np.array(x)).float(), dim=axis).to(torch.float64).numpy()


@bank.variant("softmax")
def softmax_with_a_tiny_number_below(x, axis=-1):
    exponentials = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return exponentials / (exponentials.sum(axis=axis, keepdims=True) + 1e-9)


@bank.variant("softmax")
def softmax_by_logsumexp(x, axis=-1):
    top = np.max(x, axis=axis, keepdims=True)
    return np.exp(x - top - np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)))


@bank.variant("softmax")
def softmax_in_its_own_buffer(x, axis=-1):
    weights = np.array(x, dtype=float)
    weights -= weights.max(axis=axis, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=axis, keepdims=True)
    return weights


@bank.variant("softmax")
def softmax_row_by_row(x, axis=-1):
    return np.apply_along_axis(_softmax, axis, np.asarray(x, float)) if np.size(x) else np.array(x)


@bank.variant("softmax")
def softmax_axis_last_and_back(x, axis=-1):
    rows = np.moveaxis(x, axis, -1)
    weights = np.exp(rows - rows.max(-1)[..., None])
    return np.moveaxis(weights / weights.sum(-1)[..., None], -1, axis)


# scaled_dot_product_attention

_MASK = np.array([[1, 1, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=bool)

bank.calls(
    "scaled_dot_product_attention",
    [
        call(_numbers(11, 3, 4), _numbers(12, 5, 4), _numbers(13, 5, 2)),
        call(_numbers(14, 3, 4), _numbers(15, 5, 4), _numbers(16, 5, 2), _MASK),
        call(_numbers(17, 2, 3, 4), _numbers(18, 2, 5, 4), _numbers(19, 2, 5, 2)),
        hard(call(np.array([[-3e4, 2e4]]), np.eye(2), np.eye(2), np.array([[True, False]]))),
        hard(call(np.array([[3e3, 2e3]]), np.eye(2), np.eye(2))),
        hard(
            call(
                *(_numbers(seed, 2, 3, *size) for seed, size in ((21, (2, 4)), (22, (3, 4)))),
                _numbers(23, 2, 3, 3, 1),
                np.array([[[[1, 1, 0], [0, 1, 0]]], [[[0, 1, 1], [1, 0, 1]]]], dtype=bool),
            )
        ),
        hard(
            call(
                np.array([[-1e5]]),
                np.array([[1.0], [1.0]]),
                np.array([[3.0], [5.0]]),
                np.array([[True, False]]),
            )
        ),
        hard(
            call(
                np.array([[-3e12]]),
                np.array([[1.0], [-1.0]]),
                np.array([[2.0], [7.0]]),
                np.array([[True, False]]),
            )
        ),
    ],
)
bank.terms("scaled_dot_product_attention", output="query number", weights="query key")


def _attend(q, k, v, mask=None, scale=None, fill=-np.inf):
    scores = np.einsum("...ld,...sd->...ls", q, k)
    scores = scores / np.sqrt(q.shape[-1]) if scale is None else scores * scale
    if mask is not None:
        scores = np.where(mask, scores, fill)
    weights = _softmax(scores)
    return np.einsum("...ls,...se->...le", weights, v), weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The scores have no scale, so they grow with the head size D and softmax turns hard. "
    "Look at step 2 of the example by hand.",
)
def attention_without_scale(q, k, v, mask=None):
    return _attend(q, k, v, mask, scale=1.0)


@bank.mistake(
    "scaled_dot_product_attention",
    "The scores are divided by D itself. Look at how far a sum of D products spreads.",
)
def attention_divided_by_d(q, k, v, mask=None):
    return _attend(q, k, v, mask, scale=1 / q.shape[-1])


@bank.mistake(
    "scaled_dot_product_attention",
    "The scores are divided by the root of the number of keys. The scale is for the length of "
    "the vectors, the head size D; more keys do not make a dot product larger.",
)
def attention_divided_by_root_of_keys(q, k, v, mask=None):
    return _attend(q, k, v, mask, scale=1 / np.sqrt(k.shape[-2]))


@bank.mistake(
    "scaled_dot_product_attention",
    "You multiply the scores by √D. The scale is there to make them smaller: look at the line "
    "with the root.",
)
def attention_multiplied_by_root_of_d(q, k, v, mask=None):
    return _attend(q, k, v, mask, scale=np.sqrt(q.shape[-1]))


@bank.mistake(
    "scaled_dot_product_attention",
    "The scale comes after the softmax, so your weights no longer sum to 1. Look at the "
    "order of steps 2 and 3 of the example by hand.",
)
def attention_scaled_after_softmax(q, k, v, mask=None):
    _, weights = _attend(q, k, v, mask, scale=1.0)
    weights = weights / np.sqrt(q.shape[-1])
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The softmax runs over the queries: your columns sum to 1. Look at whose weight is "
    "shared out among whom.",
)
def attention_softmax_over_queries(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = _softmax(scores, -2)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "Your scores have one row per key. Look at the shape that the table asks for.",
)
def attention_keys_times_queries(q, k, v, mask=None):
    scores = k @ q.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask.swapaxes(-1, -2), scores, -np.inf)
    with np.errstate(invalid="ignore"):
        weights = _softmax(scores)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The output is right, but the weights that you return are those from before the mask. Look "
    "at which of your variables you return.",
)
def attention_returns_weights_before_mask(q, k, v, mask=None):
    return _attend(q, k, v, mask)[0], _attend(q, k, v)[1]


@bank.mistake(
    "scaled_dot_product_attention",
    "You return the masked scores where the weights are asked for: those come after the softmax.",
)
def attention_returns_scores(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    return _attend(q, k, v, mask)[0], scores


@bank.mistake(
    "scaled_dot_product_attention",
    "The mask is not used: keys that a query may not attend to still get weight. Look for "
    "the last moment at which a key can still be kept from getting any.",
)
def attention_ignores_mask(q, k, v, mask=None):
    return _attend(q, k, v)


@bank.mistake(
    "scaled_dot_product_attention",
    "Your mask works the wrong way round: True means *may attend*, False shuts a key out.",
)
def attention_mask_inverted(q, k, v, mask=None):
    return _attend(q, k, v, None if mask is None else ~mask)


@bank.mistake(
    "scaled_dot_product_attention",
    "The masked weights are set to 0 after the softmax, so what is left does not sum to 1: "
    "with values of all ones the output is not ones. Look at when the keys are shut out.",
)
def attention_zeroes_weights(q, k, v, mask=None):
    _, weights = _attend(q, k, v)
    weights = weights if mask is None else weights * mask
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The scores of keys that are shut out become 0, and exp(0) is 1: that is not 'no'. "
    "Which score gives no weight at all?",
)
def attention_multiplies_scores(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = _softmax(scores if mask is None else scores * mask)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The masked scores are not low enough, so shut-out keys keep a little weight. Which score "
    "gives exactly 0, whatever the others are?",
)
def attention_fills_with_minus_ten(q, k, v, mask=None):
    return _attend(q, k, v, mask, fill=-10.0)


@bank.mistake(
    "scaled_dot_product_attention",
    "The masked scores are filled with -10,000, and scores can be lower than that: then the "
    "shut-out keys win. Which score is below every other?",
)
def attention_fills_with_minus_ten_thousand(q, k, v, mask=None):
    return _attend(q, k, v, mask, fill=-1e4)


@bank.mistake(
    "scaled_dot_product_attention",
    "The masked scores are filled with the lowest number of float16, and scores in float64 can be "
    "lower: then the shut-out keys win. Which score is below every other?",
)
def attention_fills_with_the_lowest_half(q, k, v, mask=None):
    return _attend(q, k, v, mask, fill=-65504.0)


@bank.mistake(
    "scaled_dot_product_attention",
    "The mask is added to the scores. Look at what Python makes of True and False in a sum.",
)
def attention_adds_bool(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = _softmax(scores if mask is None else scores + mask)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "The answer comes as (weights, output). Look at the order in the row *returns* of the table.",
)
def attention_wrong_order(q, k, v, mask=None):
    return _attend(q, k, v, mask)[::-1]


@bank.mistake(
    "scaled_dot_product_attention",
    "Only the output comes back. Return the pair (output, weights): the pictures need the weights.",
)
def attention_only_output(q, k, v, mask=None):
    return _attend(q, k, v, mask)[0]


@bank.mistake(
    "scaled_dot_product_attention",
    "`k.T` turns every axis round, so batches do not work. Look at which axes have to "
    "change places.",
)
def attention_transposes_every_axis(q, k, v, mask=None):
    scores = q @ k.T / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = _softmax(scores)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "Large scores overflow in your softmax. Look at what the exercise above did about it.",
)
def attention_overflows(q, k, v, mask=None):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        exponentials = np.exp(scores)
        weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return weights @ v, weights


@bank.mistake(
    "scaled_dot_product_attention",
    "Your function changes one of the arrays that it was given: the caller still needs it. Write "
    "the scaled queries to a new array.",
)
def attention_changes_queries(q, k, v, mask=None):
    q /= np.sqrt(q.shape[-1])
    return _attend(q, k, v, mask, scale=1.0)


@bank.mistake(
    "scaled_dot_product_attention",
    "The scores are divided by the root of the size of the values. Look at which vectors are "
    "multiplied for a score.",
)
def attention_divided_by_root_of_values(q, k, v, mask=None):
    return _attend(q, k, v, mask, scale=1 / np.sqrt(v.shape[-1]))


@bank.mistake(
    "scaled_dot_product_attention",
    "You draw a causal mask of your own where none is given. Look at the row `mask` of the table.",
)
def attention_always_causal(q, k, v, mask=None):
    if mask is None:
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    return _attend(q, k, v, mask)


@bank.variant("scaled_dot_product_attention")
def attention_by_einsum(q, k, v, mask=None):
    return _attend(q, k, v, mask)


@bank.variant("scaled_dot_product_attention")
def attention_scaled_queries(q, k, v, mask=None):
    return _attend(q / q.shape[-1] ** 0.5, k, v, mask, scale=1.0)


@bank.variant("scaled_dot_product_attention")
def attention_additive_mask(q, k, v, mask=None):
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) / np.sqrt(k.shape[-1])
    if mask is not None:
        scores = scores + np.where(mask, 0.0, -np.inf)
    weights = _softmax(scores)
    return np.matmul(weights, v), weights


@bank.variant("scaled_dot_product_attention")
def attention_masked_then_renormalised(q, k, v, mask=None):
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is None:
        mask = np.ones(scores.shape[-2:], dtype=bool)
    top = np.max(np.where(mask, scores, -np.inf), axis=-1, keepdims=True)
    weights = np.exp(np.minimum(scores - top, 0)) * mask
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return weights @ v, weights


@bank.variant("scaled_dot_product_attention")
def attention_in_float32_throughout(q, k, v, mask=None):
    q, k, v = (x.astype(np.float32) for x in (q, k, v))
    output, weights = _attend(q, k, v, mask)
    return output.astype(np.float64), weights.astype(np.float64)


@bank.variant("scaled_dot_product_attention")
def attention_softmax_in_float32(q, k, v, mask=None):
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = _softmax(scores.astype(np.float32)).astype(q.dtype)
    return weights @ v, weights


@bank.variant("scaled_dot_product_attention")
def attention_by_torch(q, k, v, mask=None):
    q, k, v = (torch.from_numpy(np.array(x)) for x in (q, k, v))
    mask = None if mask is None else torch.from_numpy(np.array(mask))
    identity = torch.eye(k.shape[-2], dtype=k.dtype).expand(*k.shape[:-1], k.shape[-2])
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    weights = F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)
    return output.numpy(), weights.numpy()


@bank.variant("scaled_dot_product_attention")
def attention_on_both_sides(q, k, v, mask=None):
    root = q.shape[-1] ** 0.25
    return _attend(q / root, k / root, v, mask, scale=1.0)


@bank.variant("scaled_dot_product_attention")
def attention_with_scores_copied(q, k, v, mask=None):
    scores = np.matmul(q, k.swapaxes(-1, -2)) / np.sqrt(k.shape[-1])
    if mask is not None:
        scores = scores.copy()
        scores[~np.broadcast_to(mask, scores.shape)] = -np.inf
    weights = _softmax(scores)
    return weights @ v, weights


@bank.variant("scaled_dot_product_attention")
def attention_with_the_lowest_number(q, k, v, mask=None):
    return _attend(q, k, v, mask, fill=np.finfo(np.float64).min)


@bank.mistake(
    "scaled_dot_product_attention",
    "A finite number shuts the keys out, filled in or taken off, and scores can be lower: then the "
    "shut-out keys win. Look for a score that is below every other.",
)
def attention_fills_with_minus_a_billion(q, k, v, mask=None):
    return _attend(q, k, v, mask, fill=-1e9)


@bank.mistake(
    "scaled_dot_product_attention",
    "A finite number shuts the keys out, filled in or taken off, and scores can be lower: then the "
    "shut-out keys win. Look for a score that is below every other.",
)
def attention_subtracts_a_billion(q, k, v, mask=None):
    scores = np.einsum("...ld,...sd->...ls", q, k) / np.sqrt(q.shape[-1])
    weights = _softmax(scores if mask is None else scores - 1e9 * (1 - mask))
    return weights @ v, weights


# causal_mask

bank.calls(
    "causal_mask",
    [
        call(4, 4),
        call(1, 1),
        *(hard(call(*sizes)) for sizes in ((3, 6), (1, 5), (0, 3), (4, 2), (1, 0))),
    ],
)
bank.terms("causal_mask", mask="query key")


def _check_sizes(n_queries, n_keys):
    if n_queries > n_keys:
        raise ValueError("more queries than keys")


@bank.mistake(
    "causal_mask",
    "A single query is let through before the sizes are compared. One query among no keys "
    "cannot be either: look at what your function does first.",
)
def mask_lets_a_single_query_through(n_queries, n_keys):
    if n_queries == 1:
        return np.ones((1, n_keys), dtype=bool)
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "The diagonal is shut: no query sees itself, and the first one sees nothing at all (its row "
    "of weights would be nan). A token may attend to itself.",
)
def mask_without_diagonal(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries - 1)


@bank.mistake(
    "causal_mask",
    "Your mask is the right one turned round: True means *may attend*, and a query may attend to "
    "the past.",
)
def mask_inverted(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return ~np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "Your staircase starts at the top left: with 3 queries and 6 keys the last query sees only 3 "
    "of them. The queries are the *last* tokens, so the last query sees every key.",
)
def mask_aligned_top_left(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool))


@bank.mistake(
    "causal_mask",
    "Your staircase is one step too generous: each query also sees the token after it, the "
    "very one that it should predict. Look at the diagonal.",
)
def mask_sees_the_next(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries + 1)


@bank.mistake(
    "causal_mask",
    "Every query sees the future and not the past: this is the upper triangle. Which of the "
    "two, row or column, has to be the larger?",
)
def mask_upper_triangle(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.triu(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "Rows and columns are exchanged. One row per query, one column per key: look at the shape.",
)
def mask_transposed(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries).T


@bank.mistake(
    "causal_mask",
    "The mask holds numbers. It should hold True and False (dtype bool): as numbers, `mask` and "
    "`~mask` mean something else.",
)
def mask_of_numbers(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys)), n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "This is the mask that is *added* to the scores, 0 and minus infinity. Here True and False "
    "are asked for: look at the dtype in the table.",
)
def mask_to_be_added(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    seen = np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries)
    return np.where(seen, 0.0, -np.inf)


@bank.mistake(
    "causal_mask",
    "The mask is always square. It has n_queries rows and n_keys columns; they differ as soon as "
    "some keys were computed earlier.",
)
def mask_always_square(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_keys, n_keys), dtype=bool))


@bank.mistake(
    "causal_mask",
    "More queries than keys cannot be: each query is itself one of the keys. Raise a ValueError.",
)
def mask_accepts_more_queries(n_queries, n_keys):
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "The mask is open everywhere. Look at what a query may not see.",
)
def mask_all_open(n_queries, n_keys):
    if n_queries > n_keys:
        raise ValueError("more queries than keys")
    return np.ones((n_queries, n_keys), dtype=bool)


@bank.variant("causal_mask")
def mask_by_tri(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool)


@bank.variant("causal_mask")
def mask_by_last_rows(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tri(n_keys, dtype=bool)[n_keys - n_queries :]


@bank.variant("causal_mask")
def mask_by_loop(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    rows = [
        [key <= n_keys - n_queries + query for key in range(n_keys)] for query in range(n_queries)
    ]
    return np.array(rows, dtype=bool).reshape(n_queries, n_keys)


@bank.variant("causal_mask")
def mask_by_tril(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tril(np.ones((n_queries, n_keys), dtype=bool), k=n_keys - n_queries)


@bank.variant("causal_mask")
def mask_by_indices(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    query, key = np.indices((n_queries, n_keys))
    return key - query <= n_keys - n_queries


@bank.variant("causal_mask")
def mask_filled_row_by_row(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    mask = np.zeros((n_queries, n_keys), dtype=bool)
    for back in range(n_queries):
        mask[-1 - back, : n_keys - back] = True
    return mask


@bank.mistake(
    "causal_mask",
    "With no queries the mask has lost its columns, or was refused. Look at the shape that the "
    "table asks for when L is 0.",
)
def mask_loses_its_columns(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    rows = [[key <= n_keys - n_queries + i for key in range(n_keys)] for i in range(n_queries)]
    return np.array(rows, dtype=bool)


@bank.mistake(
    "causal_mask",
    "With no queries every row of the square comes back. Look at what `[-0:]` picks.",
)
def mask_takes_all_rows_for_none(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tri(n_keys, dtype=bool)[-n_queries:]


@bank.mistake(
    "causal_mask",
    "One query that is also the only key was refused. Look at the very edge of your comparison.",
)
def mask_refuses_one_of_one(n_queries, n_keys):
    if n_queries > n_keys or n_keys == 1:
        raise ValueError("too few keys")
    return np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool)


@bank.mistake(
    "causal_mask",
    "The mask is a PyTorch tensor. Look at the row *returns* of the table: which library is asked "
    "for here?",
)
def mask_of_the_other_library(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)


@bank.mistake(
    "causal_mask",
    "The mask is a list of lists, which cannot be indexed or turned round as an array can. Look at "
    "the row *returns* of the table.",
)
def mask_of_lists(n_queries, n_keys):
    _check_sizes(n_queries, n_keys)
    return np.tri(n_queries, n_keys, n_keys - n_queries, dtype=bool).tolist()


# split_heads

bank.calls(
    "split_heads",
    [
        call(_tensor(31, 2, 3, 8), 4),
        call(_tensor(32, 1, 4, 6), 2),
        hard(call(_tensor(34, 2, 1, 3), 1)),
        hard(typed(call(_tensor(35, 1, 2, 4).half(), 2))),
        hard(call(_tensor(33, 1, 2, 5), 2)),
    ],
)
bank.terms("split_heads", heads="text head token number")


def _check_heads(width, n_heads):
    if width % n_heads:
        raise ValueError(f"a width of {width} does not divide into {n_heads} heads")


@bank.mistake(
    "split_heads",
    "The numbers were regrouped, but not turned: a reshape straight to (B, H, L, D) mixes "
    "tokens and heads. Look at what lies next to what in memory.",
)
def split_by_reshape_alone(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    return x.reshape(batch, n_heads, length, width // n_heads)


@bank.mistake(
    "split_heads",
    "The heads are split, but they still stand after the tokens. Look at the order of the "
    "axes in the table.",
)
def split_without_transpose(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    return x.reshape(batch, length, n_heads, width // n_heads)


@bank.mistake(
    "split_heads",
    "Head h holds every H-th number, where it should hold a run of neighbours. Look at "
    "which of H and D varies faster along the width.",
)
def split_interleaved(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    return x.reshape(batch, length, width // n_heads, n_heads).permute(0, 3, 1, 2)


@bank.mistake(
    "split_heads",
    "The number of heads was taken for the size of a head. Write beside the line which axis "
    "has H places and which has D.",
)
def split_head_size_for_heads(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    return x.reshape(batch, length, width // n_heads, n_heads).transpose(1, 2)


@bank.mistake(
    "split_heads",
    "Each head is lying on its side. Look at which axes change places.",
)
def split_lying(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    return x.reshape(batch, length, n_heads, width // n_heads).permute(0, 2, 3, 1)


@bank.mistake(
    "split_heads",
    "The heads come first, before the batch. The batch stays the first axis: (B, H, L, D).",
)
def split_heads_first(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    return torch.stack(x.chunk(n_heads, dim=-1))


@bank.mistake(
    "split_heads",
    "A width that does not divide into the heads was cut off or passed on. Raise a ValueError "
    "that says so: silently dropped numbers are the hardest bug to find.",
)
def split_drops_the_rest(x, n_heads):
    batch, length, width = x.shape
    size = width // n_heads
    return x[..., : n_heads * size].reshape(batch, length, n_heads, size).transpose(1, 2)


@bank.mistake(
    "split_heads",
    "Only the first sequence of the batch comes out right. Look for an index or a size that "
    "stands for one text only.",
)
def split_first_of_batch(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    _, length, width = x.shape
    return x[:1].reshape(1, length, n_heads, width // n_heads).transpose(1, 2)


@bank.mistake(
    "split_heads",
    "The heads come in another dtype than x. Look at the tensor that you write them into: which "
    "dtype does a new one get?",
)
def split_into_float32(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    heads = torch.zeros(batch, n_heads, length, width // n_heads)
    for h, part in enumerate(x.chunk(n_heads, dim=-1)):
        heads[:, h] = part
    return heads


@bank.variant("split_heads")
def split_by_unflatten(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    return x.unflatten(-1, (n_heads, -1)).permute(0, 2, 1, 3)


@bank.variant("split_heads")
def split_by_chunks(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


@bank.variant("split_heads")
def split_into_a_copy(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    batch, length, width = x.shape
    heads = torch.empty(batch, n_heads, length, width // n_heads, dtype=x.dtype)
    for h in range(n_heads):
        heads[:, h] = x[:, :, h * heads.shape[-1] : (h + 1) * heads.shape[-1]]
    return heads


@bank.variant("split_heads")
def split_by_a_view(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    return x.view(*x.shape[:2], n_heads, -1).permute(0, 2, 1, 3)


@bank.variant("split_heads")
def split_by_einsum(x, n_heads):
    _check_heads(x.shape[-1], n_heads)
    return torch.einsum("blhd->bhld", x.unflatten(2, (n_heads, x.shape[2] // n_heads)))


# merge_heads

bank.calls(
    "merge_heads",
    [
        call(_tensor(41, 2, 4, 3, 2)),
        hard(call(_tensor(42, 1, 2, 4, 3))),
        hard(call(_tensor(43, 2, 1, 3, 2))),
        hard(typed(call(_tensor(44, 1, 3, 1, 2).half()))),
    ],
)
bank.terms("merge_heads", merged="text token number")


@bank.mistake(
    "merge_heads",
    "A reshape straight to (B, L, H·D) mixes tokens and heads. Look at what `split_heads` "
    "did last: that comes undone first.",
)
def merge_by_reshape_alone(x):
    batch, heads, length, size = x.shape
    return x.reshape(batch, length, heads * size)


@bank.mistake(
    "merge_heads",
    "The numbers of the heads are interleaved. Head h fills the places h·D to h·D + D − 1.",
)
def merge_interleaved(x):
    return x.permute(0, 2, 3, 1).flatten(2)


@bank.mistake(
    "merge_heads",
    "The heads are added up. They are put side by side, so that none of their numbers is lost.",
)
def merge_by_sum(x):
    return x.sum(dim=1)


@bank.mistake(
    "merge_heads",
    "The heads are averaged. They are put side by side, so that none of their numbers is lost.",
)
def merge_by_mean(x):
    return x.mean(dim=1)


@bank.mistake(
    "merge_heads",
    "The tokens stand before the heads again, but the last two axes are not joined yet: the "
    "result has three axes, (B, L, H·D).",
)
def merge_without_joining(x):
    return x.transpose(1, 2)


@bank.mistake(
    "merge_heads",
    "`view` cannot join axes whose numbers do not lie side by side in memory, and after a "
    "transpose they do not. PyTorch's message names a way out.",
)
def merge_by_view(x):
    batch, heads, length, size = x.shape
    return x.transpose(1, 2).view(batch, length, heads * size)


@bank.mistake(
    "merge_heads",
    "The heads come out one after the other along the tokens: (B, H·L, D). The length stays L.",
)
def merge_along_tokens(x):
    return x.flatten(1, 2)


@bank.mistake(
    "merge_heads",
    "The heads come out in reverse order. Head 0 stands first in each token: look at the order "
    "in which you join them.",
)
def merge_reversed(x):
    return x.flip(1).transpose(1, 2).flatten(2)


@bank.mistake(
    "merge_heads",
    "The result comes in another dtype than x. Look at the tensor that you write it into: which "
    "dtype does a new one get?",
)
def merge_into_float32(x):
    batch, heads, length, size = x.shape
    merged = torch.zeros(batch, length, heads * size)
    for h in range(heads):
        merged[..., h * size : (h + 1) * size] = x[:, h]
    return merged


@bank.variant("merge_heads")
def merge_by_contiguous_view(x):
    batch, heads, length, size = x.shape
    return x.transpose(1, 2).contiguous().view(batch, length, heads * size)


@bank.variant("merge_heads")
def merge_by_flatten(x):
    return x.permute(0, 2, 1, 3).flatten(2)


@bank.variant("merge_heads")
def merge_by_cat(x):
    return torch.cat(x.unbind(dim=1), dim=-1)


@bank.variant("merge_heads")
def merge_by_permute(x):
    batch, heads, length, size = x.shape
    return x.permute(0, 2, 1, 3).reshape(batch, length, heads * size)


@bank.variant("merge_heads")
def merge_into_room_of_its_own(x):
    batch, heads, length, size = x.shape
    out = x.new_empty(batch, length, heads * size)
    for h in range(heads):
        out[..., h * size : (h + 1) * size] = x[:, h]
    return out


# grouped_query_attention

_CAUSAL = torch.tril(torch.ones(2, 3, dtype=torch.bool), 1)

bank.calls(
    "grouped_query_attention",
    [
        call(_tensor(51, 1, 6, 2, 4), _tensor(52, 1, 2, 3, 4), _tensor(53, 1, 2, 3, 4)),
        call(_tensor(54, 1, 6, 2, 4), _tensor(55, 1, 2, 3, 4), _tensor(56, 1, 2, 3, 4), _CAUSAL),
        hard(
            call(
                torch.tensor([[[[-3e4, 2e4]]]]),
                torch.eye(2)[None, None],
                torch.eye(2)[None, None],
                torch.tensor([[True, False]]),
            )
        ),
        hard(
            call(
                *(_tensor(seed, 2, *size) for seed, size in ((151, (4, 2, 3)), (152, (2, 3, 3)))),
                _tensor(153, 2, 2, 3, 3),
                torch.tensor([[[[1, 1, 0], [0, 1, 0]]], [[[0, 1, 1], [1, 0, 1]]]]).bool(),
            )
        ),
        hard(
            call(
                *(_tensor(seed, 1, *size) for seed, size in ((154, (2, 1, 3)), (155, (1, 3, 3)))),
                _tensor(156, 1, 1, 3, 3),
                torch.tensor([[[1, 0, 1]], [[0, 1, 1]]]).bool(),
            )
        ),
        # As many heads as texts, and masks that broadcast in every way.
        *(
            hard(
                call(
                    _tensor(251, 2, 2, 2, 2),
                    _tensor(252, 2, 1, 3, 2),
                    _tensor(253, 2, 1, 3, 2),
                    mask,
                )
            )
            for mask in (
                torch.tensor([[[1, 0, 1], [0, 1, 1]], [[0, 1, 1], [1, 1, 0]]]).bool(),
                torch.tensor([[0, 1, 1]]).bool(),
                torch.tensor(
                    [1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1]
                )
                .bool()
                .reshape(2, 2, 2, 3),
            )
        ),
        hard(
            call(
                torch.tensor([[[[-3e12]]]], dtype=torch.float64),
                torch.tensor([[[[1.0], [-1.0]]]], dtype=torch.float64),
                torch.tensor([[[[2.0], [7.0]]]], dtype=torch.float64),
                torch.tensor([[True, False]]),
            )
        ),
        hard(call(_tensor(57, 1, 4, 2, 2), _tensor(58, 1, 3, 2, 2), _tensor(59, 1, 3, 2, 2))),
    ],
)
bank.terms(
    "grouped_query_attention",
    output="text head query number",
    weights="text head query key",
)


def _grouped(q, k, v, mask=None, scale=None):
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ v, weights


def _check_groups(q, k):
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{q.shape[1]} query heads do not divide into {k.shape[1]} groups")
    return q.shape[1] // k.shape[1]


def _repeat(k, times):
    return k.repeat_interleave(times, dim=1)


@bank.mistake(
    "grouped_query_attention",
    "The key heads are tiled: your query heads 0, 1, 2, 3, … use key heads 0, 1, 0, 1, …. "
    "Look at who shares in the row `k`, `v` of the table.",
)
def grouped_tiles(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask)


@bank.mistake(
    "grouped_query_attention",
    "The sequence axis was repeated, not the head axis. You have more keys than there are "
    "tokens: look at `dim`.",
)
def grouped_repeats_tokens(q, k, v, mask=None):
    times = _check_groups(q, k)
    k, v = (x.repeat_interleave(times, dim=2) for x in (k, v))
    k, v = (x[:, :1].expand(-1, q.shape[1], -1, -1) for x in (k, v))
    mask = None if mask is None else mask.repeat_interleave(times, dim=-1)
    return _grouped(q, k, v, mask)


@bank.mistake(
    "grouped_query_attention",
    "The number of groups was taken for their size: with 6 query heads and 2 key heads, each key "
    "head serves 3 query heads, not 2.",
)
def grouped_count_for_size(q, k, v, mask=None):
    _check_groups(q, k)
    times = k.shape[1]
    heads = [min(h // times, k.shape[1] - 1) for h in range(q.shape[1])]
    return _grouped(q, k[:, heads], v[:, heads], mask)


@bank.mistake(
    "grouped_query_attention",
    "Every query head uses key head 0. That is right for H_kv = 1 only: which key head does "
    "query head h share?",
)
def grouped_uses_first_head(q, k, v, mask=None):
    _check_groups(q, k)
    k, v = (x[:, :1].expand(-1, q.shape[1], -1, -1) for x in (k, v))
    return _grouped(q, k, v, mask)


@bank.mistake(
    "grouped_query_attention",
    "The keys are shared as they should be, the values are not: value heads follow the same "
    "groups as key heads.",
)
def grouped_values_tiled(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, _repeat(k, times), v.repeat(1, times, 1, 1), mask)


@bank.mistake(
    "grouped_query_attention",
    "The query heads of a group are averaged, so all of them give the same. Sharing keys does not "
    "mean sharing queries: each query head keeps its own.",
)
def grouped_averages_queries(q, k, v, mask=None):
    times = _check_groups(q, k)
    mean = q.unflatten(1, (k.shape[1], times)).mean(2)
    return _grouped(_repeat(mean, times), _repeat(k, times), _repeat(v, times), mask)


@bank.mistake(
    "grouped_query_attention",
    "The scores have no scale. Look at the formula of attention again.",
)
def grouped_without_scale(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask, scale=1.0)


@bank.mistake(
    "grouped_query_attention",
    "You scale by the full width, √(H·D). Each head works alone: its vectors have D numbers.",
)
def grouped_scaled_by_width(q, k, v, mask=None):
    times = _check_groups(q, k)
    scale = (q.shape[1] * q.shape[-1]) ** -0.5
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask, scale=scale)


@bank.mistake(
    "grouped_query_attention",
    "The mask is not used: keys that are shut out still get weight. Look at what exercise 2 "
    "does between scores and softmax.",
)
def grouped_ignores_mask(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, _repeat(k, times), _repeat(v, times))


@bank.mistake(
    "grouped_query_attention",
    "Your mask works the wrong way round. True means *may attend*: look at which scores you fill.",
)
def grouped_mask_inverted(q, k, v, mask=None):
    times = _check_groups(q, k)
    mask = None if mask is None else ~mask
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask)


@bank.mistake(
    "grouped_query_attention",
    "The softmax runs over the queries. Each row, over the keys, must sum to 1: look at its axis.",
)
def grouped_softmax_over_queries(q, k, v, mask=None):
    times = _check_groups(q, k)
    scores = q @ _repeat(k, times).transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-2)
    return weights @ _repeat(v, times), weights


@bank.mistake(
    "grouped_query_attention",
    "The answer comes as (weights, output). Look at the order in the row *returns* of the table.",
)
def grouped_wrong_order(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask)[::-1]


@bank.mistake(
    "grouped_query_attention",
    "Key heads that do not divide the query heads were let through. Raise a ValueError that "
    "names both numbers.",
)
def grouped_accepts_any_number(q, k, v, mask=None):
    times = -(-q.shape[1] // k.shape[1])
    k, v = (_repeat(x, times)[:, : q.shape[1]] for x in (k, v))
    return _grouped(q, k, v, mask)


@bank.mistake(
    "grouped_query_attention",
    "The masked scores are filled with -10,000, and scores can be lower than that: then the "
    "shut-out keys win. Which score is below every other?",
)
def grouped_fills_with_minus_ten_thousand(q, k, v, mask=None):
    times = _check_groups(q, k)
    k, v = _repeat(k, times), _repeat(v, times)
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    weights = scores.softmax(-1)
    return weights @ v, weights


@bank.mistake(
    "grouped_query_attention",
    "A mask of three axes is one mask a head; yours takes its first axis for the texts. "
    "Look at how PyTorch lines up axes.",
)
def grouped_takes_three_axes_for_texts(q, k, v, mask=None):
    times = _check_groups(q, k)
    if mask is not None and mask.ndim == 3:
        mask = mask[:, None]
    output, weights = _grouped(q, _repeat(k, times), _repeat(v, times), mask)
    return output, weights


@bank.mistake(
    "grouped_query_attention",
    "The scores are divided by D itself. Look at the scale in the formula of attention again.",
)
def grouped_divided_by_d(q, k, v, mask=None):
    return grouped_by_repeat_interleave(q / q.shape[-1] ** 0.5, k, v, mask)


@bank.mistake(
    "grouped_query_attention",
    "Only the output comes back. Look at the row *returns* of the table.",
)
def grouped_only_output(q, k, v, mask=None):
    return grouped_by_repeat_interleave(q, k, v, mask)[0]


@bank.mistake(
    "grouped_query_attention",
    "The masked weights are set to 0 after the softmax, so what is left does not sum to 1. Look at "
    "when the keys are shut out.",
)
def grouped_zeroes_weights(q, k, v, mask=None):
    _, weights = grouped_by_repeat_interleave(q, k, v)
    weights = weights if mask is None else weights * mask
    return weights @ v.repeat_interleave(q.shape[1] // k.shape[1], dim=1), weights


@bank.mistake(
    "grouped_query_attention",
    "q was changed, and the caller still needs it. Look for `*=`, `/=`, or a method that ends "
    "in _.",
)
def grouped_changes_queries(q, k, v, mask=None):
    result = grouped_by_repeat_interleave(q, k, v, mask)
    q /= 2
    return result


@bank.variant("grouped_query_attention")
def grouped_in_float32(q, k, v, mask=None):
    """The idiom of transformers: softmax in float32, then back."""
    times = _check_groups(q, k)
    k, v = _repeat(k, times), _repeat(v, times)
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return weights @ v, weights


@bank.variant("grouped_query_attention")
def grouped_with_the_lowest_number(q, k, v, mask=None):
    times = _check_groups(q, k)
    scores = q @ _repeat(k, times).mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
    weights = scores.softmax(-1)
    return weights @ _repeat(v, times), weights


@bank.variant("grouped_query_attention")
def grouped_by_repeat_interleave(q, k, v, mask=None):
    times = _check_groups(q, k)
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask)


@bank.variant("grouped_query_attention")
def grouped_by_einsum(q, k, v, mask=None):
    times = _check_groups(q, k)
    groups = q.unflatten(1, (k.shape[1], times))
    scores = torch.einsum("bkgld,bksd->bkgls", groups, k).flatten(1, 2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)
    weights = scores.softmax(-1)
    by_group = weights.unflatten(1, (k.shape[1], times))
    return torch.einsum("bkgls,bksd->bkgld", by_group, v).flatten(1, 2), weights


@bank.variant("grouped_query_attention")
def grouped_by_loop(q, k, v, mask=None):
    times = _check_groups(q, k)
    outputs, weights = [], []
    for h in range(q.shape[1]):
        head_mask = mask
        if mask is not None:
            head_mask = mask.expand(*q.shape[:3], k.shape[2])[:, h]
        output, weight = _grouped(q[:, h], k[:, h // times], v[:, h // times], head_mask)
        outputs.append(output)
        weights.append(weight)
    return torch.stack(outputs, dim=1), torch.stack(weights, dim=1)


@bank.variant("grouped_query_attention")
def grouped_by_framework(q, k, v, mask=None):
    times = _check_groups(q, k)
    k, v = _repeat(k, times), _repeat(v, times)
    identity = torch.eye(k.shape[2], dtype=k.dtype).expand(*k.shape[:2], -1, -1)
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return output, F.scaled_dot_product_attention(q, k, identity, attn_mask=mask)


@bank.variant("grouped_query_attention")
def grouped_by_expand(q, k, v, mask=None):
    times = _check_groups(q, k)
    k, v = (x[:, :, None].expand(-1, -1, times, -1, -1).flatten(1, 2) for x in (k, v))
    scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + torch.zeros_like(scores).masked_fill(~mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    return weights.matmul(v), weights


@bank.variant("grouped_query_attention")
def grouped_by_an_index(q, k, v, mask=None):
    times = _check_groups(q, k)
    shared = torch.arange(q.shape[1]) // times
    return _grouped(q, k[:, shared], v[:, shared], mask)


@bank.mistake(
    "grouped_query_attention",
    "The masked scores are filled with a large negative number, and scores can be lower: then the "
    "shut-out keys win. Look for a score that is below every other.",
)
def grouped_fills_with_minus_a_billion(q, k, v, mask=None):
    times = _check_groups(q, k)
    scores = q @ _repeat(k, times).mT / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(-1)
    return weights @ _repeat(v, times), weights


@bank.mistake(
    "grouped_query_attention",
    "A mask with one row for all queries is not spread over them, or is refused. Look at how "
    "PyTorch lines up axes of length 1.",
)
def grouped_needs_a_row_for_each_query(q, k, v, mask=None):
    times = _check_groups(q, k)
    rows = []
    for i in range(q.shape[2]):
        row = None if mask is None else mask[..., i, :].unsqueeze(-2)
        rows.append(_grouped(q[:, :, i : i + 1], _repeat(k, times), _repeat(v, times), row))
    return tuple(torch.cat(part, dim=2) for part in zip(*rows, strict=True))


@bank.mistake(
    "grouped_query_attention",
    "All query heads of a group get the mask of the first one. Look at whose axis of the mask you "
    "cut or repeat.",
)
def grouped_masks_by_key_head(q, k, v, mask=None):
    times = _check_groups(q, k)
    if mask is not None:
        mask = mask.expand(q.shape[0], q.shape[1], q.shape[2], k.shape[2])
        mask = _repeat(mask[:, ::times], times)
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask)


@bank.mistake(
    "grouped_query_attention",
    "Of a mask by text and head only the first text's is used. Look at each index into the mask.",
)
def grouped_masks_by_the_first_text(q, k, v, mask=None):
    times = _check_groups(q, k)
    if mask is not None and mask.dim() == 4:
        mask = mask[0]
    return _grouped(q, _repeat(k, times), _repeat(v, times), mask)


# attention_layer

_STEPS = torch.ones(3, 3, dtype=torch.bool).tril()
_HOLES = torch.tensor([[0, 1, 1], [1, 0, 1], [0, 1, 0]]).bool()
_BY_HEAD = torch.stack([_HOLES, _HOLES[[1, 0, 2]]])


def _layer_call(
    seed: int, heads: int, kv_heads: int, size: int, width: int, mask=None, texts: int = 1
) -> dict:
    x = _tensor(seed, texts, 3, width)
    shapes = [(heads * size, width), (kv_heads * size, width), (kv_heads * size, width)]
    w_q, w_k, w_v = (_tensor(seed + 1 + i, *shape, scale=0.7) for i, shape in enumerate(shapes))
    w_o = _tensor(seed + 4, width, heads * size, scale=0.7)
    return call(x, w_q, w_k, w_v, w_o, heads, kv_heads, mask)


bank.calls(
    "attention_layer",
    [
        _layer_call(60, heads=2, kv_heads=2, size=3, width=6),
        _layer_call(70, heads=2, kv_heads=2, size=4, width=8, mask=_STEPS),
        hard(_layer_call(80, heads=4, kv_heads=2, size=2, width=6, mask=_STEPS)),
        hard(_layer_call(85, heads=2, kv_heads=1, size=2, width=3, mask=_HOLES)),
        hard(_layer_call(90, heads=2, kv_heads=2, size=2, width=3, mask=_HOLES[[0, 2, 1], :])),
        hard(_layer_call(95, heads=2, kv_heads=1, size=2, width=3, mask=_BY_HEAD)),
        hard(
            _layer_call(
                195,
                heads=2,
                kv_heads=1,
                size=2,
                width=3,
                texts=2,
                mask=torch.stack([_BY_HEAD, _BY_HEAD.flip(-1)]),
            )
        ),
        hard(_layer_call(205, heads=2, kv_heads=2, size=1, width=3, mask=_HOLES[1:2])),
        hard(
            call(
                torch.tensor([[[2e6], [-2e6]]], dtype=torch.float64),
                *[torch.ones(1, 1, dtype=torch.float64)] * 4,
                1,
                1,
                torch.tensor([[False, True], [True, True]]),
            )
        ),
    ],
)
bank.terms("attention_layer", output="text token number")


def _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None, attend=_grouped, order=None):
    q = split_by_unflatten(x @ w_q.T, n_heads)
    k, v = (split_by_unflatten(x @ w.T, n_kv_heads) for w in (w_k, w_v))
    times = n_heads // n_kv_heads
    output, _ = attend(q, _repeat(k, times), _repeat(v, times), mask)
    merged = (order or merge_by_flatten)(output)
    return merged @ w_o.T


@bank.mistake(
    "attention_layer",
    "The weights are used as they stand. Look at how `nn.Linear` stores them, in the row "
    "`w_q` of the table.",
)
def layer_without_transpose(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return _layer(x, w_q.T, w_k.T, w_v.T, w_o.T, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "The last projection w_o is missing: without it the heads are side by side, but never mixed.",
)
def layer_without_output_projection(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    identity = torch.eye(w_o.shape[1], dtype=x.dtype)
    return _layer(x, w_q, w_k, w_v, identity, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "The scores are scaled by the full width. Each head works alone, so the scale is the root of "
    "the head size D.",
)
def layer_scaled_by_width(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    def attend(q, k, v, mask):
        return _grouped(q, k, v, mask, scale=x.shape[-1] ** -0.5)

    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, attend)


@bank.mistake(
    "attention_layer",
    "The mask is not used: tokens that are shut out still get weight. Look at what you hand on to "
    "the attention.",
)
def layer_ignores_mask(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads)


@bank.mistake(
    "attention_layer",
    "You draw a causal mask of your own in place of the caller's. Look at what you hand on "
    "to the attention.",
)
def layer_is_causal_whenever_masked(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    steps = None if mask is None else torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, steps)


@bank.mistake(
    "attention_layer",
    "The scores have no scale. Look at the formula of attention again.",
)
def layer_without_scale(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    size = w_q.shape[0] // n_heads
    return layer_by_framework(x, w_q * size**0.5, w_k, w_v, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "The last projection uses w_o as it stands. Look at how the other three are used.",
)
def layer_turns_only_three(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    same = w_o.T if w_o.shape[0] == w_o.shape[1] else w_o
    if same is w_o:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    return layer_by_framework(x, w_q, w_k, w_v, same, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "The mask works the wrong way round. Look at what True means in the table.",
)
def layer_inverts_the_mask(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    turned = None if mask is None else ~mask
    return layer_by_framework(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, turned)


@bank.mistake(
    "attention_layer",
    "The values come from the keys' weights. Look at which of the three makes the values.",
)
def layer_makes_values_of_keys(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return layer_by_framework(x, w_q, w_k, w_k, w_o, n_heads, n_kv_heads, mask)


@bank.variant("attention_layer")
def layer_with_softmax_in_float32(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q = split_by_unflatten(F.linear(x, w_q), n_heads)
    k, v = (split_by_unflatten(F.linear(x, w), n_kv_heads) for w in (w_k, w_v))
    return F.linear(merge_by_flatten(grouped_in_float32(q, k, v, mask)[0]), w_o)


@bank.mistake(
    "attention_layer",
    "The heads are merged by a reshape alone, which mixes tokens and heads: bring the tokens back "
    "before the heads first.",
)
def layer_merges_by_reshape(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, order=merge_by_reshape_alone)


@bank.mistake(
    "attention_layer",
    "The heads are split by a reshape alone, which mixes tokens and heads: (B, L, H, D) first, "
    "then exchange L and H.",
)
def layer_splits_by_reshape(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q = split_by_reshape_alone(x @ w_q.T, n_heads)
    k, v = (split_by_reshape_alone(x @ w.T, n_kv_heads) for w in (w_k, w_v))
    times = n_heads // n_kv_heads
    output, _ = _grouped(q, _repeat(k, times), _repeat(v, times), mask)
    return merge_by_flatten(output) @ w_o.T


@bank.mistake(
    "attention_layer",
    "Keys and values come from the wrong weights: w_k makes the keys, w_v the values.",
)
def layer_exchanges_keys_and_values(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return _layer(x, w_q, w_v, w_k, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "One head does the work of all: the projections are not split into heads. Look at the step "
    "between projection and attention.",
)
def layer_with_one_head(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    size = w_q.shape[0] // n_heads
    times = n_heads // n_kv_heads
    k, v = (
        (x @ w.T).unflatten(-1, (n_kv_heads, size)).repeat_interleave(times, 2).flatten(2)
        for w in (w_k, w_v)
    )
    return _grouped(x @ w_q.T, k, v, mask)[0] @ w_o.T


@bank.mistake(
    "attention_layer",
    "The key heads are tiled over the query heads. Look at which key head neighbours share.",
)
def layer_tiles_heads(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q = split_by_unflatten(x @ w_q.T, n_heads)
    k, v = (split_by_unflatten(x @ w.T, n_kv_heads) for w in (w_k, w_v))
    output, _ = grouped_tiles(q, k, v, mask)
    return merge_by_flatten(output) @ w_o.T


@bank.mistake(
    "attention_layer",
    "The head size was taken as E / H. It is what w_q says: (rows of w_q) / H, and models such as "
    "Qwen3 choose it freely.",
)
def layer_assumes_head_size(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    size = x.shape[-1] // n_heads
    q = (x @ w_q.T)[..., : n_heads * size].unflatten(-1, (n_heads, size)).transpose(1, 2)
    k, v = (
        (x @ w.T)[..., : n_kv_heads * size].unflatten(-1, (n_kv_heads, size)).transpose(1, 2)
        for w in (w_k, w_v)
    )
    times = n_heads // n_kv_heads
    merged = merge_by_flatten(_grouped(q, _repeat(k, times), _repeat(v, times), mask)[0])
    return merged @ w_o[:, : n_heads * size].T


@bank.mistake(
    "attention_layer",
    "The input is added to the result. The residual connection stands around the layer, in the "
    "block; the layer itself returns what it adds.",
)
def layer_adds_input(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    return x + _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "The result comes together with the weights. The layer returns its output alone: look at "
    "the row *returns* of the table.",
)
def layer_returns_a_pair(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    output = _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask)
    return output, None


@bank.variant("attention_layer")
def layer_by_linear(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q = split_by_chunks(F.linear(x, w_q), n_heads)
    k, v = (split_by_chunks(F.linear(x, w), n_kv_heads) for w in (w_k, w_v))
    output, _ = grouped_by_einsum(q, k, v, mask)
    return F.linear(merge_by_cat(output), w_o)


@bank.variant("attention_layer")
def layer_by_framework(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    def attend(q, k, v, mask):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None

    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, attend)


@bank.variant("attention_layer")
def layer_by_einsum(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q = torch.einsum("ble,hde->bhld", x, w_q.unflatten(0, (n_heads, -1)))
    k, v = (torch.einsum("ble,hde->bhld", x, w.unflatten(0, (n_kv_heads, -1))) for w in (w_k, w_v))
    output, _ = grouped_by_loop(q, k, v, mask)
    return torch.einsum("bhld,ehd->ble", output, w_o.unflatten(1, (n_heads, -1)))


@bank.variant("attention_layer")
def layer_head_by_head(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    size, out = w_q.shape[0] // n_heads, torch.zeros_like(x)
    every = None if mask is None else mask.expand(x.shape[0], n_heads, x.shape[1], x.shape[1])
    for h in range(n_heads):
        mine = slice(h * size, (h + 1) * size)
        shared = h // (n_heads // n_kv_heads) * size
        q, k, v = (
            x @ w_q[mine].T,
            x @ w_k[shared : shared + size].T,
            x @ w_v[shared : shared + size].T,
        )
        head, _ = _grouped(q, k, v, None if every is None else every[:, h])
        out = out + head @ w_o[:, mine].T
    return out


@bank.variant("attention_layer")
def layer_that_shares_inside_the_framework(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    q, k, v = (
        (x @ w.T).unflatten(-1, (heads, -1)).transpose(1, 2)
        for w, heads in ((w_q, n_heads), (w_k, n_kv_heads), (w_v, n_kv_heads))
    )
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return heads.transpose(1, 2).flatten(2) @ w_o.T


@bank.variant("attention_layer")
def layer_with_repeated_weights(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    times = n_heads // n_kv_heads
    w_k, w_v = (
        w.unflatten(0, (n_kv_heads, -1)).repeat_interleave(times, dim=0).flatten(0, 1)
        for w in (w_k, w_v)
    )
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_heads, mask)


@bank.mistake(
    "attention_layer",
    "The mask lies on its side: rows are keys and columns queries. Look for a transpose of it.",
)
def layer_turns_the_mask(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    turned = mask if mask is None or mask.shape[-2] == 1 else mask.mT
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, turned)


@bank.mistake(
    "attention_layer",
    "Each token sees itself, whatever the mask says. Look at what you add to the caller's mask.",
)
def layer_opens_the_diagonal(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    if mask is not None:
        mask = mask | torch.eye(x.shape[1], dtype=torch.bool)
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "All heads get the first head's mask. Look at how many axes a mask may have.",
)
def layer_masks_by_the_first_head(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    if mask is not None and mask.dim() > 2:
        mask = mask[..., :1, :, :]
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "All texts get the first text's mask. Look at how many axes a mask may have.",
)
def layer_masks_by_the_first_text(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    if mask is not None and mask.dim() == 4:
        mask = mask[:1]
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask)


@bank.mistake(
    "attention_layer",
    "All tokens get the mask of the last one. Look at which row of the mask belongs to a query.",
)
def layer_masks_by_the_last_row(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    row = None if mask is None else mask[..., -1:, :]
    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, row)


@bank.mistake(
    "attention_layer",
    "The masked scores are filled with a large negative number, and scores can be lower: then the "
    "shut-out tokens win. Look for a score that is below every other.",
)
def layer_fills_with_minus_a_billion(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask=None):
    def attend(q, k, v, mask):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -1e9)
        return scores.softmax(-1) @ v, None

    return _layer(x, w_q, w_k, w_v, w_o, n_heads, n_kv_heads, mask, attend)


# attend_in_blocks

_HALVES = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 1]], dtype=torch.bool)
#: Keys 2 and 3, the second block of two, are shut for every row, and hold what nobody may read.
_OPEN = torch.tensor([True, True, False, False, True])
_UNREAD = torch.stack((_tensor(97, 5, 4), _tensor(98, 5, 4))).where(_OPEN[:, None], torch.nan)

bank.calls(
    "attend_in_blocks",
    [
        call(
            torch.tensor([[2.0, 1.0, 0.0, 0.0]]),
            torch.tensor([[0.0, 0, 0, 2], [1, 0, 2, 0], [1, 2, 0, 0]]),
            torch.tensor([[0.0, 0, 0, 0], [0, 10, 0, 0], [10, 0, 0, 0]]),
            2,
        ),
        call(_tensor(81, 3, 4), _tensor(82, 5, 4), _tensor(83, 5, 4), 2),
        call(_tensor(84, 2, 3, 4), _tensor(85, 2, 5, 4), _tensor(86, 2, 5, 4), 3),
        call(_tensor(87, 3, 4), _tensor(88, 5, 4), _tensor(89, 5, 4), 3, _HALVES[1:2]),
        call(_tensor(87, 3, 4), _tensor(88, 5, 4), _tensor(89, 5, 4), 9),
        hard(call(_tensor(90, 3, 4), _tensor(91, 5, 4), _tensor(92, 5, 4), 2, _HALVES), "hard"),
        hard(call(1e4 * _tensor(93, 3, 4), _tensor(94, 5, 4), _tensor(95, 5, 4), 2), "hard"),
        hard(
            call(-1e4 * _tensor(93, 3, 4).abs(), _tensor(94, 5, 4).abs(), _tensor(95, 5, 4), 2),
            "hard",
        ),
        hard(
            call(
                _tensor(90, 3, 4),
                _tensor(91, 5, 4),
                _tensor(92, 5, 4),
                1,
                torch.ones(3, 1, dtype=torch.bool),
            ),
            "hard",
        ),
        hard(
            call(
                torch.tensor([[-3e10]], dtype=torch.float64),
                torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
                torch.tensor([[2.0], [7.0]], dtype=torch.float64),
                1,
                torch.tensor([[True, False]]),
            ),
            "hard",
        ),
        # A row that meets a shut block first, and then very low scores only.
        hard(
            call(
                torch.tensor([[1.0], [-3e3]], dtype=torch.float64),
                torch.tensor([[1.0], [2.0], [1.5]], dtype=torch.float64),
                torch.tensor([[2.0], [7.0], [4.0]], dtype=torch.float64),
                1,
                torch.tensor([[True, True, True], [False, True, True]]),
            ),
            "hard",
        ),
        # By itself range() refuses a step of 0, but not one below.
        hard(call(_tensor(90, 3, 4), _tensor(91, 5, 4), _tensor(92, 5, 4), 0), "hard"),
        hard(call(_tensor(90, 3, 4), _tensor(91, 5, 4), _tensor(92, 5, 4), -1), "hard"),
        # A batch of no texts: nothing to compute, but no torch has room for a table of all scores.
        hard(call(*(torch.zeros(0, n, 1) for n in (64, 2**58, 2**58)), 2**55), "blocks"),
        hard(
            call(_tensor(96, 3, 4), _UNREAD[0], _UNREAD[1], 2, _HALVES[:, [0, 1, 1, 2, 3]] & _OPEN),
            "blocks",
        ),
    ],
)
bank.terms("attend_in_blocks", output="query number")


class _Blocks:
    """Online softmax, in parts that a mistake can replace."""

    def __init__(self, size):
        if size < 1:
            raise ValueError("a block needs at least one key")
        self.size = size

    def scale(self, q, k):
        return q.shape[-1] ** 0.5

    def first_top(self, q):
        return torch.full_like(q[..., :1], -torch.inf)

    def skips(self, mask):
        return not mask.any()

    def shut(self, scores, mask, start):
        return scores.masked_fill(~mask[..., start : start + self.size], -torch.inf)

    def higher(self, top, scores):
        return torch.maximum(top, scores.amax(-1, keepdim=True))

    def base(self, top):
        return torch.where(torch.isinf(top), torch.zeros_like(top), top)

    def fade(self, old, new):
        return torch.exp(old - self.base(new))

    def faded(self, total, mixed, fade):
        return total * fade, mixed * fade

    def starts(self, n_keys):
        return range(0, n_keys, self.size)

    def finish(self, mixed, total, top):
        return mixed / total

    def __call__(self, q, k, v, mask):
        if mask is not None:
            mask = torch.broadcast_to(mask, (*mask.shape[:-1], k.shape[-2]))
        top, total, mixed = self.first_top(q), torch.zeros_like(q[..., :1]), torch.zeros_like(q)
        for start in self.starts(k.shape[-2]):
            part = slice(start, start + self.size)
            if mask is not None and self.skips(mask[..., part]):
                continue
            scores = torch.einsum("...ld,...sd->...ls", q, k[..., part, :]) / self.scale(q, k)
            if mask is not None:
                scores = self.shut(scores, mask, start)
            higher = self.higher(top, scores)
            shares = torch.exp(scores - self.base(higher))
            total, mixed = self.faded(total, mixed, self.fade(top, higher))
            total, mixed = total + shares.sum(-1, keepdim=True), mixed + shares @ v[..., part, :]
            top = higher
        return self.finish(mixed, total, top)


def _blocks(parts, q, k, v, size, mask):
    return parts(size)(q, k, v, mask)


@bank.mistake(
    "attend_in_blocks",
    "The scores grow with the head size D: their scale is missing. Look at the formula of"
    " attention again.",
)
def blocks_without_scale(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def scale(self, q, k):
            return 1.0

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "The scores are divided by D itself. Look at the scale in the formula of attention again.",
)
def blocks_divided_by_d(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def scale(self, q, k):
            return q.shape[-1]

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "A block brought a larger score, and what was summed before still counts from the old"
    " maximum. Look at what has to happen to l and o when m changes.",
)
def blocks_without_fade(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def faded(self, total, mixed, fade):
            return total, mixed

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "When m changes, the sum is scaled down and the mix of values is not. Look at all "
    "that was made with the old m.",
)
def blocks_fade_only_the_sum(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def faded(self, total, mixed, fade):
            return total * fade, mixed

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "When m changes, the mix of values is scaled down and the sum is not. Look at all "
    "that was made with the old m.",
)
def blocks_fade_only_the_mix(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def faded(self, total, mixed, fade):
            return total, mixed * fade

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "Where a larger score comes, what was summed before is scaled up. Look at the order "
    "of old m and new m in the exponent.",
)
def blocks_fade_upside_down(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def fade(self, old, new):
            return torch.where(torch.isinf(old), 0.0, torch.exp(self.base(new) - self.base(old)))

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "Each block has a softmax of its own, and their outputs are averaged, as if all "
    "blocks mattered alike. Look at what has to be kept until the last block is read.",
)
def blocks_averaged(q, k, v, size, mask=None):
    _Blocks(size)
    mask = None if mask is None else mask.expand(*mask.shape[:-1], k.shape[-2])
    parts = []
    for start in range(0, k.shape[-2], size):
        part = slice(start, start + size)
        open_keys = None if mask is None else mask[..., part]
        one = F.scaled_dot_product_attention(q, k[..., part, :], v[..., part, :], open_keys)
        parts.append(torch.nan_to_num(one))
    return torch.stack(parts).mean(0)


@bank.mistake(
    "attend_in_blocks",
    "The shares in the output do not sum to 1. Look at what is left to do after the last block.",
)
def blocks_without_division(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def finish(self, mixed, total, top):
            return mixed

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "The last keys are left out where S does not divide by `size`. Look at where your loop ends.",
)
def blocks_without_the_rest(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def starts(self, n_keys):
            return range(0, max(n_keys // self.size, 1) * self.size, self.size)

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "The mask is not used, so keys that are shut out get weight. Look for its place "
    "between the scores and the exponential.",
)
def blocks_without_mask(q, k, v, size, mask=None):
    return _blocks(_Blocks, q, k, v, size, None)


@bank.mistake(
    "attend_in_blocks",
    "Every block uses the first columns of the mask. Look at which columns belong to the "
    "keys of a block.",
)
def blocks_always_the_first_mask(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def shut(self, scores, mask, start):
            return super().shut(scores, mask[..., : scores.shape[-1]], 0)

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "A row whose first block is shut becomes nan: its maximum is still −∞, and −∞ − (−∞) "
    "is not a number. Look at both exponents: what may stand in the place of such a "
    "maximum?",
)
def blocks_nan_where_shut(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def base(self, top):
            return top

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "Nothing is taken off large scores before the exponential, and e^10000 is inf. Look "
    "at what m is for.",
)
def blocks_without_maximum(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def higher(self, top, scores):
            return torch.zeros_like(top)

        def fade(self, old, new):
            return torch.ones_like(old)

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "The maximum starts at 0, so where all scores are far below it, every exponential is "
    "0, and 0 / 0 is nan. Look for a start that no score is below.",
)
def blocks_start_at_zero(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def first_top(self, q):
            return torch.zeros_like(q[..., :1])

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks", "A size below 1 was let through. Look at the row *raises* of the table."
)
def blocks_of_any_size(q, k, v, size, mask=None):
    return _blocks(_Blocks, q, k, v, max(size, 1), mask)


@bank.mistake(
    "attend_in_blocks",
    "All scores are in memory at once, in one tensor or in a list of blocks. Look at what"
    " is left of a block when the next one comes.",
)
def blocks_after_all_scores(q, k, v, size, mask=None):
    _Blocks(size)
    return F.softmax(_masked(q, k, mask), dim=-1) @ v


_COMPUTED_WHERE_SHUT = (
    "A block that is shut for every row was multiplied by 0 (PyTorch's own attention does"
    " so, too), and 0 · nan is nan. Look at what you read before you know whether the "
    "block is open."
)


@bank.mistake("attend_in_blocks", _COMPUTED_WHERE_SHUT)
def blocks_by_the_framework(q, k, v, size, mask=None):
    _Blocks(size)
    return F.scaled_dot_product_attention(q, k, v, mask)


@bank.mistake("attend_in_blocks", _COMPUTED_WHERE_SHUT)
def blocks_never_skipped(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def skips(self, mask):
            return False

    return _blocks(Parts, q, k, v, size, mask)


def _masked(q, k, mask):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


@bank.mistake(
    "attend_in_blocks",
    "The masked scores are filled with a large negative number, and scores can be lower: then the "
    "shut-out keys win. Look for a score that is below every other.",
)
def blocks_filled_with_minus_a_billion(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def shut(self, scores, mask, start):
            return scores.masked_fill(~mask[..., start : start + self.size], -1e9)

        def first_top(self, q):
            return torch.full_like(q[..., :1], -1e9)

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "A row without an open key so far gets 0 as its maximum and keeps it, and lower scores that "
    "come later vanish. Look at what you carry over to the next block.",
)
def blocks_keeping_a_made_up_maximum(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def higher(self, top, scores):
            higher = super().higher(top, scores)
            return higher.masked_fill(higher == -torch.inf, 0.0)

    return _blocks(Parts, q, k, v, size, mask)


@bank.mistake(
    "attend_in_blocks",
    "The maximum starts at a finite number, and scores can be lower. Look at the m of a row that "
    "has seen nothing yet.",
)
def blocks_with_a_floor(q, k, v, size, mask=None):
    class Parts(_Blocks):
        def first_top(self, q):
            return torch.full_like(q[..., :1], -1e4)

        def finish(self, mixed, total, top):
            return mixed / total.clamp_min(1e-6)

    return _blocks(Parts, q, k, v, size, mask)


@bank.variant("attend_in_blocks")
def blocks_by_parts(q, k, v, size, mask=None):
    return _blocks(_Blocks, q, k, v, size, mask)


@bank.variant("attend_in_blocks")
def blocks_with_a_lowest_number(q, k, v, size, mask=None):
    """A maximum that starts at the lowest finite number is never −∞."""

    class Parts(_Blocks):
        def first_top(self, q):
            return torch.full_like(q[..., :1], torch.finfo(q.dtype).min / 4)

        def base(self, top):
            return top

    return _blocks(Parts, q, k, v, size, mask)


@bank.variant("attend_in_blocks")
def blocks_by_logsumexp(q, k, v, size, mask=None):
    """Softmax of each block, joined by the logarithms of their sums."""
    if size < 1:
        raise ValueError("size must be 1 or more")
    mask = None if mask is None else mask.expand(*mask.shape[:-1], k.shape[-2])
    mixed, logarithm = torch.zeros_like(q), torch.full_like(q[..., :1], -torch.inf)
    for start in range(0, k.shape[-2], size):
        part = slice(start, start + size)
        if mask is not None and not mask[..., part].any():
            continue
        scores = _masked(q, k[..., part, :], None if mask is None else mask[..., part])
        own = scores.logsumexp(-1, keepdim=True)
        output = torch.nan_to_num(scores.softmax(-1)) @ v[..., part, :]
        both = torch.logaddexp(logarithm, own)
        share = [torch.nan_to_num(torch.exp(x - both)) for x in (logarithm, own)]
        mixed, logarithm = mixed * share[0] + output * share[1], both
    return mixed


@bank.variant("attend_in_blocks")
def blocks_dividing_each_time(q, k, v, size, mask=None):
    """FlashAttention's first version: the output is a true mean after every block."""

    class Parts(_Blocks):
        def faded(self, total, mixed, fade):
            mean = mixed / total.clamp_min(1e-300)
            return total * fade, mean * total * fade

    return _blocks(Parts, q.double(), k.double(), v.double(), size, mask).to(q.dtype)


@bank.variant("attend_in_blocks")
def blocks_by_split(q, k, v, size, mask=None):
    if size < 1:
        raise ValueError("size must be at least 1")
    m = torch.full(q.shape[:-1], -torch.inf, dtype=q.dtype)
    total, o = torch.zeros_like(m), torch.zeros_like(q)
    masks = [None] * -(-k.shape[-2] // size)
    if mask is not None:
        masks = mask.expand(*mask.shape[:-1], k.shape[-2]).split(size, dim=-1)
    for keys, values, open_keys in zip(
        k.split(size, dim=-2), v.split(size, dim=-2), masks, strict=True
    ):
        if open_keys is not None and not open_keys.any():
            continue
        s = _masked(q, keys, open_keys)
        new = torch.maximum(m, s.max(dim=-1).values)
        safe = new.clamp_min(torch.finfo(q.dtype).min)
        p, old = torch.exp(s - safe[..., None]), torch.exp(m - safe)
        total, o, m = total * old + p.sum(-1), o * old[..., None] + p @ values, new
    return o / total[..., None]
