"""What the lesson on many texts at once stands on: padding, lanes, blocks, a draft, pictures."""

import warnings

import pytest
import torch
from course_tools import afternoon

from llm_memory.counted import Counted, small_model
from llm_memory.data import recorded_lanes, requests
from llm_memory.plots import serving as pictures
from llm_memory.serving import BlockPool, Lanes, LookupDraft, TextCache, padded
from llm_memory.streaming import ModelCache

pytestmark = pytest.mark.slow


def alone(model, text, n_new):
    text = list(text)
    for _ in range(n_new):
        text.append(int(model(text)[0, -1].argmax()))
    return text


def test_lanes_give_each_text_what_it_gets_alone_in_one_pass():
    model = Counted(small_model())
    lanes, texts = Lanes(model), {"a": [3, 17, 8], "b": [11], "c": [6, 2, 20, 4]}
    wanted = {name: alone(model.model, text, 4) for name, text in texts.items()}
    give = dict(texts)
    for step in range(4):
        found = lanes.run(give)
        for name, token in found.items():
            texts[name] = [*texts[name], token]
        if step == 1:
            lanes.drop("b")
            del found["b"]
        give = {name: [token] for name, token in found.items()}
    assert texts["a"] == wanted["a"]
    assert texts["c"] == wanted["c"]
    assert texts["b"] == wanted["b"][:3]
    assert model.shapes == [(1, 8), (1, 3), (1, 2), (1, 2)]
    assert lanes.n_seen("b") == 0
    with pytest.raises(ValueError, match="at least one token"):
        lanes.run({"a": []})


def test_blocks_are_counted_and_hold_what_a_text_computed():
    model, pool, text = small_model(), BlockPool(3, 2), [5, 9, 1, 22, 7]
    cache = ModelCache()
    model(text, cache=cache)
    blocks = [pool.take(), pool.take()]
    for i, block in enumerate(blocks):
        pool.store(block, cache, 2 * i)
    held = pool.load(blocks)
    assert held.n_seen == 4
    assert torch.allclose(model(text[4:], cache=held)[0, -1], model(text)[0, -1])
    pool.hold(0)
    pool.release(0)
    pool.release(1)
    assert (pool.users, pool.n_free) == ([1, 0, 0], 2)
    with pytest.raises(ValueError, match="free already"):
        pool.release(1)
    with pytest.raises(ValueError, match="take it first"):
        pool.hold(1)
    pool.take(), pool.take()
    with pytest.raises(ValueError, match="pool is full"):
        pool.take()


def test_lookup_guesses_what_followed_the_newest_longest_likeness():
    draft, cache = LookupDraft(30), TextCache()
    assert draft([1, 2, 3, 9, 2, 3, 8, 1, 2, 3], cache=cache)[0, -1].argmax() == 9
    cache.truncate(9)
    assert cache.n_seen == 9
    assert draft.guess([4, 2, 5, 2, 6, 2]) == 6
    assert draft.guess([7, 8]) == 8
    with pytest.raises(ValueError, match="cannot keep 10 of 9"):
        cache.truncate(10)


@pytest.mark.parametrize("prompts", [[], [[1], []]])
def test_padding_needs_prompts(prompts):
    with pytest.raises(ValueError, match=r"prompt"):
        padded(prompts)


def test_the_recorded_afternoon_is_what_the_solution_does():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded = afternoon.record()
    assert recorded == recorded_lanes(), "run `python -m course_tools.afternoon`"
    assert len(requests()) == 32
    most = max(sum(n for _, n in step.values()) for step in recorded["continuous"])
    assert most == afternoon.BUDGET


def test_a_static_server_waits_for_its_slowest():
    steps = afternoon.static([(0, 3, 1), (0, 2, 3), (1, 4, 2)], slots=2)
    assert steps == [
        {"0": ("read", 3), "1": ("read", 3)},
        {"0": ("idle", 1), "1": ("write", 1)},
        {"0": ("idle", 1), "1": ("write", 1)},
        {"2": ("read", 4)},
        {"2": ("write", 1)},
    ]


def test_pictures_say_in_words_what_they_show():
    _, positions, mask = padded([[5], [6, 7, 8]])
    said = pictures.padding([["a"], ["b", "c", "d"]], positions, mask, row=0).alt
    assert "row 0: 2, row 1: 0" in said
    moving = pictures.lanes(recorded_lanes())
    moving.controls["now"].value = moving.controls["now"].options[-1][1]
    steps = len(recorded_lanes()["continuous"])
    assert f"continuous: all done after {steps} steps" in moving.picture().alt
    said = pictures.beginnings({"x": list("abcde"), "y": list("abc")}, {"x": 0, "y": 2}, 2).alt
    assert "y: 2 of 3 tokens found, 1 computed" in said
    moving = pictures.guesses([(["a", "b"], 0, "c"), (["d", "e"], 1, "f")])
    said = moving.picture().alt
    assert "Pass 2: kept “d”, then the target's own “f”; thrown away “e”. 3 tokens" in said
