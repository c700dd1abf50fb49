"""Pictures of what was recorded of a real model (`llm_memory.data.recorded`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llm_memory.plots.attention import arcs
from llm_memory.plots.kv_cache import curves
from llm_memory.plots.picture import INK, PAPER, MovingPicture, Picture, axes, slider, styled


def made(record: Mapping) -> str:
    """Say what was measured, when and where."""
    how = record["made"]
    return f"Recorded with {how['model']} on {how['date']} ({how['machine']})."


@styled
def shares(
    table: Sequence[Sequence[float]],
    rows: Sequence[object],
    columns: Sequence[object],
    names: tuple[str, str],
    title: str,
) -> Picture:
    """Draw a table of shares from 0 to 1 as colours, with numbers where they fit.

    `names` are those of the rows and of the columns.
    """
    numbers = np.array(table)
    height = 1.4 + (0.16 if len(rows) > 12 else 0.4) * len(rows)
    figure, (plane,) = axes(size=(max(4.5, 1.8 + 0.55 * len(columns)), height))
    plane.imshow(numbers, "Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), number in np.ndenumerate(numbers):
        if len(rows) <= 12 or number >= 0.3:
            color = PAPER if number > 0.6 else INK
            size = 8 if len(rows) <= 12 else 6
            text = f"{number:.2f}".removeprefix("0")
            plane.text(j, i, text, ha="center", va="center", fontsize=size, color=color)
    plane.set_xticks(range(len(columns)), [str(column) for column in columns])
    step = 1 if len(rows) <= 12 else 3
    plane.set_yticks(range(0, len(rows), step), [str(row) for row in rows[::step]])
    plane.tick_params(length=0)
    plane.set(title=title, ylabel=names[0], xlabel=names[1])
    i, j = map(int, np.unravel_index(numbers.argmax(), numbers.shape))
    return Picture(
        figure,
        f"{title}, by {names[0]} and {names[1]}. Mean {numbers.mean():.2f}; the highest is "
        f"{numbers.max():.2f}, at {names[0]} {rows[i]} and {names[1]} {columns[j]}.",
    )


def looks_at(record: Mapping, word: str) -> Picture:
    """By layer and head: how much "they" looks at a word of the recorded sentence."""
    found = record["sentence"]
    place = found["tokens"].index(word)
    table = [[row[place] for row in layer] for layer in found["looks"]]
    title = f"how much “they” looks at “{word.strip()}”"
    return shares(table, range(len(table)), range(len(table[0])), ("layer", "head"), title)


def head(record: Mapping, best: str) -> MovingPicture:
    """Arcs of the head that looks most at `best`, and of every layer's own; a slider."""
    found = record["sentence"]
    they, place = found["they"], found["tokens"].index(best)
    words = [token.strip() for token in found["tokens"][: they + 1]]
    tops = [max(range(len(layer)), key=lambda h: layer[h][place]) for layer in found["looks"]]
    layers = range(len(tops))
    start = max(layers, key=lambda i: found["looks"][i][tops[i]][place])

    def draw(layer: int) -> Picture:
        title = f"layer {layer}, head {tops[layer]}"
        return arcs(words, found["looks"][layer][tops[layer]], query=they, title=title)

    return MovingPicture(draw, {"layer": slider("Layer", [(str(i), i) for i in layers], start)})


def sinks(record: Mapping) -> Picture:
    """By layer and head: the mean weight of token 0 in the eyes of much later tokens."""
    table = record["sinks"]
    title = "mean weight of token 0, seen from token 16 on"
    return shares(table, range(len(table)), range(len(table[0])), ("layer", "head"), title)


def loss_by_position(record: Mapping) -> Picture:
    """The loss of English prose by how much of it was read before."""
    points = {int(end): loss for end, loss in record["loss by position"].items()}
    return curves({"loss": points}, "tokens read, at most", "loss (nats a token)")


def recall(record: Mapping) -> Picture:
    """How likely the right word is, by length of the text and by depth of the fact in it."""
    found = record["recall"]
    depths = list(next(iter(found.values())))
    table = [list(by_depth.values()) for by_depth in found.values()]
    named = [f"{float(depth):.0%}" for depth in depths]
    title = "chance of the right word"
    return shares(table, list(found), named, ("tokens", "depth of the fact"), title)


def bits(record: Mapping) -> Picture:
    """The loss by the bits of keys or values, and by what shares a scale."""
    lines = {
        name: {int(n): loss for n, loss in by_bits.items()}
        for name, by_bits in record["bits"].items()
        if name != "unrounded"
    }
    whole = record["bits"]["unrounded"]["32"]
    title = f"unrounded: {whole:.2f}"
    picture = curves(lines, "bits a number", "loss (nats a token)", title=title)
    picture.figure.axes[0].set_xticks(sorted({n for points in lines.values() for n in points}))
    return picture
