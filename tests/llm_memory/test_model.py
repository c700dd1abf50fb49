"""The model equals transformers', takes the learner's parts, and refuses clearly."""

import shutil
import warnings
from itertools import islice

import pytest
import torch
from torch.nn import functional as F

from llm_memory.counted import small_model
from llm_memory.model import SHIPPED, attend, attention_weights, load_model, rotate
from llm_memory.streaming import ModelCache, stream
from tests.model_folders import SHAPES, random_model, write_folder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shipped():
    return load_model()


@pytest.fixture
def ids():
    return torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(3))


# --- equal to transformers ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_equals_transformers_on_random_weights_both_ways(name, ids, tmp_path):
    from transformers import AutoModelForCausalLM

    model = random_model(**SHAPES[name])
    write_folder(tmp_path / "ours", model)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32)
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(ids).logits, atol=1e-4)
    theirs.save_pretrained(tmp_path / "theirs")
    shutil.copy(tmp_path / "ours" / "tokenizer.json", tmp_path / "theirs")
    again, _ = load_model(tmp_path / "theirs")
    assert again.config == model.config
    assert torch.equal(again(ids), model(ids))


@pytest.mark.slow
def test_equals_transformers_on_the_shipped_weights(shipped):
    from transformers import AutoModelForCausalLM

    model, tokenizer = shipped
    theirs = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
    prompt = tokenizer.encode("the red code is 4 7 2 . when the student finished the exam , they")
    ours = list(islice(stream(model, prompt, ModelCache()), 60))
    with torch.no_grad():
        assert torch.allclose(model(prompt), theirs(torch.tensor([prompt])).logits, atol=1e-4)
        generated = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=60, do_sample=False, pad_token_id=0
        )
    assert generated[0, len(prompt) :].tolist() == ours


# --- batches of unequal length ---------------------------------------------------------------


def test_positions_and_a_mask_make_each_text_of_a_batch_as_it_is_alone():
    model = small_model()
    long, short = [3, 17, 8, 1, 25], [11, 4]
    ids = torch.tensor([long, [0, 0, 0, *short]])
    positions = torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]])
    real = torch.tensor([[True] * 5, [False] * 3 + [True] * 2])
    mask = (torch.ones(5, 5).tril().bool() & real[:, None] | torch.eye(5).bool())[:, None]
    cache = ModelCache()
    logits = model(ids, cache=cache, positions=positions, mask=mask)
    assert torch.allclose(logits[:1], model(long))
    assert torch.allclose(logits[1, 3:], model(short)[0])
    # One token more, with the cache, and by another attention.
    step = torch.cat([real, torch.ones(2, 1).bool()], 1)[:, None, None]
    more = {"positions": torch.tensor([[5], [2]]), "mask": step}
    got = model([[6], [7]], cache=cache, attention=attend, **more)
    assert torch.allclose(got[1, 0], model([*short, 7])[0, -1])
    cache.truncate(5)
    cache.keep_rows([1])
    more = {name: value[1:] for name, value in more.items()}
    assert torch.allclose(model([[7]], cache=cache, **more)[0], model([*short, 7])[0, -1:])


def test_many_texts_in_one_row_are_told_apart_by_the_mask():
    model, cache = small_model(), ModelCache()
    owners = torch.tensor([0, 0, 0, 1, 1])
    positions = torch.tensor([0, 1, 2, 0, 1])
    mask = (owners == owners[:, None]) & (positions <= positions[:, None])
    logits = model([5, 6, 7, 8, 9], cache=cache, positions=positions, mask=mask)[0]
    assert torch.allclose(logits[:3], model([5, 6, 7])[0])
    assert torch.allclose(logits[3:], model([8, 9])[0])
    cache.keep_tokens([3, 4])
    more = model([4], cache=cache, positions=torch.tensor([2]))
    assert torch.allclose(more[0, -1], model([8, 9, 4])[0, -1])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"positions": torch.tensor([0, 1])}, r"positions must have shape \(3,\) or \(1, 3\)"),
        ({"positions": torch.tensor([0, 1, -1])}, "positions begin at 0, not at -1"),
        ({"positions": [0, 1, 2]}, "tensor of whole numbers"),
        ({"mask": torch.ones(3, 2).bool()}, r"mask must have shape \(3, 3\) or \(1, 1, 3, 3\)"),
        ({"mask": torch.ones(3, 3)}, "tensor of bools"),
        ({"mask": torch.ones(3, 3).bool(), "hide": [1]}, "without attention_layer= and hide="),
    ],
)
def test_positions_and_masks_that_do_not_fit_are_refused(more, says):
    with pytest.raises((TypeError, ValueError), match=says):
        small_model()([1, 2, 3], **more)


