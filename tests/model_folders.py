"""Small random models, and the folders in which one downloads such models."""

import json

import torch
from safetensors.torch import save_file

from llm_memory.checkpoint import LlamaConfig
from llm_memory.model import Llama

SMALL = {"vocab_size": 61, "width": 24, "hidden": 40, "n_layers": 2, "window": 64}
SHAPES = {
    "groups of three": {"n_heads": 6, "n_kv_heads": 2, "head_dim": 4},
    "head size apart from width": {"n_heads": 3, "n_kv_heads": 3, "head_dim": 16},
    "one shared head, untied": {"n_heads": 4, "n_kv_heads": 1, "head_dim": 6, "tied": False},
    "other base and epsilon": {
        "n_heads": 2,
        "n_kv_heads": 2,
        "head_dim": 12,
        "rope_theta": 500_000.0,
        "norm_eps": 1e-2,
    },
    "Llama's biases": {
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 6,
        "qkv_bias": True,
        "o_bias": True,
    },
    "biases everywhere": {"n_heads": 3, "n_kv_heads": 3, "head_dim": 8, "mlp_bias": True}
    | {"qkv_bias": True, "o_bias": True},
    "Qwen2's biases": {"n_heads": 4, "n_kv_heads": 2, "head_dim": 6, "qkv_bias": True},
}


def random_model(**shape) -> Llama:
    torch.manual_seed(0)
    model = Llama(LlamaConfig(**{**SMALL, **shape}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return model.requires_grad_(False)


def write_folder(folder, model: Llama, tokenizer: bool = True):
    """A model folder as one downloads it, with a small byte-pair tokenizer of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(model.config.to_hf()), encoding="utf-8")
    if tokenizer:
        letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
        inner = Tokenizer(
            models.BPE(vocab={**letters, "th": 26, "the": 27}, merges=[("t", "h"), ("th", "e")])
        )
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        inner.save(str(folder / "tokenizer.json"))
    return folder


def change_config(folder, **change) -> dict:
    """Change entries of a folder's config.json; None takes one out. Returns what it says then."""
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8")) | change
    raw = {key: value for key, value in raw.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    return raw
