"""A Llama-architecture language model to be read in one sitting.

RMSNorm, rotary positions (RoPE), grouped-query attention, SwiGLU: the parts of Llama 2 and 3,
SmolLM2 and (with a bias on q, k and v) Qwen2.5, under Hugging Face's weight names. Shapes are
written with B batch, E width, H query heads, H_kv key/value heads, L new tokens (queries),
S tokens attended to (keys), D head size, V vocabulary.

Two parts are exercises in this course, so they are written here in another way than the
exercises ask for: rotary positions as a product of complex numbers (in `rope.py`), and grouped
attention by PyTorch's own `scaled_dot_product_attention`. Yours take their place as arguments:

    model(tokenizer.encode("the red code is"), attention=grouped_query_attention)
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llm_memory.checkpoint import LlamaConfig, Unfilled, fill
from llm_memory.guards import (
    as_ids,
    expect,
    expect_batch,
    expect_pair,
    expect_together,
    warn_past_window,
)
from llm_memory.rope import cos_sin, turn_by
from llm_memory.rope import rotate as rotate  # the lessons import it from here
from llm_memory.store import read_model

SHIPPED = Path(__file__).parent / "data"


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """PyTorch's grouped attention, with the weights that it normally keeps to itself.

    q (B, H, L, D), k and v (B, H_kv, S, D), mask (L, S) with True = may attend. Returns the output
    (B, H, L, D) and the weights (B, H, L, S): what comes out when the values are the identity.
    """
    identity = torch.eye(k.shape[2]).to(v).expand(*k.shape[:2], -1, -1)
    attend_to = F.scaled_dot_product_attention
    output, weights = (attend_to(q, k, z, mask, enable_gqa=True) for z in (v, identity))
    return output, weights


def hides_only_later(mask: Tensor) -> bool:
    """Whether a mask (L, S) is the causal one of a whole text, or of one token that sees all."""
    if mask.shape[0] == 1:
        return bool(mask.all())
    return mask.shape[0] == mask.shape[1] and torch.equal(mask, torch.ones_like(mask).tril())


class Attention(nn.Module):
    """The projections of one layer's attention; `attention_layer=` gets this as its `weights`."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.head_dim, self.rope_theta = config.head_dim, config.rope_theta
        n_query, n_shared = self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.width, n_query, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, n_shared, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, n_shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(n_query, config.width, bias=config.o_bias)

    # Matrices (out, in) as in nn.Linear, biases (out,) or None.
    w_q, b_q = property(lambda self: self.q_proj.weight), property(lambda self: self.q_proj.bias)
    w_k, b_k = property(lambda self: self.k_proj.weight), property(lambda self: self.k_proj.bias)
    w_v, b_v = property(lambda self: self.v_proj.weight), property(lambda self: self.v_proj.bias)
    w_o, b_o = property(lambda self: self.o_proj.weight), property(lambda self: self.o_proj.bias)

    def forward(self, x: Tensor, layer: int, mask, cache, attention, rope) -> Tensor:
        """Project x (B, L, E), rotate, remember, attend, project back: (B, L, E).

        Without a mask, that of the cache counts, or none but the causal one.
        """
        heads = (-1, self.head_dim)
        q = self.q_proj(x).unflatten(-1, heads).movedim(1, 2)  # (B, H, L, D)
        k = self.k_proj(x).unflatten(-1, heads).movedim(1, 2)  # (B, H_kv, L, D)
        v = self.v_proj(x).unflatten(-1, heads).movedim(1, 2)
        q = expect(q.shape, rope(q), f"layer {layer}: rope's queries")
        k = expect(k.shape, rope(k), f"layer {layer}: rope's keys")
        if cache is not None:
            k, v, own = cache.append(layer, k, v)
            mask = own if mask is None else mask
        if attention is None:
            # An empty cache's mask hides what comes later, and one token sees all: PyTorch is
            # faster where it knows that than where it reads a mask.
            if mask is not None and mask.dim() == 2 and hides_only_later(mask):
                mask = None
            how = {"attn_mask": mask, "is_causal": mask is None and q.shape[2] > 1}
            how["enable_gqa"] = True
            y = F.scaled_dot_product_attention(q, k, v, **how)
        else:
            y, _ = expect_pair(attention(q, k, v, mask), f"layer {layer}: attention")
        y = expect(q.shape, y, f"layer {layer}: attention's output")
        return self.o_proj(y.movedim(1, 2).flatten(2))


class FeedForward(nn.Module):
    """SwiGLU (arXiv 2002.05202): each token on its own, (B, L, E) → (B, L, E)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.hidden, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.width, config.hidden, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.hidden, config.width, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Open a gate for each hidden number, and pass what goes through."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """One layer: attention, then the feed-forward network; each adds to what came in."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.mlp = FeedForward(config)


