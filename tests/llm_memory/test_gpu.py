"""On a graphics card the model, its caches and a learner's functions work as on the processor."""

from itertools import islice

import pytest
import torch

from llm_memory.caches import RenumberedCache, RoundedCache, rounded
from llm_memory.model import attend, load_model, rotate
from llm_memory.streaming import ModelCache, Stream

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card is at hand")


@pytest.fixture(scope="module")
def both():
    return load_model()[0], load_model()[0].to("cuda")


IDS = list(range(20, 60))


def test_logits_and_text_are_those_of_the_processor(both):
    here, there = both
    for how in ({}, {"attention": attend}, {"rope": rotate}, {"hide": [3]}, {"only_last": True}):
        found = there(IDS, **how)
        assert found.device.type == "cuda"
        assert torch.allclose(here(IDS, **how), found.cpu(), atol=1e-3)
    text = list(islice(Stream(here, IDS, ModelCache()), 8))
    assert list(islice(Stream(there, IDS, ModelCache()), 8)) == text


def test_the_experiments_caches_stay_on_the_card(both):
    _, there = both
    base = there.config.rope_theta
    for make in (
        lambda: RoundedCache(ModelCache(), lambda x, axis: rounded(x, axis, 4)),
        lambda: RenumberedCache(8, 2, base),
    ):
        cache = make()
        for i in IDS:
            assert there([i], cache=cache).device.type == "cuda"
