"""Pictures of the lesson on many texts at once: padding, lanes, shared beginnings, guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from llm_memory.plots.picture import (
    BLUE,
    FAINT,
    GREEN,
    INK,
    ORANGE,
    PAPER,
    MovingPicture,
    Picture,
    axes,
    canvas,
    slider,
    styled,
)

READ, WRITE, IDLE = "read", "write", "idle"
LOOKS: dict[str, dict[str, Any]] = {
    READ: {"facecolor": ORANGE, "hatch": "//", "label": "reads its prompt"},
    WRITE: {"facecolor": BLUE, "hatch": "", "label": "writes a token"},
    IDLE: {"facecolor": PAPER, "hatch": "xx", "label": "finished, still in the batch"},
}


@styled
def padding(
    words: Sequence[Sequence[str]], positions: torch.Tensor, mask: torch.Tensor, row: int
) -> Picture:
    """A batch padded on the left, its positions, and who sees whom in one of its rows."""
    width = positions.shape[1]
    figure, (left, right) = axes(1, 2, size=(10, 3.6), width_ratios=(1.9, 1))
    for y, text in enumerate(words):
        for x in range(width):
            place = x - (width - len(text))
            real = place >= 0
            style = {"facecolor": BLUE, "alpha": 0.35} if real else {"facecolor": PAPER}
            hatch = "" if real else "//"
            left.add_patch(Rectangle((x, y), 0.95, 0.8, edgecolor=FAINT, hatch=hatch, **style))
            label = f"{text[place]}\n{int(positions[y, x])}" if real else "pad"
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 1.5} if not real else None
            left.text(x + 0.47, y + 0.4, label, ha="center", va="center", fontsize=10, bbox=box)
    left.set(xlim=(0, width), ylim=(len(words), -0.2), xticks=[], title="token, and its position")
    left.set_yticks([y + 0.4 for y in range(len(words))], [f"row {y}" for y in range(len(words))])
    seen = mask[row, 0].numpy()
    for q, k in np.argwhere(seen):
        right.text(k, q, "●", ha="center", va="center", color=GREEN)
    right.set(
        xlim=(-0.6, width - 0.4),
        ylim=(width - 0.4, -0.6),
        title=f"row {row}: who sees whom",
        xlabel="key",
        ylabel="query",
    )
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    pads = [width - len(text) for text in words]
    return Picture(
        figure,
        f"{len(words)} rows of {width} places. Pads at the left: "
        + ", ".join(f"row {y}: {n}" for y, n in enumerate(pads))
        + f". Positions count from 0 at the first real token. In row {row} a real token sees "
        f"itself and the real tokens before it; each of the {pads[row]} pads sees itself only.",
    )


def lanes(runs: Mapping[str, Sequence[Mapping[str, Sequence]]], shown: int = 150) -> MovingPicture:
    """Steps of a server, a lane a request, one panel a way of working; a slider over the steps.

    runs: for each way, for each step, what each request does: `name: (kind, tokens)`, with kind
        "read", "write" or "idle".
    """
    names = sorted({name for run in runs.values() for step in run for name in step}, key=_number)
    longest = max(len(run) for run in runs.values())

    def draw(now: int) -> Picture:
        figure, panels = axes(1, len(runs), size=(11, 0.16 * len(names) + 1.8))
        says = []
        for plane, (way, run) in zip(panels, runs.items(), strict=True):
            tokens = 0
            for x, step in enumerate(run[: now + 1]):
                for name, (kind, n) in step.items():
                    tokens += n
                    look: dict[str, Any] = {key: LOOKS[kind][key] for key in ("facecolor", "hatch")}
                    y = names.index(name)
                    style: dict[str, Any] = {
                        "edgecolor": FAINT if kind != WRITE else BLUE,
                        "linewidth": 0.4,
                    }
                    plane.add_patch(Rectangle((x, y - 0.4), 1, 0.8, **look, **style))
            plane.axvline(now + 1, color=INK, linestyle=":")
            doing = list(run[now].items()) if now < len(run) else []
            counts = {kind: sum(k == kind for _, (k, _) in doing) for kind in LOOKS}
            over = len(run) <= now
            state = f"all done after {len(run)} steps" if over else f"step {now}"
            plane.set(xlim=(0, longest), ylim=(len(names), -1), title=f"{way}: {state}")
            plane.set_xlabel("step of the server")
            plane.set_yticks(range(0, len(names), 4), names[::4])
            says.append(
                f"{way}: all done after {len(run)} steps"
                if over
                else f"{way}: at step {now} {counts[READ]} read, {counts[WRITE]} write, "
                f"{counts[IDLE]} are finished and still in the batch; {tokens:,} places so far"
            )
        panels[0].set_ylabel("request")
        handles = [Patch(edgecolor=FAINT, **look) for look in LOOKS.values()]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
        return Picture(figure, ". ".join(says) + ".")

    stops = sorted({*range(0, longest + 1, 10), longest})
    options = [(str(stop), stop) for stop in stops]
    start = min(stops, key=lambda stop: abs(stop - shown))
    return MovingPicture(draw, {"now": slider("Step", options, start)})


def _number(name: str) -> tuple:
    digits = "".join(filter(str.isdigit, name))
    return (int(digits) if digits else 0, name)


@styled
def beginnings(
    texts: Mapping[str, Sequence[str]], found: Mapping[str, int], block_size: int
) -> Picture:
    """Texts in blocks of words; what a cache held already is hatched, the rest is computed."""
    most = max(len(words) for words in texts.values())
    across = 84 / most
    figure, plane = canvas((11, len(texts) + 0.6), 100, 12 * len(texts) + 6)
    for row, (name, words) in enumerate(texts.items()):
        y = 12 * (len(texts) - row - 1) + 3
        plane.text(1, y + 4.5, name, va="center")
        for i, word in enumerate(words):
            kept = i < found[name]
            style: dict[str, Any] = {"facecolor": GREEN if kept else ORANGE, "alpha": 0.6}
            left = 14 + i * across + 0.35 * across * 0.2
            plane.add_patch(
                Rectangle(
                    (left, y),
                    across * 0.9,
                    9,
                    edgecolor=FAINT,
                    hatch="//" if kept else "",
                    **style,
                )
            )
            plane.text(
                left + 0.45 * across,
                y + 4.5,
                word,
                ha="center",
                va="center",
                fontsize=9,
                rotation=90,
            )
            if i % block_size == 0:
                plane.plot([14 + i * across] * 2, [y - 0.8, y + 9.8], color=INK, linewidth=1.4)
    top = 12 * len(texts) + 3.5
    plane.text(14, top, "▨ found in the cache   □ computed   | a block begins", fontsize=9)
    says = "; ".join(
        f"{name}: {found[name]} of {len(words)} tokens found, {len(words) - found[name]} computed"
        for name, words in texts.items()
    )
    return Picture(figure, f"Blocks of {block_size} tokens. {says}.")


def guesses(steps: Sequence[tuple[Sequence[str], int, str]]) -> MovingPicture:
    """Guess and check, step by step; steps: (words guessed, how many agreed, own)."""

    def draw(now: int) -> Picture:
        figure, plane = canvas((10, 2.6), 100, 26)
        words, agreed, own = steps[now]
        plane.text(2, 23, f"Pass {now + 1} of the target: {agreed} of {len(words)} guesses kept")
        for i, word in enumerate([*words[:agreed], own, *words[agreed:]]):
            kind = "kept" if i < agreed else "own" if i == agreed else "thrown away"
            look: dict[str, Any] = {
                "kept": {"facecolor": GREEN, "hatch": "//"},
                "own": {"facecolor": BLUE},
                "thrown away": {"facecolor": PAPER, "linestyle": "--"},
            }[kind]
            left = 3 + i * 15
            plane.add_patch(Rectangle((left, 9), 13, 8, edgecolor=INK, alpha=0.6, **look))
            plane.text(left + 6.5, 13, word, ha="center", va="center")
            label = {"kept": "✔ kept", "own": "target's own", "thrown away": "✘ thrown away"}[kind]
            plane.text(left + 6.5, 6, label, ha="center", fontsize=9)
        so_far = sum(kept + 1 for _, kept, _ in steps[: now + 1])
        plane.text(2, 1, f"{so_far} tokens after {now + 1} passes")
        kept, thrown = " ".join(words[:agreed]), " ".join(words[agreed:])
        return Picture(
            figure,
            f"Pass {now + 1}: kept “{kept}”, then the target's own “{own}”; "
            f"thrown away “{thrown}”. {so_far} tokens after {now + 1} passes.",
        )

    options = [(str(i + 1), i) for i in range(len(steps))]
    # A pass that keeps some guesses and throws one away shows all there is to see.
    start = next((i for i, (words, n, _) in enumerate(steps) if 0 < n < len(words)), 0)
    return MovingPicture(draw, {"now": slider("Pass", options, start)})
