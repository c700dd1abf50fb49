"""Diagrams: which heads share keys and values, and the shapes along an attention layer."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from llm_memory.plots.picture import (
    FAINT,
    HATCHES,
    INK,
    PALETTE,
    PAPER,
    MovingPicture,
    Picture,
    canvas,
    slider,
    styled,
)


def grouped_heads(n_heads: int, n_kv_heads: int) -> MovingPicture:
    """Query heads over the key/value heads that they share; a slider over all that divide."""
    possible = [n for n in range(1, n_heads + 1) if n_heads % n == 0]
    if n_kv_heads not in possible:
        raise ValueError(f"{n_heads} query heads can share {possible} key heads, not {n_kv_heads}")

    def draw(n_kv_heads: int) -> Picture:
        group = n_heads // n_kv_heads
        step = 100 / n_heads
        figure, plane = canvas((8, 3.2), 100, 40)
        for query in range(n_heads):
            shared = query // group
            left, middle = query * step + 0.15 * step, (query + 0.5) * step
            _head(plane, left, 24, 0.7 * step, f"query\n{query}", shared)
            key_middle = (shared + 0.5) * group * step
            plane.plot((middle, key_middle), (24, 13), color=PALETTE[shared % 6], linewidth=2)
        for shared in range(n_kv_heads):
            left = (shared + 0.5) * group * step - 0.35 * step
            _head(plane, left, 4, 0.7 * step, f"key/value\n{shared}", shared)
        name = {1: "multi-query attention", n_heads: "multi-head attention"}.get(
            n_kv_heads, "grouped-query attention"
        )
        kept = f"kept for each token: {2 * n_kv_heads} of {2 * n_heads} vectors"
        plane.text(50, 37.3, f"H = {n_heads}, H_kv = {n_kv_heads}: {name}; {kept}", ha="center")
        groups = "; ".join(
            f"query heads {', '.join(map(str, range(s * group, (s + 1) * group)))} use "
            f"key/value head {s}"
            for s in range(n_kv_heads)
        )
        return Picture(figure, f"{name}, group size {group}: {groups}. {kept.capitalize()}.")

    options = [(str(n), n) for n in possible]
    return MovingPicture(draw, {"n_kv_heads": slider("H_kv", options, n_kv_heads)})


@styled
def layer_shapes(n_heads: int, n_kv_heads: int) -> Picture:
    """The attention layer from left to right, with the shape after each step."""
    figure, plane = canvas((11, 4), 110, 40)
    rows = {"q": 32, "k": 20, "v": 8}
    heads = {"q": n_heads, "k": n_kv_heads, "v": n_kv_heads}
    _step(plane, 6, 20, "x", "(B, L, E)", 0)
    for index, (letter, y) in enumerate(rows.items()):
        count = "H" if letter == "q" else "H_kv"
        _arrow(plane, (11.5, 20), (18, y))
        _step(plane, 24, y, f"· w_{letter}ᵀ", f"(B, L, {count}·D)", index)
        _arrow(plane, (30, y), (36, y))
        _step(plane, 43, y, "split_heads", f"(B, {count}, L, D)", index)
        _arrow(plane, (50, y), (57.5, 20 + (y - 20) * 0.35))
    _step(plane, 65, 20, "grouped_query_\nattention", "(B, H, L, D)", 3, height=11)
    _arrow(plane, (72.5, 20), (77, 20))
    _step(plane, 84, 20, "merge_heads", "(B, L, H·D)", 4)
    _arrow(plane, (91, 20), (95, 20))
    _step(plane, 101, 20, "· w_oᵀ", "(B, L, E)", 5)
    plane.text(65, 35, f"here H = {n_heads}, H_kv = {n_kv_heads}", ha="center", color=INK)
    plane.text(65, 6, "only here do\ntokens meet", ha="center", va="center", color=INK)
    plane.plot((65, 65), (9.5, 12), color=FAINT)
    lines = "; ".join(
        f"{letter}: times w_{letter} to (B, L, {'H' if letter == 'q' else 'H_kv'}·D), "
        f"split into {heads[letter]} heads"
        for letter in rows
    )
    return Picture(
        figure,
        f"x (B, L, E) goes three ways. {lines}. All three enter grouped_query_attention, which "
        "gives (B, H, L, D); merge_heads makes it (B, L, H·D), and w_o brings it to (B, L, E). "
        "Tokens meet in the attention only.",
    )


@styled
def whole_model(n_layers: int) -> Picture:
    """A model from token numbers to scores: the residual stream, and what adds to it."""
    figure, plane = canvas((11, 4.2), 110, 42)
    plane.plot((10, 97), (12, 12), color=INK, linewidth=4, solid_capstyle="butt", zorder=1)
    plane.text(33, 8.4, "residual stream: one vector a token", ha="center", va="center")
    plane.add_patch(
        Rectangle((19, 3), 62, 36.5, facecolor="none", edgecolor=FAINT, linestyle="--", lw=1.2)
    )
    plane.text(80, 5.2, f"{n_layers} layers like this", ha="right", va="center", fontsize=9)
    _step(plane, 8, 12, "embedding", "", 0)
    parts = (("attention", 28, "sees other tokens", 1), ("feed-forward", 59, "each token alone", 2))
    for name, left, sees, index in parts:
        _arrow(plane, (left - 5, 12), (left - 5, 20))
        _step(plane, left - 3, 23, "norm", "", 4)
        _arrow(plane, (left + 3, 23), (left + 5, 23))
        plane.add_patch(
            FancyBboxPatch(
                (left + 5, 19.5), 16, 7, boxstyle="round,pad=0,rounding_size=1", lw=2,
                facecolor=PAPER, edgecolor=PALETTE[index], hatch=HATCHES[index],
            )
        )  # fmt: skip
        box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
        plane.text(left + 13, 23, name, ha="center", va="center", fontsize=9, bbox=box)
        plane.text(left + 8, 33, sees, ha="center", va="center", fontweight="bold")
        plane.plot((left + 19, left + 19), (19.5, 15), color=FAINT)
        _arrow(plane, (left + 19, 15.5), (left + 19, 13))
        plane.text(left + 19, 12, "+", ha="center", va="center", fontsize=13, zorder=3, bbox={
            "boxstyle": "circle,pad=0.15", "facecolor": PAPER, "edgecolor": INK,
        })  # fmt: skip
    _step(plane, 87.6, 12, "norm", "", 4)
    _step(plane, 102, 12, "unembedding", "", 0)
    plane.text(8, 18, "token numbers\ngo in", ha="center", va="center", fontsize=9)
    plane.text(101, 18, "scores of the\nnext token", ha="center", va="center", fontsize=9)
    return Picture(
        figure,
        "A line from left to right, the residual stream: one vector a token. An embedding makes "
        f"it of token numbers. Each of {n_layers} layers adds to it twice: first attention, which "
        "sees other tokens, then feed-forward, which works on each token alone; each reads the "
        "stream through a norm. After a last norm, the unembedding gives the scores of the next "
        "token.",
    )


def _head(plane: Axes, left: float, bottom: float, width: float, text: str, group: int) -> None:
    color, hatch = PALETTE[group % len(PALETTE)], HATCHES[group % len(HATCHES)]
    plane.add_patch(
        Rectangle((left, bottom), width, 9, facecolor="none", edgecolor=color, hatch=hatch, lw=2)
    )
    plane.text(
        left + width / 2,
        bottom + 4.5,
        text,
        ha="center",
        va="center",
        fontsize=9,
        bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1.5},
    )


def _step(
    plane: Axes, x: float, y: float, name: str, shape: str, index: int, height: float = 5
) -> None:
    width = 14 if len(name) > 8 else 11
    plane.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=1",
            facecolor=PAPER,
            edgecolor=PALETTE[index % len(PALETTE)],
            linewidth=2,
        )
    )
    plane.text(x, y, name, ha="center", va="center", fontsize=9)
    plane.text(x, y - height / 2 - 1.9, shape, ha="center", va="center", fontsize=8.5, color=INK)


def _arrow(plane: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    plane.annotate(
        "", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": FAINT, "lw": 1.3}
    )
