"""Pictures of the KV cache lesson: what passes, what is kept, what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from llm_memory.plots.picture import (
    BLUE,
    FAINT,
    GREEN,
    HATCHES,
    INK,
    MARKERS,
    ORANGE,
    PALETTE,
    PAPER,
    SIGNED,
    MovingPicture,
    Picture,
    axes,
    canvas,
    slider,
    styled,
)
from llm_memory.shapes import GIB, ModelShape, cache_bytes

LINES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 3)))


def autoregression(words: Sequence[str], n_prompt: int) -> MovingPicture:
    """Generation token by token, without a cache (above) and with one (below); a slider."""
    n_steps = len(words) - n_prompt

    def draw(step: int) -> Picture:
        figure, plane = canvas((10, 4.6), 100, 52)
        width = min(11.2, 84 / len(words))
        read = n_prompt + step - 1
        for bottom, cached in ((29, False), (3, True)):
            passed = range(read - 1, read) if cached and step > 1 else range(read)
            name = "With a KV cache" if cached else "Without a cache"
            plane.text(
                4, bottom + 18.5, f"{name}: {len(passed)} of {read} tokens pass", fontsize=11
            )
            for i, word in enumerate(words[: read + 1]):
                left = 4 + i * (width + 0.5)
                kept = cached and i < read - (1 if step > 1 else read)
                if i == read:
                    style: dict[str, Any] = {
                        "facecolor": PAPER,
                        "edgecolor": INK,
                        "linestyle": "--",
                    }
                elif i in passed:
                    style = {"facecolor": ORANGE, "edgecolor": INK}
                else:
                    style = {"facecolor": PAPER, "edgecolor": FAINT}
                _cell(plane, left, bottom, width, 6, word, style)
                if i == read:
                    plane.text(left + width / 2, bottom + 9, "new", ha="center", fontsize=9)
                    continue
                color, hatch = (GREEN, "//") if kept else (ORANGE, "")
                style = {"facecolor": color, "edgecolor": INK, "hatch": hatch, "alpha": 0.75}
                _cell(plane, left, bottom + 8, width, 4, "", style)
                _cell(plane, left, bottom + 12.5, width, 4, "", style)
                if i == 0:
                    for height, letter in ((10, "K"), (14.5, "V")):
                        plane.text(left - 0.8, bottom + height, letter, ha="right", va="center")
        plane.text(98, 29 + 18.5, "■ computed now", ha="right", color="#8A5A00", fontsize=10)
        plane.text(98, 3 + 18.5, "▨ kept from before", ha="right", color="#00664B", fontsize=10)
        now = "the prompt" if step == 1 else f"“{words[read - 1]}”"
        return Picture(
            figure,
            f"Step {step} writes “{words[read]}”. Without a cache {read} tokens pass through the "
            f"model at this step. With a cache only {now} passes, "
            f"{read if step == 1 else 1} of them; the keys and values of the "
            f"{0 if step == 1 else read - 1} tokens before are kept.",
        )

    options = [(f"{s} of {n_steps}", s) for s in range(1, n_steps + 1)]
    return MovingPicture(draw, {"step": slider("Step", options, min(4, n_steps))})


def _plain_log(plane: Axes, places: Sequence[float]) -> None:
    """Make both axes logarithmic, with plain numbers beside them."""
    plane.set(xscale="log", yscale="log")
    for axis in (plane.xaxis, plane.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    low, high = plane.get_ylim()
    if high < 100 * low:  # otherwise powers of ten are ticks enough
        plane.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    plane.set_xticks(list(places))
    plane.minorticks_off()


def _cell(plane: Any, left: float, bottom: float, width: float, height: float, text, style) -> None:
    plane.add_patch(Rectangle((left, bottom), width, height, **style))
    plane.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9)


@styled
def tokens_forwarded(passes: Mapping[str, Sequence[int]]) -> Picture:
    """One column a pass, as high as the tokens that go through it; one panel a way of working."""
    figure, panels = axes(1, len(passes), size=(4.6 * len(passes), 3.2))
    highest = max(max(numbers) for numbers in passes.values())
    says = []
    for index, (plane, (name, numbers)) in enumerate(zip(panels, passes.items(), strict=True)):
        plane.bar(
            np.arange(1, len(numbers) + 1),
            numbers,
            width=1.0,
            color=PALETTE[index],
            edgecolor=PAPER,
            linewidth=0.5,
            hatch=HATCHES[index],
        )
        plane.set_title(f"{name}: {sum(numbers):,} tokens in all")
        plane.xaxis.set_major_locator(MaxNLocator(integer=True))
        plane.set(ylim=(0, highest * 1.08), xlabel="pass")
        says.append(
            f"{name}: {len(numbers)} passes, {numbers[0]} tokens in the first, {numbers[-1]} in "
            f"the last, {sum(numbers):,} in all."
        )
    panels[0].set_ylabel("tokens that pass")
    return Picture(figure, "Tokens through the model at each pass. " + " ".join(says))


def old_rows(
    words: Sequence[str], before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]
) -> MovingPicture:
    """Keys of each layer (tokens × numbers) before and after one more token; a choice of layer."""

    def draw(layer: int) -> Picture:
        old, new = before[layer], after[layer]
        most = float(max(old.abs().max(), new.abs().max()))
        figure, (left, right, off) = axes(1, 3, size=(10.5, 3.4), width_ratios=(1, 1, 1))
        for plane, table in ((left, old), (right, new)):
            plane.imshow(table.numpy(), cmap=SIGNED, vmin=-most, vmax=most, aspect="auto")
        gap = (new[: len(old)] - old).abs()
        shown = torch.cat((gap, torch.full((1, gap.shape[1]), float("nan"))))
        off.imshow(shown.numpy(), cmap="Greys", vmin=0, vmax=most, aspect="auto")
        off.text(gap.shape[1] / 2 - 0.5, len(old), "new row", ha="center", va="center")
        for plane, n, title in (
            (left, len(old), f"keys of {len(old)} tokens"),
            (right, len(new), f"one more token: {len(new)}"),
            (off, len(new), f"difference: at most {float(gap.max()):.0g}"),
        ):
            plane.set_title(title)
            plane.set_yticks(range(n), words[:n])
            plane.set(xticks=[], ylim=(len(new) - 0.5, -0.5), xlabel="numbers of the keys")
        return Picture(
            figure,
            f"Layer {layer}: the keys of {len(old)} tokens, then of {len(new)}. The first "
            f"{len(old)} rows differ by at most {float(gap.max()):.1e}, while keys reach "
            f"{most:.1f}. Only the row of “{words[len(old)]}” is new.",
        )

    layers = [(str(i), i) for i in range(len(before))]
    return MovingPicture(draw, {"layer": slider("Layer", layers, len(before) - 1)})


def growing_table(
    words: Sequence[str], queries: np.ndarray, keys: np.ndarray, values: np.ndarray
) -> MovingPicture:
    """One head by hand: at each step one row joins, one query asks, all rows answer; a slider."""

    def draw(step: int) -> Picture:
        n = step + 1
        scores = keys[:n] @ queries[step] / np.sqrt(keys.shape[1])
        weights = np.exp(scores - scores.max())
        weights = weights / weights.sum()
        output = weights @ values[:n]
        figure, plane = canvas((10, 3.9), 100, 40)
        columns = {"token": 9, "key": 27, "value": 43, "q · k / √D": 60, "weight": 76}
        for name, x in columns.items():
            plane.text(x, 36.5, name, ha="center", weight="bold")
        for row, word in enumerate(words):
            y = 31.5 - row * 5
            if row >= n:
                plane.text(columns["token"], y, word, ha="center", va="center", color=FAINT)
                continue
            new = row == step
            style: dict[str, Any] = {
                "facecolor": ORANGE if new else GREEN,
                "edgecolor": INK,
                "alpha": 0.55,
            }
            style["hatch"] = "" if new else "//"
            plane.add_patch(Rectangle((19, y - 2), 32, 4, **style))
            plane.text(columns["token"], y, word, ha="center", va="center")
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5}
            for name, pair in (("key", keys[row]), ("value", values[row])):
                text = "  ".join(f"{number:g}" for number in pair)
                plane.text(columns[name], y, text, ha="center", va="center", bbox=box)
            plane.text(columns["q · k / √D"], y, f"{scores[row]:.2f}", ha="center", va="center")
            plane.add_patch(Rectangle((68, y - 1.4), 10 * weights[row], 2.8, color=BLUE))
            plane.text(80, y, f"{weights[row]:.2f}", ha="left", va="center")
        query = "  ".join(f"{number:g}" for number in queries[step])
        result = "  ".join(f"{number:.2f}" for number in output)
        plane.text(2, 2.5, f"query of “{words[step]}”: {query}", weight="bold")
        plane.text(98, 2.5, f"output: {result}", ha="right", weight="bold")
        plane.text(2, 7, "plain, orange: the new row · hatched, green: kept", fontsize=9)
        shares = ", ".join(f"{w} {x:.2f}" for w, x in zip(words[:n], weights, strict=True))
        return Picture(
            figure,
            f"Step {n}: the row of “{words[step]}” joins the {step} rows kept. Its query ({query}) "
            f"gives the weights {shares}, and the output {result}.",
        )

    options = [(str(i + 1), i) for i in range(len(words))]
    return MovingPicture(draw, {"step": slider("Step", options, min(3, len(words) - 1))})


@styled
def turns(parts: Mapping[str, Sequence[tuple[str, int]]]) -> Picture:
    """Tokens that pass before the first new token of each turn; a row a way of working."""
    figure, (plane,) = axes(size=(8.5, 0.9 + 0.75 * len(parts)))
    says = []
    labels = list(dict.fromkeys(label for pieces in parts.values() for label, _ in pieces))
    longest = max(sum(n for _, n in pieces) for pieces in parts.values())
    for row, (name, pieces) in enumerate(parts.items()):
        left = 0
        for label, n in pieces:
            look: dict[str, Any] = {
                "color": PALETTE[labels.index(label)],
                "hatch": HATCHES[labels.index(label)],
            }
            plane.barh(row, n, left=left, edgecolor=PAPER, **look)
            left += n
        text = " + ".join(f"{n} {label}" for label, n in pieces)
        plane.text(left + longest / 80, row, text, va="center")
        says.append(f"{name}: " + ", then ".join(f"{label} {n}" for label, n in pieces) + ".")
    plane.set_yticks(range(len(parts)), list(parts))
    plane.invert_yaxis()
    plane.set(xlabel="tokens that pass", xlim=(0, 1.25 * longest))
    return Picture(figure, " ".join(says))


def bill(models: Mapping[str, ModelShape]) -> MovingPicture:
    """Memory of the cache by text length, beside that of the weights; a slider over the batch."""

    def draw(batch: int) -> Picture:
        figure, (plane,) = axes(size=(9.5, 4))
        says = []
        for index, (name, shape) in enumerate(models.items()):
            lengths = np.geomspace(256, shape["max_tokens"], 24).astype(int)
            held = [cache_bytes(shape, int(n), batch) / GIB for n in lengths]
            weights = shape["weight_bytes"] / GIB
            look: dict[str, Any] = {"color": PALETTE[index], "linestyle": LINES[index]}
            plane.plot(lengths, held, marker=MARKERS[index], markevery=5, label=name, **look)
            plane.axhline(weights, color=PALETTE[index], linewidth=0.8, alpha=0.6)
            over = weights * GIB / cache_bytes(shape, 1, batch)
            if lengths[0] <= over <= lengths[-1]:
                plane.plot(over, weights, marker="*", markersize=16, color=INK, zorder=5)
                says.append(f"{name}: the cache outweighs the weights from {over:,.0f} tokens on.")
            else:
                says.append(f"{name}: {held[-1]:.1f} GiB of cache at the longest text, ")
                says[-1] += f"{weights:.1f} GiB of weights."
        _plain_log(plane, (256, 1024, 4096, 16384, 65536, 262144, 1048576))
        plane.set(xlabel="tokens in each text", ylabel="GiB")
        plane.set_title(
            f"cache of {batch} text{'s' * (batch > 1)}; thin line: the weights; star: equal"
        )
        plane.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return Picture(figure, f"Batch {batch}, 16 bits. " + " ".join(says))

    options = [(str(n), n) for n in (1, 4, 16, 64)]
    return MovingPicture(draw, {"batch": slider("Texts at once", options, 16)})


@styled
def curves(
    lines: Mapping[str, Mapping[int, float]],
    x: str,
    y: str,
    log: bool = False,
    title: str = "",
) -> Picture:
    """Draw a line for each name over whole numbers; `log` for both axes."""
    figure, (plane,) = axes(size=(8.5, 3.4))
    says = []
    for index, (name, points) in enumerate(lines.items()):
        places, heights = list(points), list(points.values())
        look: dict[str, Any] = {
            "color": PALETTE[index],
            "linestyle": LINES[index],
            "marker": MARKERS[index],
        }
        plane.plot(places, heights, label=name, markersize=5, **look)
        says.append(
            f"{name}: {heights[0]:.3g} at {places[0]:,}, {heights[-1]:.3g} at {places[-1]:,}."
        )
    if log:
        _plain_log(plane, sorted({x for points in lines.values() for x in points}))
    else:
        plane.set_ylim(bottom=0)
    plane.set(xlabel=x, ylabel=y, title=title)
    if len(lines) > 1:
        plane.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Picture(figure, f"{title or y.capitalize()} by {x}. " + " ".join(says))


def ring(n_tokens: int, window: int, n_sinks: int) -> MovingPicture:
    """The slots of a rolling cache as a text goes by: sinks stay, the window turns; a slider."""

    def draw(seen: int) -> Picture:
        figure, plane = canvas((9.5, 4), 95, 40)
        plane.set_aspect("equal")
        for i in range(n_tokens):
            held = i < seen and (i < n_sinks or i >= seen - window)
            gone = i < seen and not held
            style: dict[str, Any] = {
                "facecolor": GREEN if i < n_sinks else BLUE,
                "edgecolor": INK,
                "alpha": 0.8,
            }
            if not held:
                style = {"facecolor": PAPER, "edgecolor": FAINT}
            elif i < n_sinks:
                style["hatch"] = "//"
            left = 1.5 + i * 92 / n_tokens
            plane.add_patch(Rectangle((left, 33), 84 / n_tokens, 4, **style))
            mark = "×" if gone else str(i)
            color = "white" if held and i >= n_sinks else INK if held or gone else FAINT
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.6}
            plane.text(
                left + 42 / n_tokens,
                35,
                mark,
                ha="center",
                va="center",
                fontsize=8,
                color=color,
                bbox=box if held and i < n_sinks else None,
            )
        plane.text(1.5, 38.3, "the text", fontsize=9)
        in_ring = [i for i in range(max(n_sinks, seen - window), seen)]
        for slot in range(window):
            angle = np.pi / 2 - 2 * np.pi * slot / window
            x, y = 60 + 11.5 * np.cos(angle), 16 + 11.5 * np.sin(angle)
            token = next((i for i in in_ring if (i - n_sinks) % window == slot), None)
            newest = token == seen - 1
            style = {"facecolor": PAPER, "edgecolor": FAINT}
            if token is not None:
                style = {"facecolor": BLUE, "edgecolor": ORANGE if newest else INK}
                style["linewidth"] = 4 if newest else 1
            plane.add_patch(Rectangle((x - 3, y - 2.2), 6, 4.4, **style))
            text = "" if token is None else str(token)
            plane.text(x, y, text, ha="center", va="center", color="white", weight="bold")
        plane.text(
            60, 16, "the window,\none slot after\nthe other", ha="center", va="center", fontsize=9
        )
        for i in range(n_sinks):
            style = {"facecolor": GREEN if i < seen else PAPER, "edgecolor": INK, "alpha": 0.8}
            plane.add_patch(Rectangle((16 + i * 7, 14), 6, 4.4, hatch="//", **style))
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
            plane.text(19 + i * 7, 16.2, str(i), ha="center", va="center", bbox=box)
        if n_sinks:
            plane.text(16, 21, "sinks, never overwritten", fontsize=9)
        kept = [i for i in range(seen) if i < n_sinks or i >= seen - window]
        return Picture(
            figure,
            f"{seen} tokens seen, window {window}, {n_sinks} sinks. Held: tokens "
            f"{', '.join(map(str, kept))}. Forgotten: {seen - len(kept)}.",
        )

    options = [(str(i), i) for i in range(1, n_tokens + 1)]
    return MovingPicture(draw, {"seen": slider("Tokens seen", options, min(n_tokens, window + 5))})


@styled
def rounding(
    error: Mapping[str, Mapping[int, float]], same: Mapping[str, Mapping[int, float]]
) -> Picture:
    """Error of the rounded cache by bits (left) and the share of equal best tokens (right)."""
    figure, panels = axes(1, 2, size=(10.5, 3.5))
    says = []
    for plane, lines, name in (
        (panels[0], error, "error, share of the numbers' size"),
        (panels[1], same, "same best token"),
    ):
        for index, (label, points) in enumerate(lines.items()):
            look: dict[str, Any] = {
                "color": PALETTE[index],
                "linestyle": LINES[index],
                "marker": MARKERS[index],
            }
            plane.plot(list(points), list(points.values()), label=label, **look)
            numbers = ", ".join(f"{value:.2g} with {bits} bits" for bits, value in points.items())
            says.append(f"{name}, {label}: {numbers}.")
        plane.set(xlabel="bits", title=name, ylim=(0, None))
        plane.set_xticks(list(points))
        plane.invert_xaxis()
    panels[1].set_ylim(0, 1.05)
    panels[0].legend()
    return Picture(figure, " ".join(says))


@styled
def channels(table: torch.Tensor, title: str) -> Picture:
    """Absolute numbers of a table (tokens × channels), to see which channels stand out."""
    figure, (plane,) = axes(size=(8.5, 3))
    image = plane.imshow(table.abs().numpy(), cmap="Blues", aspect="auto")
    figure.colorbar(image, ax=plane, label="absolute value")
    plane.set(xlabel="channel", ylabel="token", title=title)
    means = table.abs().mean(0)
    return Picture(
        figure,
        f"{title}. The mean absolute value is {float(means.max()):.2f} in the largest channel, "
        f"{float(means.median()):.2f} in the middle one.",
    )


def page_map(
    history: Sequence[tuple[str, Mapping[str, Sequence[int]], Mapping[str, int]]],
    n_blocks: int,
    block_size: int,
) -> MovingPicture:
    """Blocks of a pool and who uses them, event by event; a slider.

    Each event: what happened, the blocks of each sequence, and how many tokens each has.
    """
    names = sorted({name for _, tables, _ in history for name in tables})

    def draw(event: int) -> Picture:
        what, tables, lengths = history[event]
        figure, plane = canvas((10, 4.2), 100, 42)
        plane.text(2, 39, what, weight="bold")
        across = 92 / n_blocks
        for block in range(n_blocks):
            users = [name for name in names if block in tables.get(name, ())]
            left = 4 + block * across
            face = FAINT if len(users) > 1 else PALETTE[names.index(users[0])] if users else PAPER
            hatch = "xx" if len(users) > 1 else HATCHES[names.index(users[0])] if users else ""
            for place in range(block_size):
                filled = any(
                    tables[name].index(block) * block_size + place < lengths[name] for name in users
                )
                style: dict[str, Any] = {"facecolor": face if filled else PAPER, "edgecolor": INK}
                if filled:
                    style |= {"hatch": hatch, "alpha": 0.7}
                height = 8 / block_size
                plane.add_patch(
                    Rectangle((left, 14 - place * height), 0.86 * across, height, **style)
                )
            label = f"{block}" + (f"\n{len(users)} users" if len(users) > 1 else "")
            plane.text(left + 0.43 * across, 4.6, label, ha="center", va="top", fontsize=9)
        for row, name in enumerate(n for n in names if n in tables):
            y = 33 - row * 5
            plane.text(2, y, f"{name} ({lengths[name]} tokens):", va="center")
            for place, block in enumerate(tables[name]):
                _cell(
                    plane,
                    26 + place * 7,
                    y - 1.8,
                    6,
                    3.6,
                    str(block),
                    {
                        "facecolor": PALETTE[names.index(name)],
                        "edgecolor": INK,
                        "alpha": 0.45,
                    },
                )
        used = {block for table in tables.values() for block in table}
        says = "; ".join(
            f"{name}: {lengths[name]} tokens in blocks {', '.join(map(str, table))}"
            for name, table in tables.items()
        )
        return Picture(
            figure, f"{what}. {says or 'No sequence'}. {n_blocks - len(used)} of {n_blocks} free."
        )

    options = [(str(i + 1), i) for i in range(len(history))]
    return MovingPicture(draw, {"event": slider("Event", options, min(3, len(history) - 1))})
