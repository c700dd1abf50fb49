"""How learners get the KV cache lesson's exercises wrong, and what else is right."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from course_tools.mistakes.bank import Bank, Given, call, get, hard, method, passed, typed
from llm_memory.latent import LatentCache, LatentWeights
from llm_memory.model import rotate
from llm_memory.shapes import cache_bytes, model_shape

bank = Bank("kv_cache")


def _numbers(seed: int, *shape: int) -> torch.Tensor:
    """Return numbers with two decimals, so that a fingerprint file holds them exactly."""
    return torch.from_numpy(np.round(np.random.RandomState(seed).standard_normal(shape), 2))


def _best(logits: torch.Tensor) -> int:
    return int(logits[0, -1].argmax())


def _need(prompt: list[int]) -> None:
    if len(prompt) == 0:
        raise ValueError("the prompt is empty")


# generate_without_cache

_PAST_THE_WINDOW = [12, 5, 20, 7, 7, 1, 26, 3, 14, 9, 0, 22, 18, 11, 2, 25, 6, 17]

bank.calls(
    "generate_without_cache",
    [
        call(Given("small_model"), [3, 17, 8, 1, 25], 4),
        passed("small_model", 5 + 6 + 7 + 8, 4),
        call(Given("small_model"), [11, 4], 2),
        # What it writes holds 0, 1 and 2, and one token twice: a model has no end of its own.
        typed(call(Given("small_model"), [28, 12, 27], 6)),
        hard(call(Given("short_model"), _PAST_THE_WINDOW, 4)),
        hard(call(Given("small_model"), [6, 2], 0)),
        hard(passed("small_model", 0, 0)),
        hard(call(Given("small_model"), [], 0)),
        hard(call(Given("small_model"), [], 2)),
    ],
)


@bank.mistake(
    "generate_without_cache",
    "Only the new tokens come back. The result is the whole text: the prompt, then what was added.",
)
def plain_returns_new_tokens_only(model, prompt, n_new):
    return plain_by_tensor(model, prompt, n_new)[len(prompt) :]


@bank.mistake(
    "generate_without_cache",
    "There is one token more than asked for: count how often your loop runs, also when n_new is 0.",
)
def plain_adds_one_more(model, prompt, n_new):
    return plain_by_tensor(model, prompt, n_new + 1)


@bank.mistake(
    "generate_without_cache",
    "Each pass reads only the newest token, so the model has forgotten all the others. Without a "
    "cache the whole text must be read again, each time.",
)
def plain_reads_newest_only(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for step in range(n_new):
        ids.append(_best(model(ids if step == 0 else ids[-1:])))
    return ids


@bank.mistake(
    "generate_without_cache",
    "The prediction is taken from the first position. Row t scores what follows token t: what "
    "follows the text stands in the last row.",
)
def plain_uses_first_row(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(int(model(ids)[0, 0].argmax()))
    return ids


@bank.mistake(
    "generate_without_cache",
    "The prediction stays the one after the prompt. Look at what you give to the model "
    "from the second pass on.",
)
def plain_reads_prompt_only(model, prompt, n_new):
    _need(prompt)
    return list(prompt) + [_best(model(prompt)) for _ in range(n_new)]


@bank.mistake(
    "generate_without_cache",
    "The list that was passed in has grown: whoever called still needs the prompt. Work on a copy.",
)
def plain_changes_prompt(model, prompt, n_new):
    _need(prompt)
    for _ in range(n_new):
        prompt.append(_best(model(prompt)))
    return prompt


@bank.mistake(
    "generate_without_cache",
    "An empty prompt was let through. There is nothing to continue: raise a ValueError, also when "
    "n_new is 0.",
)
def plain_accepts_empty_prompt(model, prompt, n_new):
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(_best(model(ids)))
    return ids


@bank.mistake(
    "generate_without_cache",
    "The tokens are still tensors. A list of ints is asked for: look at what argmax returns.",
)
def plain_returns_tensors(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(model(ids)[0, -1].argmax())
    return ids


@bank.mistake(
    "generate_without_cache",
    "One token is missing at the end. Look at what becomes of the best token of the last pass.",
)
def plain_stops_early(model, prompt, n_new):
    return plain_by_tensor(model, prompt, max(0, n_new - 1))


@bank.mistake(
    "generate_without_cache",
    "With n_new 0 the model is still run. Look at what your function does before it counts.",
)
def plain_runs_once_too_often(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    logits = model(ids)
    for _ in range(n_new):
        ids.append(_best(logits))
        logits = model(ids)
    return ids


@bank.mistake(
    "generate_without_cache",
    "The prompt is cut to the model's window. That is a decision of its own; here the model warns "
    "and goes on.",
)
def plain_cuts_to_window(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(_best(model(ids[-model.config.window :])))
    return ids


@bank.variant("generate_without_cache")
def plain_by_tensor(model, prompt, n_new):
    _need(prompt)
    ids = torch.tensor([prompt])
    for _ in range(n_new):
        new = model(ids)[:, -1:].argmax(-1)
        ids = torch.cat((ids, new), dim=1)
    return ids[0].tolist()


@bank.variant("generate_without_cache")
def plain_by_recursion(model, prompt, n_new):
    _need(prompt)
    if n_new == 0:
        return list(prompt)
    longer = [*prompt, _best(model(prompt))]
    return plain_by_recursion(model, longer, n_new - 1)


@bank.variant("generate_without_cache")
def plain_by_while(model, prompt, n_new):
    if not prompt:
        raise ValueError("nothing to continue")
    ids = [*prompt]
    while len(ids) < len(prompt) + n_new:
        ids += model(torch.tensor(ids)).argmax(-1)[0, -1:].tolist()
    return ids


@bank.variant("generate_without_cache")
def plain_with_topk(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(model(ids)[0, -1].topk(1).indices.item())
    return ids


@bank.variant("generate_without_cache")
def plain_by_probabilities(model, prompt, n_new):
    _need(prompt)
    new = []
    while len(new) < n_new:
        shares = model([*prompt, *new]).softmax(-1)
        new.append(int(torch.max(shares[0, -1], dim=-1).indices))
    return [*prompt, *new]


@bank.mistake(
    "generate_without_cache",
    "The text ends at a token of its own choice, or at a repetition. Look at how many tokens "
    "`n_new` asks for.",
)
def plain_ends_at_a_token(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(_best(model(ids)))
        if ids[-1] == 2:
            break
    return ids


@bank.mistake(
    "generate_without_cache",
    "No token ever follows itself. Look at what you do to the logits before you take the best.",
)
def plain_never_repeats(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        logits = model(ids)[0, -1].clone()
        logits[ids[-1]] = -torch.inf
        ids.append(int(logits.argmax()))
    return ids


@bank.mistake(
    "generate_without_cache",
    "The tokens are floats or NumPy's numbers. A list of ints is asked for: look at what you "
    "append.",
)
def plain_returns_numbers_of_numpy(model, prompt, n_new):
    _need(prompt)
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(model(ids)[0, -1].numpy().argmax())
    return ids


@bank.mistake(
    "generate_without_cache",
    "A prompt longer than the window was refused. Look at the sentence on odd input below the "
    "table.",
)
def plain_refuses_long_prompts(model, prompt, n_new):
    _need(prompt)
    if len(prompt) + n_new > model.config.window:
        raise ValueError("too long")
    return plain_by_tensor(model, prompt, n_new)


# KVCache

_K, _V = _numbers(11, 1, 2, 5, 2), _numbers(12, 1, 2, 5, 2)
_K1, _V1 = _numbers(13, 1, 2, 5, 2), _numbers(14, 1, 2, 5, 2)


def _part(first: int, last: int) -> list[dict]:
    """Append tokens `first` to `last` to both layers."""
    part = slice(first, last)
    return [
        method("append", 0, _K[:, :, part], _V[:, :, part]),
        method("append", 1, _K1[:, :, part], _V1[:, :, part]),
    ]


_ZEROS = torch.zeros(1, 1, 2, 2)


def _in_part(part: str, *steps: dict) -> list[dict]:
    """Mark steps as a part of the hard cases."""
    return [hard(step, part) for step in steps]


for _name in ("KVCache", "StaticKVCache", "RollingKVCache", "PackedCache"):
    bank.terms(
        _name,
        "append",
        keys="text head token number",
        values="text head token number",
        mask="query key",
    )

bank.calls(
    "KVCache",
    [
        call(2),
        get("n_seen"),
        *_part(0, 2),
        get("n_seen"),
        *_part(2, 3),
        *_part(3, 4),
        get("n_seen"),
        *_in_part(
            "chunks",
            call(2),
            *_part(0, 1),
            *_part(1, 4),
            *_part(4, 5),
            get("n_seen"),
            call(1),
            *_part(0, 2)[:1],
            get("n_seen"),
            *_part(2, 5)[:1],
            get("n_seen"),
        ),
        *_in_part(
            "hard",
            call(2),
            *_part(0, 2),
            method("reset"),
            get("n_seen"),
            *_part(2, 4),
            get("n_seen"),
            call(1),
            method("append", 0, _ZEROS, _ZEROS),
            get("n_seen"),
            call(1),
            *_part(0, 2)[:1],
            method("append", 0, _numbers(15, 1, 2, 1, 3), _numbers(16, 1, 2, 1, 3)),
            get("n_seen"),
            call(1),
            *_part(0, 2)[:1],
            method("append", 0, _numbers(15, 1, 1, 1, 2), _numbers(16, 1, 1, 1, 2)),
            get("n_seen"),
            call(1),
            method("append", 0, _numbers(51, 3, 2, 1, 2), _numbers(52, 3, 2, 1, 2)),
            method("append", 0, _numbers(53, 2, 3, 1, 2), _numbers(54, 2, 3, 1, 2)),
            get("n_seen"),
            call(1),
            method("append", 0, _K[:, :, :2], _V[:, :, :1]),
            get("n_seen"),
            call(1),
            method("append", 0, _K[:, :, :1], _V[:, :, :2]),
            get("n_seen"),
            call(1),
            # As many heads as numbers a head would hide which is compared with which.
            *(
                method("append", 0, _numbers(i, 1, 2, 1, 3), _numbers(i, 1, 2, 1, 3))
                for i in (17, 18)
            ),
            get("n_seen"),
            call(1),
            typed(method("append", 0, _K[:, :, :2].half(), _V[:, :, :2].half())),
            typed(method("append", 0, _K[:, :, 2:3].half(), _V[:, :, 2:3].half())),
        ),
    ],
)


def _mask(n_new: int, n_keys: int) -> torch.Tensor:
    columns, rows = torch.arange(n_keys), torch.arange(n_keys - n_new, n_keys)
    return columns <= rows[:, None]


def _fits(k, v, held) -> None:
    """Raise ValueError where k and v fit neither each other nor what is held."""
    if k.shape != v.shape:
        raise ValueError("keys and values differ in shape")
    if held is not None:
        old = held.shape
        if (k.shape[0], k.shape[1], k.shape[3]) != (old[0], old[1], old[3]):
            raise ValueError(f"{tuple(k.shape)} does not fit {tuple(old)}")


class _Cache:
    """The right cache, in parts that a mistake can replace."""

    def __init__(self, n_layers):
        self.n_layers = n_layers
        self.reset()

    def reset(self):
        self.k, self.v = [None] * self.n_layers, [None] * self.n_layers

    @property
    def n_seen(self):
        return 0 if self.k[-1] is None else self.k[-1].shape[2]

    def fits(self, layer, k, v):
        _fits(k, v, self.k[layer])

    def join(self, held, new):
        return new if held is None else torch.cat((held, new), dim=2)

    def mask(self, n_new, n_keys):
        return _mask(n_new, n_keys)

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        self.k[layer], self.v[layer] = self.join(self.k[layer], k), self.join(self.v[layer], v)
        keys, values = self.k[layer], self.v[layer]
        return keys, values, self.mask(k.shape[2], keys.shape[2])


@bank.mistake(
    "KVCache",
    "The new keys and values replace the old ones: after two appends only the last is held. "
    "Look at what you do with what was there.",
)
class CacheReplaces(_Cache):
    def join(self, held, new):
        return new


@bank.mistake(
    "KVCache",
    "The first append returns the right thing but holds nothing: the prompt (prefill) must stay in "
    "the cache, too.",
)
class CacheForgetsPrefill(_Cache):
    def __init__(self, n_layers):
        super().__init__(n_layers)

    def reset(self):
        super().reset()
        self.first = [True] * self.n_layers

    @property
    def n_seen(self):
        return 0 if self.first[-1] else sum(k.shape[2] for k in [self.k[-1]] if k is not None)

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        if self.first[layer]:
            self.first[layer] = False
            return k, v, _mask(k.shape[2], k.shape[2])
        return super().append(layer, k, v)


@bank.mistake(
    "KVCache",
    "The keys grow, the values do not. Every key needs its value: look at what you store of v.",
)
class CacheDoesNotAppendValues(_Cache):
    def append(self, layer, k, v):
        self.fits(layer, k, v)
        self.k[layer], self.v[layer] = self.join(self.k[layer], k), v
        return self.k[layer], v, _mask(k.shape[2], self.k[layer].shape[2])


@bank.mistake(
    "KVCache",
    "The tensors are joined along the heads. Look at which axis of (B, H_kv, L, D) has the tokens.",
)
class CacheJoinsHeads(_Cache):
    def join(self, held, new):
        return new if held is None else torch.cat((held, new), dim=1)


@bank.mistake(
    "KVCache",
    "The tensors are joined along the head size. Look at which axis of (B, H_kv, L, D) has "
    "the tokens.",
)
class CacheJoinsNumbers(_Cache):
    def join(self, held, new):
        return new if held is None else torch.cat((held, new), dim=-1)


@bank.mistake(
    "KVCache",
    "All layers share one store: layer 1 gets layer 0's keys as well. Each layer has keys and "
    "values of its own.",
)
class CacheSharesLayers(_Cache):
    def __init__(self, n_layers):
        super().__init__(1)

    def append(self, layer, k, v):
        return super().append(0, k, v)


@bank.mistake(
    "KVCache",
    "reset() leaves the old text in the cache, and the next text begins with it. Compare it "
    "with what __init__ sets up.",
)
class CacheNeverResets(_Cache):
    def __init__(self, n_layers):
        self.n_layers = n_layers
        super().reset()

    def reset(self):
        pass


@bank.mistake(
    "KVCache",
    "n_seen counts each token once for every layer. A token that passes through all layers is "
    "still one token.",
)
class CacheCountsEveryLayer(_Cache):
    @property
    def n_seen(self):
        return sum(k.shape[2] for k in self.k if k is not None)


@bank.mistake(
    "KVCache",
    "The tokens are counted before the shapes are looked at, so an append that fails counts, too. "
    "Check first, then count.",
)
class CacheCountsBeforeItChecks(_Cache):
    def reset(self):
        super().reset()
        self.counts = [0] * self.n_layers

    @property
    def n_seen(self):
        return self.counts[-1]

    def append(self, layer, k, v):
        self.counts[layer] += k.shape[2]
        return super().append(layer, k, v)


@bank.mistake(
    "KVCache",
    "The first append is not checked: keys and values of different shapes go into an empty cache.",
)
class CacheDoesNotCheckTheFirst(_Cache):
    def fits(self, layer, k, v):
        if self.k[layer] is not None:
            super().fits(layer, k, v)


@bank.mistake(
    "KVCache",
    "n_seen counts calls of append, not tokens. Look at how many tokens a call can bring.",
)
class CacheCountsCalls(_Cache):
    def reset(self):
        super().reset()
        self.calls = 0

    @property
    def n_seen(self):
        return self.calls

    def append(self, layer, k, v):
        done = super().append(layer, k, v)
        self.calls += layer == 0
        return done


@bank.mistake(
    "KVCache",
    "Your mask is True everywhere. For one new token that is right; when several come at once, the "
    "first must not see those after it.",
)
class CacheMasksNothing(_Cache):
    def mask(self, n_new, n_keys):
        return torch.ones(n_new, n_keys, dtype=torch.bool)


@bank.mistake(
    "KVCache",
    "Your mask is a staircase that starts at the first key, so a new token sees only the "
    "beginning of the text. Look at the table: which row is ✓ from end to end?",
)
class CacheMaskTopLeft(_Cache):
    def mask(self, n_new, n_keys):
        return torch.ones(n_new, n_keys, dtype=torch.bool).tril()


@bank.mistake(
    "KVCache",
    "Your mask is the wrong way round. True means *may attend*: which triangle is that?",
)
class CacheMaskInverted(_Cache):
    def mask(self, n_new, n_keys):
        return ~_mask(n_new, n_keys)


@bank.mistake(
    "KVCache",
    "Your mask hides a token from itself. Look at the table: which is the last column "
    "that a row may see?",
)
class CacheMaskWithoutDiagonal(_Cache):
    def mask(self, n_new, n_keys):
        return torch.ones(n_new, n_keys, dtype=torch.bool).tril(n_keys - n_new - 1)


@bank.mistake(
    "KVCache",
    "Your mask is for the new tokens among themselves, (L, L). It needs a column for every key "
    "that is held, (L, S).",
)
class CacheMaskSquare(_Cache):
    def mask(self, n_new, n_keys):
        return _mask(n_new, n_new)


@bank.mistake(
    "KVCache",
    "The newest keys come first. Keep the order of the text: what is held, then what is new.",
)
class CachePutsNewFirst(_Cache):
    def join(self, held, new):
        return new if held is None else torch.cat((new, held), dim=2)


@bank.mistake(
    "KVCache",
    "Only the new keys and values come back. The attention needs all of them.",
)
class CacheReturnsNewOnly(_Cache):
    def append(self, layer, k, v):
        super().append(layer, k, v)
        return k, v, _mask(k.shape[2], k.shape[2])


@bank.mistake(
    "KVCache",
    "append returns only keys and values. Look at the third thing that the table asks for.",
)
class CacheReturnsNoMask(_Cache):
    def append(self, layer, k, v):
        return super().append(layer, k, v)[:2]


@bank.mistake(
    "KVCache",
    "A tensor of another shape raises torch's own error. Compare the shapes first, and raise a "
    "ValueError that names them.",
)
class CacheLeavesErrorToTorch(_Cache):
    def fits(self, layer, k, v):
        if k.shape != v.shape:
            raise ValueError("keys and values differ in shape")


@bank.mistake(
    "KVCache",
    "The keys were stored before the values turned out not to fit, so the cache is spoilt by an "
    "append that failed. Check first, then store.",
)
class CacheStoresBeforeChecking(_Cache):
    def append(self, layer, k, v):
        _fits(k, k, self.k[layer])
        self.k[layer] = self.join(self.k[layer], k)
        _fits(v, v, self.v[layer])
        if k.shape != v.shape:
            raise ValueError("keys and values differ in shape")
        self.v[layer] = self.join(self.v[layer], v)
        return self.k[layer], self.v[layer], _mask(k.shape[2], self.k[layer].shape[2])


@bank.mistake(
    "KVCache",
    "Two caches share one list, because it is made once for the class. Look at where each"
    " object could get its own.",
    visible=False,
)
class CacheSharesAmongObjects(_Cache):
    k: list = [None] * 8
    v: list = [None] * 8

    def __init__(self, n_layers):
        self.n_layers = n_layers
        CacheSharesAmongObjects.k[:] = [None] * 8
        CacheSharesAmongObjects.v[:] = [None] * 8

    def reset(self):
        CacheSharesAmongObjects.k[:] = [None] * 8
        CacheSharesAmongObjects.v[:] = [None] * 8

    @property
    def n_seen(self):
        return 0 if self.k[self.n_layers - 1] is None else self.k[self.n_layers - 1].shape[2]


@bank.mistake(
    "KVCache",
    "Keys and values come back in another dtype than they came in. Look at the tensor that you "
    "write them into: which dtype does a new one get?",
)
class CacheInFloat32(_Cache):
    def join(self, held, new):
        old = 0 if held is None else held.shape[2]
        room = torch.zeros(*new.shape[:2], old + new.shape[2], new.shape[3])
        if held is not None:
            room[:, :, :old] = held
        room[:, :, old:] = new
        return room


@bank.variant("KVCache")
class CacheOfChunks:
    """Chunks in lists, joined on reading."""

    def __init__(self, n_layers):
        self.n_layers = n_layers
        self.reset()

    def reset(self):
        self.chunks = [[] for _ in range(self.n_layers)]
        self.n_seen = 0

    def append(self, layer, k, v):
        chunks = self.chunks[layer]
        _fits(k, v, chunks[0][0] if chunks else None)
        chunks.append((k, v))
        if layer == 0:
            self.n_seen += k.shape[2]
        keys = torch.cat([k for k, _ in chunks], dim=2)
        values = torch.cat([v for _, v in chunks], dim=2)
        return keys, values, _mask(k.shape[2], keys.shape[2])


@bank.variant("KVCache")
class CacheThatDoubles:
    """Memory that doubles when it is full."""

    def __init__(self, n_layers):
        self.n_layers = n_layers
        self.reset()

    def reset(self):
        self.room = {}
        self.used = dict.fromkeys(range(self.n_layers), 0)

    @property
    def n_seen(self):
        return self.used[self.n_layers - 1]

    def append(self, layer, k, v):
        room, old = self.room.get(layer), self.used[layer]
        _fits(k, v, None if room is None else room[0])
        end = old + k.shape[2]
        if room is None or end > room.shape[3]:
            bigger = torch.zeros(2, *k.shape[:2], 2 * end, k.shape[3], dtype=k.dtype)
            if room is not None:
                bigger[:, :, :, :old] = room[:, :, :, :old]
            self.room[layer] = room = bigger
        room[0, :, :, old:end], room[1, :, :, old:end] = k, v
        self.used[layer] = end
        return (
            room[0, :, :, :end],
            room[1, :, :, :end],
            torch.arange(end) <= torch.arange(old, end)[:, None],
        )


@bank.variant("KVCache")
class CacheOfTokens:
    """One small tensor a token, stacked on reading; the mask by a loop."""

    def __init__(self, n_layers):
        self.n_layers = n_layers
        self.reset()

    def reset(self):
        self.tokens = {layer: [] for layer in range(self.n_layers)}

    @property
    def n_seen(self):
        return min(len(tokens) for tokens in self.tokens.values())

    def append(self, layer, k, v):
        tokens = self.tokens[layer]
        _fits(k, v, tokens[0][0].unsqueeze(2) if tokens else None)
        old = len(tokens)
        tokens.extend((k[:, :, i].clone(), v[:, :, i].clone()) for i in range(k.shape[2]))
        rows = [[s <= old + i for s in range(len(tokens))] for i in range(k.shape[2])]
        keys, values = (torch.stack(list(column), dim=2) for column in zip(*tokens, strict=True))
        return keys, values, torch.tensor(rows)


@bank.variant("KVCache")
class CacheInOneTensor(_Cache):
    """Keys and values of a layer stacked, so that one `cat` joins both."""

    def reset(self):
        self.pairs = [None] * self.n_layers

    @property
    def n_seen(self):
        return 0 if self.pairs[-1] is None else self.pairs[-1].shape[-2]

    def append(self, layer, k, v):
        held = self.pairs[layer]
        _fits(k, v, None if held is None else held[0])
        new = torch.stack((k, v))
        self.pairs[layer] = new if held is None else torch.cat((held, new), dim=-2)
        keys, values = self.pairs[layer]
        return keys, values, self.mask(k.shape[2], keys.shape[2])


@bank.variant("KVCache")
class CacheThatCounts(_Cache):
    """Counts tokens by itself, at the last layer; the mask by comparison of positions."""

    def reset(self):
        super().reset()
        self.count = 0

    n_seen = property(lambda self: self.count)

    def append(self, layer, k, v):
        keys, values, _ = super().append(layer, k, v)
        if layer == self.n_layers - 1:
            self.count += k.shape[2]
        places = torch.arange(keys.shape[2])
        return keys, values, places[None] <= places[-k.shape[2] :, None]


@bank.variant("KVCache")
class CacheThatStartsEmpty(_Cache):
    """Begins with tensors of no tokens instead of None."""

    def join(self, held, new):
        return torch.cat((new[:, :, :0] if held is None else held, new), dim=2)

    def mask(self, n_new, n_keys):
        return ~torch.ones(n_new, n_keys, dtype=torch.bool).triu(n_keys - n_new + 1)


@bank.mistake(
    "KVCache",
    "The keys were stored before the values turned out not to fit, so the cache is spoilt by an "
    "append that failed. Check first, then store.",
)
class CacheStoresKeysFirst(_Cache):
    def append(self, layer, k, v):
        if self.k[layer] is not None:
            _fits(k, k, self.k[layer])
        self.k[layer] = self.join(self.k[layer], k)
        if k.shape != v.shape:
            raise ValueError("keys and values differ in shape")
        self.v[layer] = self.join(self.v[layer], v)
        keys, values = self.k[layer], self.v[layer]
        return keys, values, self.mask(k.shape[2], keys.shape[2])


@bank.mistake(
    "KVCache",
    "Your mask has a row for every token held. Look at how many queries there are: only the new "
    "tokens ask.",
)
class CacheWithASquareMask(_Cache):
    def mask(self, n_new, n_keys):
        return _mask(n_keys, n_keys)


@bank.mistake(
    "KVCache",
    "Keys and values come back in another dtype than they came in. Look at the tensor that you "
    "write them into: which dtype does a new one get?",
)
class CacheJoinsInFloat32(_Cache):
    def join(self, held, new):
        return new if held is None else torch.cat((held.float(), new.float()), dim=2)


@bank.mistake(
    "KVCache",
    "Batch and heads exchanged were let through. Look at each axis on its own: a product of two "
    "says less.",
)
class CacheComparesProducts(_Cache):
    def fits(self, layer, k, v):
        held = self.k[layer]
        if held is not None and k.shape[:2].numel() == held.shape[:2].numel():
            shape = (*held.shape[:2], *k.shape[2:])
            k, v = k.reshape(shape), v.reshape(*held.shape[:2], *v.shape[2:])
        _fits(k, v, held)

    def join(self, held, new):
        return (
            new
            if held is None
            else torch.cat((held, new.reshape(*held.shape[:2], *new.shape[2:])), dim=2)
        )


# cached_attention_layer

_X = _numbers(21, 1, 5, 24)

bank.calls(
    "cached_attention_layer",
    [
        call(_X[:, :2], Given("layer"), Given("cache"), 0, 0),
        call(_X[:, 2:3], Given("layer"), Given("cache"), 0, 2),
        call(_X[:, 3:], Given("layer"), Given("cache"), 0, 3),
        hard(call(0.5 * _X[:, :1], Given("layer"), Given("cache"), 1, 0)),
        hard(call(0.5 * _X[:, 1:3], Given("layer"), Given("cache"), 1, 1)),
        *(
            hard(call(_X[:, i : i + 1], Given("layer"), Given("forgetful_cache"), 0, i))
            for i in range(5)
        ),
        *(
            hard(call(-_X[:, i : i + 1], Given("layer"), Given("gappy_cache"), 0, i))
            for i in range(5)
        ),
        hard(call(-_X[:, :3], Given("layer"), Given("gappy_cache"), 1, 0)),
        hard(call(-_X[:, 3:], Given("layer"), Given("gappy_cache"), 1, 3)),
    ],
)
bank.terms("cached_attention_layer", output="text token number")


def _heads(x, w, size):
    return (x @ w.T).unflatten(-1, (-1, size)).transpose(1, 2)


def _attend(q, k, v, mask=None, scale=None, causal=False):
    return F.scaled_dot_product_attention(
        q, k, v, mask, is_causal=causal, enable_gqa=True, scale=scale
    )


def _merge(x):
    return x.transpose(1, 2).flatten(2)


def _layer(x, weights, cache, layer, start, turn=None, read=None, attend=_attend, merge=_merge):
    """The right layer, in parts that a mistake can replace."""
    size, base = weights.head_dim, weights.rope_theta
    q, k, v = (_heads(x, w, size) for w in (weights.w_q, weights.w_k, weights.w_v))
    positions = torch.arange(start, start + x.shape[1])
    if turn is None:
        q, k = rotate(q, positions, base=base), rotate(k, positions, base=base)
    else:
        q, k, v = turn(q, k, v, positions, base)
    keys, values, mask = (read or cache.append)(layer, k, v)
    return merge(attend(q, keys, values, mask)) @ weights.w_o.T


@bank.mistake(
    "cached_attention_layer",
    "The positions start at 0 in every call. After the prefill, a new token stands at `start`, "
    "behind all that is in the cache.",
)
def layer_restarts_positions(x, weights, cache, layer, start):
    return _layer(x, weights, cache, layer, 0)


@bank.mistake(
    "cached_attention_layer",
    "After the prefill, the positions are one too high. Look at what `start` stands for "
    "in the table.",
)
def layer_is_one_position_ahead(x, weights, cache, layer, start):
    return _layer(x, weights, cache, layer, start + (start > 0))


@bank.mistake(
    "cached_attention_layer",
    "After the prefill, the positions are one too low, so two tokens stand at the same "
    "place. Look at what `start` stands for in the table.",
)
def layer_is_one_position_behind(x, weights, cache, layer, start):
    return _layer(x, weights, cache, layer, max(0, start - 1))


@bank.mistake(
    "cached_attention_layer",
    "All tokens of a call get the position of the first one. Look at how many positions L"
    " tokens need.",
)
def layer_gives_one_position_to_all(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        same = torch.full_like(positions, start)
        return rotate(q, same, base=base), rotate(k, same, base=base), v

    return _layer(x, weights, cache, layer, start, turn)


@bank.mistake(
    "cached_attention_layer",
    "The keys are not rotated: only the queries know where they stand. Look at what you do "
    "between the split and the append.",
)
def layer_does_not_turn_keys(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        return rotate(q, positions, base=base), k, v

    return _layer(x, weights, cache, layer, start, turn)


@bank.mistake(
    "cached_attention_layer",
    "The queries are not rotated: only the keys know where they stand. Look at what you do "
    "between the split and the attention.",
)
def layer_does_not_turn_queries(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        return q, rotate(k, positions, base=base), v

    return _layer(x, weights, cache, layer, start, turn)


@bank.mistake(
    "cached_attention_layer",
    "Nothing is rotated: without positions, the order of the tokens is lost. Look at the order "
    "of the steps below the table.",
)
def layer_turns_nothing(x, weights, cache, layer, start):
    return _layer(x, weights, cache, layer, start, lambda q, k, v, positions, base: (q, k, v))


@bank.mistake(
    "cached_attention_layer",
    "The values are rotated, too. Positions are for comparing queries with keys; what is handed "
    "over stays as it is.",
)
def layer_turns_values(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        return tuple(rotate(heads, positions, base=base) for heads in (q, k, v))

    return _layer(x, weights, cache, layer, start, turn)


@bank.mistake(
    "cached_attention_layer",
    "This is what the usual base of 10,000 gives. Models differ: the weights say which base "
    "theirs was trained with.",
)
def layer_uses_default_base(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        return rotate(q, positions), rotate(k, positions), v

    return _layer(x, weights, cache, layer, start, turn)


@bank.mistake(
    "cached_attention_layer",
    "The new tokens attend only to each other. Look at what `cache.append` returns.",
)
def layer_ignores_what_cache_returns(x, weights, cache, layer, start):
    def read(layer, k, v):
        cache.append(layer, k, v)
        return k, v, _mask(k.shape[2], k.shape[2])

    return _layer(x, weights, cache, layer, start, read=read)


@bank.mistake(
    "cached_attention_layer",
    "New tokens that come together see each other's future. Look at the third thing that "
    "`cache.append` returns.",
)
def layer_ignores_mask(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        return _attend(q, k, v)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "`is_causal=True` draws its staircase from the first key, as if nothing were in the cache. Use "
    "the mask that the cache returns.",
)
def layer_is_causal_from_top_left(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        return _attend(q, k, v, causal=True)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "Every layer writes to layer 0 of the cache. Look at what you hand to `cache.append`.",
)
def layer_always_uses_layer_0(x, weights, cache, layer, start):
    return _layer(x, weights, cache, 0, start)


@bank.mistake(
    "cached_attention_layer",
    "The heads are put together by a reshape alone, which mixes tokens and heads: bring the tokens "
    "back before the heads first.",
)
def layer_merges_by_reshape(x, weights, cache, layer, start):
    def merge(heads):
        batch, n, length, size = heads.shape
        return heads.reshape(batch, length, n * size)

    return _layer(x, weights, cache, layer, start, merge=merge)


@bank.mistake(
    "cached_attention_layer",
    "The last projection, w_o, is missing, or not transposed as the others are. Look at the "
    "last line: weights are stored as (out, in).",
)
def layer_without_output_projection(x, weights, cache, layer, start):
    size, base = weights.head_dim, weights.rope_theta
    q, k, v = (_heads(x, w, size) for w in (weights.w_q, weights.w_k, weights.w_v))
    positions = torch.arange(start, start + x.shape[1])
    q, k = rotate(q, positions, base=base), rotate(k, positions, base=base)
    return _merge(_attend(q, *cache.append(layer, k, v)))


@bank.mistake(
    "cached_attention_layer",
    "The scores are not divided by √D before the softmax. Look at what the first lesson does "
    "between Q·Kᵀ and the softmax.",
)
def layer_without_scale(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        return _attend(q, k, v, mask, scale=1.0)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "The key heads are tiled over the query heads. Look at which key head neighbours share.",
)
def layer_tiles_heads(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        times = q.shape[1] // k.shape[1]
        return _attend(q, k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1), mask)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "The key heads are repeated before they are put into the cache, which then holds the "
    "same numbers several times. Look at the shape that `append` takes.",
    visible=False,
)
def layer_caches_expanded_heads(x, weights, cache, layer, start):
    times = weights.n_heads // weights.n_kv_heads

    def read(layer, k, v):
        return cache.append(layer, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1))

    return _layer(x, weights, cache, layer, start, read=read)


@bank.mistake(
    "cached_attention_layer",
    "Tokens are put into the cache twice. Look at how often one call of your function appends.",
)
def layer_appends_twice(x, weights, cache, layer, start):
    def read(layer, k, v):
        cache.append(layer, k, v)
        return cache.append(layer, k, v)

    return _layer(x, weights, cache, layer, start, read=read)


@bank.mistake(
    "cached_attention_layer",
    "The mask of the cache is turned round: True means *may attend*. Look at the line of the "
    "attention.",
)
def layer_inverts_the_mask(x, weights, cache, layer, start):
    class Inverted:
        def append(self, *args):
            keys, values, mask = cache.append(*args)
            return keys, values, ~mask

    return layer_by_package_attention(x, weights, Inverted(), layer, start)


@bank.mistake(
    "cached_attention_layer",
    "Keys and values are exchanged when they come back. Look at the order in which `cache.append` "
    "returns them.",
)
def layer_exchanges_keys_and_values(x, weights, cache, layer, start):
    class Exchanged:
        def append(self, *args):
            keys, values, mask = cache.append(*args)
            return values, keys, mask

    return layer_by_package_attention(x, weights, Exchanged(), layer, start)


@bank.variant("cached_attention_layer")
def layer_by_package_attention(x, weights, cache, layer, start):
    from llm_memory.model import attend

    def first(q, k, v, mask):
        return attend(q, k, v, mask)[0]

    return _layer(x, weights, cache, layer, start, attend=first)


@bank.variant("cached_attention_layer")
def layer_by_einsum(x, weights, cache, layer, start):
    H, H_kv, D = weights.n_heads, weights.n_kv_heads, weights.head_dim
    q = torch.einsum("ble,hde->bhld", x, weights.w_q.unflatten(0, (H, D)))
    k = torch.einsum("ble,hde->bhld", x, weights.w_k.unflatten(0, (H_kv, D)))
    v = torch.einsum("ble,hde->bhld", x, weights.w_v.unflatten(0, (H_kv, D)))
    places = start + torch.arange(x.shape[1])
    q, k = rotate(q, places, weights.rope_theta), rotate(k, places, weights.rope_theta)
    k, v, mask = cache.append(layer, k, v)
    k, v = k.repeat_interleave(H // H_kv, dim=1), v.repeat_interleave(H // H_kv, dim=1)
    scores = torch.einsum("bhld,bhsd->bhls", q, k) / D**0.5
    shares = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    heads = torch.einsum("bhls,bhsd->bhld", shares, v)
    return torch.einsum("bhld,ehd->ble", heads, weights.w_o.unflatten(1, (H, D)))


@bank.mistake(
    "cached_attention_layer",
    "The keys go into the cache unturned, and are turned on reading, as if the first held"
    " one stood at position 0. Look at what a cache that has forgotten its first tokens "
    "returns.",
)
def layer_stores_keys_unturned(x, weights, cache, layer, start):
    size, base = weights.head_dim, weights.rope_theta
    q, k, v = (_heads(x, w, size) for w in (weights.w_q, weights.w_k, weights.w_v))
    keys, values, mask = cache.append(layer, k, v)
    keys = rotate(keys, torch.arange(keys.shape[2]), base=base)
    q = rotate(q, torch.arange(start, start + x.shape[1]), base=base)
    return F.linear(_merge(_attend(q, keys, values, mask)), weights.w_o)


@bank.variant("cached_attention_layer")
def layer_with_softmax_in_float32(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        k, v = (heads.repeat_interleave(q.shape[1] // k.shape[1], 1) for heads in (k, v))
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        return F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.variant("cached_attention_layer")
def layer_with_every_head_written_out(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        times = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(times, dim=1), v.repeat_interleave(times, dim=1)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.variant("cached_attention_layer")
def layer_projected_at_once(x, weights, cache, layer, start):
    w = torch.cat((weights.w_q, weights.w_k, weights.w_v))
    heads = F.linear(x, w).unflatten(-1, (-1, weights.head_dim)).transpose(1, 2)
    q, k, v = heads.split([weights.n_heads, weights.n_kv_heads, weights.n_kv_heads], dim=1)
    places = torch.arange(x.shape[1]) + start
    k = rotate(k, places, base=weights.rope_theta)
    keys, values, mask = cache.append(layer, k, v)
    q = rotate(q, places, base=weights.rope_theta)
    return F.linear(_merge(_attend(q, keys, values, mask)), weights.w_o)


@bank.variant("cached_attention_layer")
def layer_with_an_added_mask(x, weights, cache, layer, start):
    def attend(q, k, v, mask):
        added = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, -torch.inf)
        return _attend(q, k, v, added)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "You draw a staircase of your own in place of the cache's mask. Look at the third thing that "
    "`cache.append` returns: it may shut more.",
)
def layer_draws_its_own_staircase(x, weights, cache, layer, start):
    def read(layer, k, v):
        keys, values, _ = cache.append(layer, k, v)
        return keys, values, _mask(k.shape[2], keys.shape[2])

    return _layer(x, weights, cache, layer, start, read=read)


@bank.mistake(
    "cached_attention_layer",
    "A single token attends without a mask. Look at whether a cache may hand out what one token "
    "must not see.",
)
def layer_leaves_single_tokens_unmasked(x, weights, cache, layer, start):
    def attend(q, keys, values, mask):
        return _attend(q, keys, values, mask if q.shape[2] > 1 else None)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "The keys go into the cache unturned, and are turned on reading, as if they were the newest in "
    "a row. Look at where the keys of a cache with a gap stood.",
)
def layer_turns_keys_from_the_end(x, weights, cache, layer, start):
    def turn(q, k, v, positions, base):
        return rotate(q, positions, base=base), k, v

    def read(layer, k, v):
        keys, values, mask = cache.append(layer, k, v)
        end = start + k.shape[2]
        places = torch.arange(end - keys.shape[2], end)
        return rotate(keys, places, base=weights.rope_theta), values, mask

    return _layer(x, weights, cache, layer, start, turn=turn, read=read)


@bank.mistake(
    "cached_attention_layer",
    "The position is read off the cache. While the layers of a pass are under way they disagree: "
    "look at the argument that says it.",
)
def layer_asks_the_cache_for_its_position(x, weights, cache, layer, start):
    return _layer(x, weights, cache, layer, cache.n_seen)


@bank.mistake(
    "cached_attention_layer",
    "Only the prefill is causal; tokens that come together later see each other's future. Look at "
    "the mask that the cache returns.",
)
def layer_is_causal_in_the_prefill_only(x, weights, cache, layer, start):
    def attend(q, keys, values, mask):
        return _attend(q, keys, values, causal=start == 0)

    return _layer(x, weights, cache, layer, start, attend=attend)


@bank.mistake(
    "cached_attention_layer",
    "The head size is worked out as E / H. Look for it among the weights: models choose it freely.",
)
def layer_works_out_the_head_size(x, weights, cache, layer, start):
    size = x.shape[-1] // weights.n_heads
    q, k, v = (_heads(x, w, size) for w in (weights.w_q, weights.w_k, weights.w_v))
    positions = torch.arange(start, start + x.shape[1])
    q, k = (rotate(heads, positions, base=weights.rope_theta) for heads in (q, k))
    return _merge(_attend(q, *cache.append(layer, k, v))) @ weights.w_o.T


# generate

bank.calls(
    "generate",
    [
        call(Given("small_model"), [3, 17, 8, 1, 25], 4, Given("cache")),
        passed("small_model", 5 + 3, 4),
        call(Given("small_model"), [11, 4, 19], 3, Given("cache")),
        typed(call(Given("small_model"), [28, 12, 27], 6, Given("draft_cache"))),
        hard(call(Given("short_model"), _PAST_THE_WINDOW, 4, Given("another_cache"))),
        hard(call(Given("small_model"), [6, 2], 0, Given("cache"))),
        hard(passed("small_model", 0, 0)),
        hard(call(Given("small_model"), [26, 2], 3, Given("cache"))),
        hard(call(Given("small_model"), [], 0, Given("cache"))),
        hard(call(Given("small_model"), [], 2, Given("cache"))),
    ],
)


def _generate(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
    return text


@bank.mistake(
    "generate",
    "The whole text is fed again at each step, so the cache holds the beginning several "
    "times. Look at what the model has not read yet.",
)
def generate_feeds_everything(model, prompt, n_new, cache):
    _need(prompt)
    text = list(prompt)
    for _ in range(n_new):
        text.append(_best(model(text, cache=cache)))
    return text


@bank.mistake(
    "generate",
    "After the prefill, the last token of the prompt is fed once more, although the cache"
    " holds it already. Look at what the last row of the prefill tells you.",
)
def generate_feeds_last_prompt_token_again(model, prompt, n_new, cache):
    _need(prompt)
    text = list(prompt)
    if n_new:
        model(prompt, cache=cache)
    for _ in range(n_new):
        text.append(_best(model(text[-1:], cache=cache)))
    return text


@bank.mistake(
    "generate",
    "The last new token is fed, too, so that the next turn would put it into the cache "
    "twice. Look at which tokens the cache has to hold at the end.",
)
def generate_feeds_the_last_token(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
    if n_new:
        model(unread, cache=cache)
    return text


@bank.mistake(
    "generate",
    "An earlier turn is forgotten: either your cache is emptied at the start, or it is not used, "
    "and the whole text passes through the model at each step.",
)
def generate_without_using_cache(model, prompt, n_new, cache):
    return plain_by_tensor(model, prompt, n_new)


@bank.mistake(
    "generate",
    "The prompt passes through without the cache, so the steps after it know nothing of it. Hand "
    "the cache over in the prefill, too.",
)
def generate_prefills_without_cache(model, prompt, n_new, cache):
    _need(prompt)
    text = list(prompt)
    for step in range(n_new):
        logits = model(text, cache=None) if step == 0 else model(text[-1:], cache=cache)
        text.append(_best(logits))
    return text


@bank.mistake(
    "generate",
    "An earlier turn is forgotten: either your cache is emptied at the start, or it is not used, "
    "and the whole text passes through the model at each step.",
)
def generate_empties_cache(model, prompt, n_new, cache):
    from llm_memory.streaming import ModelCache

    return _generate(model, prompt, n_new, ModelCache())


@bank.mistake(
    "generate",
    "An earlier turn is forgotten: either your cache is emptied at the start, or it is not used, "
    "and the whole text passes through the model at each step.",
)
def generate_resets_cache(model, prompt, n_new, cache):
    _need(prompt)
    if n_new and hasattr(cache, "reset"):
        cache.reset()
    return _generate(model, prompt, n_new, cache)


@bank.mistake(
    "generate",
    "The tokens are still tensors. A list of ints is asked for: look at what argmax returns.",
)
def generate_returns_tensors(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        new = model(unread, cache=cache)[0, -1].argmax()
        text, unread = [*text, new], [int(new)]
    return text


@bank.mistake(
    "generate",
    "Only the new tokens come back. The result is the prompt, then what was added.",
)
def generate_returns_new_tokens_only(model, prompt, n_new, cache):
    return _generate(model, prompt, n_new, cache)[len(prompt) :]


@bank.mistake(
    "generate",
    "The prediction is taken from the first row. What follows the text stands in the last row: "
    "look at the index.",
)
def generate_uses_first_row(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [int(model(unread, cache=cache)[0, 0].argmax())]
        text += unread
    return text


@bank.mistake(
    "generate",
    "An empty prompt was let through. Raise a ValueError, also when n_new is 0.",
)
def generate_accepts_empty_prompt(model, prompt, n_new, cache):
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
    return text


@bank.mistake(
    "generate",
    "There is one token more than asked for. Look at which pass gives the first new token.",
)
def generate_adds_one_more(model, prompt, n_new, cache):
    _need(prompt)
    text = [*prompt, _best(model(prompt, cache=cache))]
    for _ in range(n_new):
        text.append(_best(model(text[-1:], cache=cache)))
    return text


@bank.mistake(
    "generate",
    "The list that was passed in has grown: whoever called still needs the prompt. Work on a copy.",
)
def generate_changes_prompt(model, prompt, n_new, cache):
    _need(prompt)
    unread = prompt[:]
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        prompt += unread
    return prompt


@bank.mistake(
    "generate",
    "The prompt goes through token by token: as many tokens, but many passes. The model can read "
    "all of the prompt in one.",
)
def generate_prefills_one_by_one(model, prompt, n_new, cache):
    _need(prompt)
    text, logits = list(prompt), None
    for token in prompt if n_new else []:
        logits = model([token], cache=cache)
    for step in range(n_new):
        text.append(_best(logits))
        if step < n_new - 1:
            logits = model(text[-1:], cache=cache)
    return text


@bank.mistake(
    "generate",
    "With n_new 0 the prompt passes through the model all the same. Look at what your "
    "function does before its loop.",
)
def generate_prefills_for_nothing(model, prompt, n_new, cache):
    _need(prompt)
    if n_new == 0:
        model(prompt, cache=Ignored(cache))
        return list(prompt)
    return _generate(model, prompt, n_new, cache)


class Ignored:
    """A cache that forgets: what is appended goes nowhere."""

    def __init__(self, cache):
        self.n_seen = 0

    def append(self, layer, k, v):
        return k, v, _mask(k.shape[2], k.shape[2])


@bank.variant("generate")
def generate_by_tensor(model, prompt, n_new, cache):
    _need(prompt)
    pieces = [torch.tensor([prompt])]
    for _ in range(n_new):
        pieces.append(model(pieces[-1], cache=cache)[:, -1:].argmax(-1))
    return torch.cat(pieces, dim=1)[0].tolist()


@bank.variant("generate")
def generate_with_prefill_apart(model, prompt, n_new, cache):
    if not prompt:
        raise ValueError("an empty prompt")
    if n_new == 0:
        return list(prompt)
    new = [_best(model(prompt, cache=cache))]
    while len(new) < n_new:
        new.append(_best(model([new[-1]], cache=cache)))
    return prompt + new


@bank.variant("generate")
def generate_by_generator(model, prompt, n_new, cache):
    _need(prompt)

    def tokens():
        unread = prompt
        for _ in range(n_new):
            unread = [model(torch.tensor(unread), cache=cache)[0, -1].argmax().item()]
            yield unread[0]

    return [*prompt, *tokens()]


@bank.variant("generate")
def generate_that_appends(model, prompt, n_new, cache):
    _need(prompt)
    ids, read = list(prompt), 0
    for _ in range(n_new):
        unread, read = ids[read:], len(ids)
        ids.append(_best(model(unread, cache=cache)))
    return ids


@bank.variant("generate")
def generate_by_recursion(model, prompt, n_new, cache):
    _need(prompt)
    if n_new == 0:
        return list(prompt)
    new = _best(model(prompt, cache=cache))
    return [*prompt, *generate_by_recursion(model, [new], n_new - 1, cache)]


@bank.mistake(
    "generate",
    "The text ends at a token of its own choice, or at a repetition. Look at how many tokens "
    "`n_new` asks for.",
)
def generate_ends_at_a_token(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
        if unread == [2]:
            break
    return text


@bank.mistake(
    "generate",
    "The prompt is cut to the model's window. Look at the sentence on odd input in exercise 1.",
)
def generate_cuts_to_the_window(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)[-model.config.window :]
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
    return text


@bank.mistake(
    "generate",
    "A prompt longer than the window was refused. Look at the sentence on odd input in exercise 1.",
)
def generate_refuses_long_prompts(model, prompt, n_new, cache):
    _need(prompt)
    if len(prompt) + n_new > model.config.window:
        raise ValueError("too long")
    return generate_that_appends(model, prompt, n_new, cache)


@bank.mistake(
    "generate",
    "As many tokens of the prompt as the cache has seen are left out. Look at what the table says "
    "of `prompt`: the cache has not seen it.",
)
def generate_leaves_out_what_was_seen(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)[cache.n_seen :] or list(prompt)[-1:]
    for _ in range(n_new):
        unread = [_best(model(unread, cache=cache))]
        text += unread
    return text


@bank.mistake(
    "generate",
    "With n_new 0 the cache is emptied. Look at what the call has to leave alone.",
)
def generate_empties_for_nothing(model, prompt, n_new, cache):
    _need(prompt)
    if n_new == 0:
        cache.reset()
    return generate_that_appends(model, prompt, n_new, cache)


@bank.mistake(
    "generate",
    "The tokens are NumPy's numbers. A list of ints is asked for: look at what you append.",
)
def generate_returns_numbers_of_numpy(model, prompt, n_new, cache):
    _need(prompt)
    text, unread = list(prompt), list(prompt)
    for _ in range(n_new):
        unread = [model(unread, cache=cache)[0, -1].numpy().argmax()]
        text += unread
    return text


# StaticKVCache


def _single(first: int, last: int) -> list[dict]:
    """Append tokens `first` to `last` to both layers, in the cache's default dtype."""
    part = slice(first, last)
    return [
        method("append", 0, _K[:, :, part].float(), _V[:, :, part].float()),
        method("append", 1, _K1[:, :, part].float(), _V1[:, :, part].float()),
    ]


