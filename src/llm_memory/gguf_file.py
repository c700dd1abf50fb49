"""Read a GGUF file of a Llama- or Qwen2-family model: its shape, its weights, its tokenizer.

The `gguf` library undoes the quantisation. What is done here is naming: GGUF has names of its own
for the same numbers, and in Llama files it stores the rows of q and k so that the two numbers of a
rotary pair are neighbours, where Hugging Face's layout has them half a head apart.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llm_memory.checkpoint import LlamaConfig
from llm_memory.gguf_tokenizer import build_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FAMILIES = ("llama", "qwen2")
TABLE = "token_embd.weight"
WHOLE = {
    TABLE: "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
FACTORS = "rope_freqs.weight"


def read_gguf(path: Path) -> tuple[LlamaConfig, dict[str, Tensor], Tokenizer]:
    """Return (config, tensors as float32 under Hugging Face's names, tokenizer) of a GGUF file.

    Raises FileNotFoundError for a missing file, ImportError where `gguf` is missing, and
    ValueError, naming the file, for a broken file or one that this code would get wrong.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import gguf
        import tokenizers  # noqa: F401
    except ImportError as missing:
        raise ImportError(
            f"a GGUF file needs one more package, {missing.name}: "
            "pip install 'llm-memory[checkpoints]'"
        ) from None
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as error:  # the reader raises what numpy raises on bytes that make no sense
        raise ValueError(f"{path} is no whole GGUF file ({error}): copy it again") from None
    try:
        names = {tensor.name for tensor in reader.tensors}
        # The table may be longer than the list of tokens: some pad it, for speed.
        rows = next((int(t.shape[1]) for t in reader.tensors if t.name == TABLE), 0)
        factors = next((t for t in reader.tensors if t.name == FACTORS), None)
        slowed = None if factors is None else _numbers(factors).tolist()
        config = LlamaConfig.from_hf(_config(fields, names, slowed) | {"vocab_size": rows})
        tensors = {}
        for tensor in reader.tensors:
            if tensor.name == FACTORS:
                continue
            name = _name(tensor.name, config)
            tensors[name] = _in_halves(_numbers(tensor), name, config, fields)
        tokenizer = build_tokenizer(fields)
        if rows < tokenizer.get_vocab_size():
            raise ValueError(
                f"it has {tokenizer.get_vocab_size()} tokens and embeddings of {rows} only"
            )
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded: {error}") from None
    return config, tensors, tokenizer


def _config(fields: dict, names: set[str], factors: list[float] | None) -> dict:
    """What would stand in the model's `config.json`."""
    family = fields.get("general.architecture")
    if family not in FAMILIES:
        raise ValueError(
            f"its architecture is {family!r}; this code reads {' and '.join(FAMILIES)} "
            "(Llama 2 and 3, SmolLM2, Qwen2, Qwen2.5)"
        )

    def get(name: str, otherwise: Any = ...) -> Any:
        value = fields.get(f"{family}.{name}", otherwise)
        if value is ...:
            raise ValueError(f"it lacks the field {family}.{name}")
        if isinstance(value, list):
            raise ValueError(f"{family}.{name} differs from layer to layer")
        return value

    if fields.get("split.count", 0) > 1:
        raise ValueError("it is one part of a split model: join the parts (llama-gguf-split) first")
    if TABLE not in names:
        raise ValueError(f"it lacks the tensor {TABLE}")
    n_heads, width = get("attention.head_count"), get("embedding_length")
    head_dim = get("attention.key_length", None) or width // max(n_heads, 1)
    window = get("context_length")
    odd = {
        "experts": bool(get("expert_count", 0)),
        "sliding window attention": 0 < (get("attention.sliding_window", 0) or 0) < window,
        "values of another size than keys": get("attention.value_length", head_dim) != head_dim,
        "rotary positions in part of a head": get("rope.dimension_count", head_dim) != head_dim,
        "a scale of its own for attention": bool(get("attention.scale", 0)),
        "attention that also looks ahead": not get("attention.causal", True),
    }
    if any(odd.values()):
        found = ", ".join(name for name, there in odd.items() if there)
        raise ValueError(f"it asks for what this code does not implement: {found}")
    raw = {
        "model_type": family,
        "hidden_size": width,
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": get("attention.head_count_kv", n_heads),
        "head_dim": head_dim,
        "max_position_embeddings": window,
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_theta": get("rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in names,
        "attention_bias": "blk.0.attn_output.bias" in names or "blk.0.attn_q.bias" in names,
        "mlp_bias": "blk.0.ffn_up.bias" in names,
    }
    return raw | _rope(get, factors)


def _rope(get: Any, factors: list[float] | None) -> dict:
    kind = get("rope.scaling.type", "none")
    factor = get("rope.scaling.factor", get("rope.scale_linear", 1.0))
    if factors is not None:
        if kind not in ("none", "linear") or factor not in (0.0, 1.0):
            raise ValueError("its rotary positions are scaled in two ways at once")
        return {"rope_scaling": {"rope_type": "listed", "factors": factors}}
    if kind == "none" or (kind == "linear" and factor in (0.0, 1.0)):
        return {}
    scaling = {"rope_type": kind, "factor": factor}
    if kind == "yarn":
        scaling["original_max_position_embeddings"] = get("rope.scaling.original_context_length")
        lengthened = get("rope.scaling.attn_factor", None)
        if lengthened is not None:
            scaling["attention_factor"] = lengthened
    return {"rope_scaling": scaling}


def _name(name: str, config: LlamaConfig) -> str:
    found = LAYER.fullmatch(name)
    if name in WHOLE:
        return WHOLE[name]
    if found and found[2] in IN_LAYER and int(found[1]) < config.n_layers:
        return f"model.layers.{found[1]}.{IN_LAYER[found[2]]}.{found[3]}"
    raise ValueError(f"it has a tensor {name}, which this code would leave out")


def _numbers(tensor: Any) -> Tensor:
    """A tensor's numbers as float32, in its own shape; GGUF counts the axes from the last."""
    from gguf import quants

    try:
        numbers = quants.dequantize(tensor.data, tensor.tensor_type)
    except (NotImplementedError, KeyError):
        kind = tensor.tensor_type.name
        raise ValueError(f"`gguf` cannot undo the quantisation {kind} of {tensor.name}") from None
    shape = tuple(int(n) for n in reversed(tensor.shape))
    # A copy, for the file's own bytes are read-only and would stay open.
    return torch.tensor(numbers.astype("float32", copy=False)).reshape(shape)


def _in_halves(numbers: Tensor, name: str, config: LlamaConfig, fields: dict) -> Tensor:
    """Undo what `convert_hf_to_gguf.py` does to q and k of Llama models (Qwen2's stay)."""
    heads = {"q_proj": config.n_heads, "k_proj": config.n_kv_heads}.get(name.split(".")[-2])
    if heads is None or fields["general.architecture"] != "llama":
        return numbers
    rows, half = numbers.shape[0], config.head_dim // 2
    if rows != heads * 2 * half:
        raise ValueError(f"{name} has {rows} rows and not {heads} heads of {config.head_dim}")
    pairs = numbers.reshape(heads, half, 2, *numbers.shape[1:])
    return pairs.swapaxes(1, 2).reshape(numbers.shape).contiguous()
