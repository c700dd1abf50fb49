"""Bars and histograms, with their numbers written beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llm_memory.plots.picture import (
    BLUE,
    HATCHES,
    INK,
    ORANGE,
    PALETTE,
    MovingPicture,
    Picture,
    axes,
    slider,
    styled,
)


@styled
def bars(labels: Sequence[str], panels: Mapping[str, Sequence[float]]) -> Picture:
    """Draw one panel of bars for each named series, the numbers on the bars."""
    figure, planes = axes(1, len(panels), size=(max(4.2, 0.8 * len(labels)) * len(panels), 2.8))
    says = []
    for index, (plane, (name, numbers)) in enumerate(zip(planes, panels.items(), strict=True)):
        _draw_bars(plane, labels, numbers, PALETTE[index], HATCHES[index])
        plane.set_title(name)
        in_words = [label.replace("\n", " ") for label in labels]
        pairs = ", ".join(f"{a} {b:.2f}" for a, b in zip(in_words, numbers, strict=True))
        says.append(f"{name}: {pairs}.")
    return Picture(figure, "Bars. " + " ".join(says))


@styled
def histograms(panels: Mapping[str, Mapping[str, np.ndarray]]) -> Picture:
    """Draw samples by name, one panel for each group, as outlines on the same axes."""
    figure, planes = axes(1, len(panels), size=(4.6 * len(panels), 3))
    says = []
    for plane, (title, samples) in zip(planes, panels.items(), strict=True):
        limit = 3.2 * max(np.std(numbers) for numbers in samples.values())
        edges = np.linspace(-limit, limit, 61)
        for (name, numbers), color, line in zip(
            samples.items(), PALETTE, ("-", "--", ":"), strict=False
        ):
            spread = np.std(numbers)
            plane.hist(
                numbers,
                edges.tolist(),
                density=True,
                histtype="step",
                color=color,
                linestyle=line,
                linewidth=2,
                label=f"{name}, spread {spread:.1f}",
            )
            says.append(f"{title}, {name}: spread {spread:.1f}.")
        plane.set_title(title)
        plane.set_yticks([])
        plane.set_ylim(0, plane.get_ylim()[1] * 1.3)
        plane.spines["left"].set_visible(False)
        plane.legend(fontsize=8, loc="upper right")
    return Picture(figure, "Histograms. " + " ".join(says))


def sharpness(scores: Sequence[float], factors: Sequence[float]) -> MovingPicture:
    """Scores times a factor beside their softmax; a slider over the factors."""
    unscaled = np.asarray(scores, dtype=float)
    labels = [f"key {i}" for i in range(len(unscaled))]
    top = float(np.abs(unscaled).max() * max(factors))

    def draw(factor: float) -> Picture:
        scaled = unscaled * factor
        weights = np.exp(scaled - scaled.max())
        weights /= weights.sum()
        figure, (left, right) = axes(1, 2, size=(9.5, 2.9))
        _draw_bars(left, labels, scaled, BLUE, "", digits=1)
        left.set_ylim(-1.2 * top, 1.2 * top)
        left.set_title(f"scores × {factor:g}")
        _draw_bars(right, labels, weights, ORANGE, "//")
        right.set_ylim(0, 1.12)
        right.set_title("weights")
        best = int(np.argmax(weights))
        return Picture(
            figure,
            f"With the scores multiplied by {factor:g}, the largest weight is "
            f"{weights[best]:.2f}, on key {best}; {int((weights > 0.05).sum())} of {len(scores)} "
            "keys have more than 0.05.",
        )

    options = [(f"× {factor:g}", factor) for factor in factors]
    return MovingPicture(draw, {"factor": slider("Factor", options, factors[0])})


@styled
def predictions(panels: Mapping[str, Mapping[str, float]], watch: str | None = None) -> Picture:
    """Draw the probabilities of next words as bars, one panel a case; mark the word to watch."""
    longest = max(len(words) for words in panels.values())
    size = (4.4 * max(len(panels), 1.5), 0.34 * longest + 0.9)
    figure, planes = axes(1, len(panels), size=size)
    says = []
    for plane, (title, words) in zip(planes, panels.items(), strict=True):
        names, shares = list(words), list(words.values())
        for place, (name, share) in enumerate(zip(names, shares, strict=True)):
            watched = name == watch
            plane.barh(
                place,
                share,
                color=ORANGE if watched else BLUE,
                hatch="//" if watched else "",
                edgecolor=INK if watched else BLUE,
                linewidth=0.6,
            )
            plane.text(share + 0.015, place, f"{share:.2f}", va="center", fontsize=9)
        plane.set_yticks(range(len(names)), names)
        for label in plane.get_yticklabels():
            label.set_fontweight("bold" if label.get_text() == watch else "normal")
        plane.invert_yaxis()
        plane.set_xlim(0, 1.12)
        plane.set_xticks([0, 0.5, 1])
        plane.set_title(title)
        pairs = ", ".join(f"{a} {b:.2f}" for a, b in words.items())
        says.append(f"{title}: {pairs}.")
    return Picture(figure, "Probabilities of the next word. " + " ".join(says))


def _draw_bars(plane, labels, numbers, color, hatch, digits=2):
    numbers = np.asarray(numbers, dtype=float)
    places = np.arange(len(numbers))
    plane.bar(places, numbers, color=color, hatch=hatch, edgecolor=INK, linewidth=0.6)
    span = max(numbers.max(), 0) - min(numbers.min(), 0) or 1.0
    for place, number in zip(places, numbers, strict=True):
        above = number >= 0
        plane.annotate(
            f"{number:.{digits}f}".removeprefix("-")
            if abs(number) < 0.05
            else f"{number:.{digits}f}",
            (place, number),
            xytext=(0, 3 if above else -3),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=9,
        )
    plane.set_xticks(places, labels, fontsize=9)
    plane.set_ylim(min(numbers.min(), 0) - 0.12 * span * (numbers.min() < 0), None)
    plane.set_ylim(top=max(numbers.max(), 0) + 0.16 * span)
    plane.axhline(0, color=INK, linewidth=0.8)