bank.calls(
    "StaticKVCache",
    [
        call(2, 1, 2, 4, 2),
        get("n_bytes"),
        *_single(0, 2),
        get("n_seen"),
        get("n_bytes"),
        *_single(2, 4),
        get("n_seen"),
        get("n_bytes"),
        *_in_part(
            "hard",
            call(2, 1, 2, 4, 2),
            *_single(0, 3),
            method("reset"),
            get("n_seen"),
            *_single(1, 2),
            get("n_seen"),
            call(1, 1, 1, 4, 2),
            method("append", 0, _ZEROS, _ZEROS),
            method("append", 0, _K[:, :1, :2].float(), _V[:, :1, :2].float()),
            get("n_seen"),
            call(1, 1, 2, 4, 2),
            *_single(0, 2)[:1],
            method("append", 0, _K[:, :, 2:].float(), _V[:, :, 2:].float()),
            get("n_seen"),
            *_single(2, 4)[:1],
            call(2, 1, 2, 4, 2),
            *_single(0, 3),
            method("append", 1, _K[:, :, :2].float(), _V[:, :, :2].float()),
            call(1, 1, 2, 4, 2),
            *_single(0, 2)[:1],
            method("append", 0, _K[:, :1, 2:3].float(), _V[:, :1, 2:3].float()),
            get("n_seen"),
            call(1, 1, 2, 4, 2),
            method("append", 0, _K[:, :, :2].float(), _V[:, :, :1].float()),
            get("n_seen"),
            call(1, 1, 2, 4, 2),
            method("append", 0, _K[:, :, :1].float(), _V[:, :, :2].float()),
            get("n_seen"),
            call(1, 1, 1, 4, 2),
            method("append", 0, _K[:, :, :1].float(), _V[:, :, :1].float()),
            get("n_seen"),
            call(1, 3, 2, 4, 5),
            get("n_bytes"),
            method("append", 0, _numbers(19, 3, 2, 1, 5).float(), _numbers(20, 3, 2, 1, 5).float()),
            get("n_seen"),
        ),
    ],
)


