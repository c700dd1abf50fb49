"""What an exercise asks to write, and so must not use: exercise → names (`c.NbJudge.forbidden`).

Each statement in `notebooks/` says so in words. `*.softmax` is a part of anything, `llm_memory.x.*`
all of a module, `torch_softmax` a name of the notebook.
"""

_FINISHED_ATTENTION = [
    *("*.scaled_dot_product_attention", "*.multi_head_attention_forward", "*.MultiheadAttention"),
    *("*.flex_attention", "llm_memory.model.attend"),
]
_FINISHED_CACHES = [
    *("llm_memory.caches.RoundedCache", "llm_memory.caches.RenumberedCache"),
    *("llm_memory.streaming.ModelCache", "*.DynamicCache", "*.StaticCache"),
]
_FINISHED_LOOPS = ["llm_memory.streaming.Stream", "llm_memory.streaming.stream"]

FORBIDDEN = {
    # attention
    "softmax": ["torch_softmax", "*.softmax", "*.log_softmax", "*.Softmax", "*.softmin"],
    "scaled_dot_product_attention": _FINISHED_ATTENTION,
    "grouped_query_attention": _FINISHED_ATTENTION,
    "attend_in_blocks": _FINISHED_ATTENTION,
    # context_window
    "apply_rope": ["llm_memory.rope.*", "llm_memory.model.rotate"],
    "scaled_speeds": ["llm_memory.rope.*"],
    # kv_cache
    "generate_without_cache": _FINISHED_LOOPS,
    "generate": _FINISHED_LOOPS,
    "KVCache": _FINISHED_CACHES,
    "StaticKVCache": _FINISHED_CACHES,
    "RollingKVCache": _FINISHED_CACHES,
    "PackedCache": _FINISHED_CACHES,
    "quantize": ["llm_memory.caches.to_steps", "llm_memory.caches.rounded"],
    # serving
    "pad_batch": ["llm_memory.serving.padded"],
    "generate_batch": [*_FINISHED_LOOPS, "llm_memory.serving.Lanes"],
    "PagedKVCache": ["llm_memory.serving.BlockPool", "llm_memory.serving.TextCache"],
}
