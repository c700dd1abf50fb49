"""The shapes of real models: their weights, counted another way, and the memory of their caches."""

import pytest
import torch

from llm_memory.shapes import CARDS, GIB, MODELS, cache_bytes, model_shape

# What a published configuration holds besides the shape: the parameters follow from all of it.
REST = {
    "TinyLlama-1.1B": ("LlamaConfig", 32000, 5632, False),
    "Llama-2-7B": ("LlamaConfig", 32000, 11008, False),
    "SmolLM2-135M": ("LlamaConfig", 49152, 1536, True),
    "Gemma-2-9B": ("Gemma2Config", 256000, 14336, True),
    "Mistral-7B-v0.1": ("LlamaConfig", 32000, 14336, False),
    "Qwen3-0.6B": ("Qwen3Config", 151936, 3072, True),
    "Llama-3.1-8B": ("LlamaConfig", 128256, 14336, False),
    "Llama-3.1-70B": ("LlamaConfig", 128256, 28672, False),
    "Gemma-3-27B": ("Gemma3TextConfig", 262208, 21504, True),
    "Qwen2.5-7B-Instruct-1M": ("Qwen2Config", 152064, 18944, False),
}


def config_of(name):
    import transformers

    shape = MODELS[name]
    family, words, inner, tied = REST[name]
    sliding = {}
    if "Gemma" in family:
        sliding = {"sliding_window": shape["sliding_window"]}
    return getattr(transformers, family)(
        vocab_size=words,
        hidden_size=shape["width"],
        intermediate_size=inner,
        num_hidden_layers=shape["n_layers"],
        num_attention_heads=shape["n_heads"],
        num_key_value_heads=shape["n_kv_heads"],
        head_dim=shape["head_dim"],
        tie_word_embeddings=tied,
        **sliding,
    )


@pytest.mark.parametrize("name", MODELS)
def test_weights_are_those_of_the_model_that_the_shape_makes(name):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(name), dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == MODELS[name]["parameters"]
    assert sum(p.nbytes for p in model.parameters()) == MODELS[name]["weight_bytes"]


@pytest.mark.parametrize("name", ["Gemma-2-9B", "Gemma-3-27B"])
def test_sliding_layers_are_those_of_the_configuration(name):
    sliding = sum("sliding" in kind for kind in config_of(name).layer_types)
    assert sliding == MODELS[name]["n_sliding_layers"]


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "Llama-3.1-8B", "Llama-2-7B"])
def test_cache_bytes_are_those_of_the_cache_of_transformers(name):
    from transformers import DynamicCache

    shape, batch, tokens = MODELS[name], 2, 11
    cache = DynamicCache()
    for layer in range(shape["n_layers"]):
        keys = torch.zeros(
            batch, shape["n_kv_heads"], tokens, shape["head_dim"], dtype=torch.bfloat16
        )
        cache.update(keys, keys.clone(), layer)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(shape, tokens, batch) == held


@pytest.mark.parametrize(
    ("name", "kibibytes"), [("Llama-2-7B", 512), ("Llama-3.1-8B", 128), ("Qwen3-0.6B", 112)]
)
def test_bytes_per_token_that_papers_name(name, kibibytes):
    assert cache_bytes(MODELS[name], 1) == kibibytes * 1024


def test_sliding_layers_stop_growing_at_their_window():
    shape = MODELS["Gemma-3-27B"]
    per_layer = 2 * shape["n_kv_heads"] * shape["head_dim"] * 2
    grown = cache_bytes(shape, 5001) - cache_bytes(shape, 5000)
    assert grown == (shape["n_layers"] - shape["n_sliding_layers"]) * per_layer
    assert cache_bytes(MODELS["Mistral-7B-v0.1"], 4096) == cache_bytes(
        MODELS["Mistral-7B-v0.1"], 32768
    )


def test_a_head_size_that_is_not_width_over_heads_is_among_them():
    shapes = MODELS.values()
    assert any(shape["head_dim"] != shape["width"] / shape["n_heads"] for shape in shapes)


def test_each_fact_has_a_source_and_the_order_is_by_size():
    for item in [*MODELS.values(), *CARDS.values()]:
        assert item["source"].startswith("https://")
    windows = [shape["max_tokens"] for shape in MODELS.values()]
    assert windows == sorted(windows)
    memory = [card["memory_bytes"] for card in CARDS.values()]
    assert memory == sorted(memory)
    assert min(memory) >= 8 * GIB


def test_a_shape_is_a_copy_and_an_unknown_name_lists_those_there_are():
    mine = model_shape("Llama-2-7B")
    mine["n_layers"] = 1
    assert MODELS["Llama-2-7B"]["n_layers"] == 32
    with pytest.raises(ValueError, match=r"no model 'GPT-9'.*Qwen3-0\.6B"):
        model_shape("GPT-9")