class _Static:
    """The right cache, in parts that a mistake can replace."""

    def __init__(self, n_layers, batch, n_kv_heads, max_tokens, head_dim, dtype=torch.float32):
        shape = (batch, n_kv_heads, max_tokens, head_dim)
        self.keys, self.values = self.allocate(n_layers, shape, dtype)
        self.max_tokens = max_tokens
        self.reset()

    def allocate(self, n_layers, shape, dtype):
        keys = [torch.zeros(shape, dtype=dtype) for _ in range(n_layers)]
        return keys, [torch.zeros_like(room) for room in keys]

    @property
    def n_bytes(self):
        return sum(room.nbytes for room in self.keys + self.values)

    def reset(self):
        self.used = [0] * len(self.keys)

    @property
    def n_seen(self):
        return self.used[-1]

    def fits(self, layer, k, v):
        want = self.keys[layer].shape
        if k.shape != v.shape or (*k.shape[:2], k.shape[3]) != (*want[:2], want[3]):
            raise ValueError("the shapes do not fit")

    def has_room(self, old, n_new):
        if old + n_new > self.max_tokens:
            raise ValueError("the cache is full")

    def write(self, room, old, new):
        room[:, :, old : old + new.shape[2]] = new

    def read(self, room, n_held):
        return room[:, :, :n_held]

    def advance(self, layer, n_new):
        self.used[layer] += n_new

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        old, n_new = self.used[layer], k.shape[2]
        self.has_room(old, n_new)
        self.write(self.keys[layer], old, k)
        self.write(self.values[layer], old, v)
        self.advance(layer, n_new)
        keys = self.read(self.keys[layer], old + n_new)
        values = self.read(self.values[layer], old + n_new)
        return keys, values, _mask(n_new, keys.shape[2])


