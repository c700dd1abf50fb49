"""Read a model folder in Hugging Face's format: `config.json` and safetensors files."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode

from llm_memory.guards import expect
from llm_memory.rope import PLAIN, Scaling, read_rope

FAMILIES = ("llama", "qwen2")


@dataclass(frozen=True)
class LlamaConfig:
    """The shape of a model. Sizes are counts; `window` is the trained context length in tokens."""

    vocab_size: int
    width: int
    hidden: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    window: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    tied: bool = True
    rope_scaling: Scaling = PLAIN

    @classmethod
    def from_hf(cls, raw: dict) -> "LlamaConfig":
        """Make a config from the contents of a Hugging Face `config.json`.

        Raises ValueError if the model is not of the Llama or Qwen2 family, or has a part that
        this code does not implement: the result would be quietly wrong.
        """
        family = raw.get("model_type")
        if family not in FAMILIES:
            raise ValueError(
                f"config.json says model_type {family!r}; this code reads {' and '.join(FAMILIES)} "
                "(Llama 2 and 3, SmolLM2, Qwen2, Qwen2.5)"
            )
        unsupported = {
            "hidden_act": raw.get("hidden_act", "silu") != "silu",
            "sliding window attention": _slides(raw, family),
            "partial_rotary_factor": raw.get("partial_rotary_factor", 1.0) != 1.0,
            "quantization_config": bool(raw.get("quantization_config")),
        }
        if any(unsupported.values()):
            names = ", ".join(name for name, found in unsupported.items() if found)
            raise ValueError(
                f"config.json asks for what this code does not implement: {names}. "
                "Take a model without it, such as SmolLM2, Llama 3 or Qwen2.5"
            )
        base, scaling = read_rope(raw)
        try:
            bias = family == "qwen2" or bool(raw.get("attention_bias", False))
            return cls(
                vocab_size=raw["vocab_size"],
                width=raw["hidden_size"],
                hidden=raw["intermediate_size"],
                n_layers=raw["num_hidden_layers"],
                n_heads=raw["num_attention_heads"],
                n_kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
                head_dim=raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
                window=scaling.window(raw["max_position_embeddings"]),
                rope_theta=base,
                rope_scaling=scaling,
                norm_eps=raw.get("rms_norm_eps", 1e-6),
                qkv_bias=bias,
                o_bias=bias and family == "llama",
                mlp_bias=family == "llama" and bool(raw.get("mlp_bias", False)),
                tied=raw.get("tie_word_embeddings", False),
            )
        except KeyError as missing:
            raise ValueError(f"config.json lacks {missing}: is it a whole model folder?") from None

    def to_hf(self) -> dict:
        """Return the contents of a `config.json` that `transformers` reads as the same model."""
        return {
            "architectures": ["Qwen2ForCausalLM" if self.is_qwen2 else "LlamaForCausalLM"],
            "model_type": "qwen2" if self.is_qwen2 else "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "intermediate_size": self.hidden,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.window,
            "rope_theta": self.rope_theta,
            "rope_scaling": None
            if self.rope_scaling.name == "default"
            else self.rope_scaling.to_hf(),
            "rms_norm_eps": self.norm_eps,
            "attention_bias": self.o_bias,
            "mlp_bias": self.mlp_bias,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "bos_token_id": None,
            "eos_token_id": None,
        }

    @property
    def is_qwen2(self) -> bool:
        """Whether the biases are Qwen2's: on q, k and v but not on the output."""
        return self.qkv_bias and not self.o_bias


def _slides(raw: dict, family: str) -> bool:
    """Whether any layer sees a sliding window only. Qwen2.5 names one that it does not use."""
    kinds = raw.get("layer_types")
    if kinds is not None:
        return any(kind != "full_attention" for kind in kinds)
    used = family == "qwen2" and raw.get("use_sliding_window") and raw.get("sliding_window", 4096)
    return bool(used) and raw.get("max_window_layers", 28) < raw.get("num_hidden_layers", 0)


def read_json(path: Path) -> dict:
    """Read a JSON object, or say which file of the model folder is missing or broken."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} is no model folder: it has no {path.name}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}): copy the file again") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, no object: copy the file again")
    return found


def read_checkpoint(folder: Path) -> tuple[LlamaConfig, dict[str, torch.Tensor]]:
    """Read (config, tensors by name, as float32) from a folder with one or several shards.

    Raises FileNotFoundError for a missing file and ValueError for a broken one.
    """
    config = LlamaConfig.from_hf(read_json(folder / "config.json"))
    index = folder / "model.safetensors.index.json"
    shards = ["model.safetensors"]
    if index.is_file() and not (folder / shards[0]).is_file():
        places = read_json(index).get("weight_map")
        if not isinstance(places, dict) or not places:
            raise ValueError(f"{index} has no weight_map: copy the file again")
        shards = sorted(set(places.values()))
    tensors: dict[str, torch.Tensor] = {}
    for name in shards:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} lacks the weights {name}")
        try:
            shard = load_file(folder / name)
        except SafetensorError as error:
            raise ValueError(
                f"{folder / name} is not a whole safetensors file ({error}): copy it again"
            ) from None
        tensors |= {key: tensor.float() for key, tensor in shard.items()}
    if config.tied and "lm_head.weight" in tensors:
        # As transformers: a table that both are made from may stand under either name, and where
        # both stand there and differ, the file is believed and not the config.
        head = tensors["lm_head.weight"]
        embedding = tensors.setdefault("model.embed_tokens.weight", head)
        config = replace(config, tied=torch.equal(head, embedding))
    return config, tensors


class Unfilled(TorchFunctionMode):
    """Within `with Unfilled():` a module is made without first numbers, to be given its own.

    Drawing them takes longer than loading, and would touch as much memory again. PyTorch's way, the
    device "meta", imports its compiler: seconds.
    """

    DRAWS = ("kaiming_uniform_", "uniform_", "normal_", "fill_")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Leave out what would fill a tensor; do all else."""
        if func.__name__ in self.DRAWS:
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def fill(model: nn.Module, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Give a model its tensors; ValueError names one that is missing or has another shape.

    Tensors that the model does not have (such as stored rotary speeds) are left out.
    """
    wanted = dict(model.named_parameters())
    missing = [name for name in wanted if name not in tensors]
    if missing:
        raise ValueError(
            f"the weights in {folder} lack {missing[0]} and {len(missing) - 1} other tensors: "
            "do config.json and the weights belong together?"
        )
    for name, parameter in wanted.items():
        expect(parameter.shape, tensors[name], f"tensor {name} in {folder}")
    model.load_state_dict({name: tensors[name] for name in wanted}, assign=True)
