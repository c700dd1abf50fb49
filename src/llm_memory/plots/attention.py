"""Who attends to whom: arcs over words, heat maps, and the causal staircase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.patches import FancyBboxPatch, Rectangle

from llm_memory.plots.picture import (
    BLUE,
    FAINT,
    INK,
    PALETTE,
    PAPER,
    RED,
    SIGNED,
    MovingPicture,
    Picture,
    axes,
    canvas,
    choice,
    ink_on_signed,
    slider,
    styled,
)

# Below this a weight is drawn as a hair and not named in words.
SMALL = 0.05


@styled
def arcs(words: Sequence[str], weights: Sequence[float], query: int, title: str = "") -> Picture:
    """Draw how `query` (a position) shares its weight among the words: arcs, numbers below.

    `weights` (S,) belong to the first S words; words beyond them are drawn faint. `ValueError`
    if there are more weights than words, or no such position.
    """
    shares = np.asarray(weights, dtype=float)
    if shares.ndim != 1 or not 0 < len(shares) <= len(words):
        raise ValueError(f"{len(words)} words take one weight each, not an array {shares.shape}")
    _check_query(query, words)
    places, width = _places(words)
    figure, plane = canvas((max(6.0, width * 0.1 + 0.4), 2.9), width, 29)
    _draw_arcs(plane, words, places, shares, query)
    if title:
        plane.text(width / 2, 27.4, title, ha="center", va="center", fontsize=11)
    return Picture(figure, _shares(words, shares, query))


@styled
def heat_maps(
    words: Sequence[str], maps: Mapping[str, np.ndarray], query: int | None = None
) -> Picture:
    """Draw matrices (L, L) of weights side by side, by name; `query` frames one row.

    `ValueError` if a matrix does not have a row and a column for each word.
    """
    maps = {name: _square(weights, words, name) for name, weights in maps.items()}
    columns = min(len(maps), 2)
    rows = -(-len(maps) // columns)
    side = max(3.2, 0.34 * len(words) + 0.9)
    figure, planes = axes(rows, columns, size=(min(2 * side, side * columns), side * rows))
    says = []
    for plane, (name, weights) in zip(planes, maps.items(), strict=False):
        _draw_matrix(plane, weights, words, name, future=True, query=query)
        if query is None:
            says.append(f"{name}: {_habit(words, weights)}")
        else:
            says.append(f"{name}: {_shares(words, weights[query, : query + 1], query)}")
    for plane in planes[len(maps) :]:
        plane.axis("off")
    return Picture(figure, "Heat maps, rows look at columns. " + " ".join(says))


def explore(
    words: Sequence[str],
    heads: Mapping[str, np.ndarray],
    query: int,
    head: str | None = None,
) -> MovingPicture:
    """Arcs and a heat map for one head, chosen by name, and one query, chosen by a slider.

    `heads` are weights (L, L) by name, rows are the looking tokens. `ValueError` for another shape
    or a query or a head that is not there.
    """
    heads = {name: _square(weights, words, name) for name, weights in heads.items()}
    _check_query(query, words)
    if head is not None and head not in heads:
        raise ValueError(f"no head {head!r}; there are: {', '.join(heads)}")
    places, width = _places(words)
    side = max(3.6, 0.33 * len(words) + 0.8)

    def draw(query: int, head: str) -> Picture:
        weights = heads[head]
        figure, (top, below) = axes(
            2, 1, size=(max(6.5, width * 0.1), side + 2.8), height_ratios=(2.6, side)
        )
        top.set(xlim=(0, width), ylim=(0, 27))
        top.axis("off")
        top.set_title(head)
        _draw_arcs(top, words, places, weights[query, : query + 1], query)
        _draw_matrix(below, weights, words, "", future=True, query=query)
        return Picture(figure, f"{head}. {_shares(words, weights[query, : query + 1], query)}")

    return MovingPicture(
        draw,
        {
            "query": slider("Query token", [(f"{i} {w}", i) for i, w in enumerate(words)], query),
            "head": choice("Head", [(name, name) for name in heads], head or next(iter(heads))),
        },
    )


def scores_mask_weights(
    words: Sequence[str], scores: np.ndarray, query: int, mask: np.ndarray | None = None
) -> MovingPicture:
    """Scores (L, L), what a mask lets through, and the weights of what is left; slider over rows.

    The mask is the causal staircase if none is given. `ValueError` for another shape.
    """
    scores = _square(scores, words, "scores")
    mask = np.tri(len(words), dtype=bool) if mask is None else np.asarray(mask)
    _check_query(query, words)
    kept = np.where(mask, scores, -np.inf)
    weights = np.exp(kept - kept.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)

    def draw(query: int) -> Picture:
        figure, planes = axes(1, 3, size=(11, 4.3))
        _draw_matrix(planes[0], scores, words, "1 · scores", query=query, signed=True)
        _draw_mask(planes[1], mask, "2 · mask: may attend", query)
        _draw_matrix(planes[2], weights, None, "3 · weights", mask=mask, query=query)
        for plane in planes[1:]:
            plane.set_xticks(range(len(words)), words, rotation=60, ha="right", fontsize=9)
            plane.set_yticks([])
        seen = [words[j] for j in np.flatnonzero(mask[query]).tolist()]
        shut = [words[j] for j in np.flatnonzero(~mask[query]).tolist()]
        return Picture(
            figure,
            f"“{words[query]}” (row {query}) may attend to {len(seen)} tokens: {', '.join(seen)}. "
            f"Shut out: {', '.join(shut) or 'none'}. Its scores run from "
            f"{_rounded(scores[query].min())} to {_rounded(scores[query].max())}. "
            + _shares(words, weights[query][mask[query]], query),
        )

    options = [(f"{i} {word}", i) for i, word in enumerate(words)]
    return MovingPicture(draw, {"query": slider("Query token", options, query)})


@styled
def shuffled_rows(
    words: Sequence[str], order: Sequence[int], straight: np.ndarray, shuffled: np.ndarray
) -> Picture:
    """Draw outputs (L, D) before and after a shuffle, with a line from each row to its new place.

    Row i of `shuffled` belongs to the word `order[i]`.
    """
    figure, (left, middle, right) = axes(1, 3, size=(9, 3.4), width_ratios=(4, 3, 4))
    limit = max(np.abs(straight).max(), np.abs(shuffled).max())
    for plane, rows, names, title in (
        (left, straight, words, "outputs"),
        (right, shuffled, [words[i] for i in order], "outputs of the shuffled words"),
    ):
        plane.imshow(rows, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
        for (i, j), number in np.ndenumerate(rows):
            color = ink_on_signed(number)
            plane.text(j, i, _rounded(number), ha="center", va="center", fontsize=8, color=color)
        plane.set_yticks(range(len(words)), names)
        plane.set_xticks([])
        plane.set_title(title)
    right.yaxis.tick_right()
    middle.set(xlim=(0, 1), ylim=left.get_ylim())
    middle.axis("off")
    for new, old in enumerate(order):
        style = ("-", "--", "-.", ":")[old % 4]
        middle.plot((0, 1), (old, new), style, color=PALETTE[old % len(PALETTE)], linewidth=2)
    moves = ", ".join(f"{words[old]} {old}→{new}" for new, old in enumerate(order))
    same = np.allclose(shuffled, straight[list(order)])
    return Picture(
        figure,
        f"Two tables of outputs, one row a word, and lines from old to new places: {moves}. "
        f"The numbers in the rows that a line connects are {'the same' if same else 'different'}.",
    )


def _square(matrix: np.ndarray, words: Sequence[str], name: str) -> np.ndarray:
    matrix = np.asarray(matrix, dtype=float)
    if matrix.shape != (len(words), len(words)):
        raise ValueError(
            f"{name}: {len(words)} words need a matrix {(len(words), len(words))}, "
            f"not {matrix.shape}"
        )
    return matrix


def _check_query(query: int, words: Sequence[str]) -> None:
    if not 0 <= query < len(words):
        raise ValueError(f"query must be a position from 0 to {len(words) - 1}, not {query}")


def _places(words: Sequence[str]) -> tuple[np.ndarray, float]:
    """Return the middle of each word on a line, and the line's length."""
    widths = np.array([max(len(word), 4) * 1.25 + 1.8 for word in words])
    return np.cumsum(widths) - widths / 2, float(widths.sum())