@bank.mistake(
    "StaticKVCache",
    "All of the memory comes back, also where nothing was written yet. Those zeros get a share of "
    "the attention: return only the tokens held.",
)
class StaticReturnsPadding(_Static):
    def allocate(self, n_layers, shape, dtype):
        return [[torch.zeros(shape, dtype=dtype) for _ in range(n_layers)] for _ in range(2)]

    def read(self, room, n_held):
        return room

    def append(self, layer, k, v):
        keys, values, _ = super().append(layer, k, v)
        return keys, values, torch.ones(k.shape[2], keys.shape[2], dtype=torch.bool)


@bank.mistake(
    "StaticKVCache",
    "Every append writes to the beginning. Look at what you know of the tokens that a layer holds.",
)
class StaticAlwaysWritesAtZero(_Static):
    def write(self, room, old, new):
        room[:, :, : new.shape[2]] = new


@bank.mistake(
    "StaticKVCache",
    "There is one count for all layers: layer 0 moves it on, and layer 1 leaves a hole. Each "
    "layer needs a count of its own.",
)
class StaticCountsForAllLayers(_Static):
    def advance(self, layer, n_new):
        self.used = [self.used[0] + n_new] * len(self.used)


@bank.mistake(
    "StaticKVCache",
    "All layers have the same memory: `[tensor] * n` is n times the same tensor. Look at "
    "how the list is made.",
)
class StaticSharesLayers(_Static):
    def allocate(self, n_layers, shape, dtype):
        return [[torch.zeros(shape, dtype=dtype)] * n_layers for _ in range(2)]


@bank.mistake(
    "StaticKVCache",
    "Keys and values have the same memory, so the values overwrite the keys. Look at how "
    "many tensors you made.",
)
class StaticSharesKeysAndValues(_Static):
    def allocate(self, n_layers, shape, dtype):
        rooms = [torch.zeros(shape, dtype=dtype) for _ in range(n_layers)]
        return rooms, rooms


@bank.mistake(
    "StaticKVCache",
    "When the cache is full, writing begins at the front again and overwrites the first tokens. "
    "Here a full cache is an error (the rolling cache comes next).",
)
class StaticOverwritesWhenFull(_Static):
    def has_room(self, old, n_new):
        pass

    def write(self, room, old, new):
        places = torch.arange(old, old + new.shape[2]) % self.max_tokens
        room[:, :, places] = new


@bank.mistake(
    "StaticKVCache",
    "When there is not room for all new tokens, some are dropped without a word. Look at "
    "what the statement says of a full cache.",
)
class StaticDropsWhatDoesNotFit(_Static):
    def has_room(self, old, n_new):
        pass

    def append(self, layer, k, v):
        left = self.max_tokens - self.used[layer]
        return super().append(layer, k[:, :, :left], v[:, :, :left])


@bank.mistake(
    "StaticKVCache",
    "Tokens that do not fit raise torch's own error. Say it with a ValueError that names how many "
    "tokens there is room for.",
)
class StaticLeavesErrorToTorch(_Static):
    def has_room(self, old, n_new):
        pass


@bank.mistake(
    "StaticKVCache",
    "The cache is called full one token too early. Look at the comparison: exactly max_tokens fit.",
)
class StaticIsFullTooEarly(_Static):
    def has_room(self, old, n_new):
        if old + n_new >= self.max_tokens:
            raise ValueError("the cache is full")


@bank.mistake(
    "StaticKVCache",
    "The tokens that still fit are written before the error. An append that raises must change "
    "nothing: look first, then write.",
)
class StaticWritesBeforeItRaises(_Static):
    def append(self, layer, k, v):
        left = self.max_tokens - self.used[layer]
        if k.shape[2] > left and k.shape == v.shape:
            super().append(layer, k[:, :, :left], v[:, :, :left])
        return super().append(layer, k, v)


@bank.mistake(
    "StaticKVCache",
    "One head, or a batch of 1, is spread over all heads without a word: assigning to a part of a "
    "tensor broadcasts. Compare the shapes first.",
)
class StaticBroadcasts(_Static):
    def fits(self, layer, k, v):
        if k.shape != v.shape:
            raise ValueError("keys and values differ in shape")


@bank.mistake(
    "StaticKVCache",
    "reset() leaves the count as it is, and the next text is written behind the old one. "
    "Compare it with what __init__ sets up.",
)
class StaticNeverResets(_Static):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        super().reset()

    def reset(self):
        self.used = getattr(self, "used", None) or [0] * len(self.keys)


@bank.mistake(
    "StaticKVCache",
    "Your mask is a staircase from the first key on, as if nothing had been held before. "
    "Look at its number of columns, and at its last row.",
)
class StaticMaskTopLeft(_Static):
    def append(self, layer, k, v):
        keys, values, mask = super().append(layer, k, v)
        return keys, values, torch.ones_like(mask).tril()