@pytest.mark.parametrize("n_seen", [-1, 4])
def test_a_cache_cannot_be_rolled_back_to_what_it_never_held(n_seen):
    cache = ModelCache()
    small_model()([1, 2, 3], cache=cache)
    with pytest.raises(ValueError, match=f"cannot keep {n_seen} of 3"):
        cache.truncate(n_seen)
    with pytest.raises(ValueError, match="places must be 0 to 2"):
        cache.keep_tokens([3])


# --- the learner's parts --------------------------------------------------------------------


def loop_attention(q, k, v, mask):
    """Grouped attention one head at a time, written apart from the model's."""
    group = q.shape[1] // k.shape[1]
    outputs, weights = [], []
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head // group].transpose(1, 2) / q.shape[-1] ** 0.5
        weights.append(scores.masked_fill(~mask, float("-inf")).softmax(-1))
        outputs.append(weights[-1] @ v[:, head // group])
    return torch.stack(outputs, 1), torch.stack(weights, 1)


def halves_rope(x, positions, base=10_000.0, scale=1.0):
    """RoPE in the form of the exercise, one pair of numbers at a time."""
    half, out = x.shape[-1] // 2, torch.empty_like(x)
    for i in range(half):
        angle = positions / scale * base ** (-2 * i / x.shape[-1])
        real, imaginary = x[..., i], x[..., i + half]
        out[..., i] = real * angle.cos() - imaginary * angle.sin()
        out[..., i + half] = imaginary * angle.cos() + real * angle.sin()
    return out


class ListCache:
    """A cache of another make than the package's: a list of pieces."""

    def __init__(self, n_layers):
        self.pieces = [[] for _ in range(n_layers)]
        self.reads = 0

    @property
    def n_seen(self):
        self.reads += 1
        return sum(k.shape[2] for k, _ in self.pieces[0])

    def append(self, layer, k, v):
        self.pieces[layer].append((k, v))
        keys, values = (torch.cat(part, dim=2) for part in zip(*self.pieces[layer], strict=True))
        n_keys, n_queries = keys.shape[2], k.shape[2]
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool).tril(n_keys - n_queries)
        return keys, values, mask


def whole_layer(x, weights, cache, layer, start):
    """An attention layer on nothing but what the model hands over."""
    b, length, _ = x.shape
    q, k, v = (
        F.linear(x, w, bias).view(b, length, -1, weights.head_dim).transpose(1, 2)
        for w, bias in [
            (weights.w_q, weights.b_q),
            (weights.w_k, weights.b_k),
            (weights.w_v, weights.b_v),
        ]
    )
    positions = torch.arange(start, start + length)
    q, k = (halves_rope(part, positions, weights.rope_theta) for part in (q, k))
    assert (q.shape[1], k.shape[1]) == (weights.n_heads, weights.n_kv_heads)
    keys, values, mask = cache.append(layer, k, v)
    y, _ = loop_attention(q, keys, values, mask)
    return F.linear(y.transpose(1, 2).reshape(b, length, -1), weights.w_o, weights.b_o)


@pytest.mark.parametrize("name", SHAPES)
def test_attention_rope_and_layer_of_another_make_give_the_same_logits(name, ids):
    model = random_model(**SHAPES[name])
    plain = model(ids)
    assert torch.allclose(model(ids, attention=loop_attention), plain, atol=1e-4)
    assert torch.allclose(model(ids, rope=halves_rope), plain, atol=1e-4)
    cache = ListCache(2)
    assert torch.allclose(model(ids, cache=cache, attention_layer=whole_layer), plain, atol=1e-4)


@pytest.mark.parametrize("make_cache", [ModelCache, lambda: ListCache(2)])
@pytest.mark.parametrize("chunks", [(9,), (5, 1, 1, 1, 1), (1,) * 9, (3, 4, 2)])
def test_a_cache_in_any_chunks_gives_the_logits_of_one_pass(make_cache, chunks, ids):
    model, cache = random_model(**SHAPES["groups of three"]), make_cache()
    parts = [model(part, cache=cache) for part in ids.split(list(chunks), dim=1)]
    assert torch.allclose(torch.cat(parts, dim=1), model(ids), atol=1e-4)
    assert cache.n_seen == 9


def test_n_seen_is_read_once_a_pass(ids):
    cache = ListCache(2)
    random_model(**SHAPES["groups of three"])(ids, cache=cache)
    assert cache.reads == 1


def test_model_cache_grows_without_losing_what_it_holds():
    cache, pieces = ModelCache(), []
    for length in (40, 30, 1, 100, 1):
        k, v = torch.randn(2, 2, 3, length, 4).unbind(0)
        pieces.append((k, v))
        keys, values, mask = cache.append(0, k, v)
    whole = [torch.cat(part, dim=2) for part in zip(*pieces, strict=True)]
    assert torch.equal(keys, whole[0]) and torch.equal(values, whole[1])
    assert mask.shape == (1, 172) and mask.all() and cache.n_seen == 172


def test_streams_agree_and_the_cached_one_forwards_each_token_once(shipped):
    model, tokenizer = shipped
    prompt = tokenizer.encode("when the student finished the exam , they felt")
    slow, fast = stream(model, prompt), stream(model, prompt, ModelCache())
    assert list(islice(slow, 30)) == list(islice(fast, 30))
    assert fast.forwarded == len(prompt) + 29
    assert slow.forwarded == sum(len(prompt) + i for i in range(30))
    with pytest.raises(ValueError, match="L ≥ 1"):
        next(stream(model, []))


def test_weights_are_those_of_the_loop_and_hide_hides(ids):
    model = random_model(**SHAPES["groups of three"])
    ours = attention_weights(model, ids[:1])
    assert torch.allclose(ours, attention_weights(model, ids[:1], loop_attention), atol=1e-5)
    assert ours.shape == (2, 6, 9, 9) and torch.allclose(ours.sum(-1), torch.ones(2, 6, 9))
    hidden = attention_weights(model, ids[:1], hide=[2])
    assert hidden[..., 3:, 2].abs().max() == 0 and hidden[..., 2, 2].min() > 0
    with pytest.raises(ValueError, match="hide="):
        model(ids, cache=ModelCache(), hide=[2])


def test_rotate_reaches_the_known_formula_with_base_and_scale():
    x, positions = torch.randn(2, 3, 5, 8), torch.tensor([0, 3, 7, 50, 300])
    for base, scale in [(10_000.0, 1.0), (500.0, 2.0)]:
        expected = halves_rope(x, positions, base, scale)
        assert torch.allclose(rotate(x, positions, base, scale), expected, atol=1e-4)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (
            {"attention": lambda q, k, v, m: (q[:, :1], q)},
            ValueError,
            r"layer 0: attention's output .*\(2, 6, 9, 4\).*\(2, 1, 9, 4\)",
        ),
        (
            {"attention": lambda q, k, v, m: attend(q, k, v, m)[0]},
            TypeError,
            r"layer 0: attention must return \(output, weights\)",
        ),
        ({"attention": lambda q, k, v, m: (None, None)}, TypeError, "NoneType"),
        ({"rope": lambda x, positions, base: x[..., :2]}, ValueError, "layer 0: rope"),
        (
            {
                "attention_layer": lambda x, weights, cache, layer, start: (
                    x if layer == 0 else x[:, 1:]
                )
            },
            ValueError,
            r"layer 1: attention_layer .*\(2, 9, 24\).*\(2, 8, 24\)",
        ),
    ],
)
def test_a_wrong_shape_says_which_layer_asked_for_what(parts, error, message, ids):
    with pytest.raises(error, match=message):
        random_model(**SHAPES["groups of three"])(ids, **parts)


