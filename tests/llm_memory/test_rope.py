"""Scaled rotary positions are those of transformers, inside the window and past it."""

import warnings
from dataclasses import replace
from itertools import islice

import pytest
import torch

from llm_memory.model import attend, load_model, rotate
from llm_memory.rope import KINDS, PLAIN
from llm_memory.streaming import ModelCache, stream
from tests.model_folders import change_config, random_model, write_folder

torch.set_num_threads(1)

WINDOW = 32
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
SCALINGS = {
    "linear": {"type": "linear", "factor": 2.5},
    "dynamic": {"type": "dynamic", "factor": 3.0},
    "llama3": LLAMA3,
    "llama3, no first window": {k: v for k, v in LLAMA3.items() if "original" not in k},
    "yarn": YARN,
    "yarn, all fields": YARN
    | {"attention_factor": 1.3, "beta_fast": 8.0, "beta_slow": 2.0, "truncate": False},
    "yarn, a first window shorter than a turn": {**YARN, "original_max_position_embeddings": 4},
    "yarn, two scales": YARN | {"mscale": 0.7, "mscale_all_dim": 0.3},
    "yarn, no factor": {**YARN, "factor": None},
}
# Qwen2's biases and Llama's none; a base at which the passage from fast to slow pairs is long.
SHAPES = {
    "llama": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 16, "rope_theta": 300.0},
    "qwen2": {"n_heads": 2, "n_kv_heads": 1, "head_dim": 24, "qkv_bias": True},
}


@pytest.fixture(autouse=True)
def past_the_window_is_meant():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The text is longer than the window")
        yield


def scaled_folder(folder, family, scaling, spelling="rope_scaling"):
    model = random_model(**SHAPES[family], window=WINDOW)
    write_folder(folder, model)
    if spelling == "rope_scaling":
        change_config(folder, rope_scaling=scaling)
    else:
        base = {"rope_theta": model.config.rope_theta}
        change_config(folder, rope_scaling=None, rope_theta=None, rope_parameters=scaling | base)
    return folder


def load_both(folder):
    from transformers import AutoModelForCausalLM

    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return load_model(folder)[0], theirs


@pytest.mark.slow
@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("name", SCALINGS)
def test_logits_and_greedy_tokens_are_those_of_transformers(name, family, tmp_path):
    ours, theirs = load_both(scaled_folder(tmp_path, family, SCALINGS[name]))
    ids = torch.randint(0, 61, (2, 90), generator=torch.Generator().manual_seed(1))
    for length in (12, WINDOW, 90):
        part = ids[:, :length]
        with torch.no_grad():
            assert torch.allclose(ours(part), theirs(part).logits, atol=1e-4), length
    prompt = ids[:1, :12]
    options = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    for cache, use_cache in ((ModelCache(), True), (None, False)):
        with torch.no_grad():
            wrote = theirs.generate(prompt, use_cache=use_cache, **options)
        wanted = wrote[0, 12:].tolist()
        assert list(islice(stream(ours, prompt[0].tolist(), cache), 24)) == wanted


@pytest.mark.parametrize("name", SCALINGS)
def test_each_scaling_changes_the_logits(name, tmp_path):
    scaled, _ = load_model(scaled_folder(tmp_path, "llama", SCALINGS[name]))
    ids = [[5, 1, 40, 8, 8, 23, 60, 3, 17, 2] * 5]
    scaled_logits = scaled(ids)
    scaled.config = replace(scaled.config, rope_scaling=PLAIN)
    assert (scaled(ids) - scaled_logits).abs().max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear", "dynamic", "llama3", "yarn, all fields"])
def test_the_newer_spelling_and_back_through_transformers(name, tmp_path):
    old, _ = load_model(scaled_folder(tmp_path / "old", "llama", SCALINGS[name]))
    scaling = dict(SCALINGS[name])
    scaling["rope_type"] = scaling.pop("rope_type", None) or scaling.pop("type")
    folder = scaled_folder(tmp_path / "new", "llama", scaling, "rope_parameters")
    new, theirs = load_both(folder)
    assert new.config == old.config and new.config.rope_scaling.name == scaling["rope_type"]
    theirs.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    saved, _ = load_model(tmp_path / "saved")
    assert saved.config == new.config
    again = write_folder(tmp_path / "again", saved)  # our own way of writing it down
    assert load_both(again)[0].config == new.config


def test_llama_31_as_it_is_published():
    """Speeds of Llama 3.1 8B, worked out apart: the slowest by 8, the fastest as they were."""
    scaling = KINDS["llama3"](8.0, 1.0, 4.0, 8192)
    plain = PLAIN.inv_freq(64, 500_000.0, 1)
    ratio = plain / scaling.inv_freq(64, 500_000.0, 1)
    rounds = 8192 / (2 * torch.pi / plain)
    assert torch.equal(ratio[rounds > 4], torch.ones(int((rounds > 4).sum())).double())
    assert torch.allclose(ratio[rounds < 1], torch.full((int((rounds < 1).sum()),), 8.0).double())
    between = ratio[(rounds < 4) & (rounds > 1)]
    assert len(between) and (between > 1).all() and (between < 8).all()


def test_qwens_window_under_yarn_is_the_stretched_one(tmp_path):
    scaling = YARN | {"original_max_position_embeddings": WINDOW}
    model, _ = load_model(scaled_folder(tmp_path, "qwen2", scaling))
    assert model.config.window == 4 * WINDOW
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model([5] * 4 * WINDOW)


@pytest.mark.parametrize(
    "part", [{"rope": rotate}, {"attention_layer": lambda x, weights, cache, layer, start: x}]
)
def test_parts_that_know_one_base_only_are_refused(part, tmp_path):
    model, _ = load_model(scaled_folder(tmp_path, "llama", LLAMA3))
    with pytest.raises(ValueError, match=r"'llama3'.*without rope= and attention_layer="):
        model([1, 2, 3], **part)
    assert torch.allclose(model([1, 2, 3], attention=attend), model([1, 2, 3]), atol=1e-4)


def test_high_must_be_above_low(tmp_path):
    scaled_folder(tmp_path, "llama", LLAMA3 | {"high_freq_factor": 1.0})
    with pytest.raises(ValueError, match="high_freq_factor must be above"):
        load_model(tmp_path)