@bank.mistake(
    "StaticKVCache",
    "The memory is always float32. Look at the arguments of the call that makes it.",
    visible=False,
)
class StaticIgnoresDtype(_Static):
    def allocate(self, n_layers, shape, dtype):
        return super().allocate(n_layers, shape, torch.float32)


@bank.mistake(
    "StaticKVCache",
    "n_bytes grows with the text: either the memory itself grows, or only its filled part is "
    "counted. Allocate all of it in __init__, and count all of it.",
)
class StaticCountsFilledBytes(_Static):
    @property
    def n_bytes(self):
        share = self.used[-1] / self.max_tokens
        return int(share * sum(room.nbytes for room in [*self.keys, *self.values]))


@bank.mistake(
    "StaticKVCache",
    "n_seen counts the rows that are not zero. A token's numbers may be 0: count "
    "what was appended.",
)
class StaticCountsRowsThatAreNotZero(_Static):
    @property
    def n_seen(self):
        return int((self.keys[-1] != 0).any(-1).any(1).any(0)[: self.used[-1]].sum())


@bank.mistake(
    "StaticKVCache",
    "n_bytes grows with the text: either the memory itself grows, or only its filled part is "
    "counted. Allocate all of it in __init__, and count all of it.",
)
class StaticGrows(_Static):
    def __init__(self, n_layers, batch, n_kv_heads, max_tokens, head_dim, dtype=torch.float32):
        self.max_tokens, self.shape = max_tokens, (batch, n_kv_heads, 0, head_dim)
        self.n_layers, self.dtype = n_layers, dtype
        self.reset()

    def reset(self):
        self.keys = [torch.zeros(self.shape, dtype=self.dtype) for _ in range(self.n_layers)]
        self.values = [room.clone() for room in self.keys]
        self.used = [0] * self.n_layers

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        self.has_room(self.used[layer], k.shape[2])
        self.keys[layer] = torch.cat((self.keys[layer], k), dim=2)
        self.values[layer] = torch.cat((self.values[layer], v), dim=2)
        self.used[layer] += k.shape[2]
        return self.keys[layer], self.values[layer], _mask(k.shape[2], self.used[layer])


@bank.mistake(
    "StaticKVCache",
    "Only layer 0 is asked whether there is room. Look at what happens when another one is full.",
)
class StaticAsksTheFirstLayer(_Static):
    def append(self, layer, k, v):
        self.fits(layer, k, v)
        if layer == 0:
            self.has_room(self.used[0], k.shape[2])
        old = self.used[layer]
        end = min(old + k.shape[2], self.max_tokens)
        self.write(self.keys[layer], old, k[:, :, : end - old])
        self.write(self.values[layer], old, v[:, :, : end - old])
        self.used[layer] = end
        keys, values = self.keys[layer][:, :, :end], self.values[layer][:, :, :end]
        return keys, values, _mask(k.shape[2], end)


@bank.mistake(
    "StaticKVCache",
    "Keys and values of different lengths were let through. Look at both shapes before anything is "
    "written.",
)
class StaticDoesNotCompareTheTwo(_Static):
    def fits(self, layer, k, v):
        want = self.keys[layer].shape
        for x in (k, v):
            if (*x.shape[:2], x.shape[3]) != (*want[:2], want[3]):
                raise ValueError("the shapes do not fit")

    def write(self, room, old, new):
        part = room[:, :, old : old + self.now]
        part[:] = new[:, :, : self.now]

    def append(self, layer, k, v):
        self.now = k.shape[2]
        return super().append(layer, k, v)


@bank.mistake(
    "StaticKVCache",
    "n_bytes is the count of numbers. Look at how many bytes one of them has.",
)
class StaticCountsNumbers(_Static):
    @property
    def n_bytes(self):
        return sum(room.numel() for room in self.keys + self.values)


@bank.mistake(
    "StaticKVCache", "n_bytes counts one of keys and values. Look at all that was allocated."
)
class StaticCountsKeysOnly(_Static):
    @property
    def n_bytes(self):
        return sum(room.nbytes for room in self.keys)


@bank.variant("StaticKVCache")
class StaticInTwoTensors(_Static):
    """Keys and values of all layers in one tensor each."""

    def allocate(self, n_layers, shape, dtype):
        keys = torch.zeros(n_layers, *shape, dtype=dtype)
        return keys, keys.clone()

    @property
    def n_bytes(self):
        return 2 * self.keys.numel() * self.keys.element_size()


@bank.variant("StaticKVCache")
class StaticByIndexCopy(_Static):
    def write(self, room, old, new):
        room.index_copy_(2, torch.arange(old, old + new.shape[2]), new)

    def read(self, room, n_held):
        return room.narrow(2, 0, n_held).clone()


@bank.variant("StaticKVCache")
class StaticTokensFirst(_Static):
    """Memory laid out with the tokens first."""

    def allocate(self, n_layers, shape, dtype):
        batch, heads, most, size = shape
        return [
            [torch.zeros(most, batch, heads, size, dtype=dtype) for _ in range(n_layers)]
            for _ in range(2)
        ]

    def fits(self, layer, k, v):
        if k.shape != v.shape or k.permute(2, 0, 1, 3).shape[1:] != self.keys[layer].shape[1:]:
            raise ValueError("the shapes do not fit")

    def write(self, room, old, new):
        room[old : old + new.shape[2]] = new.permute(2, 0, 1, 3)

    def read(self, room, n_held):
        return room[:n_held].permute(1, 2, 0, 3)


@bank.variant("StaticKVCache")
class StaticFilledWithOnes(_Static):
    """What lies in memory before a token is written is nobody's business."""

    def allocate(self, n_layers, shape, dtype):
        rooms = torch.full((2, n_layers, *shape), 7, dtype=dtype)
        return list(rooms[0]), list(rooms[1])


@bank.variant("StaticKVCache")
class StaticByCopy(_Static):
    def write(self, room, old, new):
        room.narrow(2, old, new.shape[2]).copy_(new)

    def read(self, room, n_held):
        return room[..., :n_held, :]


# RollingKVCache

_LONG = [_numbers(31 + i, 1, 1, 9, 2) for i in range(4)]


def _roll(first: int, last: int) -> list[dict]:
    part = slice(first, last)
    return [
        method("append", 0, _LONG[0][:, :, part], _LONG[1][:, :, part]),
        method("append", 1, _LONG[2][:, :, part], _LONG[3][:, :, part]),
    ]


bank.calls(
    "RollingKVCache",
    [
        call(2, 3, 1),
        *_roll(0, 2),
        *_roll(2, 3),
        *_roll(3, 4),
        *_roll(4, 5),
        *_roll(5, 6),
        *_roll(6, 7),
        get("n_seen"),
        *_in_part(
            "hard",
            call(2, 3, 1),
            *_roll(0, 5),
            get("n_seen"),
            *_roll(5, 6),
            *_roll(6, 8),
            *_roll(8, 9),
            get("n_seen"),
            method("reset"),
            get("n_seen"),
            *_roll(0, 2)[:1],
            call(1, 3, 2),
            *(_roll(i, i + 1)[0] for i in range(8)),
            call(1, 1),
            *(_roll(i, i + 1)[0] for i in range(3)),
            call(1, 4),
            *_roll(0, 2)[:1],
            get("n_seen"),
            call(2, 0),
            call(2, 3, -1),
            call(1, 3, 1),
            *_roll(0, 2)[:1],
            method("append", 0, _numbers(35, 1, 2, 1, 2), _numbers(36, 1, 2, 1, 2)),
            get("n_seen"),
            call(1, 3, 1),
            method("append", 0, _LONG[0][:, :, :2], _LONG[1][:, :, :1]),
            get("n_seen"),
            call(1, 3, 1),
            method("append", 0, _LONG[0][:, :, :1], _LONG[1][:, :, :2]),
            get("n_seen"),
            call(1, 3, 1),
            *(
                method("append", 0, _numbers(i, 1, 2, 1, 3), _numbers(i, 1, 2, 1, 3))
                for i in (37, 38)
            ),
            get("n_seen"),
            call(1, 3, 1),
            typed(method("append", 0, _LONG[0][:, :, :2].half(), _LONG[1][:, :, :2].half())),
            typed(method("append", 0, _LONG[0][:, :, 2:3].half(), _LONG[1][:, :, 2:3].half())),
        ),
    ],
)


class _Rolling:
    """The right cache, in parts that a mistake can replace."""

    def __init__(self, n_layers, window, n_sinks=0):
        self.accepts(window, n_sinks)
        self.n_layers, self.window, self.n_sinks = n_layers, window, n_sinks
        self.reset()

    def accepts(self, window, n_sinks):
        if window < 1 or n_sinks < 0:
            raise ValueError("window must be at least 1, n_sinks at least 0")

    def reset(self):
        self.k, self.v = [None] * self.n_layers, [None] * self.n_layers
        self.places = [torch.arange(0)] * self.n_layers
        self.seen = [0] * self.n_layers

    @property
    def n_seen(self):
        return self.seen[-1]

    def mask(self, places, asking):
        gap = asking[:, None] - places
        return (gap >= 0) & ((gap < self.window) | (places < self.n_sinks))

    def keep(self, places, end):
        return (places < self.n_sinks) | (places >= end - self.window)

    def fits(self, layer, k, v):
        _fits(k, v, self.k[layer])

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        asking = torch.arange(self.seen[layer], self.seen[layer] + k.shape[2])
        end = self.seen[layer] = self.seen[layer] + k.shape[2]
        places = torch.cat((self.places[layer], asking))
        if self.k[layer] is not None:
            k, v = torch.cat((self.k[layer], k), 2), torch.cat((self.v[layer], v), 2)
        kept = self.keep(places, end)
        self.k[layer], self.v[layer] = k[:, :, kept], v[:, :, kept]
        self.places[layer] = places[kept]
        return k, v, self.mask(places, asking)


@bank.mistake(
    "RollingKVCache",
    "Old tokens are dropped before the new ones have looked at them, so a prompt longer than the "
    "window loses its beginning at once. Return everything first, forget afterwards.",
)
class RollingTrimsFirst(_Rolling):
    def append(self, layer, k, v):
        super().append(layer, k, v)
        kept = self.k[layer].shape[2]
        asking = torch.arange(self.seen[layer] - k.shape[2], self.seen[layer])
        return self.k[layer], self.v[layer], self.mask(self.places[layer], asking)[:, :kept]


@bank.mistake(
    "RollingKVCache",
    "The newest tokens are dropped, and the oldest kept. The window is at the end of the text.",
)
class RollingDropsNewest(_Rolling):
    def keep(self, places, end):
        return places < self.window + self.n_sinks


@bank.mistake(
    "RollingKVCache",
    "The first n_sinks tokens are forgotten with the others. Look at what is kept when you trim.",
)
class RollingForgetsSinks(_Rolling):
    def keep(self, places, end):
        return places >= end - self.window


@bank.mistake(
    "RollingKVCache",
    "The sinks are held, but your mask hides them once they are outside the window. A sink is "
    "seen from any distance: look at the comparison of the mask.",
)
class RollingMasksSinks(_Rolling):
    def mask(self, places, asking):
        gap = asking[:, None] - places
        return (gap >= 0) & (gap < self.window)


@bank.mistake(
    "RollingKVCache",
    "Nothing is ever forgotten: the mask is right, but the memory grows with the text. Look at "
    "what is kept after the result is made.",
)
class RollingNeverTrims(_Rolling):
    def keep(self, places, end):
        return places >= 0


@bank.mistake(
    "RollingKVCache",
    "Your mask allows one token too many. Look at whether `window` counts the query's own.",
)
class RollingMaskOneTooWide(_Rolling):
    def mask(self, places, asking):
        gap = asking[:, None] - places
        return (gap >= 0) & ((gap <= self.window) | (places < self.n_sinks))


@bank.mistake(
    "RollingKVCache",
    "Your mask allows one token too few. Look at whether `window` counts the query's own.",
)
class RollingMaskOneTooNarrow(_Rolling):
    def mask(self, places, asking):
        gap = asking[:, None] - places
        near = (gap < self.window - 1) | (places < self.n_sinks)
        return (gap >= 0) & (near | (gap == 0))


@bank.mistake(
    "RollingKVCache",
    "n_seen is the number of tokens held. It must count the forgotten ones, too: the model takes "
    "it for the position of the next token.",
)
class RollingCountsHeld(_Rolling):
    @property
    def n_seen(self):
        return len(self.places[-1])


@bank.mistake(
    "RollingKVCache",
    "Your mask counts columns instead of positions, and behind the sinks there is a gap "
    "in the text. Look at where you know the position of a held token from.",
)
class RollingMaskByColumn(_Rolling):
    def mask(self, places, asking):
        columns = torch.arange(len(places))
        rows = torch.arange(len(asking))[:, None]
        gap = rows - columns
        return (gap >= 0) & ((gap < self.window) | (columns < self.n_sinks))


@bank.mistake(
    "RollingKVCache",
    "Your mask lets new tokens that come together see each other's future. Look at the "
    "three comparisons of positions: which is missing?",
)
class RollingMaskWithoutCausality(_Rolling):
    def mask(self, places, asking):
        gap = asking[:, None] - places
        return (gap < self.window) | (places < self.n_sinks)


@bank.mistake(
    "RollingKVCache",
    "Everything that is held may be seen. With several new tokens, the first ones would look "
    "outside their window, or into their future.",
)
class RollingMasksNothing(_Rolling):
    def mask(self, places, asking):
        return torch.ones(len(asking), len(places), dtype=torch.bool)


@bank.mistake(
    "RollingKVCache",
    "Too little is held: the sinks take places of the window. Keep the first n_sinks and the last "
    "`window` tokens.",
)
class RollingCountsSinksIn(_Rolling):
    def keep(self, places, end):
        return (places < self.n_sinks) | (places >= end - self.window + self.n_sinks)


@bank.mistake(
    "RollingKVCache",
    "One token less than the window is held. The query's own token comes with the append; the last "
    "`window` tokens stay after it.",
)
class RollingKeepsTwoLess(_Rolling):
    def keep(self, places, end):
        return (places < self.n_sinks) | (places >= end - self.window + 2)


@bank.mistake(
    "RollingKVCache",
    "The first append is not checked: keys and values of different shapes go into an empty cache.",
)
class RollingDoesNotCheckTheFirst(_Rolling):
    def fits(self, layer, k, v):
        if self.k[layer] is not None:
            super().fits(layer, k, v)


@bank.mistake(
    "RollingKVCache",
    "Keys are forgotten, values are not: afterwards each key has another token's value. "
    "Look at all that has to be trimmed.",
)
class RollingTrimsKeysOnly(_Rolling):
    def append(self, layer, k, v):
        old = None if self.v[layer] is None else self.v[layer].clone()
        keys, values, mask = super().append(layer, k, v)
        if old is not None:
            values = torch.cat((old, v), 2)[:, :, : keys.shape[2]]
        self.v[layer] = values[:, :, : self.k[layer].shape[2]]
        return keys, values, mask