class Llama(nn.Module):
    """The model: token ids in, a score for every possible next token out."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = nn.ModuleDict()
        self.model["embed_tokens"] = nn.Embedding(config.vocab_size, config.width)
        self.model["layers"] = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.model["norm"] = nn.RMSNorm(config.width, eps=config.norm_eps)
        if not config.tied:
            self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)

    @property
    def layers(self) -> nn.ModuleList:
        """The layers: `layers[i].self_attn` has layer i's w_q, w_k, w_v and w_o."""
        return cast(nn.ModuleList, self.model["layers"])

    def forward(
        self,
        ids,
        cache=None,
        attention=None,
        rope=None,
        attention_layer=None,
        hide=(),
        only_last=False,
        positions=None,
        mask=None,
    ):
        """Scores (B, L, V) for the token after each of `ids`: a list, (L,) or (B, L).

        cache: object with `n_seen` (tokens seen so far; read once, before layer 0) and
            `append(layer, k, v) -> (keys, values, mask)`, with k already rotated.
        attention: `attention(q, k, v, mask) -> (output, weights)`, shapes as in `attend`.
        rope: `rope(x, positions, base=...) -> x turned`, shapes as in `rotate`.
        attention_layer: `attention_layer(x, weights, cache, layer, start) -> (B, L, E)` in place
            of a layer's whole attention; x (B, L, E) is normalised, weights is an `Attention`.
        hide: positions that no other token may attend to (without a cache).
        only_last: score only what follows the last token, (B, 1, V); a long prompt's other scores
            would be thrown away, and they are a fifth of the work in a model with many words.
        positions: (L,) or (B, L), where each token stands in its own text; counted on from
            `cache.n_seen` if not given.
        mask: bool, (L, S) or (B, 1, L, S), True = may attend, S = tokens held and new; it counts
            in place of the one that the cache returns.
        """
        expect_together(self.config, cache, attention, rope, attention_layer, hide)
        norm = cast(nn.RMSNorm, self.model["norm"])
        ids = as_ids(ids, self.config.vocab_size).to(norm.weight.device)
        start = 0 if cache is None else cache.n_seen
        expect_batch(ids, positions, mask, start, attention_layer, hide)
        if positions is None:
            positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        longest = int(positions.max()) + 1
        warn_past_window(longest, self.config.window)
        if mask is None and cache is None and (attention is not None or len(hide)):
            order = torch.arange(ids.shape[1], device=ids.device)
            mask = order <= order[:, None]
            mask[:, list(hide)] = False
            mask |= order == order[:, None]
        positions = positions if positions.dim() == 1 else positions[:, None]  # for every head

        if rope is None:
            scaling, half = self.config.rope_scaling, self.config.head_dim // 2
            inv_freq = scaling.inv_freq(half, self.config.rope_theta, longest)
            numbers = cos_sin(positions, inv_freq, length=scaling.length)

        def turn(z: Tensor) -> Tensor:
            if rope is None:
                return turn_by(z, numbers)
            return rope(z, positions, base=self.config.rope_theta)

        x = self.model["embed_tokens"](ids)
        block: Any  # torch says of a list's items only that they are modules
        for i, block in enumerate(self.layers):
            normed = block.input_layernorm(x)
            if attention_layer is None:
                y = block.self_attn(normed, i, mask, cache, attention, turn)
            else:
                y = attention_layer(normed, block.self_attn, cache, i, start)
            x = x + expect(x.shape, y, f"layer {i}: attention_layer")
            x = x + block.mlp(block.post_attention_layernorm(x))
        x = norm(x[:, -1:] if only_last else x)
        table: Any = self.model["embed_tokens"] if self.config.tied else self.lm_head
        return F.linear(x, table.weight)


def attention_weights(model: Llama, ids, attention=attend, hide=()) -> Tensor:
    """Who looks at whom: weights (layers, H, L, L) for one text, rows are the looking tokens."""
    seen = []

    def watched(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(attention(*tensors))
        return seen[-1]

    with torch.no_grad():
        model(ids, attention=watched, hide=hide)
    return torch.stack([weights[0] for _, weights in seen])


def load_model(path: str | Path | None = None):
    """Return (model, tokenizer): the model of this course, or one by its name, file or folder.

    `"smollm2"` is SmolLM2-135M-Instruct, which `python -m llm_memory.download smollm2` gets. A
    `.gguf` file holds a Llama- or Qwen2-family model, quantised or not. A folder holds
    `config.json`, safetensors weights of such a model (whole or in shards, of any float type) and
    its `tokenizer.json`. Scaled rotary positions are those of `rope.KINDS`. Raises
    FileNotFoundError or ValueError naming the file and what is wrong.
    """
    config, tensors, tokenizer, place = read_model(SHIPPED if path is None else path)
    with Unfilled():
        model = Llama(config)
    fill(model, tensors, place)
    return model.requires_grad_(False).eval(), tokenizer