def _draw_arcs(
    plane: Axes, words: Sequence[str], places: np.ndarray, weights: np.ndarray, query: int
) -> None:
    reach = max(np.abs(places[: len(weights)] - places[query]).max(), 1.0)
    for key, weight in enumerate(weights):
        strong = weight >= SMALL
        style: dict[str, Any] = {
            "color": BLUE if strong else FAINT,
            "linewidth": 0.6 + 9 * weight,
            "alpha": 0.9 if strong else 0.6,
            "solid_capstyle": "round",
            "linestyle": "-" if strong else ":",
        }
        if key == query:
            angle = np.linspace(0, 2 * np.pi, 60)
            plane.plot(places[key] + 1.6 * np.sin(angle), 10.2 - 2 * np.cos(angle), **style)
        else:
            angle = np.linspace(0, np.pi, 60)
            middle, half = (places[key] + places[query]) / 2, (places[query] - places[key]) / 2
            height = 4 + 12 * abs(places[key] - places[query]) / reach
            plane.plot(middle - half * np.cos(angle), 8.2 + height * np.sin(angle), **style)
    for place, (i, word) in zip(places, enumerate(words), strict=True):
        faint = i >= len(weights) and i != query
        plane.text(
            place,
            5.8,
            word,
            ha="center",
            va="center",
            fontsize=11,
            fontweight="bold" if i == query else "normal",
            color=FAINT if faint else INK,
        )
        if i < len(weights):
            plane.text(
                place,
                2.2,
                f"{weights[i]:.2f}",
                ha="center",
                va="center",
                fontsize=9,
                fontweight="bold" if weights[i] >= SMALL else "normal",
                color=BLUE if weights[i] >= SMALL else FAINT,
            )
    width = max(len(words[query]), 3) * 1.25 + 1
    frame = FancyBboxPatch(
        (places[query] - width / 2, 4.2),
        width,
        3.4,
        boxstyle="round,pad=0,rounding_size=0.8",
        facecolor="none",
        edgecolor=RED,
        linewidth=1.8,
    )
    plane.add_patch(frame)


