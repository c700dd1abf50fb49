"""What the lessons show of the real model is what it does, and is drawn with words beside it."""

import pytest
import torch
from course_tools import record

from llm_memory import known
from llm_memory.caches import RoundedCache, rounded
from llm_memory.data import prose, recorded
from llm_memory.model import load_model
from llm_memory.plots import real_model as pictures
from llm_memory.streaming import ModelCache
from tests.model_folders import SHAPES, random_model

pytestmark = pytest.mark.slow

torch.set_num_threads(1)
real = [
    pytest.mark.real_model,
    pytest.mark.skipif(
        not known.is_here("smollm2"),
        reason="the model is not here: python -m llm_memory.download smollm2",
    ),
]


def test_every_recorded_figure_can_be_drawn_and_says_what_it_shows():
    found = recorded()
    assert found["made"]["date"] in pictures.made(found)
    shown = {
        "looks_at": pictures.looks_at(found, " student"),
        "sinks": pictures.sinks(found),
        "loss": pictures.loss_by_position(found),
        "recall": pictures.recall(found),
        "bits": pictures.bits(found),
    }
    for name, picture in shown.items():
        assert picture.png[:4] == b"\x89PNG", name
        assert len(picture.alt) > 40, name
    assert pictures.head(found, " student").picture().png


def test_forgetting_by_a_mask_is_what_a_cache_gives_that_forgets():
    class Forgets:
        """Keeps all, and shows the last `window` tokens and the first one."""

        def __init__(self, window):
            self.whole, self.window = ModelCache(), window

        n_seen = property(lambda self: self.whole.n_seen)

        def append(self, layer, k, v):
            keys, values, _ = self.whole.append(layer, k, v)
            n = keys.shape[2]
            kept = torch.tensor([i for i in range(n) if i == 0 or i >= n - self.window])
            mask = torch.ones(1, len(kept), dtype=torch.bool)
            return keys[:, :, kept], values[:, :, kept], mask

    model, cache = random_model(**SHAPES["groups of three"]), Forgets(5)
    ids = list(range(20))
    one_by_one = torch.cat([model([i], cache=cache) for i in ids], dim=1)
    at_once = model(ids, attention=record.forgetting(20, 5, 1))
    assert torch.allclose(one_by_one, at_once, atol=1e-5)


@pytest.fixture(scope="module")
def loaded():
    return load_model("smollm2")


class TestAFreshRun:
    """The record against a short run on this machine."""

    pytestmark = real

    def test_heads_sinks_and_next_words(self, loaded):
        fresh, found = record.sentence(*loaded), recorded()["sentence"]
        assert fresh["tokens"] == found["tokens"]
        looks = torch.tensor(fresh["looks"]), torch.tensor(found["looks"])
        assert torch.allclose(*looks, atol=0.01)
        assert fresh["next"].keys() == found["next"].keys()
        ids = loaded[1].encode(prose()[0])[:128]
        sinks = torch.tensor(record.sinks(loaded[0], ids))
        assert torch.allclose(sinks, torch.tensor(recorded()["sinks"]), atol=0.01)

    def test_losses(self, loaded):
        model, tokenizer = loaded
        mean = record.losses(model, tokenizer.encode(prose()[0])[:257])[128:256].mean()
        assert abs(float(mean) - recorded()["loss by position"]["256"]) < 0.02
        ids = tokenizer.encode(prose()[0])[: record.SHORTER // 2]

        def through(x, axis):
            return x if axis is None else rounded(x, axis, 3)

        cache = RoundedCache(ModelCache(), through, -2, None)
        loss = float(record.losses(model, ids, cache=cache).mean())
        assert abs(loss - recorded()["bits"]["keys per channel"]["3"]) < 0.05

    def test_a_fact_is_recalled_as_recorded(self, loaded, monkeypatch):
        monkeypatch.setattr(record, "DISTANCES", record.DISTANCES[:1])
        filler = loaded[1].encode(prose()[1])
        fresh = record.recall(*loaded, filler)
        (length,) = fresh
        assert fresh[length] == pytest.approx(recorded()["recall"][length], abs=0.02)
