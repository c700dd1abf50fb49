"""What the KV cache lesson stands on: counting, supplied caches, the race, pictures, downloads."""

import threading

import numpy as np
import pytest
import torch

from llm_memory import download, race
from llm_memory.caches import (
    RenumberedCache,
    RoundedCache,
    check_shapes,
    rounded,
    staircase,
    to_steps,
)
from llm_memory.counted import Counted, Largest, small_model
from llm_memory.latent import LatentCache, beyond_floats, latent_weights
from llm_memory.model import rotate
from llm_memory.plots import kv_cache as pictures
from llm_memory.shapes import MODELS
from llm_memory.streaming import ModelCache, Stream


@pytest.mark.slow
def test_the_small_model_is_what_transformers_computes():
    transformers = pytest.importorskip("transformers")
    model = small_model()
    config = model.config.to_hf()
    del config["architectures"], config["model_type"]
    other = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).double()
    weights = model.state_dict()
    other.load_state_dict({**weights, "lm_head.weight": weights["model.embed_tokens.weight"]})
    ids = torch.tensor([[15, 22, 5, 1, 8, 0, 23, 8, 2], [3, 1, 4, 1, 5, 9, 2, 6, 5]])
    with torch.no_grad():
        assert torch.allclose(model(ids), other(ids).logits, atol=1e-4)


def test_counted_counts_tokens_of_each_pass():
    counted = Counted(small_model())
    cache = ModelCache()
    counted([3, 1, 4], cache=cache)
    counted(torch.tensor([[1]]), cache=cache)
    assert counted.per_pass == [3, 1]
    assert counted.tokens == 4
    counted.restart()
    assert counted.tokens == 0


def test_rounded_numbers_are_few_and_near():
    x = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(1))
    for bits in (2, 4, 8):
        got = rounded(x, -1, bits)
        step = x.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
        assert ((got - x).abs() <= step / 2 + 1e-6).all()
        assert len(got[0, 0].unique()) <= 2**bits - 1
    assert torch.equal(rounded(torch.zeros(2, 3), 0, 2), torch.zeros(2, 3))


def test_a_rounded_cache_rounds_keys_and_values_along_their_own_axes():
    asked = []

    def through(x, axis):
        asked.append(axis)
        return x + axis

    k, v = torch.zeros(1, 1, 2, 4), torch.ones(1, 1, 2, 4)
    cache = RoundedCache(ModelCache(), through, key_axis=-2, value_axis=-1)
    keys, values, mask = cache.append(0, k, v)
    assert asked == [-2, -1]
    assert torch.equal(keys, k - 2)
    assert torch.equal(values, v - 1)
    assert mask.shape == (2, 2)
    assert cache.n_seen == 2


