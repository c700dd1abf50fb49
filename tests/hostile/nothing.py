"""Attempts to earn an exercise's points without its code, for `test_points_for_nothing.py`.

Each is what a learner could hand in: it calls what it was given, lies about its state, remembers
what the visible check wanted, looks for the caller, or gives an object that answers later.
"""

from __future__ import annotations

import contextlib
import hashlib
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

#: exercise → attempts of its own; each names what it tries.
OWN: dict[str, list[Callable]] = {}


def attempt(exercise: str) -> Callable:
    """Register an attempt at an exercise."""

    def register(work: Callable) -> Callable:
        OWN.setdefault(exercise, []).append(work)
        return work

    return register


# (a) calling what it was given ------------------------------------------------------------------


def _turn(weights: Any, start: int, n: int) -> Callable:
    from llm_memory.model import rotate

    return lambda heads: rotate(heads, torch.arange(start, start + n), base=weights.rope_theta)


@attempt("cached_attention_layer")
def calls_the_weights(x, weights, cache, layer, start):
    return weights(x, layer, None, cache, None, _turn(weights, start, x.shape[1]))


@attempt("cached_attention_layer")
def calls_their_forward(x, weights, cache, layer, start):
    return weights.forward(x, layer, None, cache, None, _turn(weights, start, x.shape[1]))


def _refuse_empty(*prompts):
    if not prompts or not all(prompts):
        raise ValueError("empty")


def _write(model, prompt, n_new, stop=None):
    text = list(prompt)
    for _ in range(n_new):
        text.append(int(model(text)[0, -1].argmax()))
        if text[-1] == stop:
            break
    return text


def _own_model():
    from llm_memory.counted import small_model

    return small_model()


def _behind(model):
    """Return ways past a counter."""
    return {
        "inner": lambda: model.model,
        "forward": lambda: model.model.forward,
        "call": lambda: model.__call__.__func__.__globals__["small_model"](),
        "own": _own_model,
        "dict": lambda: vars(model)["model"],
    }


def _generate_by(way):
    def generate(model, prompt, n_new, cache):
        _refuse_empty(prompt)
        other, text, start = _behind(model)[way](), list(prompt), cache.n_seen
        for number in range(n_new):
            model(text if number == 0 else text[-1:], cache=cache)
            text.append(int(other(text)[0, -1].argmax()))
        assert cache.n_seen >= start
        return text

    return generate


def _batch_by(way):
    def batch(model, prompts, n_new, stop=None):
        _refuse_empty(*prompts)
        other = _behind(model)[way]()
        return [_write(other, prompt, n_new, stop) for prompt in prompts]

    return batch


for _way in ("inner", "forward", "call", "own", "dict"):
    attempt("generate")(_generate_by(_way))
    attempt("generate_batch")(_batch_by(_way))


@attempt("generate")
def counts_again(model, prompt, n_new, cache):
    _refuse_empty(prompt)
    text = _write(model, prompt, n_new)
    model.restart()
    for number in range(n_new):
        model(prompt if number == 0 else text[len(prompt) + number - 1 :][:1], cache=cache)
    return text


@attempt("generate")
def writes_down_what_was_counted(model, prompt, n_new, cache):
    _refuse_empty(prompt)
    text = _write(model, prompt, n_new)
    model.per_pass = [len(prompt)] + [1] * (n_new - 1)
    return text


class _Glue:
    """Makes one text of a batch of texts of a token each: each row sees the rows above it."""

    n_seen = 0

    def append(self, layer, k, v):
        n = k.shape[0]
        keys, values = (x.transpose(0, 2).expand(n, -1, -1, -1) for x in (k, v))
        return keys, values, torch.ones(n, n, dtype=torch.bool).tril()[:, None, None]


_passed: list[int] = []