@bank.mistake(
    "RollingKVCache",
    "A window of 0 was let through, and then not even a token itself could be seen. Look "
    "at what the statement says of odd input.",
)
class RollingAcceptsAnyWindow(_Rolling):
    def accepts(self, window, n_sinks):
        pass


@bank.mistake(
    "RollingKVCache",
    "Tensors of another shape raise torch's own error. Compare the shapes first, and raise a "
    "ValueError that names them.",
)
class RollingLeavesErrorToTorch(_Rolling):
    def fits(self, layer, k, v):
        pass


@bank.mistake(
    "RollingKVCache",
    "reset() keeps the count of the tokens seen, so the next text begins at the wrong "
    "position. Compare it with what __init__ sets up.",
)
class RollingKeepsCount(_Rolling):
    def reset(self):
        seen = getattr(self, "seen", [0] * self.n_layers)
        super().reset()
        self.seen = seen


@bank.mistake(
    "RollingKVCache",
    "Keys and values come back in another dtype than they came in. Look at the tensor that you "
    "write them into: which dtype does a new one get?",
)
class RollingInFloat32(_Rolling):
    def append(self, layer, k, v):
        keys, values, mask = super().append(layer, k, v)
        return keys.float(), values.float(), mask


@bank.variant("RollingKVCache")
class RollingOfTokens:
    """A dictionary from position to key and value, for each layer."""

    def __init__(self, n_layers, window, n_sinks=0):
        if window <= 0 or n_sinks <= -1:
            raise ValueError("no such window")
        self.n_layers, self.window, self.n_sinks = n_layers, window, n_sinks
        self.reset()

    def reset(self):
        self.tokens = [{} for _ in range(self.n_layers)]
        self.n_seen = 0

    def append(self, layer, k, v):
        tokens = self.tokens[layer]
        _fits(k, v, next(iter(tokens.values()))[0][:, :, None] if tokens else None)
        start = max(tokens, default=-1) + 1
        new = range(start, start + k.shape[2])
        tokens |= {p: (k[:, :, p - start], v[:, :, p - start]) for p in new}
        keys = torch.stack([pair[0] for pair in tokens.values()], 2)
        values = torch.stack([pair[1] for pair in tokens.values()], 2)
        rows = [[s <= p and (p - s < self.window or s < self.n_sinks) for s in tokens] for p in new]
        last = start + k.shape[2]
        self.tokens[layer] = {
            p: pair for p, pair in tokens.items() if p < self.n_sinks or p >= last - self.window
        }
        if layer == self.n_layers - 1:
            self.n_seen = last
        return keys, values, torch.tensor(rows)


@bank.variant("RollingKVCache")
class RollingInTwoParts(_Rolling):
    """Sinks and window held apart, joined on reading."""

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        start = self.seen[layer]
        if self.k[layer] is not None:
            keys, values = torch.cat((self.k[layer], k), 2), torch.cat((self.v[layer], v), 2)
        else:
            keys, values = k, v
        held = keys.shape[2] - k.shape[2]
        n_sinks = min(self.n_sinks, held)
        places = [*range(n_sinks), *range(start - held + n_sinks, start + k.shape[2])]
        places = torch.tensor(places)
        end = start + k.shape[2]
        first = min(self.n_sinks, keys.shape[2])
        rest = keys.shape[2] - first
        tail = min(self.window, rest)
        columns = [*range(first), *range(keys.shape[2] - tail, keys.shape[2])]
        self.k[layer], self.v[layer] = keys[:, :, columns], values[:, :, columns]
        self.seen[layer] = end
        return keys, values, self.mask(places, torch.arange(start, end))


@bank.variant("RollingKVCache")
class RollingOfChunks(_Rolling):
    """Forgets before it appends again: between two calls a layer holds more."""

    def append(self, layer, k, v):
        self.fits(layer, k, v)
        asking = torch.arange(self.seen[layer], self.seen[layer] + k.shape[2])
        if self.k[layer] is not None:
            kept = self.keep(self.places[layer], self.seen[layer])
            k = torch.cat((self.k[layer][:, :, kept], k), 2)
            v = torch.cat((self.v[layer][:, :, kept], v), 2)
            places = torch.cat((self.places[layer][kept], asking))
        else:
            places = asking
        self.k[layer], self.v[layer], self.places[layer] = k, v, places
        self.seen[layer] += len(asking)
        return k, v, self.mask(places, asking)


@bank.variant("RollingKVCache")
class RollingThatKeepsOneLess(_Rolling):
    """Only W − 1 past tokens are needed beside a new one; the contract lets W be kept."""

    def keep(self, places, end):
        return (places < self.n_sinks) | (places > end - self.window - 1)


@bank.mistake(
    "RollingKVCache",
    "While the text is short, some tokens are held twice: as sinks and as the newest ones. Look at "
    "how many tokens there must be before you cut.",
)
class RollingHoldsAShortTextTwice(_Rolling):
    def reset(self):
        self.layers = [None] * self.n_layers
        self.counts = [0] * self.n_layers

    @property
    def n_seen(self):
        return self.counts[-1]

    def append(self, layer, k, v):
        held, old = self.layers[layer], self.counts[layer]
        _fits(k, v, None if held is None else held[0])
        end = old + k.shape[2]
        own = torch.arange(old, end)
        keys, values, places = k, v, own
        if held is not None:
            keys, values = torch.cat((held[0], k), dim=2), torch.cat((held[1], v), dim=2)
            places = torch.cat((held[2], own))
        apart = own[:, None] - places
        mask = (apart >= 0) & ((apart < self.window) | (places < self.n_sinks))
        first, last = slice(0, self.n_sinks), slice(-self.window, None)
        self.layers[layer] = (
            torch.cat((keys[:, :, first], keys[:, :, last]), dim=2),
            torch.cat((values[:, :, first], values[:, :, last]), dim=2),
            torch.cat((places[first], places[last])),
        )
        self.counts[layer] = end
        return keys, values, mask


# quantize

bank.terms("quantize", q="", scale="")
_Q = _numbers(41, 3, 4)

bank.calls(
    "quantize",
    [
        call(_Q, 0, 4),
        call(_Q, 1, 4),
        call(_numbers(42, 2, 3, 4), -2),
        call(_Q, 0, 6),
        hard(call(torch.tensor([[0.0, 0.0], [0.4, -1.0]]), 1, 2)),
        *(hard(call(_numbers(43, 2, 3), 1, bits)) for bits in (3, 5, 7)),
        hard(call(torch.tensor([[1e-7, -4e-8]], dtype=torch.float64), 1)),
        hard(call(torch.tensor([[0.5, -0.3]], dtype=torch.float16), 1)),
        hard(call(_Q, 1, 1)),
        hard(call(_Q, 1, 9)),
    ],
)


def _quantize(x, axis, bits=8, most=None, top=None, rounded=torch.round, low=None):
    if not 2 <= bits <= 8:
        raise ValueError("bits must be 2 to 8")
    top = top or 2 ** (bits - 1) - 1
    scale = (x.abs().amax(axis, keepdim=True) if most is None else most(x)) / top
    scale = scale.masked_fill(scale == 0, 1)
    return rounded(x / scale).clamp(-top if low is None else low, top).to(torch.int8), scale


@bank.mistake(
    "quantize",
    "There is one scale for the whole tensor. Each slice along `axis` gets a scale of its own.",
)
def quantize_with_one_scale(x, axis, bits=8):
    return _quantize(x, axis, bits, most=lambda x: x.abs().max())


@bank.mistake(
    "quantize",
    "The maximum is taken over the other axes. Look at the axis that has length 1 in the scale.",
)
def quantize_over_other_axes(x, axis, bits=8):
    others = [i for i in range(x.dim()) if i != axis % x.dim()]
    return _quantize(x, axis, bits, most=lambda x: x.abs().amax(others, keepdim=True))


@bank.mistake(
    "quantize",
    "The scale has lost its axis, and no longer lines up with x. Look up `keepdim` in amax.",
)
def quantize_loses_axis(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits)
    return q, scale.squeeze(axis)


@bank.mistake(
    "quantize",
    "The largest value is taken with its sign, so large negative numbers are cut off. Which "
    "value is the largest whatever its sign?",
)
def quantize_ignores_negative(x, axis, bits=8):
    return _quantize(x, axis, bits, most=lambda x: x.amax(axis, keepdim=True))


@bank.mistake(
    "quantize",
    "Your steps reach one too far. Look at how top is made of `bits`.",
)
def quantize_with_one_step_too_many(x, axis, bits=8):
    return _quantize(x, axis, bits, top=2 ** (bits - 1))


@bank.mistake(
    "quantize",
    "Your scale is for all steps on one side of 0, and they lie on both. Look at how top "
    "is made of `bits`.",
)
def quantize_with_double_range(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits, top=2**bits - 1, low=-(2**bits) + 1)
    return q, scale


@bank.mistake(
    "quantize",
    "The numbers are cut off towards 0, so the error can be a whole step. Look at how a "
    "float becomes a whole number.",
)
def quantize_cuts_off(x, axis, bits=8):
    return _quantize(x, axis, bits, rounded=torch.trunc)


@bank.mistake(
    "quantize",
    "The numbers are rounded down, so the error can be a whole step. Look at how a float "
    "becomes a whole number.",
)
def quantize_rounds_down(x, axis, bits=8):
    return _quantize(x, axis, bits, rounded=torch.floor)


@bank.mistake(
    "quantize",
    "A slice of zeros has the maximum 0, and so its scale is 0. Look at the scale that the "
    "statement gives it.",
)
def quantize_divides_by_zero(x, axis, bits=8):
    if not 2 <= bits <= 8:
        raise ValueError("bits must be 2 to 8")
    top = 2 ** (bits - 1) - 1
    scale = x.abs().amax(axis, keepdim=True) / top
    return torch.round(x / scale).to(torch.int8), scale


@bank.mistake(
    "quantize",
    "The scale never falls below a small number of your own, so smaller values are lost. "
    "Look at which slice alone needs another scale.",
)
def quantize_with_a_least_scale(x, axis, bits=8):
    _q, scale = _quantize(x, axis, bits)
    top = 2 ** (bits - 1) - 1
    least = scale.clamp_min(1e-8)
    return torch.round(x / least).clamp(-top, top).to(torch.int8), least


@bank.mistake(
    "quantize",
    "Only 2, 3, 4 and 8 bits are taken. Every number from 2 to 8 is asked for.",
)
def quantize_takes_powers_only(x, axis, bits=8):
    if bits not in (2, 3, 4, 8):
        raise ValueError("bits must be 2, 3, 4 or 8")
    return _quantize(x, axis, bits)


@bank.mistake(
    "quantize",
    "`bits` is not used: there are always 127 steps on each side. Look at the line that makes top.",
)
def quantize_always_to_8_bits(x, axis, bits=8):
    return _quantize(x, axis, bits, top=127)


@bank.mistake(
    "quantize",
    "The scale is upside down. Look at what q · scale has to give.",
)
def quantize_inverts_scale(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits)
    return q, 1 / scale


@bank.mistake(
    "quantize",
    "bits below 2 or above 8 were let through: 1 bit leaves no step at all. Look at the "
    "row `bits` of the table.",
)
def quantize_accepts_any_bits(x, axis, bits=8):
    top = max(1, 2 ** (bits - 1) - 1)
    scale = x.abs().amax(axis, keepdim=True) / top
    scale = scale.masked_fill(scale == 0, 1)
    return torch.round(x / scale).to(torch.int8), scale


@bank.mistake(
    "quantize",
    "q is still made of floats, so no memory is saved. Look up which dtype has one byte a number.",
)
def quantize_keeps_floats(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits)
    return q.to(x.dtype), scale


@bank.mistake(
    "quantize",
    "x itself was changed: the caller still needs it. Look for `/=`, or a method that ends in _.",
)
def quantize_changes_x(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits)
    x /= scale
    return q, scale


@bank.mistake(
    "quantize", "The scale comes first, q second. Look at the row *returns* of the table."
)
def quantize_returns_the_scale_first(x, axis, bits=8):
    q, scale = _quantize(x, axis, bits)
    return scale, q


@bank.mistake(
    "quantize",
    "The steps are made for numbers that lie evenly round 0: half of the span from the "
    "lowest to the "
    "highest. Look at which number must still fit.",
)
def quantize_by_the_span(x, axis, bits=8):
    _quantize(x, axis, bits)
    top = 2 ** (bits - 1) - 1
    scale = (x.amax(axis, keepdim=True) - x.amin(axis, keepdim=True)) / (2 * top)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.round(x / scale).clamp(-top, top).to(torch.int8), scale


@bank.variant("quantize")
def quantize_by_max(x, axis, bits=8):
    if bits < 2 or bits > 8:
        raise ValueError("2 to 8 bits")
    top = (1 << (bits - 1)) - 1
    most = torch.maximum(x.amax(axis, keepdim=True), -x.amin(axis, keepdim=True))
    scale = torch.where(most == 0, 1.0, most / top)
    return (x / scale).round().clamp(-top, top).char(), scale


@bank.variant("quantize")
def quantize_half_up(x, axis, bits=8):
    return _quantize(x, axis, bits, rounded=lambda x: torch.floor(x + 0.5))


@bank.variant("quantize")
def quantize_with_wide_numbers(x, axis, bits=8):
    q, scale = _quantize(x.double(), axis, bits)
    return q, scale


@bank.variant("quantize")
def quantize_by_division_only(x, axis, bits=8):
    if bits not in range(2, 9):
        raise ValueError("2 to 8 bits")
    top = 2 ** (bits - 1) - 1
    most = x.abs().max(dim=axis, keepdim=True).values
    scale = torch.where(most == 0, torch.ones_like(most), most / top)
    return x.div(scale).round_().clamp_(-top, top).to(dtype=torch.int8), scale


@bank.variant("quantize")
def quantize_by_the_norm(x, axis, bits=8):
    largest = torch.linalg.vector_norm(x, ord=torch.inf, dim=axis, keepdim=True)
    return _quantize(x, axis, bits, most=lambda _: largest)


@bank.mistake(
    "quantize",
    "q turns over where the scale of a float16 is rounded: the top is passed, and int8 begins "
    "again below 0. Look at the row *returns* for the range of q.",
    visible=False,
)
def quantize_without_an_end(x, axis, bits=8):
    if not 2 <= bits <= 8:
        raise ValueError("bits must be 2 to 8")
    scale = x.abs().amax(axis, keepdim=True) / (2 ** (bits - 1) - 1)
    scale = scale.masked_fill(scale == 0, 1)
    return torch.round(x / scale).to(torch.int8), scale