def test_a_renumbered_cache_moves_the_sinks_to_the_window():
    raw = torch.randn(1, 2, 9, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    turned = rotate(raw, torch.arange(9))
    cache = RenumberedCache(window=3, n_sinks=2, base=10_000.0)
    keys, _, mask = cache.append(0, turned[:, :, :5], raw[:, :, :5])
    assert torch.allclose(keys, turned[:, :, :5])
    assert mask.tolist() == torch.ones(5, 5).tril().bool().tolist()
    for at in range(5, 9):
        keys, values, mask = cache.append(0, turned[:, :, at : at + 1], raw[:, :, at : at + 1])
        # The sinks stand right before the window, at positions at - 4 and at - 3.
        sinks = rotate(raw[:, :, :2], torch.arange(at - 4, at - 2))
        assert torch.allclose(keys[:, :, :2], sinks, atol=1e-5)
        assert torch.equal(keys[:, :, 2:], turned[:, :, at - 2 : at + 1])
        assert torch.equal(values[:, :, :2], raw[:, :, :2])
        assert mask.shape == (1, 5)
        assert mask.all()
    assert cache.n_seen == 9
    with pytest.raises(ValueError, match="one token"):
        cache.append(0, turned[:, :, :2], raw[:, :, :2])


def test_a_staircase_lets_the_newest_tokens_see_their_past():
    assert staircase(2, 4).int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert staircase(3, 3).int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert staircase(1, 5).all()


@pytest.mark.parametrize(
    ("k", "v", "held"),
    [
        ((1, 2, 3, 4), (1, 2, 2, 4), None),
        ((1, 2, 3, 4), (1, 2, 3, 4), (2, 2, 5, 4)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 1, 5, 4)),
        ((1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_named(k, v, held):
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\).*do not fit"):
        check_shapes(torch.zeros(k), torch.zeros(v), None if held is None else torch.zeros(held))
    check_shapes(torch.zeros(k), torch.zeros(k), torch.zeros(1, 2, 9, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_steps_are_whole_few_and_near(dtype):
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(4)).to(dtype)
    x[0, 0] = 0
    for axis in (-1, -2):
        q, scale = to_steps(x, axis, 4)
        assert q.dtype == torch.int8
        assert scale.dtype == dtype
        assert q.abs().max() == 7
        assert ((q * scale - x).abs() <= scale * 0.51).all()
        assert (scale[0, 0] == 1).all()


def test_the_largest_tensor_that_is_made_is_noted():
    q, k = torch.ones(6, 4), torch.ones(50, 4)
    with Largest() as made:
        k[3:9]
        k.split(7)
    assert made.numbers == 0
    with Largest() as made:
        (q @ k.T).softmax(-1)
    assert (made.numbers, made.shape) == (300, (6, 50))


def test_a_latent_cache_keeps_latents_by_layer_and_refuses_others():
    cache = LatentCache()
    cache.append(0, torch.ones(2, 3, 5))
    latents, mask = cache.append(0, torch.zeros(2, 1, 5))
    assert latents.shape == (2, 4, 5)
    assert mask.tolist() == [[True] * 4]
    assert cache.n_seen == 4
    assert cache.n_bytes == 2 * 4 * 5 * 4
    for wrong in (torch.ones(1, 1, 5), torch.ones(2, 1, 6), torch.ones(2, 3, 1, 5)):
        with pytest.raises(ValueError, match=r"\(B, L, R\)|does not fit"):
            cache.append(0, wrong)
    assert cache.n_seen == 4
    assert latent_weights(24, 3, 8, 5).w_uk.shape == (24, 5)


class Words:
    """A tokenizer of numbers."""

    def decode(self, ids):
        return " ".join(map(str, ids))


def writing(cache):
    def work(model):
        stream = Stream(model, [3, 1, 4], cache)
        for _ in range(6):
            next(stream)

    return work


def test_a_race_runs_both_to_the_end_and_counts():
    model = small_model()
    alone = Stream(model, [3, 1, 4], None)
    wanted = [next(alone) for _ in range(6)]
    works = {"without": writing(None), "with": writing(ModelCache())}
    before = threading.active_count()
    lanes = race.race(model, Words(), [3, 1, 4], works, show=False)
    assert [lane.tokens for lane in lanes] == [wanted, wanted]
    assert [lane.forwarded for lane in lanes] == [3 + 4 + 5 + 6 + 7 + 8, 8]
    for lane in lanes:
        assert lane.times == sorted(lane.times)
        assert lane.first_token == lane.times[0] > 0
        assert not lane.running
    assert threading.active_count() == before


def test_a_race_gives_the_turn_to_the_one_that_has_used_less_time(monkeypatch):
    """With a clock that counts its own readings, both get ahead alike."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(race.time, "perf_counter", lambda: float(next(ticks)))
    order = []

    def work(name):
        def run(model):
            for _ in range(4):
                order.append(name)
                model([1])

        return run

    race.race(small_model(), Words(), [1], {"a": work("a"), "b": work("b")}, show=False)
    assert sorted(order[:2]) == ["a", "b"]
    assert all(abs(order[:n].count("a") - order[:n].count("b")) <= 1 for n in range(9))


def test_a_race_raises_what_a_work_raises_and_leaves_no_thread():
    def fails(model):
        model([1])
        raise ValueError("open")

    before = threading.active_count()
    with pytest.raises(ValueError, match="open"):
        race.race(small_model(), Words(), [1], {"a": fails, "b": writing(None)}, show=False)
    assert threading.active_count() == before


def test_a_model_is_fetched_once(tmp_path, monkeypatch):
    hub = tmp_path / "hub" / "owner" / "model" / "resolve" / "main"
    hub.mkdir(parents=True)
    for name in download.FILES:
        (hub / name).write_text(name)
    monkeypatch.setattr(download, "HUB", (tmp_path / "hub").as_uri())
    place = download.fetch("owner/model", tmp_path / "kept")
    assert {path.name for path in place.iterdir()} == set(download.FILES)
    (hub / "config.json").unlink()
    assert download.fetch("owner/model", tmp_path / "kept") == place


def test_a_missing_hub_is_said_in_one_line_and_leaves_no_half_file(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "HUB", (tmp_path / "nowhere").as_uri())
    with pytest.raises(OSError, match=r"model\.safetensors of owner/model") as raised:
        download.fetch("owner/model", tmp_path / "kept")
    assert "\n" not in str(raised.value)
    assert list((tmp_path / "kept" / "owner--model").iterdir()) == []


TABLE = np.array([[0, 1], [3, 0], [1, 1]])
KEYS = [torch.randn(3, 4), torch.randn(3, 4)]
MORE = [torch.cat((keys, torch.ones(1, 4))) for keys in KEYS]
EVENTS = [("A begins", {"A": [0]}, {"A": 3}), ("B joins", {"A": [0], "B": [0]}, {"A": 3, "B": 3})]
STILL = {
    "tokens_forwarded": pictures.tokens_forwarded({"without": [3, 4, 5], "with": [3, 1, 1]}),
    "turns": pictures.turns({"with": [("new", 13)], "without": [("again", 200), ("new", 13)]}),
    "curves": pictures.curves({"a": {1: 2.0, 8: 4.0}}, "tokens", "seconds", log=True),
    "rounding": pictures.rounding({"keys": {8: 0.1, 2: 0.5}}, {"keys": {8: 1.0, 2: 0.5}}),
    "channels": pictures.channels(torch.ones(3, 4), "keys"),
}
MOVING = {
    "autoregression": (pictures.autoregression(list("abcde"), 2), "step", 1, "2 tokens pass"),
    "old_rows": (pictures.old_rows(list("abcd"), KEYS, MORE), "layer", 0, "Layer 0"),
    "growing_table": (
        pictures.growing_table(list("abc"), TABLE, TABLE, TABLE),
        "step",
        0,
        "“a” joins the 0 rows",
    ),
    "bill": (
        pictures.bill({"Llama-2-7B": MODELS["Llama-2-7B"]}),
        "batch",
        64,
        "outweighs the weights from 402 tokens",
    ),
    "ring": (pictures.ring(20, 8, 2), "seen", 20, "Held: tokens 0, 1, 12, 13"),
    "page_map": (pictures.page_map(EVENTS, 3, 4), "event", 0, "2 of 3 free"),
}


@pytest.mark.parametrize("name", STILL)
def test_a_picture_has_words(name):
    assert STILL[name].png.startswith(b"\x89PNG")
    assert len(STILL[name].alt) > 30


@pytest.mark.parametrize("name", MOVING)
def test_a_moving_picture_follows_its_control(name):
    moving, control, value, says = MOVING[name]
    first = moving.picture()
    moving.controls[control].value = value
    now = moving.picture()
    assert now.png != first.png
    assert says in now.alt


@pytest.mark.parametrize(("what", "matrix"), [("keys", "w_uk"), ("values", "w_uv")])
def test_what_is_beyond_floats_leaves_an_ordinary_answer_to_who_absorbs(what, matrix):
    w, held = beyond_floats(what)
    assert not (held @ getattr(w, matrix).T).isfinite().all()
    x = torch.tensor([1.0, 2.0, -1.0, 3.0, 1.0], dtype=torch.float64)
    latents = torch.cat((held[0], (w.w_d @ x)[None]))
    for q, up_k, up_v in zip(
        (w.w_q @ x).chunk(w.n_heads), w.w_uk.chunk(w.n_heads), w.w_uv.chunk(w.n_heads), strict=True
    ):
        shares = (latents @ (q @ up_k) / w.head_dim**0.5).softmax(0)
        head = up_v @ (shares @ latents)
        assert head.isfinite().all()
        assert head.abs().max() < 100


def test_only_keys_or_values_are_beyond_floats():
    with pytest.raises(ValueError, match="queries"):
        beyond_floats("queries")


def test_the_cache_with_a_gap_keeps_the_first_token_and_the_newest():
    from llm_memory.check.given import make

    cache, k = make("gappy_cache"), torch.arange(7.0).reshape(1, 1, 7, 1)
    for first, last in ((0, 4), (4, 5), (5, 7)):
        keys, values, mask = cache.append(0, k[:, :, first:last], -k[:, :, first:last])
    assert keys.flatten().tolist() == [0, 3, 4, 5, 6]
    assert torch.equal(values, -keys)
    assert mask.int().tolist() == [[1, 0, 1, 1, 0], [1, 0, 0, 1, 1]], (
        "one token back, and the first"
    )
    assert cache.n_seen == 7
