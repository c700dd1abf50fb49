"""The pictures: the same bytes each time, true words beside them, and controls that move them."""

import base64
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from llm_memory import plots
from llm_memory.plots import picture as style

pytestmark = pytest.mark.slow

WORDS = ["when", "the", "<unk>", "won", "5", "$", "they"]


def weights(seed: int = 0) -> np.ndarray:
    """Causal weights over WORDS."""
    scores = np.random.default_rng(seed).normal(scale=2, size=(len(WORDS), len(WORDS)))
    exponentials = np.exp(scores) * np.tri(len(WORDS))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def tables() -> tuple[np.ndarray, np.ndarray]:
    """Outputs before and after turning their order round."""
    rows = np.random.default_rng(1).normal(size=(len(WORDS), 3))
    return rows, rows[::-1]


MOVING = {
    "explore": lambda: plots.explore(WORDS, {"a": weights(), "b": weights(1)}, query=6),
    "scores_mask_weights": lambda: plots.scores_mask_weights(WORDS, weights(), query=3),
    "sharpness": lambda: plots.sharpness([1.0, 0.5, -2.0], factors=(1, 8)),
    "grouped_heads": lambda: plots.grouped_heads(n_heads=6, n_kv_heads=2),
}
STILL = {
    "arcs": lambda: plots.arcs(WORDS, weights()[6], query=6, title="$ and <unk>"),
    "heat_maps": lambda: plots.heat_maps(WORDS, {"a": weights(), "b": weights(1)}, query=2),
    "shuffled_rows": lambda: plots.shuffled_rows(WORDS, range(6, -1, -1), *tables()),
    "bars": lambda: plots.bars(["x", "y"], {"score": [2.0, -1.0], "weight": [0.95, 0.05]}),
    "histograms": lambda: plots.histograms({"q·k": {"d = 4": np.arange(-9.0, 10)}}),
    "predictions": lambda: plots.predictions({"all": {"relieved": 0.75, "$": 0.2}}, "relieved"),
    "layer_shapes": lambda: plots.layer_shapes(n_heads=6, n_kv_heads=2),
}
EVERY = STILL | {name: lambda make=make: make().picture() for name, make in MOVING.items()}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Draw coarsely: what is tested here does not depend on the resolution."""
    monkeypatch.setattr(style, "DPI", 30)


@pytest.fixture
def shown(monkeypatch):
    """What a cell displays: (data, metadata) of each output."""
    outputs = []

    def display(data, metadata=None, raw=False):
        assert raw
        outputs.append((data, metadata or {}))

    monkeypatch.setattr("IPython.display.display", display)
    return outputs


@pytest.mark.parametrize("name", EVERY)
def test_a_picture_is_the_same_bytes_in_any_style_and_leaves_pyplot_alone(name):
    first = EVERY[name]().png
    with plt.style.context("dark_background"):
        assert EVERY[name]().png == first
    assert first.startswith(b"\x89PNG")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("name", STILL)
def test_a_still_picture_comes_with_its_words(name, shown):
    made = STILL[name]()
    made.show()
    (data, metadata), (below, _) = shown
    assert base64.b64decode(data["image/png"]) == made.png
    assert data["text/plain"] == metadata["image/png"]["alt"] == made.alt
    assert "widget-view" not in "".join(data)
    assert below["text/html"].startswith("<details") and "<unk>" not in below["text/html"]


@pytest.mark.parametrize("name", MOVING)
def test_a_moving_picture_has_a_still_one_for_where_no_kernel_runs(name, shown):
    made = MOVING[name]()
    made.show()
    for data, _ in shown:
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert base64.b64decode(shown[0][0]["image/png"]) == made.picture().png
    assert made.picture().alt == shown[0][0]["text/plain"]
    assert shown[1][0]["text/html"].startswith("<details")


@pytest.mark.parametrize("name", MOVING)
def test_every_control_moves_the_picture_and_its_words(name, monkeypatch):
    sheets = []
    monkeypatch.setattr(plots.Picture, "show", lambda self, *widgets: sheets.extend(widgets))
    made = MOVING[name]()
    made.show()
    box, words = sheets
    for control in made.controls.values():
        before = box.children[-1].value, words.value
        control.index = control.index - 1 if control.index else 1
        assert box.children[-1].value != before[0]
        assert words.value != before[1]
        # A screen reader gets the new words with the new picture.
        alt = re.search(r'alt="([^"]*)"', box.children[-1].value)[1]
        assert alt in words.value


def test_the_words_name_the_largest_shares():
    alt = plots.arcs(["a", "b", "c", "d"], torch.tensor([0.6, 0.03, 0.3, 0.07]), query=2).alt
    assert alt == "“c” puts 0.60 on “a”, 0.30 on itself, 0.07 on “d”; the other 0.03 is spread " + (
        "over the rest."
    )


def test_the_words_of_a_masked_row_know_nothing_of_the_future():
    scores = np.zeros((3, 3))
    scores[1] = [1.0, 1.0, 9.0]
    alt = plots.scores_mask_weights(["a", "b", "c"], scores, query=1).picture().alt
    assert "may attend to 2 tokens: a, b." in alt
    assert "Shut out: c." in alt
    assert alt.endswith("“b” puts 0.50 on “a”, 0.50 on itself.")


def test_heads_share_in_the_words_as_in_the_exercise():
    alt = plots.grouped_heads(6, 2).draw(n_kv_heads=3).alt
    assert "query heads 2, 3 use key/value head 1" in alt
    assert "6 of 12 vectors" in alt


def test_rows_that_did_change_are_not_called_the_same():
    rows, turned = tables()
    assert "are the same." in plots.shuffled_rows(WORDS, range(6, -1, -1), rows, turned).alt
    assert "are different." in plots.shuffled_rows(WORDS, range(6, -1, -1), rows, rows).alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plots.arcs(WORDS, np.ones(9) / 9, query=1), r"7 words take one weight each"),
        (lambda: plots.arcs(WORDS, weights()[6], query=7), r"from 0 to 6, not 7"),
        (lambda: plots.heat_maps(WORDS, {"a": np.ones((2, 7))}), r"a: 7 words need a matrix"),
        (lambda: plots.explore(WORDS, {"a": weights()}, 0, "z"), r"no head 'z'; there are: a"),
        (lambda: plots.scores_mask_weights(WORDS, np.ones(7), 0), r"scores: 7 words need"),
        (lambda: plots.grouped_heads(6, 4), r"6 query heads can share \[1, 2, 3, 6\]"),
    ],
)
def test_bad_input_is_named(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()


def luminance(color: str) -> float:
    """Return a colour's relative luminance as WCAG 2.2 defines it."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


@pytest.mark.parametrize("ink", [style.INK, style.FAINT, style.BLUE])
def test_text_stands_out_from_the_paper(ink):
    paper, color = luminance(style.PAPER), luminance(ink)
    assert (paper + 0.05) / (color + 0.05) >= 4.5
