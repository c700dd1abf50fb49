"""The shapes of real models: their weights, counted another way, and the memory of their caches."""

from collections import Counter

import pytest
import torch

from llm_memory.shapes import CARDS, CHECKED, GIB, MODELS, cache_bytes, model_shape

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
    "gpt-oss-20b": ("GptOssConfig", 201088, 2880, False),
    "GLM-4.7-Flash": ("Glm4MoeLiteConfig", 154880, 10240, False),
    "Qwen3.5-9B": ("Qwen3_5TextConfig", 248320, 12288, False),
    "Kimi-Linear-48B-A3B": ("KimiLinearConfig", 163840, 9216, False),
    "Llama-4-Scout": ("Llama4TextConfig", 202048, 8192, False),
}
# Where the published configuration says more than the others do.
MORE = {
    "gpt-oss-20b": {"num_local_experts": 32},
    # Every fourth layer and the last attend in full (arXiv 2510.26692, section 4).
    "Kimi-Linear-48B-A3B": {
        "layer_types": [
            "full_attention" if layer in (4, 8, 12, 16, 20, 24, 27) else "linear_attention"
            for layer in range(1, 28)
        ]
    },
}
WITHOUT_KINDS = ("LlamaConfig", "Qwen2Config", "Glm4MoeLiteConfig")  # all layers are of one
# What a layer keeps of each kind, by the name that transformers has for it.
KEPT = {
    "sliding_attention": "n_sliding_layers",
    "chunked_attention": "n_sliding_layers",
    "linear_attention": "n_state_layers",
}


def config_of(name):
    import transformers

    shape = MODELS[name]
    family, words, inner, tied = REST[name]
    about = {
        "vocab_size": words,
        "hidden_size": shape["width"],
        "intermediate_size": inner,
        "num_hidden_layers": shape["n_layers"],
        "num_attention_heads": shape["n_heads"],
        **MORE.get(name, {}),
    }
    if family in ("Glm4MoeLiteConfig", "KimiLinearConfig"):  # their head sizes have other names
        about["kv_lora_rank"] = shape["latent_dim"] - 64
        about["qk_rope_head_dim"] = 64
        about["v_head_dim"] = shape["head_dim"]
    else:
        about["num_key_value_heads"] = shape["n_kv_heads"]
        about["head_dim"] = shape["head_dim"]
        about["tie_word_embeddings"] = tied
    if "Gemma" in family:
        about["sliding_window"] = shape["sliding_window"]
    return getattr(transformers, family)(**about)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_weights_are_those_of_the_model_that_the_shape_makes(name):
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config_of(name), dtype=torch.bfloat16)
    assert sum(p.numel() for p in model.parameters()) == MODELS[name]["parameters"]
    if name != "gpt-oss-20b":  # its experts are published in 4.25 bits
        # Some mixtures of experts keep a few numbers of their routers in 32 bits.
        gates = sum(p.nbytes // 2 for p in model.parameters() if p.element_size() == 4)
        nbytes = sum(p.nbytes for p in model.parameters()) - gates
        assert nbytes == MODELS[name]["weight_bytes"]
        return
    experts = sum(p.numel() for n, p in model.named_parameters() if n.endswith("_proj"))
    others = sum(p.numel() for p in model.parameters()) - experts
    assert experts * 17 // 32 + 2 * others == MODELS[name]["weight_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "Gemma-2-9B",
        "Gemma-3-27B",
        "gpt-oss-20b",
        "Qwen3.5-9B",
        "Kimi-Linear-48B-A3B",
        "Llama-4-Scout",
    ],
)
def test_layers_are_of_the_kinds_of_the_configuration(name):
    counts = Counter(KEPT.get(kind) for kind in config_of(name).layer_types)
    for key in ("n_sliding_layers", "n_state_layers"):
        assert counts[key] == MODELS[name].get(key, 0)
    if "n_latent_layers" in MODELS[name]:
        assert counts[None] == MODELS[name]["n_latent_layers"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Qwen3.5-9B", "Kimi-Linear-48B-A3B"])
def test_a_state_is_what_the_linear_layers_of_transformers_keep(name):
    """A matrix for each value head, and three inputs of each channel of the convolution."""
    config = config_of(name)
    with torch.device("meta"):
        from transformers import AutoModelForCausalLM

        layers = AutoModelForCausalLM.from_config(config).model.layers
    layer = next(
        part
        for part, kind in zip(layers, config.layer_types, strict=True)
        if kind == "linear_attention"
    )
    attention = getattr(layer, "linear_attn", None) or layer.self_attn
    channels, _, kernel = attention.conv1d.weight.shape
    if name == "Qwen3.5-9B":
        heads, rows, columns = (
            config.linear_num_value_heads,
            config.linear_key_head_dim,
            config.linear_value_head_dim,
        )
    else:
        heads, rows, columns = config.linear_num_heads, *[config.linear_head_dim] * 2
    wanted = heads * rows * columns + channels * (kernel - 1)
    assert MODELS[name]["state_numbers"] == wanted


def test_kinds_of_layers_add_up():
    shape = MODELS["Kimi-Linear-48B-A3B"]
    assert cache_bytes(shape, 0, batch=3) == 3 * 20 * 561152 * 2
    assert cache_bytes(shape, 11) - cache_bytes(shape, 10) == 7 * 576 * 2
    assert cache_bytes(MODELS["GLM-4.7-Flash"], 10, bits=8) == 47 * 576 * 10
    assert cache_bytes(MODELS["gpt-oss-20b"], 1000) == 2 * 2 * 8 * 64 * 12 * (1000 + 128)


def test_a_card_has_less_than_its_name_says():
    for card in CARDS.values():
        assert 0.9 * card["sold_gigabytes"] < card["memory_bytes"] / GIB < card["sold_gigabytes"]
    assert CARDS["T4"]["memory_bytes"] < MODELS["Llama-3.1-8B"]["weight_bytes"]
    assert CHECKED.startswith("202")


@pytest.mark.slow
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
