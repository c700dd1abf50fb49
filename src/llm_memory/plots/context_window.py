"""Pictures of the context window: what is in it, what is lost, what it costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import torch

from llm_memory.pieces import cut, learn_merges
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
    PURPLE,
    RED,
    SKY,
    MovingPicture,
    Picture,
    axes,
    canvas,
    choice,
    slider,
    styled,
)
from llm_memory.shapes import GIB, Card, ModelShape, cache_bytes

LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def tokens_in_words(n: int) -> str:
    """Return a length as models name it: 4K, 128K, 1M; K is 1,024 for powers of two."""
    if n >= 1_000_000:
        return f"{n / 1_000_000:.3g}M"
    return f"{n // 1024}K" if n >= 1024 else str(n)


@styled
def cliff(kept: Sequence[int], success: Sequence[float], needed: int) -> Picture:
    """Draw success against the number of newest tokens that were kept; `needed` is the cliff."""
    figure, (plane,) = axes(size=(8, 3.2))
    plane.axvspan(0, needed, color=SKY, alpha=0.18, linewidth=0)
    plane.axvline(needed, color=INK, linestyle=":", linewidth=1.2)
    plane.plot(kept, success, color=BLUE, marker="o", markersize=4, linewidth=1.5)
    plane.set(xlim=(0, max(kept) + 4), ylim=(-0.06, 1.22), yticks=(0, 0.5, 1))
    plane.set_xlabel("newest tokens kept")
    plane.set_ylabel("recall of the code")
    plane.text(needed - 3, 1.1, "the code is cut off", ha="right")
    plane.text(needed + 3, 1.1, "the code is in the input", ha="left")
    below = max((s for n, s in zip(kept, success, strict=True) if n < needed), default=0)
    above = min((s for n, s in zip(kept, success, strict=True) if n >= needed), default=0)
    return Picture(
        figure,
        f"Recall of the code against the number of newest tokens kept. With {needed} tokens or "
        f"more, where the code is in the input, recall is at least {above:.2f}. With its digits "
        f"cut off it is at most {below:.2f}. Between the two the curve falls like a cliff.",
    )


@styled
def token_boxes(rows: Mapping[str, Sequence[str]]) -> Picture:
    """Draw one row of boxes for each way to cut a text, one box a token, and their number."""
    return _boxes(rows)


def learned_pieces(text: str, sentence: str) -> MovingPicture:
    """`sentence` in pieces that are learned from `text`; a slider over how many were learned."""
    counts = (0, 10, 30, 100, 300, 1000)
    merges = learn_merges(text, max(counts))

    def draw(n: int) -> Picture:
        pieces = cut(sentence, merges[:n])
        words = len(sentence.split())
        latest = f", the last one “{''.join(merges[n - 1])}”" if 0 < n <= len(merges) else ""
        drawn = _boxes({"pieces": pieces}, title=f"{n} pairs joined{latest}")
        return Picture(
            drawn.figure,
            f"After joining {n} pairs, the {words} words are {len(pieces)} pieces: "
            f"{' | '.join(pieces)}.",
        )

    return MovingPicture(
        draw, {"n": slider("Pairs joined", [(f"{n:,}", n) for n in counts], counts[3])}
    )


def _boxes(rows: Mapping[str, Sequence[str]], title: str = "") -> Picture:
    unit, gap, margin = 1.0, 0.35, 13.0
    lengths = {
        name: sum(max(len(t), 1) * unit + 2 * gap for t in tokens) for name, tokens in rows.items()
    }
    right = margin + max(lengths.values()) + 5
    height = 2.2 * len(rows) + (1.6 if title else 0)
    figure, plane = canvas((9.5, 0.28 * height), right, height)
    if title:
        plane.text(margin, height - 0.9, title, va="center", fontsize=10)
    for row, (name, tokens) in enumerate(rows.items()):
        y = height - (1.6 if title else 0) - 2.2 * row - 1.1
        plane.text(margin - 1, y, name, ha="right", va="center", fontsize=10)
        x = margin
        for index, token in enumerate(tokens):
            width = max(len(token), 1) * unit + 2 * gap
            _box(plane, x, y - 0.75, width - 0.12, 1.5, (SKY, ORANGE)[index % 2], index % 2)
            size = min(9.0, 9.5 * 72 * 1.5 / right)
            plane.text(
                x + width / 2, y, token, ha="center", va="center", fontsize=size, family="monospace"
            )
            x += width
        plane.text(x + 0.8, y, f"{len(tokens)}", va="center", fontsize=10, fontweight="bold")
    says = (f"{name}, {len(tokens)}: {' | '.join(tokens)}." for name, tokens in rows.items())
    return Picture(figure, "Tokens in boxes. " + " ".join(says))


def _box(plane: Any, x: float, y: float, width: float, height: float, color: str, odd: int) -> None:
    from matplotlib.patches import Rectangle

    plane.add_patch(
        Rectangle((x, y), width, height, facecolor=color, alpha=0.35 if odd else 0.45, linewidth=0)
    )
    plane.add_patch(
        Rectangle(
            (x, y),
            width,
            height,
            fill=False,
            edgecolor=INK,
            linewidth=0.7,
            linestyle="--" if odd else "-",
        )
    )


def models_table(models: Mapping[str, ModelShape]) -> None:
    """Display the models' shapes as a table, each row with its source."""
    heads = ["model", "year", "trained with (tokens)", "configured for", "layers", "query heads"]
    heads += ["KV heads", "head size", "width", "layers that keep less", "weights (GiB)"]
    rows = []
    for shape in models.values():
        trained = shape["trained_tokens"]
        cells = (
            shape["name"],
            str(shape["year"]),
            f"{trained:,}" if trained else "not said",
            f"{shape['max_tokens']:,}",
            *(str(shape[key]) for key in ("n_layers", "n_heads", "n_kv_heads", "head_dim")),
            f"{shape['width']:,}",
            _keep_less(shape),
            f"{shape['weight_bytes'] / GIB:.1f}",
        )
        rows.append((cells, shape["source"]))
    _table(heads, rows)