@bank.mistake(
    "quantize",
    "Every scale is a little too large, since a small number is added to it. Look at which slice "
    "alone needs help.",
)
def quantize_adds_a_little(x, axis, bits=8):
    return _quantize(x, axis, bits, most=lambda x: x.abs().amax(axis, keepdim=True) + 1e-3)


@bank.mistake(
    "quantize",
    "Slices of small numbers are taken for zeros. Look at the condition under which the scale "
    "is 1.",
)
def quantize_takes_small_for_zero(x, axis, bits=8):
    def most(x):
        largest = x.abs().amax(axis, keepdim=True)
        return largest.masked_fill(largest < 1e-6, 0)

    return _quantize(x, axis, bits, most)


@bank.mistake(
    "quantize",
    "The largest value is taken with its sign, so large negative numbers are cut off. Which "
    "value is the largest whatever its sign?",
)
def quantize_ignores_negative_without_an_end(x, axis, bits=8):
    if not 2 <= bits <= 8:
        raise ValueError("bits must be 2 to 8")
    scale = x.amax(axis, keepdim=True) / (2 ** (bits - 1) - 1)
    return torch.round(x / scale).to(torch.int8), scale


@bank.mistake(
    "quantize",
    "Your steps reach one too far. Look at how top is made of `bits`.",
)
def quantize_one_step_lower(x, axis, bits=8):
    return _quantize(x, axis, bits, top=2 ** (bits - 1), low=-(2 ** (bits - 1)))


@bank.mistake(
    "quantize",
    "Your steps reach one too far. Look at how top is made of `bits`.",
)
def quantize_scales_one_step_too_far(x, axis, bits=8):
    if not 2 <= bits <= 8:
        raise ValueError("bits must be 2 to 8")
    top = 2 ** (bits - 1)
    scale = x.abs().amax(axis, keepdim=True) / top
    scale = scale.masked_fill(scale == 0, 1)
    return torch.round(x / scale).clamp(-top, top - 1).to(torch.int8), scale


# dequantize

_STEPS = torch.tensor([[7, -3, 0], [-7, 5, 1]], dtype=torch.int8)

bank.calls(
    "dequantize",
    [
        typed(call(_STEPS, torch.tensor([[0.5], [0.125]]))),
        typed(call(_STEPS, torch.tensor([[0.5], [0.125]], dtype=torch.float64))),
        typed(call(_STEPS, torch.tensor([[0.5], [0.125]], dtype=torch.float16))),
        call(_STEPS, torch.tensor([[0.25, 2.0, 0.3]])),
        call(torch.tensor([[127, -127], [100, 3]], dtype=torch.int8), torch.tensor([[2.0], [4.0]])),
    ],
)


@bank.mistake(
    "dequantize",
    "You divide by the scale. Look at what `quantize` did with it.",
)
def dequantize_divides(q, scale):
    return q / scale


@bank.mistake(
    "dequantize",
    "The result is made of whole numbers again: the fractions are lost. Look at the dtype of "
    "each factor.",
)
def dequantize_returns_whole_numbers(q, scale):
    return (q * scale).to(q.dtype)


@bank.mistake(
    "dequantize",
    "The scale was made a whole number first, and a scale below 1 becomes 0. Which of the two, "
    "q or scale, has to change its dtype?",
)
def dequantize_rounds_scale(q, scale):
    return (q * scale.to(torch.int64)).to(scale.dtype)


@bank.mistake(
    "dequantize",
    "Each step is divided by 127 as well. The scale already is what one step is worth.",
)
def dequantize_divides_by_top(q, scale):
    return q.to(scale.dtype) / 127 * scale


@bank.mistake(
    "dequantize",
    "The first scale is used for all slices. Look for an index where the dimension of 1 does "
    "the work.",
)
def dequantize_with_one_scale(q, scale):
    return q.to(scale.dtype) * scale.flatten()[0]