def _draw_matrix(
    plane: Axes,
    matrix: np.ndarray,
    words: Sequence[str] | None,
    title: str,
    future: bool = False,
    mask: np.ndarray | None = None,
    query: int | None = None,
    signed: bool = False,
) -> None:
    """Draw numbers as colours, and as numbers where they fit; hatch what is masked."""
    n = len(matrix)
    if future:
        mask = np.tri(*matrix.shape, dtype=bool)
    shut = np.zeros(matrix.shape, dtype=bool) if mask is None else ~mask
    if signed:
        limit = max(np.abs(matrix).max(), 1e-9)
        plane.imshow(matrix, cmap=SIGNED, vmin=-limit, vmax=limit)
    else:
        plane.imshow(np.where(shut, 0, matrix), "Blues", vmin=0, vmax=1)
    _hatch(plane, shut)
    for (i, j), number in np.ndenumerate(matrix):
        wanted = number >= SMALL if not signed else i == query
        if n <= 16 and wanted and not shut[i, j]:
            text = _rounded(number) if signed else f"{number:.2f}".removeprefix("0")
            color = PAPER if number > 0.6 else INK
            color = ink_on_signed(number) if signed else color
            plane.text(j, i, text, ha="center", va="center", fontsize=7.5, color=color)
    if words is not None:
        plane.set_xticks(range(n), words, rotation=60, ha="right", fontsize=9)
        plane.set_yticks(range(n), words, fontsize=9)
    plane.tick_params(length=0)
    plane.set_title(title)
    _frame_row(plane, query, matrix.shape[1])


def _draw_mask(plane: Axes, mask: np.ndarray, title: str, query: int) -> None:
    plane.imshow(mask, cmap="Blues", vmin=-0.5, vmax=2)
    _hatch(plane, ~mask)
    for (i, j), allowed in np.ndenumerate(mask):
        mark, color = ("✓", INK) if allowed else ("×", FAINT)
        plane.text(j, i, mark, ha="center", va="center", fontsize=8, color=color)
    plane.set_title(title)
    plane.tick_params(length=0)
    _frame_row(plane, query, mask.shape[1])


def _hatch(plane: Axes, cells: np.ndarray) -> None:
    squares = [Rectangle((j - 0.5, i - 0.5), 1, 1) for i, j in np.argwhere(cells)]
    style: dict[str, Any] = {
        "facecolor": "#EEEDEA",
        "edgecolor": "#CFCFCF",
        "hatch": "///",
        "linewidth": 0,
    }
    plane.add_collection(PatchCollection(squares, **style), autolim=False)


def _rounded(number: float) -> str:
    return f"{number:.1f}".replace("-0.0", "0.0")


def _frame_row(plane: Axes, query: int | None, n_keys: int) -> None:
    if query is not None:
        plane.add_patch(
            Rectangle(
                (-0.5, query - 0.5), n_keys, 1, facecolor="none", edgecolor=RED, lw=2, zorder=5
            )
        )
        plane.plot([-0.5], [query], marker=">", color=RED, markersize=6, clip_on=False, zorder=6)
        plane.tick_params(axis="y", pad=7)  # the arrow stands before the row's word, not on it


def _shares(words: Sequence[str], weights: np.ndarray, query: int) -> str:
    """Say in words where the weight goes, largest share first."""
    weights = np.asarray(weights, dtype=float)
    strongest = [i for i in np.argsort(-weights, kind="stable") if weights[i] >= SMALL][:4]
    named = ", ".join(
        f"{weights[i]:.2f} on {'itself' if i == query else f'“{words[i]}”'}" for i in strongest
    )
    rest = 1 - weights[strongest].sum()
    return f"“{words[query]}” puts {named}" + (
        f"; the other {rest:.2f} is spread over the rest." if rest >= 0.01 else "."
    )


def _habit(words: Sequence[str], weights: np.ndarray) -> str:
    """Say what a head mostly does: the three largest weights off the first row."""
    lower = np.tril(weights)[1:]
    flat = np.argsort(-lower, axis=None, kind="stable")[:3]
    rows, columns = np.unravel_index(flat, lower.shape)
    pairs = (
        f"“{words[i + 1]}” to “{words[j]}” {lower[i, j]:.2f}"
        for i, j in zip(rows, columns, strict=True)
    )
    return "strongest " + ", ".join(pairs) + "."
