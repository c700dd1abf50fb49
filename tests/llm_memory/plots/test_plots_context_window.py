"""The pictures of the context window say in words what is so, and their controls move them."""

import numpy as np
import pytest
import torch

from llm_memory.plots import context_window as pictures
from llm_memory.shapes import CARDS, GIB, MODELS, cache_bytes

pytestmark = pytest.mark.slow

CONVERSATION = [("instructions", 6), ("question 1", 9), ("answer 1", 12), ("question 2", 5)]


def turned(moving, **values):
    for name, value in values.items():
        moving.controls[name].value = value
    return moving.picture()


def test_it_fits_exactly_where_weights_and_cache_do():
    moving = pictures.does_it_fit(MODELS, CARDS)
    for model in ("Llama-3.1-8B", "Gemma-3-27B", "Llama-3.1-70B"):
        for card in ("RTX 4090", "A100"):
            for tokens, texts, bits in (
                (1024, 1, 16),
                (32768, 4, 16),
                (32768, 4, 8),
                (131072, 8, 4),
            ):
                shown = turned(
                    moving, model=model, card=card, tokens=tokens, texts=texts, bits=bits
                )
                cache = cache_bytes(MODELS[model], tokens, texts, bits)
                fits = MODELS[model]["weight_bytes"] + cache <= CARDS[card]["memory_bytes"]
                assert ("✔ fits" in shown.alt) == fits
                assert ("✘ does not fit" in shown.alt) != fits
                assert f"keys and values {cache / GIB:.2f} GiB" in shown.alt


def test_a_text_longer_than_the_model_is_made_for_is_named():
    moving = pictures.does_it_fit(MODELS, CARDS)
    assert "made for 4,096" in turned(moving, model="Llama-2-7B", tokens=8192).alt
    assert "made for" not in turned(moving, model="Llama-2-7B", tokens=4096).alt


@pytest.mark.parametrize("window", [1, 2, 4, 6])
def test_the_receptive_field_is_that_of_the_mask_multiplied(window):
    moving = pictures.receptive_field(n_tokens=16, n_layers=3, window=4)
    shown = turned(moving, window=window)
    distance = np.arange(16)[:, None] - np.arange(16)
    mask = ((distance >= 0) & (distance < window)).astype(int)
    reached = np.flatnonzero(np.linalg.matrix_power(mask, 3)[-1])
    assert f"reached from {15 - reached[0]} tokens back" in shown.alt


def test_the_chat_forgets_what_does_not_fit():
    moving = pictures.chat_window(CONVERSATION, window=30, reserve=4)
    last = turned(moving, count=4).alt  # 32 tokens, room for 26
    assert "newest only: 6 forgotten, whole: question 1, answer 1, question 2." in last
    assert "kept first: 6 forgotten, whole: instructions, answer 1, question 2." in last
    assert "newest only: 0 forgotten" in turned(moving, count=2).alt


def test_the_angle_between_query_and_key_stays_while_both_turn():
    moving = pictures.rope_dials(distance=5)
    texts = [turned(moving, position=p).alt for p in (0, 8, 60)]
    angles = [[part.split("between ")[1] for part in t.split(";")[:3]] for t in texts]
    assert angles[0] == angles[1] == angles[2]
    assert len(set(texts)) == 3


def test_curves_say_their_values_and_the_window():
    losses = torch.cat([torch.full((64,), 1.0), torch.full((64,), 3.0)])
    shown = pictures.loss_by_position({"plain": losses}, window=64)
    assert "1.00 at 32" in shown.alt
    assert "3.00 at 112" in shown.alt
    by_text = torch.stack([losses, losses + 0.5])
    spread = pictures.loss_by_position({"plain": by_text}, window=64)
    assert "1.25 at 32" in spread.alt
    assert "each ± about 0.50" in spread.alt
    grid = pictures.recall_grid((0.0, 1.0), (50, 90), torch.tensor([[1.0, 0.25], [1.0, 1.0]]), 64)
    assert "depth 0: 1.00 at 50, 0.25 at 90; depth 1: 1.00 at 50, 1.00 at 90" in grid.alt
    found = pictures.recall_by_distance([10, 90], {"plain": [1.0, 0.25]}, window=64)
    assert "1.00 at 10, 0.25 at 90" in found.alt
    cut = pictures.cliff([4, 8, 12], [0.0, 0.1, 0.9], needed=10)
    assert "at least 0.90" in cut.alt
    assert "at most 0.10" in cut.alt


def test_the_parts_of_a_prefill_cross_where_they_are_equal():
    shown = pictures.prefill_time({100: 1.0, 200: 2.5, 400: 7.0}, linear=600.0, quadratic=3.0)
    assert "as large as that for the weights at 200 tokens" in shown.alt
    assert "8.0 ms at 400" in pictures.decode_time({100: 0.002, 400: 0.008}).alt


def test_every_still_picture_is_drawn_and_described():
    drawn = [
        pictures.token_boxes({"words": ["a", "bc"], "bytes": list("abc")}),
        pictures.window_bars(MODELS),
        pictures.memory_lines({"Mistral-7B-v0.1": MODELS["Mistral-7B-v0.1"]}, CARDS),
    ]
    for picture in drawn:
        assert picture.html().count("<img") == 1
        assert len(picture.alt) > 30
    assert "bytes, 3: a | b | c" in drawn[0].alt
    assert "14.0 GiB with 131,072 tokens, more than it is made for" in drawn[2].alt


def test_every_row_of_the_tables_has_its_source(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    pictures.models_table(MODELS)
    pictures.cards_table(CARDS)
    for data, items in zip(shown, (MODELS, CARDS), strict=True):
        for name, item in items.items():
            row = next(
                line for line in data["text/plain"].split("\n") if line.startswith(name + " ")
            )
            assert row.endswith(item["source"])
            assert f'<a href="{item["source"]}">' in data["text/html"]
    assert "21 keep 4,096 tokens" in shown[0]["text/html"]


@pytest.mark.parametrize(
    ("n", "name"), [(131072, "128K"), (1_010_000, "1.01M"), (4096, "4K"), (640, "640")]
)
def test_lengths_are_named_as_models_name_them(n, name):
    assert pictures.tokens_in_words(n) == name