@bank.mistake(
    "dequantize",
    "The scales are joined to the wrong slices: keep the dimension of 1, it says where they "
    "belong.",
)
def dequantize_transposes(q, scale):
    wide = scale.flatten().repeat(-(-q.numel() // scale.numel()))[: q.numel()]
    return q.to(scale.dtype) * wide.reshape(q.shape)


@bank.mistake(
    "dequantize",
    "The result is always float32. It takes the dtype of the scale.",
)
def dequantize_always_to_float32(q, scale):
    return q.float() * scale.float()


@bank.variant("dequantize")
def dequantize_by_promotion(q, scale):
    return q * scale


@bank.variant("dequantize")
def dequantize_by_einsum(q, scale):
    return torch.mul(scale, q.to(scale))


@bank.variant("dequantize")
def dequantize_by_wide_numbers(q, scale):
    return (q.double() * scale.double()).to(scale.dtype)


@bank.variant("dequantize")
def dequantize_by_where(q, scale):
    return torch.where(q == 0, 0, q.to(scale.dtype) * scale)


@bank.mistake(
    "dequantize",
    "The result is float64, whatever the scale is. Look at the dtype that the sentence asks for.",
)
def dequantize_always_to_float64(q, scale):
    return q.double() * scale.double()


# PackedCache

_FOUR = [_numbers(61 + i, 1, 2, 9, 4) for i in range(4)]


def _pack_up(first: int, last: int) -> list[dict]:
    part = slice(first, last)
    return [
        method("append", 0, _FOUR[0][:, :, part], _FOUR[1][:, :, part]),
        method("append", 1, _FOUR[2][:, :, part], _FOUR[3][:, :, part]),
    ]


bank.calls(
    "PackedCache",
    [
        call(2, 3, 1),
        get("n_seen"),
        *_pack_up(0, 3),
        get("n_bytes"),
        *_pack_up(3, 4),
        get("n_seen"),
        get("n_bytes"),
        *_pack_up(4, 5),
        *_in_part(
            "hard",
            call(2, 2, 0),
            *_pack_up(0, 5),
            get("n_bytes"),
            *_pack_up(5, 6),
            *_pack_up(6, 9),
            get("n_seen"),
            method("reset"),
            get("n_seen"),
            get("n_bytes"),
            *_pack_up(0, 2)[:1],
            call(1, 2, 1),
            method("append", 0, _ZEROS, _ZEROS),
            method("append", 0, _ZEROS, _ZEROS),
            method("append", 0, _ZEROS, _ZEROS),
            call(1, 0, 1),
            call(1, 2, -1),
        ),
    ],
)


class _Packed:
    """The right cache, in parts that a mistake can replace."""

    key_axis, value_axis = -2, -1

    def __init__(self, n_layers, group, recent):
        if group < 1 or recent < 0:
            raise ValueError("group must be at least 1, recent at least 0")
        self.n_layers, self.group, self.recent = n_layers, group, recent
        self.reset()

    def reset(self):
        self.k = [[] for _ in range(self.n_layers)]
        self.v = [[] for _ in range(self.n_layers)]
        self.wait = [None] * self.n_layers

    def last_wait(self):
        return 0 if self.wait[-1] is None else self.wait[-1][0].shape[2]

    @property
    def n_seen(self):
        return self.group * len(self.k[-1]) + self.last_wait()

    def held(self):
        for layer in range(self.n_layers):
            for q, scale in self.k[layer] + self.v[layer]:
                yield from (q, scale)
            if self.wait[layer] is not None:
                yield from self.wait[layer]

    @property
    def n_bytes(self):
        return sum(x.numel() * x.element_size() for x in self.held())

    def to_bytes(self, q):
        whole = q.int() + 8
        return (whole[..., 0::2] + 16 * whole[..., 1::2]).to(torch.uint8)

    def to_steps(self, packed):
        whole = packed.int()
        q = torch.empty(*packed.shape[:-1], 2 * packed.shape[-1])
        q[..., 0::2], q[..., 1::2] = (whole % 16 - 8).float(), (whole // 16 - 8).float()
        return q

    def squeeze(self, x, axis):
        top = x.abs().amax(axis, keepdim=True)
        scale = torch.where(top > 0, top / 7, torch.ones_like(top))
        return self.to_bytes((x / scale).round().clamp(-7, 7).to(torch.int8)), scale

    def widen(self, q, scale):
        return self.to_steps(q).to(scale.dtype) * scale

    def ready(self, n_waiting):
        return n_waiting >= self.group + self.recent

    def pack(self, layer, k, v):
        while self.ready(k.shape[2]):
            old = slice(0, self.group)
            self.k[layer].append(self.squeeze(k[:, :, old], self.key_axis))
            self.v[layer].append(self.squeeze(v[:, :, old], self.value_axis))
            k, v = k[:, :, self.group :], v[:, :, self.group :]
        self.wait[layer] = k, v

    def whole(self, layer, k, v):
        keys = [self.widen(*pair) for pair in self.k[layer]]
        values = [self.widen(*pair) for pair in self.v[layer]]
        return torch.cat([*keys, k], 2), torch.cat([*values, v], 2)

    def append(self, layer, k, v):
        n_new = k.shape[2]
        if self.wait[layer] is not None:
            k, v = (torch.cat(pair, 2) for pair in zip(self.wait[layer], (k, v), strict=True))
        keys, values = self.whole(layer, k, v)
        self.pack(layer, k, v)
        return keys, values, _mask(n_new, keys.shape[2])


@bank.mistake(
    "PackedCache",
    "There is still one number a byte. Look at the example above: how do 11 and 3 get into one?",
)
class PackedOneAByte(_Packed):
    def to_bytes(self, q):
        return (q + 8).to(torch.uint8)

    def to_steps(self, packed):
        return packed.float() - 8


@bank.mistake(
    "PackedCache",
    "The two numbers of a byte come back in the wrong order. Look at which of them, low "
    "or high, stood at the even place.",
)
class PackedSwapsHalves(_Packed):
    def to_steps(self, packed):
        return super().to_steps(packed).unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


@bank.mistake(
    "PackedCache",
    "All numbers come back eight steps too large. Look at what was added before packing.",
)
class PackedKeepsTheEight(_Packed):
    def to_steps(self, packed):
        return super().to_steps(packed) + 8


@bank.mistake(
    "PackedCache",
    "Negative steps are cut off. Look at the example above: what happens to −5 on its way"
    " into the byte?",
)
class PackedLosesSigns(_Packed):
    def to_bytes(self, q):
        return super().to_bytes(q.clamp(min=0) if q.dtype == torch.int8 else q)


@bank.mistake(
    "PackedCache",
    "Keys have a scale for each token. Look at which of their numbers share one in the statement.",
)
class PackedKeysByToken(_Packed):
    key_axis = -1


@bank.mistake(
    "PackedCache",
    "Values have a scale for each channel. Look at which of their numbers share one in "
    "the statement.",
)
class PackedValuesByChannel(_Packed):
    value_axis = -2


@bank.mistake(
    "PackedCache",
    "Tokens are packed as soon as a group is full, so nothing recent is left as it came. "
    "Look at the table: with how many tokens is the first group packed?",
)
class PackedForgetsRecent(_Packed):
    def ready(self, n_waiting):
        return n_waiting >= self.group


@bank.mistake(
    "PackedCache",
    "Packing begins one token too late. Look at the comparison that starts it.",
)
class PackedWaitsTooLong(_Packed):
    def ready(self, n_waiting):
        return n_waiting > self.group + self.recent


@bank.mistake(
    "PackedCache",
    "Nothing is ever packed: all numbers are still held as they came. Look at what "
    "happens once the result is made.",
)
class PackedNever(_Packed):
    def ready(self, n_waiting):
        return False


@bank.mistake(
    "PackedCache",
    "You pack before you return, so new tokens come back rounded at once. Look at the "
    "order of the two in the table.",
)
class PackedRoundsFirst(_Packed):
    def append(self, layer, k, v):
        n_new = k.shape[2]
        if self.wait[layer] is not None:
            k, v = (torch.cat(pair, 2) for pair in zip(self.wait[layer], (k, v), strict=True))
        self.pack(layer, k, v)
        keys, values = self.whole(layer, *self.wait[layer])
        return keys, values, _mask(n_new, keys.shape[2])


@bank.mistake(
    "PackedCache",
    "The newest tokens were packed, and the oldest left waiting. Look at which end of the"
    " waiting tokens you take.",
)
class PackedPacksNewest(_Packed):
    def pack(self, layer, k, v):
        while self.ready(k.shape[2]):
            new = slice(k.shape[2] - self.group, k.shape[2])
            self.k[layer].append(self.squeeze(k[:, :, new], self.key_axis))
            self.v[layer].append(self.squeeze(v[:, :, new], self.value_axis))
            k, v = k[:, :, : -self.group], v[:, :, : -self.group]
        self.wait[layer] = k, v


@bank.mistake(
    "PackedCache",
    "n_seen counts only the tokens that wait. Look at where the others are.",
)
class PackedForgetsPackedTokens(_Packed):
    @property
    def n_seen(self):
        return self.last_wait()


@bank.mistake(
    "PackedCache",
    "n_bytes leaves out the scales. Look at all that a packed group consists of.",
)
class PackedForgetsScales(_Packed):
    def held(self):
        for layer in range(self.n_layers):
            yield from (q for q, _ in self.k[layer] + self.v[layer])
            yield from self.wait[layer] or ()


@bank.mistake(
    "PackedCache",
    "n_bytes leaves out the tokens that wait, as they came. Look at all that a layer holds.",
)
class PackedForgetsWaiting(_Packed):
    def held(self):
        for layer in range(self.n_layers):
            for pair in self.k[layer] + self.v[layer]:
                yield from pair


@bank.mistake(
    "PackedCache",
    "Zeros have the scale 0 in your code, and 0 / 0 is nan. Look at the scale that "
    "`quantize` gives a slice of zeros.",
)
class PackedDividesByZero(_Packed):
    def squeeze(self, x, axis):
        q, _ = super().squeeze(x, axis)
        return q, x.abs().amax(axis, keepdim=True) / 7

    def widen(self, q, scale):
        return super().widen(q, scale) * (scale / scale)


@bank.mistake(
    "PackedCache",
    "After reset() the packed groups are still there. Compare it with what __init__ sets up.",
)
class PackedResetsHalf(_Packed):
    def reset(self):
        if hasattr(self, "k"):
            self.wait = [None] * self.n_layers
        else:
            super().reset()


@bank.mistake(
    "PackedCache",
    "A group below 1, or fewer than 0 recent tokens, was let through. Look at the first "
    "row of the table.",
)
class PackedAcceptsAnything(_Packed):
    def __init__(self, n_layers, group, recent):
        self.n_layers, self.group, self.recent = n_layers, group, recent
        self.reset()


@bank.variant("PackedCache")
class PackedByParts(_Packed):
    """Nothing but the parts of the mistakes, none of them replaced."""


@bank.variant("PackedCache")
class PackedHalvesOfTheWidth(_Packed):
    """The first half of the channels shares bytes with the second half."""

    def to_bytes(self, q):
        low, high = (q + 8).to(torch.uint8).chunk(2, dim=-1)
        return high << 4 | low

    def to_steps(self, packed):
        return torch.cat((packed & 15, packed >> 4), dim=-1).float() - 8


@bank.variant("PackedCache")
class PackedInTwosComplement(_Packed):
    """Negative numbers as 4 bits of two's complement, with no 8 added."""

    def to_bytes(self, q):
        nibbles = q.to(torch.int16) & 15
        return (nibbles[..., ::2] | nibbles[..., 1::2] << 4).to(torch.uint8)

    def to_steps(self, packed):
        nibbles = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).float()
        return torch.where(nibbles > 7, nibbles - 16, nibbles)


@bank.variant("PackedCache")
class PackedOneBlockPerLayer(_Packed):
    """All groups of a layer joined into one tensor, scales side by side."""

    def pack(self, layer, k, v):
        n = (max(0, k.shape[2] - self.recent) // self.group) * self.group
        for held, x, axis in ((self.k, k, -2), (self.v, v, -1)):
            for part in x[:, :, :n].split(self.group, dim=2) if n else ():
                q, scale = self.squeeze(part, axis)
                if held[layer]:
                    old, scales = held[layer][0]
                    q, scale = torch.cat((old, q), 2), torch.cat((scales, scale), 2)
                held[layer] = [(q, scale)]
        self.wait[layer] = k[:, :, n:], v[:, :, n:]

    def widen(self, q, scale):
        each = q.shape[2] // scale.shape[2]
        return super().widen(q, scale.repeat_interleave(each, dim=2))

    @property
    def n_seen(self):
        packed = self.k[-1][0][0].shape[2] if self.k[-1] else 0
        return packed + self.last_wait()


@bank.variant("PackedCache")
class PackedWithNumpy(_Packed):
    def to_bytes(self, q):
        whole = q.numpy().astype(np.int16) + 8
        return torch.from_numpy((whole[..., ::2] * 16 + whole[..., 1::2]).astype(np.uint8))

    def to_steps(self, packed):
        high, low = np.divmod(packed.numpy().astype(np.int16), 16)
        return torch.from_numpy(np.stack((high, low), -1).astype(np.float32) - 8).flatten(-2)


# latent_attention

_L = _numbers(71, 2, 5, 24)

bank.calls(
    "latent_attention",
    [
        call(_L[:, :4], Given("latent_weights"), Given("latent_cache"), 0, 0, False),
        call(_L[:, :4], Given("latent_weights"), Given("latent_cache"), 1, 0, True),
        call(_L[:, 4:], Given("latent_weights"), Given("latent_cache"), 0, 4, False),
        call(_L[:, 4:], Given("latent_weights"), Given("latent_cache"), 1, 4, True),
        hard(
            call(30 * _L[:, :2], Given("latent_weights"), Given("latent_cache"), 2, 0, False),
            "hard",
        ),
        hard(
            call(30 * _L[:, :2], Given("latent_weights"), Given("latent_cache"), 3, 0, True), "hard"
        ),
        *(
            hard(
                call(
                    torch.tensor([[[1.0, -2.0, 0.0, 1.0, 3.0]]], dtype=torch.float64),
                    Given(f"weights_of_huge_{what}"),
                    Given(f"latents_of_huge_{what}"),
                    0,
                    7,
                    True,
                ),
                "absorbed",
            )
            for what in ("keys", "values")
        ),
    ],
)
bank.terms("latent_attention", output="text token number")


def _latent(
    x, w, cache, layer, absorb, scale=None, masked=True, swap=False, mix=False, kept=None, last=True
):
    """Attend by latents; the arguments after `absorb` are what mistakes change."""
    new = x @ w.w_d.T
    latents, mask = cache.append(layer, new if kept is None else kept(new))
    H, D = w.n_heads, w.head_dim
    q = torch.stack((x @ w.w_q.T).chunk(H, dim=-1), 1)
    up_k, up_v = (w.w_uv, w.w_uk) if swap else (w.w_uk, w.w_uv)
    if mix:  # head h gets every H-th row
        up_k, up_v = (torch.cat([u[h::H] for h in range(H)]) for u in (up_k, up_v))
    outputs = []
    for h in range(H):
        rows = slice(h * D, (h + 1) * D)
        if absorb:
            scores = torch.einsum("bld,dr,bsr->bls", q[:, h], up_k[rows], latents)
        else:
            scores = q[:, h] @ (latents @ up_k[rows].T).mT
        scores = scores / (D**0.5 if scale is None else scale(w))
        if masked:
            scores = scores.masked_fill(~mask, -torch.inf)
        shares = scores.softmax(-1)
        if absorb:
            outputs.append(torch.einsum("bls,bsr,dr->bld", shares, latents, up_v[rows]))
        else:
            outputs.append(shares @ (latents @ up_v[rows].T))
    heads = torch.cat(outputs, -1)
    return heads @ w.w_o.T if last else heads


@bank.mistake(
    "latent_attention",
    "The scores are divided by √R. Look at how many numbers a query and a key have, "
    "however their product is computed.",
)
def latent_scaled_by_rank(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, lambda w: w.w_d.shape[0] ** 0.5)


@bank.mistake("latent_attention", "The scores have no scale. Look at the sentence below the table.")
def latent_without_scale(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, lambda w: 1.0)


@bank.mistake(
    "latent_attention",
    "The scores are divided by the root of all heads' width together. Look at how many "
    "numbers one head has.",
)
def latent_scaled_by_all_heads(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, lambda w: w.w_q.shape[0] ** 0.5)


@bank.mistake(
    "latent_attention",
    "Tokens see what comes after them. Look at the second thing that `cache.append` returns.",
)
def latent_without_mask(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, masked=False)


@bank.mistake(
    "latent_attention",
    "Keys are made with w_uv, and values with w_uk. Look at the two names in your code.",
)
def latent_swaps_the_ups(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, swap=True)


@bank.mistake(
    "latent_attention",
    "The heads are cut the wrong way: yours take every H-th row. Look at which rows of "
    "w_uk and w_uv belong to head 0.",
)
def latent_mixes_heads(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, mix=True)


@bank.mistake(
    "latent_attention",
    "The heads come back side by side, but never mixed. Look for the matrix that is not used yet.",
)
def latent_without_output(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb, last=False)


@bank.mistake(
    "latent_attention",
    "With absorb=True, w_uk is used twice, and w_uv not at all. Look at what becomes of "
    "the mix of latents.",
)
def latent_absorbs_keys_twice(x, weights, cache, layer, start, absorb):
    if not absorb:
        return _latent(x, weights, cache, layer, absorb)
    twice = LatentWeights(
        weights.w_q, weights.w_d, weights.w_uk, weights.w_uk, weights.w_o,
        weights.n_heads, weights.head_dim,
    )  # fmt: skip
    return _latent(x, twice, cache, layer, absorb)


@bank.mistake(
    "latent_attention",
    "With absorb=True, the scale has become √R. Look at whether other brackets change a "
    "score at all.",
)
def latent_scaled_by_rank_when_absorbed(x, weights, cache, layer, start, absorb):
    scale = (lambda w: w.w_d.shape[0] ** 0.5) if absorb else None
    return _latent(x, weights, cache, layer, absorb, scale)


@bank.mistake(
    "latent_attention",
    "Only the new latents are attended to. Look at what `cache.append` returns.",
)
def latent_forgets_the_past(x, weights, cache, layer, start, absorb):
    cache.append(layer, x @ weights.w_d.T)
    return _latent(x, weights, LatentCache(), layer, absorb)


@bank.mistake(
    "latent_attention",
    "All layers share one store. Look at what you hand to `cache.append`.",
)
def latent_always_layer_zero(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, 0, absorb)


@bank.mistake(
    "latent_attention",
    "With absorb=True, keys or values of the past are made all the same. Look at each "
    "product with latents: where else may its brackets stand?",
)
def latent_never_absorbs(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, False)


@bank.mistake(
    "latent_attention",
    "x is changed, and the caller still needs it. Look for `*=`, or a method that ends in _.",
)
def latent_changes_x(x, weights, cache, layer, start, absorb):
    got = _latent(x.clone(), weights, cache, layer, absorb)
    x *= 0
    return got


@bank.variant("latent_attention")
def latent_head_by_head(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, absorb)


@bank.variant("latent_attention")
def latent_always_absorbs(x, weights, cache, layer, start, absorb):
    return _latent(x, weights, cache, layer, True)


@bank.variant("latent_attention")
def latent_with_absorbed_weights(x, weights, cache, layer, start, absorb):
    """One matrix for each head in place of w_q and w_uk, and one in place of w_uv and w_o."""
    w, (H, D) = weights, (weights.n_heads, weights.head_dim)
    latents, mask = cache.append(layer, F.linear(x, w.w_d))
    asks = torch.einsum("hdr,hde->hre", w.w_uk.view(H, D, -1), w.w_q.view(H, D, -1))
    gives = torch.einsum("ehd,hdr->her", w.w_o.view(-1, H, D), w.w_uv.view(H, D, -1))
    queries = torch.einsum("hre,ble->bhlr", asks, x)
    bias = torch.zeros(mask.shape, dtype=x.dtype).masked_fill(mask.logical_not(), -torch.inf)
    shares = torch.softmax(queries @ latents.mT.unsqueeze(1) / D**0.5 + bias, dim=-1)
    return torch.einsum("bhlr,her->ble", shares @ latents.unsqueeze(1), gives)


@bank.variant("latent_attention")
def latent_by_the_framework(x, weights, cache, layer, start, absorb):
    """PyTorch's own attention, over latents or over keys and values."""
    w, (H, D) = weights, (weights.n_heads, weights.head_dim)
    latents, mask = cache.append(layer, F.linear(x, w.w_d))
    q = F.linear(x, w.w_q).unflatten(-1, (H, D)).movedim(2, 1)
    up_k, up_v = w.w_uk.view(H, D, -1), w.w_uv.view(H, D, -1)
    every = latents.unsqueeze(1).expand(-1, H, -1, -1)
    if absorb:
        mixed = F.scaled_dot_product_attention(q @ up_k, every, every, mask, scale=D**-0.5)
        heads = mixed @ up_v.mT
    else:
        heads = F.scaled_dot_product_attention(q, every @ up_k.mT, every @ up_v.mT, mask)
    return F.linear(heads.movedim(1, 2).flatten(2), w.w_o)


# decode_step_seconds (optional: a visible check only)

_LLAMA = dict(model_shape("Llama-3.1-8B"))
_WHOLE = {**_LLAMA, "weight_bytes": _LLAMA["parameters"]}

bank.calls(
    "decode_step_seconds",
    [
        call(_LLAMA, 1000, 1, 1e12, 1e14),
        call(_LLAMA, 100_000, 1, 1e12, 1e14),
        call(_LLAMA, 1000, 64, 1e12, 1e14),
        call(_LLAMA, 100, 512, 1e12, 1e14),
        call(_LLAMA, 8000, 8, 1e14, 1e12),
        call(_WHOLE, 200_000, 2, 1e12, 1e14),
    ],
)


def _step(
    shape, n_tokens, batch, bandwidth, peak, weights=1, cache=None, queries=4, join=max, whole=True
):
    held = cache_bytes(shape, n_tokens, batch) if cache is None else cache
    held *= shape["weight_bytes"] / shape["parameters"] / 2 if whole else 1
    moved = weights * shape["weight_bytes"] + held
    width = shape["n_heads"] * shape["head_dim"] * shape["n_layers"]
    operations = 2 * shape["parameters"] * batch + queries * width * n_tokens * batch
    return join(moved / bandwidth, operations / peak)


@bank.mistake(
    "decode_step_seconds",
    "Both times are added. Moving and computing overlap: the longer one counts.",
)
def step_adds(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, join=lambda a, b: a + b)


@bank.mistake(
    "decode_step_seconds",
    "The weights are read once for each text. They are read once a step, for the whole batch: that "
    "is why batches pay.",
)
def step_reads_weights_for_each(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, weights=batch)


@bank.mistake(
    "decode_step_seconds",
    "The cache of one text is read, whatever the batch. Each text has a cache of its own.",
)
def step_reads_one_cache(shape, n_tokens, batch, bandwidth, peak):
    cache = cache_bytes(shape, n_tokens)
    return _step(shape, n_tokens, batch, bandwidth, peak, cache=cache)


@bank.mistake(
    "decode_step_seconds",
    "The cache is missing: only the weights are read. Each step reads every text's keys and "
    "values, too.",
)
def step_without_cache(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, cache=0)


@bank.mistake(
    "decode_step_seconds",
    "The cache is counted with the query heads. Look at which heads it holds.",
)
def step_counts_query_heads(shape, n_tokens, batch, bandwidth, peak):
    cache = cache_bytes({**shape, "n_kv_heads": shape["n_heads"]}, n_tokens, batch)
    return _step(shape, n_tokens, batch, bandwidth, peak, cache=cache)


@bank.mistake(
    "decode_step_seconds",
    "The shorter of the two times comes back. Nothing can be ready before the slower part is.",
)
def step_takes_the_shorter(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, join=min)


@bank.mistake(
    "decode_step_seconds",
    "The cache's numbers always have 2 bytes. They have as many as the weights': the shape "
    "says how many.",
)
def step_with_two_bytes(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, whole=False)


@bank.mistake(
    "decode_step_seconds",
    "Keys or values are missing from the cache's bytes. Look at what is kept for each token.",
)
def step_reads_keys_only(shape, n_tokens, batch, bandwidth, peak):
    cache = cache_bytes(shape, n_tokens, batch) / 2
    return _step(shape, n_tokens, batch, bandwidth, peak, cache=cache)


@bank.mistake(
    "decode_step_seconds",
    "Attention itself is not computed: only the weights are multiplied. Look at both parts of the "
    "operations.",
)
def step_without_attention(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak, queries=0)


@bank.variant("decode_step_seconds")
def step_by_ratio(shape, n_tokens, batch, bandwidth, peak):
    return _step(shape, n_tokens, batch, bandwidth, peak)


@bank.variant("decode_step_seconds")
def step_in_plain_steps(shape, n_tokens, batch, bandwidth, peak):
    size = shape["weight_bytes"] / shape["parameters"]
    numbers = 2 * shape["n_layers"] * shape["n_kv_heads"] * shape["head_dim"] * n_tokens
    loading = (shape["weight_bytes"] + batch * numbers * size) / bandwidth
    attending = 4 * shape["n_layers"] * shape["n_heads"] * shape["head_dim"] * n_tokens
    computing = batch * (2 * shape["parameters"] + attending) / peak
    return loading if loading > computing else computing


@bank.variant("decode_step_seconds")
def step_by_torch(shape, n_tokens, batch, bandwidth, peak):
    times = torch.tensor(
        [
            _step(shape, n_tokens, batch, bandwidth, peak, join=lambda a, _: a),
            _step(shape, n_tokens, batch, bandwidth, peak, join=lambda _, b: b),
        ],
        dtype=torch.float64,
    )
    return times.max().item()