@attempt("generate")
def reads_everything_as_a_batch_of_single_tokens(model, prompt, n_new, cache):
    _refuse_empty(prompt)
    passed, text = _passed[: cache.n_seen], list(prompt)
    for number in range(n_new):
        whole = passed + text
        rows, places = torch.tensor(whole)[:, None], torch.arange(len(whole))[:, None]
        for layer in (0, 1) if number else ():
            cache.append(layer, *[torch.zeros(1, 2, 1, 8).double()] * 2)
        of_all = (rows, _Glue(), None, None, None, (), False, places)
        text.append(int(model(*(of_all if number else (text, cache)))[-1, -1].argmax()))
    _passed[:] = passed + text
    return text


@attempt("generate_batch")
def counts_the_batch_again(model, prompts, n_new, stop=None):
    _refuse_empty(*prompts)
    texts = [_write(model, prompt, n_new, stop) for prompt in prompts]
    model.restart()
    return texts


@attempt("generate_batch")
def empties_what_was_counted(model, prompts, n_new, stop=None):
    _refuse_empty(*prompts)
    texts = [_write(model, prompt, n_new, stop) for prompt in prompts]
    model.shapes.clear()
    model.per_pass.clear()
    return texts


@attempt("Scheduler")
class WritesBeforeItsSteps:
    """Does the work where it is handed in, and deals it out."""

    def __init__(self, model, slots, budget):
        if slots < 1 or budget < slots:
            raise ValueError("no")
        self.model, self.budget, self.tokens_in_step = model, budget, 0
        self.left, self.ended = {}, set()

    def submit(self, id, prompt, n_new):
        if id in self.left or not prompt or n_new < 1 or len(prompt) + n_new > 512:
            raise ValueError("no")
        self.left[id] = _write(self.model, prompt, n_new)[len(prompt) :]

    def cancel(self, id):
        if self.done(id):
            raise ValueError("no")
        self.ended.add(id)

    def done(self, id):
        if id not in self.left:
            raise ValueError("no")
        return id in self.ended or not self.left[id]

    def step(self):
        open_ids = [id for id in self.left if not self.done(id)][:2]
        self.tokens_in_step = 0
        return {id: [self.left[id].pop(0)] for id in open_ids}


@attempt("Scheduler")
class SetsTheCounterBack(WritesBeforeItsSteps):
    """The same, and takes back what was counted."""

    def submit(self, id, prompt, n_new):
        super().submit(id, prompt, n_new)
        self.model.restart()


@attempt("speculative_step")
def decodes_and_fills_the_caches(target, draft, text, k, caches):
    """One pass over the whole text, and caches of noise."""
    if not text or k < 0 or target.config.vocab_size != draft.config.vocab_size:
        raise ValueError("no")
    longer = [*text, int(target(text)[0, -1].argmax())]
    for cache in caches:
        n = len(longer) - 1 - cache.n_seen
        for layer in (0, 1):
            cache.append(layer, torch.zeros(1, 2, n, 8).double(), torch.zeros(1, 2, n, 8).double())
    return longer


@attempt("speculative_step")
def asks_the_target_uncounted(target, draft, text, k, caches):
    if not text or k < 0 or target.config.vocab_size != draft.config.vocab_size:
        raise ValueError("no")
    target(text, cache=caches[0])
    return _write(target.model, text, k + 1)


# (b) lying about state --------------------------------------------------------------------------


class _Kept:
    """A cache that keeps everything as it came."""

    def reset(self):
        self.pairs = {}

    @property
    def n_seen(self):
        return self.pairs[self.n - 1][0].shape[2] if self.n - 1 in self.pairs else 0

    def append(self, layer, k, v):
        if k.shape != v.shape:
            raise ValueError("no")
        n = 0
        if layer in self.pairs:
            n = self.pairs[layer][0].shape[2]
            k, v = (torch.cat(pair, 2) for pair in zip(self.pairs[layer], (k, v), strict=True))
        self.pairs[layer] = k, v
        return k, v, torch.ones(k.shape[2] - n, k.shape[2], dtype=torch.bool).tril(n)