def _keep_less(shape: ModelShape) -> str:
    said = []
    if shape["n_sliding_layers"]:
        said.append(f"{shape['n_sliding_layers']} keep {shape['sliding_window']:,} tokens")
    if shape.get("n_latent_layers"):
        said.append(f"{shape['n_latent_layers']} keep {shape['latent_dim']} numbers a token")
    if shape.get("n_state_layers"):
        said.append(f"{shape['n_state_layers']} keep {shape['state_numbers']:,} numbers in all")
    return ", ".join(said) or "none"


def cards_table(cards: Mapping[str, Card]) -> None:
    """Display the cards' memory as a table, each row with its source."""
    rows = [
        ((c["name"], str(c["sold_gigabytes"]), f"{c['memory_bytes'] / GIB:.2f}"), c["source"])
        for c in cards.values()
    ]
    _table(("card", "sold with (GB)", "found by PyTorch (GiB)"), rows)


def _table(heads: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> None:
    """Display rows of cells, each with the address of its source, as HTML and as plain text."""
    from IPython.display import display

    heads = (*heads, "source")
    header = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = ""
    for cells, source in rows:
        link = f'<a href="{escape(source)}">{escape(_place(source))}</a>'
        row = "".join(f"<td>{cell}</td>" for cell in [*map(escape, cells), link])
        body += f"<tr>{row}</tr>"
    plain = ["  ".join(line) for line in [heads, *((*cells, source) for cells, source in rows)]]
    display(
        {
            "text/html": f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>",
            "text/plain": "\n".join(plain),
        },
        raw=True,
    )


def _place(address: str) -> str:
    if "arxiv.org" in address:
        return "arXiv " + address.rsplit("/", 1)[1]
    if address.endswith(".json"):
        return address.rsplit("/", 1)[1]
    return address.split("/")[2]


@styled
def window_bars(models: Mapping[str, ModelShape]) -> Picture:
    """Draw the models' windows as bars on a logarithmic axis, with the ranges behind them."""
    figure, (plane,) = axes(size=(9, 0.36 * len(models) + 1.3))
    names = list(models)
    ranges = ((2048, 4096, "small"), (8192, 131072, "modern"), (131072, 1.05e6, "cutting-edge"))
    for index, (low, high, label) in enumerate(ranges):
        plane.axvspan(low, high, color=PALETTE[index], alpha=0.13, linewidth=0)
        plane.text(math.sqrt(low * high), -1.05, label, ha="center", va="center", fontsize=9)
    for row, shape in enumerate(models.values()):
        n, trained = shape["max_tokens"], shape["trained_tokens"]
        plane.barh(row, n, height=0.6, color=PAPER, edgecolor=INK, hatch=HATCHES[1], linewidth=0.5)
        if trained:
            plane.barh(row, trained, height=0.6, color=BLUE, edgecolor=INK, linewidth=0.5)
        says = tokens_in_words(n) if trained == n else f"{tokens_in_words(n)}, trained: "
        if trained != n:
            says += tokens_in_words(trained) if trained else "not said"
        plane.text(n * 1.08, row, says, va="center", fontsize=9)
    plane.set_xscale("log")
    plane.set(xlim=(1000, 1.5e8), ylim=(len(names) - 0.4, -1.5))
    plane.set_yticks(range(len(names)), names, fontsize=9)
    ticks = [1000, 10_000, 100_000, 1_000_000, 10_000_000]
    plane.set_xticks(ticks, [f"{t:,}" for t in ticks])
    plane.minorticks_off()
    plane.set_xlabel(
        "tokens, each step ten times the one before (filled: trained with; hatched: configured)"
    )
    pairs = ", ".join(
        f"{s['name']} {s['max_tokens']:,}, trained with {s['trained_tokens'] or 'not said'}"
        for s in models.values()
    )
    return Picture(figure, f"Bars of context windows in tokens on a logarithmic axis: {pairs}.")


def chat_window(messages: Sequence[tuple[str, int]], window: int, reserve: int) -> MovingPicture:
    """A conversation that outgrows its window; a slider over its messages.

    `messages` are names and numbers of tokens. The upper row keeps the newest tokens only, the
    lower row the first message as well.
    """
    names = [name for name, _ in messages]
    owner = [index for index, (_, n) in enumerate(messages) for _ in range(n)]
    ends = np.cumsum([n for _, n in messages])
    first = messages[0][1]
    room = window - reserve

    def draw(count: int) -> Picture:
        total = int(ends[count - 1])
        figure, plane = canvas((9.5, 3.2), ends[-1] + 20, 13)
        plane.text(16, 12.2, f"after “{names[count - 1]}”: {total} tokens", va="center")
        plane.text(
            ends[-1] + 19.5,
            12.2,
            f"room for {window} − {reserve} = {room}",
            va="center",
            ha="right",
        )
        says = []
        for title, keep_first, y in (
            ("newest only", 0, 8.4),
            ("instructions\nkept first", first, 3.4),
        ):
            plane.text(15, y + 0.9, title, ha="right", va="center", fontsize=10)
            lost = max(total - room, 0)
            gone = range(keep_first, keep_first + lost)
            for at in range(total):
                _token(plane, 16 + at, y, owner[at], at in gone)
            for at in range(count):
                middle = 16 + ends[at] - messages[at][1] / 2
                plane.text(
                    middle, y - 0.9, names[at].replace(" ", "\n"), ha="center", va="top", fontsize=7
                )
            if lost:
                plane.text(
                    16 + keep_first + lost / 2,
                    y + 2.5,
                    f"{lost} forgotten",
                    ha="center",
                    fontsize=8,
                )
            kept = [names[i] for i in range(count) if not set(gone) & set(_span(ends, messages, i))]
            says.append(
                f"{title.replace(chr(10), ' ')}: {lost} forgotten, whole: {', '.join(kept)}."
            )
        return Picture(
            figure,
            f"The conversation after {names[count - 1]} has {total} tokens, and there is room for "
            f"{room}. " + " ".join(says),
        )

    options = [(name, index + 1) for index, name in enumerate(names)]
    start = min(int((ends <= room).sum()) + 1, len(messages))  # the first that does not fit
    return MovingPicture(draw, {"count": slider("Conversation up to", options, start)})


def _span(
    ends: Sequence[int] | np.ndarray, messages: Sequence[tuple[str, int]], index: int
) -> range:
    return range(int(ends[index]) - messages[index][1], int(ends[index]))


def _token(plane: Any, x: float, y: float, owner: int, gone: bool) -> None:
    from matplotlib.patches import Rectangle

    color = RED if owner == 0 else (BLUE, SKY)[owner % 2]
    plane.add_patch(
        Rectangle(
            (x, y),
            0.84,
            1.8,
            facecolor=PAPER if gone else color,
            edgecolor=FAINT if gone else INK,
            linewidth=0.6,
            linestyle=":" if gone else "-",
        )
    )
    if gone:
        plane.plot([x + 0.15, x + 0.69], [y + 0.3, y + 1.5], color=FAINT, linewidth=0.8)
        plane.plot([x + 0.15, x + 0.69], [y + 1.5, y + 0.3], color=FAINT, linewidth=0.8)


def rope_dials(distance: int, head_dim: int = 24, base: float = 10000.0) -> MovingPicture:
    """A query and a key a fixed distance apart, turning; a slider over the key's position."""
    pairs = (0, 2, 4, 6)
    starts = {0: (0.4, 1.1), 2: (1.0, 0.2), 4: (2.2, 1.2), 6: (0.3, 1.0)}

    def draw(position: int) -> Picture:
        figure, planes = axes(1, len(pairs), size=(9.5, 2.8))
        says = []
        for plane, pair in zip(planes, pairs, strict=True):
            speed = base ** (-2 * pair / head_dim)
            query = starts[pair][0] + (position + distance) * speed
            key = starts[pair][1] + position * speed
            plane.add_patch(_circle())
            for angle, color, line in ((query, BLUE, "-"), (key, ORANGE, "--")):
                plane.annotate(
                    "",
                    (0.97 * math.cos(angle), 0.97 * math.sin(angle)),
                    (0, 0),
                    arrowprops={"arrowstyle": "-|>", "color": color, "linestyle": line, "lw": 2},
                )
            between = math.degrees((query - key + math.pi) % (2 * math.pi) - math.pi)
            plane.set(xlim=(-1.15, 1.15), ylim=(-1.5, 1.15), aspect="equal", xticks=[], yticks=[])
            for spine in plane.spines.values():
                spine.set_visible(False)
            plane.set_title(f"pair {pair}: {math.degrees(speed):.1f}° a token", fontsize=10)
            plane.text(
                0, -1.35, f"between: {between:.0f}°".replace("-", "−"), ha="center", fontsize=10
            )
            says.append(
                f"pair {pair} has turned {math.degrees(position * speed):.0f}°, angle between "
                f"{between:.0f}°"
            )
        figure.suptitle(
            f"query (solid) at {position + distance}, key (dashed) at {position}", fontsize=11
        )
        return Picture(
            figure,
            f"Four dials with a query at position {position + distance} and a key at {position}: "
            + "; ".join(says)
            + ". The angles between do not change with the slider.",
        )

    options = [(str(p), p) for p in range(0, 61, 2)]
    return MovingPicture(draw, {"position": slider("Key at position", options, 8)})


def _circle() -> Any:
    from matplotlib.patches import Circle

    return Circle((0, 0), 1, fill=False, edgecolor=FAINT, linewidth=1)


@styled
def loss_by_position(curves: Mapping[str, torch.Tensor], window: int, width: int = 16) -> Picture:
    """Draw losses by position, each the mean of `width` positions, and the window's end.

    Losses are (L,), or (texts, L): then a band says how sure their mean is, two standard errors of
    it to each side.
    """
    figure, (plane,) = axes(size=(9, 3.4))
    length = next(iter(curves.values())).shape[-1]
    plane.axvspan(0, window, color=SKY, alpha=0.15, linewidth=0)
    plane.axvline(window, color=INK, linestyle=":", linewidth=1.2)
    says = []
    for index, (name, losses) in enumerate(curves.items()):
        rows = torch.atleast_2d(losses)[:, : length // width * width]
        by_text = rows.unflatten(1, (-1, width)).mean(2)  # (texts, L / width)
        whole = by_text.mean(0)
        places = (torch.arange(len(whole)) + 0.5) * width
        if len(by_text) > 1:
            band = 2 * by_text.std(0) / len(by_text) ** 0.5
            plane.fill_between(
                places,
                whole - band,
                whole + band,
                facecolor=PALETTE[index],
                edgecolor=PALETTE[index],
                hatch=HATCHES[index],
                alpha=0.22,
                linewidth=0,
            )
        plane.plot(
            places,
            whole,
            color=PALETTE[index],
            linestyle=LINES[index],
            marker=MARKERS[index],
            markevery=4,
            markersize=5,
            label=name,
        )
        marks = [m for m in (window // 2, window - 16, 3 * window // 2, length - 16) if m < length]
        steps = ", ".join(f"{whole[m // width]:.2f} at {m}" for m in marks)
        sure = f", each ± about {float(band.mean()):.2f}" if len(by_text) > 1 else ""
        says.append(f"{name}: {steps}{sure}.")
    top = plane.get_ylim()[1]
    plane.set(xlim=(0, length), ylim=(0, top * 1.12))
    plane.text(window - 4, top * 1.05, "trained window", ha="right")
    plane.text(window + 4, top * 1.05, "never seen in training", ha="left")
    plane.set_xlabel("position in the text")
    plane.set_ylabel("loss (mean)")
    if len(curves) > 1:
        plane.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Picture(figure, f"Loss by position, trained window {window} tokens. " + " ".join(says))


@styled
def recall_by_distance(
    distances: Sequence[int], found: Mapping[str, Sequence[float]], window: int
) -> Picture:
    """Draw recall against the distance from a fact to its question, and the window's end."""
    figure, (plane,) = axes(size=(9, 3.2))
    plane.axvspan(0, window, color=SKY, alpha=0.15, linewidth=0)
    plane.axvline(window, color=INK, linestyle=":", linewidth=1.2)
    says = []
    for index, (name, shares) in enumerate(found.items()):
        plane.plot(
            distances,
            shares,
            color=PALETTE[index],
            linestyle=LINES[index],
            marker=MARKERS[index],
            label=name,
        )
        pairs = ", ".join(f"{s:.2f} at {d}" for d, s in zip(distances, shares, strict=True))
        says.append(f"{name}: {pairs}.")
    plane.set(xlim=(0, max(distances) + 10), ylim=(-0.06, 1.24), yticks=(0, 0.5, 1))
    plane.text(window - 4, 1.12, "trained window", ha="right")
    plane.set_xlabel("tokens from the code to the question")
    plane.set_ylabel("recall")
    plane.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return Picture(figure, f"Recall by distance, trained window {window}. " + " ".join(says))


@styled
def recall_grid(
    depths: Sequence[float], lengths: Sequence[int], shares: torch.Tensor, window: int
) -> Picture:
    """Draw recall (depths, lengths) as a table of shaded numbers; `window` is the trained one."""
    figure, (plane,) = axes(size=(7, 3.2))
    plane.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in itertools.product(range(len(depths)), range(len(lengths))):
        share = float(shares[row, column])
        color = PAPER if share < 0.53 else INK  # whichever stands out more from the shade
        plane.text(column, row, f"{share:.2f}", ha="center", va="center", color=color)
    fit = sum(length <= window for length in lengths)
    if 0 < fit < len(lengths):
        plane.axvline(fit - 0.5, color=INK, linestyle=":", linewidth=2)
    plane.set_xticks(range(len(lengths)), [str(n) for n in lengths])
    plane.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    plane.set_xlabel(f"length of the text in tokens (dotted: the trained window, {window})")
    plane.set_ylabel("depth of the fact")
    said = "; ".join(
        f"depth {depth:g}: "
        + ", ".join(f"{float(s):.2f} at {n}" for s, n in zip(row, lengths, strict=True))
        for depth, row in zip(depths, shares, strict=True)
    )
    return Picture(figure, f"Recall by depth and length, trained window {window}: {said}.")


def receptive_field(n_tokens: int, n_layers: int, window: int) -> MovingPicture:
    """The sliding mask, and how far back the last token sees through layers; a slider over W."""

    def draw(window: int) -> Picture:
        distance = np.arange(n_tokens)[:, None] - np.arange(n_tokens)
        mask = (distance >= 0) & (distance < window)
        figure, (left, right) = axes(1, 2, size=(9.5, 3.6), width_ratios=(1, 1.9))
        left.imshow(mask, cmap=_two_colors(), vmin=0, vmax=1)
        for row, column in zip(*np.nonzero(mask), strict=True):
            left.text(column, row, "·", ha="center", va="center", color="white", fontsize=8)
        left.set(xticks=[], yticks=[], xlabel="key", ylabel="query")
        left.set_title(f"one layer, W = {window}")
        reached = np.zeros(n_tokens, dtype=bool)
        reached[-1] = True
        _row(right, n_layers, reached)
        for layer in range(n_layers - 1, -1, -1):
            before = reached
            reached = np.asarray(mask[before].any(axis=0))
            for top in np.flatnonzero(before):
                for below in np.flatnonzero(mask[top]):
                    right.plot(
                        [top, below], [layer + 0.82, layer + 0.18], color=BLUE, lw=0.5, alpha=0.5
                    )
            _row(right, layer, reached)
        labels = ["input", *(f"layer {i + 1}" for i in range(n_layers))]
        right.set_yticks(range(n_layers + 1), labels)
        right.set(xlim=(-0.7, n_tokens - 0.3), ylim=(-0.5, n_layers + 0.5), xlabel="token")
        right.set_xticks(range(0, n_tokens, 3))
        back = int(n_tokens - 1 - np.flatnonzero(reached)[0])
        bound = n_layers * (window - 1)
        right.set_title(f"what reaches the last token: {back} tokens back")
        return Picture(
            figure,
            f"Left: with a window of {window} each query sees itself and {window - 1} keys before "
            f"it. Right: through {n_layers} layers the last of {n_tokens} tokens is reached from "
            f"{back} tokens back (at most {n_layers} times {window - 1} is {bound}).",
        )

    options = [(f"W = {w}", w) for w in range(1, 7)]
    return MovingPicture(draw, {"window": slider("Window", options, window)})


def _two_colors() -> Any:
    from matplotlib.colors import ListedColormap

    return ListedColormap([PAPER, BLUE])


def _row(plane: Any, layer: int, reached: np.ndarray) -> None:
    places = np.arange(len(reached))
    rest = places[~reached]
    plane.scatter(places[reached], np.full(reached.sum(), layer), s=60, color=BLUE, zorder=3)
    plane.scatter(rest, np.full(len(rest), layer), s=40, facecolor=PAPER, edgecolor=FAINT, zorder=3)


@styled
def memory_lines(
    models: Mapping[str, ModelShape], cards: Mapping[str, Card], longest: int = 131072
) -> Picture:
    """Draw weights and cache by the number of tokens, on straight axes, with cards as levels."""
    figure, (plane,) = axes(size=(9.5, 4.6))
    top = 88
    says = []
    ends: list[list[Any]] = []
    for index, shape in enumerate(models.values()):
        tokens = np.unique(np.concatenate([np.linspace(0, longest, 33).astype(int), [4096]]))
        used = [(shape["weight_bytes"] + cache_bytes(shape, int(n))) / GIB for n in tokens]
        inside = tokens <= shape["max_tokens"]
        color = PALETTE[index % len(PALETTE)]
        plane.plot(tokens, used, color=color, linewidth=0.9, linestyle=":")
        plane.plot(tokens[inside], np.array(used)[inside], color=color, linewidth=2.2)
        plane.plot(
            tokens[inside][-1],
            np.array(used)[inside][-1],
            marker=MARKERS[index % len(MARKERS)],
            color=color,
            markersize=7,
            clip_on=False,
            zorder=4,
        )
        ends.append([used[-1], used[-1], f"{shape['name']} ", color, MARKERS[index % len(MARKERS)]])
        says.append(
            f"{shape['name']}: {used[0]:.1f} GiB of weights, {used[-1]:.1f} GiB with {longest:,} "
            f"tokens{'' if shape['max_tokens'] >= longest else ', more than it is made for'}."
        )
    levels = [(card["memory_bytes"] / GIB, card["name"]) for card in cards.values()]
    for index, (level, name) in enumerate(levels):
        if level < top:
            plane.axhline(level, color=FAINT, linewidth=1, linestyle=(0, (1, 2)))
            crowded = index + 1 < len(levels) and levels[index + 1][0] - level < 6
            plane.annotate(
                f"{name}, {level:.1f} GiB",
                (longest * 0.985, level),
                xytext=(0, -3 if crowded else 3),
                textcoords="offset points",
                ha="right",
                va="top" if crowded else "bottom",
                fontsize=8,
            )
    ends.sort()
    for lower, upper in itertools.pairwise(ends):
        upper[0] = max(upper[0], lower[0] + 3.6)
    for place, _, name, color, _ in ends:
        plane.text(longest * 1.015, place, name, color=color, va="center", fontsize=9)
    plane.set(xlim=(0, longest), ylim=(0, top))
    ticks = range(0, longest + 1, 16384)
    plane.set_xticks(ticks, [tokens_in_words(n) for n in ticks])
    plane.set_xlabel(
        "tokens in the window (marker: the most the model is made for; dotted beyond it)"
    )
    plane.set_ylabel("weights + keys and values, GiB")
    return Picture(
        figure,
        "Memory of weights and cache by the number of tokens: straight lines, one a model. "
        + " ".join(says),
    )


def does_it_fit(models: Mapping[str, ModelShape], cards: Mapping[str, Card]) -> MovingPicture:
    """Weights and cache against a card, with controls for all that they depend on."""

    def draw(model: str, card: str, tokens: int, texts: int, bits: int) -> Picture:
        shape, memory = models[model], cards[card]["memory_bytes"]
        cache = cache_bytes(shape, tokens, texts, bits)
        weights = shape["weight_bytes"]
        total = weights + cache
        fits = total <= memory
        figure, (plane,) = axes(size=(9, 2.3))
        start = 0.0
        for name, size, color, hatch in (
            ("weights", weights, BLUE, HATCHES[0]),
            ("keys and values", cache, ORANGE, HATCHES[1]),
        ):
            gibibytes = size / GIB
            plane.barh(
                0, gibibytes, left=start, color=color, hatch=hatch, edgecolor=INK, linewidth=0.6,
                label=f"{name}: {gibibytes:.2f} GiB",
            )  # fmt: skip
            start += gibibytes
        plane.axvline(memory / GIB, color=GREEN if fits else RED, linewidth=3)
        plane.annotate(
            f"{card}: {memory / GIB:.1f} GiB",
            (memory / GIB, 1),
            xytext=(0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        plane.set(xlim=(0, max(total, memory) / GIB * 1.08), ylim=(-0.5, 0.5), yticks=[])
        plane.set_xlabel("GiB")
        over = abs(memory - total) / GIB
        verdict = (
            f"✔ fits, {over:.1f} GiB free" if fits else f"✘ does not fit, {over:.1f} GiB too much"
        )
        if tokens > shape["max_tokens"]:
            verdict += f" (and {model} is made for {shape['max_tokens']:,} tokens only)"
        plane.set_title(verdict, loc="left", fontweight="bold", pad=18)
        plane.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        return Picture(
            figure,
            f"{model} on {card}; texts at once: {texts}, each of {tokens:,} tokens, {bits} bits: "
            f"weights {weights / GIB:.2f} GiB, keys and values {cache / GIB:.2f} GiB, {verdict}.",
        )

    lengths = [(f"{tokens_in_words(2**e)} tokens", 2**e) for e in range(10, 24)]
    controls = {
        "model": choice("Model", [(name, name) for name in models], "Llama-3.1-8B"),
        "card": choice(
            "Card",
            [(f"{c['name']} ({c['sold_gigabytes']} GB)", c["name"]) for c in cards.values()],
            "RTX 4090",
        ),
        "tokens": slider("Length of a text", lengths, 2**15),
        "texts": slider("Texts at once", [(str(n), n) for n in (1, 2, 4, 8, 16, 32)], 1),
        "bits": choice("Bits of the cache", [(str(b), b) for b in (16, 8, 4)], 16),
    }
    return MovingPicture(draw, controls)


@styled
def prefill_time(seconds: Mapping[int, float], linear: float, quadratic: float) -> Picture:
    """Draw measured times of a prefill over the prediction from the operations of its two parts.

    linear: operations a token; quadratic: operations that grow with n². One number is taken from
    the measurement: the speed, as the median over the lengths.
    """
    lengths = np.array(list(seconds))
    operations = linear * lengths + quadratic * lengths.astype(float) ** 2
    speed = np.median(operations / np.array(list(seconds.values())))
    n = np.linspace(0, lengths[-1] * 1.03, 200)
    first, both = linear * n / speed, (linear * n + quadratic * n**2) / speed
    figure, (plane,) = axes(size=(9, 3.6))
    plane.fill_between(n, 0, first, color=BLUE, alpha=0.35, linewidth=0, label="predicted: weights")
    plane.fill_between(
        n, first, both, facecolor=PAPER, edgecolor=ORANGE, hatch="//", linewidth=0.8,
        label="predicted: attention",
    )  # fmt: skip
    plane.plot(lengths, list(seconds.values()), "o", color=INK, label="measured")
    cross = linear / quadratic
    if cross < n[-1]:
        plane.axvline(cross, color=INK, linestyle=":", linewidth=1.2)
        plane.text(cross, plane.get_ylim()[1], " both parts equal", va="top", fontsize=9)
    plane.set(xlim=(0, n[-1]), ylim=(0, None))
    plane.set_xlabel("tokens in the prompt")
    plane.set_ylabel("seconds")
    plane.legend(loc="upper left")
    pairs = ", ".join(f"{s:.2f} s at {m:,}" for m, s in seconds.items())
    return Picture(
        figure,
        f"Time of a prefill. Measured: {pairs}. The predicted time bends upwards; its part for "
        f"attention is as large as that for the weights at {cross:,.0f} tokens.",
    )


@styled
def decode_time(seconds: Mapping[int, float]) -> Picture:
    """Draw measured times of a decode step, and the straight line that fits them best."""
    contexts = np.array(list(seconds))
    times = 1000 * np.array(list(seconds.values()))
    slope, start = np.polyfit(contexts, times, 1)
    figure, (plane,) = axes(size=(9, 3))
    ends = np.array([0, contexts[-1] * 1.03])
    plane.plot(
        ends, start + slope * ends, color=PURPLE, linestyle="--",
        label="predicted: a straight line",
    )  # fmt: skip
    plane.plot(contexts, times, "o", color=INK, label="measured")
    plane.set(xlim=(0, ends[1]), ylim=(0, None))
    plane.set_xlabel("tokens in the window")
    plane.set_ylabel("milliseconds a step")
    plane.legend(loc="upper left")
    pairs = ", ".join(f"{t:.1f} ms at {n:,}" for n, t in zip(contexts, times, strict=True))
    return Picture(figure, f"Time of one decode step: {pairs}. The line that fits best is drawn.")
