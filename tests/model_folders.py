"""Small random models, and the folders in which one downloads such models."""

import json

import torch
from safetensors.torch import save_file

from llm_memory.checkpoint import LlamaConfig
from llm_memory.gguf_file import IN_LAYER, WHOLE
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


GGUF_NAMES = {name: short for short, name in {**WHOLE, **IN_LAYER}.items()}


def as_gguf(name: str) -> str:
    """GGUF's name of a tensor."""
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, layer, *part, kind = name.split(".")
    return f"blk.{layer}.{GGUF_NAMES['.'.join(part)]}.{kind}"


def write_gguf(path, model: Llama, quantised="F32", tensors=None, without=(), **fields):
    """A GGUF file of a model as llama.cpp's converter writes it; `fields` change or add some."""
    import gguf
    from gguf import quants
    from tokenizers import pre_tokenizers

    config = model.config
    family = "qwen2" if config.is_qwen2 else "llama"
    writer = gguf.GGUFWriter(path, family)
    tokens = [
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        "th",
        "the",
        "<|im_start|>",
        "<|im_end|>",
    ][: config.vocab_size]
    given = {
        f"{family}.block_count": config.n_layers,
        f"{family}.context_length": config.window,
        f"{family}.embedding_length": config.width,
        f"{family}.feed_forward_length": config.hidden,
        f"{family}.attention.head_count": config.n_heads,
        f"{family}.attention.head_count_kv": config.n_kv_heads,
        f"{family}.attention.key_length": config.head_dim,
        f"{family}.attention.value_length": config.head_dim,
        f"{family}.rope.freq_base": config.rope_theta,
        f"{family}.attention.layer_norm_rms_epsilon": config.norm_eps,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * (len(tokens) - 2) + [3] * 2,
        "tokenizer.ggml.merges": ["t h", "th e"],
    }
    given |= {name.replace("__", "."): value for name, value in fields.items()}
    add = {bool: "bool", int: "uint32", float: "float32", str: "string", list: "array"}
    for name, value in given.items():
        if value is not None and name != "general.architecture":
            getattr(writer, f"add_{add[type(value)]}")(name, value)
    kind = gguf.GGMLQuantizationType[quantised]
    for name, tensor in {**model.state_dict(), **(tensors or {})}.items():
        if name in without:
            continue
        numbers = tensor.numpy()
        if family == "llama" and ("q_proj" in name or "k_proj" in name):
            heads = config.n_heads if "q_proj" in name else config.n_kv_heads
            halves = numbers.reshape(heads, 2, config.head_dim // 2, *numbers.shape[1:])
            numbers = halves.swapaxes(1, 2).reshape(numbers.shape)
        short = name if name == "rope_freqs.weight" or "." not in name else None
        name = short or as_gguf(name)
        if numbers.ndim > 1 and quantised != "F32":
            writer.add_tensor(name, quants.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, numbers.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