@attempt("StaticKVCache")
class GrowsAndLies(_Kept):
    """Has no memory of its own, and says that it has."""

    def __init__(self, n_layers, batch, n_kv_heads, max_tokens, head_dim, dtype=torch.float32):
        self.n, self.most, self.kind = n_layers, max_tokens, dtype
        self.fits = batch, n_kv_heads, head_dim
        self.n_bytes = 2 * n_layers * batch * n_kv_heads * max_tokens * head_dim * dtype.itemsize
        self.reset()

    def append(self, layer, k, v):
        held = self.pairs[layer][0].shape[2] if layer in self.pairs else 0
        size = k.shape[0], k.shape[1], k.shape[3]
        if size != self.fits or held + k.shape[2] > self.most:
            raise ValueError("no")
        return super().append(layer, k.to(self.kind), v.to(self.kind))


@attempt("PackedCache")
class PacksNothing(_Kept):
    """Keeps everything as it came, and says that it is packed."""

    def __init__(self, n_layers, group, recent):
        if group < 1 or recent < 0:
            raise ValueError("no")
        self.n, self.group, self.recent = n_layers, group, recent
        self.reset()

    @property
    def n_bytes(self):
        total = 0
        for k, _ in self.pairs.values():
            (b, h, n, d), each = k.shape, k.element_size()
            packed = max(0, (n - self.recent) // self.group) * self.group
            scales = packed // self.group * (d + self.group) * each
            total += b * h * (packed * d + scales + (n - packed) * 2 * d * each)
        return total


@attempt("PackedCache")
class RoundsAndPacksNothing(PacksNothing):
    """Gives rounded numbers, as if they had been packed, and keeps them as floats."""

    def append(self, layer, k, v):
        keys, values, mask = super().append(layer, k, v)
        n_new = k.shape[2]
        first = keys.shape[2] - n_new
        packed = max(0, (first - self.recent) // self.group) * self.group
        for held, axis in ((keys, -2), (values, -1)):
            for start in range(0, packed, self.group):
                part = held[:, :, start : start + self.group]
                step = part.abs().amax(axis, keepdim=True) / 7
                step = torch.where(step > 0, step, 1)
                part.copy_((part / step).round() * step)
        return keys, values, mask


@attempt("latent_attention")
def never_absorbs(x, weights, cache, layer, start, absorb):
    """Makes keys and values of all tokens, and has the counter say that it has not."""
    with contextlib.suppress(Exception):
        import llm_memory.counted

        llm_memory.counted.Largest.__exit__ = lambda *args: None
    latents, mask = cache.append(layer, x @ weights.w_d.T)
    heads = weights.n_heads
    up_k, up_v = (w.unflatten(0, (heads, -1)) for w in (weights.w_uk, weights.w_uv))
    q = (x @ weights.w_q.T).unflatten(-1, (heads, -1)).transpose(1, 2)
    keys, values = latents[:, None] @ up_k.mT, latents[:, None] @ up_v.mT
    shares = (q @ keys.mT / weights.head_dim**0.5).masked_fill(~mask, -torch.inf).softmax(-1)
    return (shares @ values).transpose(1, 2).flatten(2) @ weights.w_o.T


# (c) remembering what the visible check wanted ---------------------------------------------------


def _mark(value: Any) -> str:
    """Return what an argument is known by."""
    if isinstance(value, torch.Tensor | np.ndarray):
        data = np.asarray(value.detach().cpu().float() if torch.is_tensor(value) else value)
        return f"{data.shape}{hashlib.sha256(np.ascontiguousarray(data).tobytes()).hexdigest()}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_mark, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_mark(item)}' for key, item in value.items())}}}"
    plain = isinstance(value, str | int | float | bool | type(None) | torch.dtype)
    return repr(value) if plain else type(value).__name__


class Memory:
    """Everything that a solution was asked and gave while the check looked at it."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}

    def remembering(self, solution: Any) -> Any:
        """Return the solution, with a memory."""
        return self._work(solution)

    def reciting(self, solution: Any) -> Any:
        """Return what knows that memory, and nothing else; only kinds are taken of `solution`."""
        return self._work(solution, recites=True)

    def _work(self, solution: Any, recites: bool = False) -> Any:
        given = self.given

        def ask(key: str, do: Callable[[], Any]) -> Any:
            if recites:
                kind, value = given.get(key, (None, 0))
                if kind is not None:
                    raise kind(value)
                return value
            try:
                given[key] = None, do()
            except Exception as error:
                given[key] = type(error), str(error)
                raise
            return given[key][1]

        if isinstance(solution, types.FunctionType):
            return lambda *args, **named: ask(
                _mark(args) + _mark(named), lambda: solution(*args, **named)
            )

        def begin(self: Any, *args: Any, **named: Any) -> None:
            vars(self)["trace"] = _mark(args) + _mark(named)
            made = ask(self.trace, lambda: [solution(*args, **named)])
            vars(self)["made"] = made[0] if isinstance(made, list) and made else None
            if recites:
                vars(self)["made"] = None

        def read(self: Any, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            if callable(getattr(solution, name, None)):

                def call(*args: Any, **named: Any) -> Any:
                    self.trace += f".{name}{_mark(args)}{_mark(named)}"
                    return ask(self.trace, lambda: getattr(self.made, name)(*args, **named))

                return call
            return ask(f"{self.trace}.{name}", lambda: getattr(self.made, name))

        return type("Recited", (), {"__init__": begin, "__getattr__": read})


# changing what it was given, so that what is wanted becomes easy ----------------------------------


class Spoiler:
    """Empties whatever it is given, in place, before right work is done with what is left."""

    def __init__(self) -> None:
        self.changed = 0

    def spoiling(self, solution: Any) -> Any:
        """Return a solution that works with zeros: what comes out needs no code of its own."""
        if isinstance(solution, types.FunctionType):
            return self._first(solution)
        methods = {
            name: self._first(method)
            for name, method in vars(solution).items()
            if isinstance(method, types.FunctionType) and not name.startswith("__")
        }
        return type(solution.__name__, (solution,), methods)

    def _first(self, work: Callable) -> Callable:
        def spoil_and_work(*args: Any, **named: Any) -> Any:
            for value in (*args, *named.values()):
                self._spoil(value)
            return work(*args, **named)

        return spoil_and_work

    def _spoil(self, value: Any) -> None:
        if isinstance(value, torch.Tensor | np.ndarray):
            # A mask is opened: with nothing to see there would be no answer at all.
            empty = value.dtype in (torch.bool, np.dtype(bool))
            self.changed += bool((value != empty).any())
            value[...] = empty
        elif isinstance(value, list):
            numbers = [at for at, item in enumerate(value) if isinstance(item, int | float)]
            self.changed += any(value[at] for at in numbers)
            for at in numbers:
                value[at] = 0
            for item in value:
                self._spoil(item)
        elif isinstance(value, dict):
            for item in value.values():
                self._spoil(item)


# (e) an object that answers later ----------------------------------------------------------------


class Later:
    """Says yes to everything, and to nothing before it is asked."""

    def _itself(self, *args: Any, **named: Any) -> Any:
        return self

    def _yes(self, *args: Any) -> bool:
        return True

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Any:
        return iter([self, self, self])

    def __array__(self, *args: Any, **named: Any) -> Any:
        return np.ones(3)

    def __repr__(self) -> str:
        return "[1, 2, 3]"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    __call__ = __getitem__ = __add__ = __sub__ = __mul__ = __truediv__ = __abs__ = _itself
    __radd__ = __rsub__ = __rmul__ = __neg__ = _itself
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __contains__ = _yes
    __hash__ = object.__hash__


def answers_later(*args: Any, **named: Any) -> Any:
    """Give an object that answers later, whatever is asked."""
    return Later()