@pytest.mark.parametrize("other", [{"attention": attend}, {"rope": rotate}, {"hide": [1]}])
def test_parts_that_would_be_left_out_are_refused(other, ids):
    model = random_model(**SHAPES["groups of three"])
    with pytest.raises(ValueError, match="attention_layer= replaces"):
        model(ids, cache=ListCache(2), attention_layer=whole_layer, **other)


@pytest.mark.parametrize("bad", [[], [[]], [[[1]]], [61], [-1]])
def test_bad_ids_are_refused(bad):
    with pytest.raises(ValueError, match="token ids must be"):
        random_model(**SHAPES["groups of three"])(bad)


def test_a_text_past_the_window_warns_and_gives_a_result(shipped):
    model, _ = shipped
    window = model.config.window
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model([5] * window)
    with pytest.warns(UserWarning, match=f"window of {window} tokens"):
        logits = model([5] * (window + 1))
    assert logits.shape == (1, window + 1, model.config.vocab_size) and logits.isfinite().all()
    cache = ModelCache()
    model([5] * window, cache=cache)
    with pytest.warns(UserWarning, match=f"window of {window} tokens"):
        model([5], cache=cache)


def test_shipped_weights_are_small_and_whole(shipped, tmp_path):
    assert (SHIPPED / "model.safetensors").stat().st_size <= 2_000_000
    copy = shutil.copytree(SHIPPED, tmp_path / "copy")
    again, tokenizer = load_model(copy)
    assert len(tokenizer) == again.config.vocab_size
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in again.parameters())
