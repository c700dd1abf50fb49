"""How learners get the exercises on many texts at once wrong, and what else is right."""

from __future__ import annotations

import hashlib
import heapq

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from course_tools.mistakes.bank import Bank, Given, call, get, hard, method, passed
from llm_memory.check.given import make
from llm_memory.serving import Lanes, padded
from llm_memory.streaming import ModelCache

bank = Bank("serving")


def _numbers(seed: int, *shape: int) -> torch.Tensor:
    """Return numbers with two decimals, so that a fingerprint file holds them exactly."""
    return torch.from_numpy(np.round(np.random.RandomState(seed).standard_normal(shape), 2))


# pad_batch

bank.terms("pad_batch", ids="text token", positions="text token", mask="text head query key")
bank.calls(
    "pad_batch",
    [
        call([[7, 2, 5, 9], [3], [8, 6]], 1),
        call([[4, 4], [5, 1]], 0),
        call([[8], [2, 9, 4]], 5),
        hard(call([[6, 3, 6], [6, 6]], 6)),
        hard(call([[2]], 0)),
        hard(call([], 0)),
        hard(call([[3, 4], []], 0)),
    ],
)


def _need(prompts):
    if len(prompts) == 0:
        raise ValueError("no prompts")
    for prompt in prompts:
        if len(prompt) == 0:
            raise ValueError("an empty prompt")


def _padded(prompts, pad, real=None, causal=True, diagonal=True, positions=None, right=False):
    _need(prompts)
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    is_real = torch.zeros(ids.shape, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        start = 0 if right else width - len(prompt)
        ids[row, start : start + len(prompt)] = torch.tensor(prompt, dtype=torch.long)
        is_real[row, start : start + len(prompt)] = True
    counted = (is_real.cumsum(1) - 1).clamp(min=0)
    if right:
        counted = counted * is_real
    shown = is_real if real is None else real(ids)
    mask = shown[:, None, :].expand(-1, width, -1).clone()
    if causal:
        mask &= torch.ones(width, width).tril().bool()
    if diagonal:
        mask |= torch.eye(width, dtype=torch.bool)
    return ids, counted if positions is None else positions(counted, width), mask[:, None]


@bank.mistake(
    "pad_batch",
    "The pads stand at the right, so the last column, where the next token is read off, "
    "is a pad in every short row. Look at which end you fill up.",
)
def pads_right(prompts, pad):
    return _padded(prompts, pad, right=True)


@bank.mistake(
    "pad_batch",
    "All rows have the same positions, counted from the first column. Look at where each "
    "text begins: it must not notice its pads.",
)
def pads_share_positions(prompts, pad):
    return _padded(
        prompts, pad, positions=lambda p, width: torch.arange(width).expand_as(p).clone()
    )


@bank.mistake(
    "pad_batch",
    "The pads are attended to. Look at the columns of the mask that belong to them.",
)
def pads_attended(prompts, pad):
    return _padded(prompts, pad, real=lambda ids: torch.ones_like(ids).bool())


@bank.mistake(
    "pad_batch",
    "A token sees those that come after it. Look at what the mask of a single text shuts out.",
)
def pads_without_causality(prompts, pad):
    return _padded(prompts, pad, causal=False)


@bank.mistake(
    "pad_batch",
    "A pad sees nothing at all, and a softmax over nothing gives nan. Look at the rows of"
    " the mask that belong to pads.",
)
def pads_see_nothing(prompts, pad):
    return _padded(prompts, pad, diagonal=False)


@bank.mistake(
    "pad_batch",
    "A real token that has the id of the pad was taken for a pad. Look for something else"
    " that tells how many pads a row has.",
)
def pads_by_id(prompts, pad):
    return _padded(prompts, pad, real=lambda ids: ids != pad)


@bank.mistake(
    "pad_batch",
    "Positions begin at 1. Look at the position of a text's first real token in the table.",
)
def pads_count_from_one(prompts, pad):
    return _padded(prompts, pad, positions=lambda p, width: p + 1)


@bank.mistake(
    "pad_batch",
    "The mask is the wrong way round. Look at what True means in the table.",
)
def pads_mask_inverted(prompts, pad):
    ids, positions, mask = _padded(prompts, pad)
    return ids, positions, ~mask


@bank.mistake(
    "pad_batch",
    "The mask has shape (B, L, L), and the model's scores have an axis more. Look at the "
    "shape in the table.",
)
def pads_mask_without_heads(prompts, pad):
    ids, positions, mask = _padded(prompts, pad)
    return ids, positions, mask[:, 0]


@bank.mistake(
    "pad_batch",
    "The positions of pads are below 0. Look at what the table says of them.",
)
def pads_below_zero(prompts, pad):
    ids, _, mask = _padded(prompts, pad)
    width = ids.shape[1]
    starts = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
    return ids, torch.arange(width) - starts, mask


@bank.mistake(
    "pad_batch",
    "The pads have position 1. Look at what the table says of them.",
)
def pads_at_one(prompts, pad):
    ids, positions, mask = _padded(prompts, pad)
    n_pads = [ids.shape[1] - len(prompt) for prompt in prompts]
    for row, n in enumerate(n_pads):
        positions[row, :n] = 1
    return ids, positions, mask


@bank.mistake(
    "pad_batch",
    "The mask holds numbers. Look at the row `mask` of the table: what does True mean to the "
    "model, and what 1.0?",
)
def pads_mask_of_numbers(prompts, pad):
    ids, positions, mask = _padded(prompts, pad)
    return ids, positions, mask.float()


@bank.mistake(
    "pad_batch",
    "A pad sees the pads before it. Look at what a pad is to see.",
)
def pads_see_other_pads(prompts, pad):
    ids, positions, mask = _padded(prompts, pad)
    for row, prompt in enumerate(prompts):
        n = ids.shape[1] - len(prompt)
        mask[row, 0, :n, :n] = torch.ones(n, n, dtype=torch.bool).tril()
    return ids, positions, mask


@bank.mistake(
    "pad_batch",
    "The first prompt is taken for the longest, and longer ones are cut. Look at where L "
    "comes from.",
)
def pads_to_the_first(prompts, pad):
    width = len(prompts[0]) if prompts else 0
    return _padded([prompt[-width:] for prompt in prompts], pad)


@bank.mistake(
    "pad_batch",
    "An empty prompt was let through. Look at the sentence below the table.",
)
def pads_an_empty_prompt(prompts, pad):
    if not prompts:
        raise ValueError("no prompts")
    width = max(1, *map(len, prompts), 1)
    ids = torch.full((len(prompts), width), pad)
    positions = torch.zeros(ids.shape, dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(prompts), 1, 1)
    for row, prompt in enumerate(prompts):
        for i, token in enumerate(prompt):
            at = width - len(prompt) + i
            ids[row, at], positions[row, at] = token, i
            mask[row, at, at - i : at] = True
    return ids, positions, mask[:, None]


@bank.mistake(
    "pad_batch",
    "Lists come back where tensors are asked for. Look at what the model does with a mask.",
)
def pads_as_lists(prompts, pad):
    return tuple(part.tolist() for part in _padded(prompts, pad))


@bank.variant("pad_batch")
def pads_by_the_package(prompts, pad):
    return padded(prompts, pad)


@bank.variant("pad_batch")
def pads_by_counting(prompts, pad):
    return _padded(prompts, pad)


@bank.variant("pad_batch")
def pads_by_flipping(prompts, pad):
    _need(prompts)
    rows = [torch.tensor(list(prompt)[::-1]) for prompt in prompts]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad).flip(1)
    real = pad_sequence([torch.ones(len(p)) for p in prompts], batch_first=True).flip(1).bool()
    mask = (real[:, None] & real[:, :, None]).tril() | torch.eye(ids.shape[1]).bool()
    return ids, (real.cumsum(1) - 1).clamp_min(0), mask.unsqueeze(1)


@bank.variant("pad_batch")
def pads_by_loops(prompts, pad):
    _need(prompts)
    width = max(len(prompt) for prompt in prompts)
    ids, positions, mask = [], [], []
    for prompt in prompts:
        n = width - len(prompt)
        ids.append([pad] * n + prompt)
        positions.append([0] * n + list(range(len(prompt))))
        mask.append([[[k == q or n <= k <= q for k in range(width)] for q in range(width)]])
    return torch.tensor(ids), torch.tensor(positions), torch.tensor(mask)


# generate_batch

_PROMPTS = [[3, 17, 8, 1], [11], [6, 2, 20]]
STOP = 28  # ends row 1 at once and the others later

bank.calls(
    "generate_batch",
    [
        call(Given("small_model"), _PROMPTS, 5),
        passed("small_model", 3 * 4 + 3 * 4, 5),
        call(Given("small_model"), [[9, 9, 1], [14, 5]], 1),
        hard(call(Given("small_model"), _PROMPTS, 6, STOP)),
        hard(passed("small_model", 3 * 4 + 2 + 2 + 2, 4)),
        hard(call(Given("small_model"), [[28, 12, 27], [14, 5]], 6, 0)),
        hard(call(Given("small_model"), [[9, 9, 1], [14, 5]], 7, 1)),
        hard(call(Given("small_model"), [[9, 9, 1], [14, 5]], 0)),
        hard(passed("small_model", 0, 0)),
        hard(call(Given("small_model"), [], 3)),
        hard(call(Given("small_model"), [[4], []], 3)),
    ],
)


def _batch(model, prompts, n_new, stop=None, make=padded, flaw=""):
    _need(prompts)
    texts = [list(prompt) for prompt in prompts]
    if n_new == 0 and flaw != "always one":
        return texts
    cache = ModelCache()
    ids, positions, mask = make(prompts)
    logits = model(ids, cache=cache, positions=positions, mask=mask)
    column = 0 if flaw == "first column" else -1
    rows, at, seen = list(range(len(prompts))), positions[:, -1], mask[:, :, -1:]
    ended = set()
    for step in range(max(n_new, 1)):
        newest = logits[:, column].argmax(-1)
        for row, token in zip(rows, newest.tolist(), strict=True):
            if row not in ended and not (flaw == "drops stop" and token == stop):
                texts[row].append(token)
            if token == stop and flaw != "never stops":
                ended.add(row)
        if flaw == "all stop" and ended:
            break
        if len(ended) == len(rows) and flaw == "keeps rows":
            break
        if flaw not in ("keeps rows", "never stops", "drops stop"):
            keep = [i for i, row in enumerate(rows) if row not in ended]
            if not keep:
                break
            if flaw != "keeps cache" and len(keep) < len(rows):
                cache.keep_rows(keep)
            elif len(keep) < len(rows):
                cache.keep_rows(list(range(len(keep))))
            rows, newest, at, seen = [rows[i] for i in keep], newest[keep], at[keep], seen[keep]
        if step + 1 >= n_new and flaw != "one pass more":
            break
        at = at + (0 if flaw == "position stays" else 1)
        if flaw == "shared positions":
            at = torch.full_like(at, int(at.max()))
        seen = torch.cat((seen, torch.ones(len(rows), 1, 1, 1).bool()), -1)
        shown = torch.ones_like(seen) if flaw == "opens pads" else seen
        logits = model(newest[:, None], cache=cache, positions=at[:, None], mask=shown)
    if flaw == "new only":
        return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]
    return texts


def _flawed(exercise, base, name, sentence, flaw, visible=True):
    """Add a mistake that is the right function but for one flaw."""

    def work(*args, **kwargs):
        return base(*args, **kwargs, flaw=flaw)

    work.__name__ = name
    bank.mistake(exercise, sentence, visible)(work)


for _name, _flaw, _visible, _sentence in (
    (
        "batch_shares_positions",
        "shared positions",
        True,
        "All rows count on from the longest row's position. Look at where each text ends.",
    ),
    (
        "batch_opens_pads",
        "opens pads",
        True,
        "After the prompt the pads are seen. Look at the mask that you give to a step: the "
        "pads are still in the cache.",
    ),
    (
        "batch_position_stays",
        "position stays",
        True,
        "The position of a row does not count on. Look at where each new token stands.",
    ),
    (
        "batch_reads_first_column",
        "first column",
        True,
        "The next token is read off the first column. Look at the column in which every text ends.",
    ),
    (
        "batch_never_stops",
        "never stops",
        True,
        "`stop` is not looked at. Look at what a row does once it has written it.",
    ),
    (
        "batch_drops_stop",
        "drops stop",
        True,
        "The stop token is missing at the end of a row. Look at whether it belongs to the text.",
    ),
    (
        "batch_all_stop",
        "all stop",
        True,
        "All rows end as soon as one of them does. Look at what the others do then.",
    ),
    (
        "batch_mixes_caches",
        "keeps cache",
        True,
        "When a row ended, its cache stayed, and another one's was thrown away. Look at which"
        " rows you keep in the cache.",
    ),
    (
        "batch_keeps_rows",
        "keeps rows",
        True,
        "A row that has ended still passes through the model at every step. Look at which "
        "rows a step needs.",
    ),
    (
        "batch_passes_once_more",
        "one pass more",
        True,
        "The last token passes through the model, too, and nobody reads what comes of it. "
        "Look at how often your loop calls the model.",
    ),
    (
        "batch_returns_new_only",
        "new only",
        True,
        "Only the new tokens come back. The result is the whole text: the prompt, then what was "
        "added.",
    ),
    (
        "batch_always_one",
        "always one",
        True,
        "With n_new 0 a token is added all the same. Look at what happens before your loop.",
    ),
):
    _flawed("generate_batch", _batch, _name, _sentence, _flaw, _visible)


def _ending(is_end):
    """Return the right function but for when a row ends: `is_end(token, text, stop)`."""

    def work(model, prompts, n_new, stop=None):
        _need(prompts)
        texts = [list(prompt) for prompt in prompts]
        lanes, running = Lanes(model), set(range(len(texts)))
        given = {row: text[:] for row, text in enumerate(texts)}
        for _ in range(n_new):
            for row, token in lanes.run({row: given[row] for row in sorted(running)}).items():
                texts[row].append(token)
                given[row] = [token]
                if is_end(token, texts[row], stop):
                    running.discard(row)
            if not running:
                break
        return texts

    return work


@bank.mistake(
    "generate_batch",
    "The token 0 is taken for no stop token at all. Look at what Python makes of `if stop`.",
)
def batch_takes_stop_0_for_none(model, prompts, n_new, stop=None):
    return _ending(lambda token, text, stop: stop and token == stop)(model, prompts, n_new, stop)


@bank.mistake(
    "generate_batch",
    "A row ends since its prompt holds the stop token. Look at which tokens can end a row.",
)
def batch_stops_for_the_prompt(model, prompts, n_new, stop=None):
    return _ending(lambda token, text, stop: stop in text)(model, prompts, n_new, stop)


@bank.mistake(
    "generate_batch",
    "The texts pass through the model one after the other. Look at how many rows a pass may have.",
)
def batch_one_by_one(model, prompts, n_new, stop=None):
    return [_batch(model, [prompt], n_new, stop)[0] for prompt in prompts] or _need(prompts)


@bank.mistake(
    "generate_batch",
    "No prompts, or an empty one, were let through. Look at the sentences below the table.",
)
def batch_accepts_nothing(model, prompts, n_new, stop=None):
    there = [prompt for prompt in prompts if prompt]
    found = iter(_batch(model, there, n_new, stop) if there else [])
    return [next(found) if prompt else [] for prompt in prompts]


@bank.variant("generate_batch")
def batch_by_counting(model, prompts, n_new, stop=None):
    return _batch(model, prompts, n_new, stop)


@bank.variant("generate_batch")
def batch_by_own_padding(model, prompts, n_new, stop=None):
    return _batch(model, prompts, n_new, stop, make=lambda prompts: _padded(prompts, 5))


@bank.variant("generate_batch")
def batch_by_lanes(model, prompts, n_new, stop=None):
    _need(prompts)
    texts, lanes = [list(prompt) for prompt in prompts], Lanes(model)
    give = dict(enumerate(prompts)) if n_new else {}
    for _ in range(n_new):
        if not give:
            break
        found = lanes.run(give)
        for row, token in found.items():
            texts[row].append(token)
            if token == stop:
                lanes.drop(row)
        give = {row: [token] for row, token in found.items() if token != stop}
    return texts


@bank.variant("generate_batch")
def batch_without_a_cache_of_pads(model, prompts, n_new, stop=None):
    """Drops the columns that no row sees any more."""
    _need(prompts)
    texts = [list(prompt) for prompt in prompts]
    going = list(range(len(texts)))
    if not n_new:
        return texts
    cache = ModelCache()
    ids, positions, mask = padded(prompts, 3)
    logits = model(ids, cache=cache, positions=positions, mask=mask)
    real = mask[:, 0, -1]
    for left in reversed(range(n_new)):
        new = logits[:, -1].argmax(-1)
        for row, token in zip(going, new.tolist(), strict=True):
            texts[row].append(token)
        stay = [i for i, token in enumerate(new.tolist()) if token != stop]
        if not left or not stay:
            return texts
        cache.keep_rows(stay)
        real, going, new = real[stay], [going[i] for i in stay], new[stay]
        used = real.any(0)
        cache.keep_tokens(used.nonzero().flatten().tolist())
        real = torch.cat((real[:, used], torch.ones(len(stay), 1).bool()), 1)
        at = real.sum(1, keepdim=True) - 1
        logits = model(new[:, None], cache=cache, positions=at, mask=real[:, None, None])
    return texts


# Scheduler

_SERVE = [
    call(Given("small_model"), 2, 6),
    method("submit", "a", [5, 3, 9], 2),
    method("submit", "b", [11, 4, 7, 2, 20], 2),
    method("submit", "c", [8], 3),
    method("step"),
    passed("small_model", 2 * 3, 1),
    get("tokens_in_step"),
    method("step"),
    get("tokens_in_step"),
    method("done", "a"),
    method("step"),
    get("tokens_in_step"),
    method("step"),
    get("tokens_in_step"),
    method("step"),
    method("done", "b"),
    method("step"),
    method("done", "c"),
    method("step"),
    get("tokens_in_step"),
    call(Given("small_model"), 3, 3),  # whoever writes takes of the budget
    method("submit", 1, [6, 2], 6),
    method("submit", 2, [4, 4, 9, 1, 7], 2),
    method("submit", 3, [12, 3, 3], 2),
    *(step for _ in range(5) for step in (method("step"), get("tokens_in_step"))),
]
_LATER = [
    call(Given("small_model"), 3, 3),
    method("submit", 1, [2, 19], 9),
    method("step"),
    method("submit", 2, [3, 1, 4, 1, 5, 9, 2, 6], 9),
    method("step"),
    method("step"),
    method("submit", 3, [7, 7], 2),
    method("cancel", 2),
    method("done", 2),
    method("step"),
    method("step"),
    method("cancel", 1),
    method("step"),
    method("step"),
    # From here on errors are asked for: what a first draft does then spoils its object.
    method("done", 8),
    method("submit", 4, [], 1),
    method("submit", 5, [1], 0),
    method("submit", 6, [1] * 509, 4),
    method("submit", 3, [1], 1),
    method("cancel", 2),
    call(Given("small_model"), 0, 4),
    call(Given("small_model"), 3, 2),
]
bank.calls("Scheduler", [*_SERVE, *map(hard, _LATER)])


class _Server:
    """The right scheduler, in parts that a mistake can replace."""

    def __init__(self, model, slots, budget):
        self.refuse_server(slots, budget)
        self.model, self.slots, self.budget = model, slots, budget
        self.lanes, self.tokens_in_step = Lanes(model), 0
        self.waiting, self.inside, self.over = [], [], []
        self.text, self.prompt, self.wants = {}, {}, {}

    def refuse_server(self, slots, budget):
        if slots < 1 or budget < slots:
            raise ValueError("not so few")

    def refuse(self, id, prompt, n_new):
        self.refuse_twice(id)
        self.refuse_nothing(prompt, n_new)
        self.refuse_long(prompt, n_new)

    def refuse_twice(self, id):
        if id in self.text:
            raise ValueError("used before")

    def refuse_nothing(self, prompt, n_new):
        if not prompt or n_new < 1:
            raise ValueError("nothing to do")

    def refuse_long(self, prompt, n_new):
        if len(prompt) + n_new > self.model.config.window:
            raise ValueError("too long")

    def submit(self, id, prompt, n_new):
        self.refuse(id, prompt, n_new)
        self.text[id], self.prompt[id], self.wants[id] = list(prompt), len(prompt), n_new
        self.waiting.append(id)

    def done(self, id):
        self.refuse_unknown(id)
        return id in self.over

    def refuse_unknown(self, id):
        if id not in self.text:
            raise ValueError("unknown")

    def refuse_over(self, id):
        if id in self.over:
            raise ValueError("done already")

    def cancel(self, id):
        self.refuse_unknown(id)
        self.refuse_over(id)
        self.leave(id)

    def leave(self, id):
        self.waiting = [i for i in self.waiting if i != id]
        self.inside = [i for i in self.inside if i != id]
        self.lanes.drop(id)
        self.over.append(id)

    def admit(self):
        while self.waiting and len(self.inside) < self.slots:
            self.inside.append(self.next())

    def next(self):
        return self.waiting.pop(0)

    def unseen(self, id):
        return self.text[id][self.lanes.n_seen(id) :]

    def writes(self, id):
        return self.lanes.n_seen(id) >= self.prompt[id]

    def plan(self):
        plan = {id: self.unseen(id) for id in self.inside if self.writes(id)}
        room = self.budget - len(plan)
        for id in self.inside:
            if id not in plan and room > 0:
                plan[id] = self.unseen(id)[:room]
                room -= len(plan[id])
        return {id: plan[id] for id in self.inside if id in plan}

    def ready(self, id):
        return self.lanes.n_seen(id) == len(self.text[id])

    def full(self, id):
        return len(self.text[id]) == self.prompt[id] + self.wants[id]

    def forward(self, plan):
        return self.lanes.run(plan)

    def step(self):
        self.admit()
        plan = self.plan()
        self.tokens_in_step = sum(len(tokens) for tokens in plan.values())
        if not plan:
            return {}
        new = {}
        for id, token in self.forward(plan).items():
            if self.ready(id):
                self.text[id].append(token)
                new[id] = [token]
                if self.full(id):
                    self.leave(id)
        return new


@bank.mistake(
    "Scheduler",
    "A request joins only when all others have left: that is a static batch. Look at when"
    " you take the next one from the queue.",
)
class ServesInBatches(_Server):
    def admit(self):
        if not self.inside:
            super().admit()


@bank.mistake(
    "Scheduler",
    "The request that came last is served first. Look at the end of the queue that you take from.",
)
class ServesLastFirst(_Server):
    def next(self):
        return self.waiting.pop()


@bank.mistake(
    "Scheduler",
    "Whoever asks for least goes first, so that a long request may wait for ever. Look at"
    " the order that the statement asks for.",
)
class ServesShortestFirst(_Server):
    def next(self):
        shortest = min(self.waiting, key=lambda id: self.prompt[id] + self.wants[id])
        self.waiting.remove(shortest)
        return shortest


@bank.mistake(
    "Scheduler",
    "More requests run at the same time than there are slots. Look at what you compare "
    "before you take one in.",
)
class ServesAll(_Server):
    def admit(self):
        self.inside += self.waiting
        self.waiting = []


@bank.mistake(
    "Scheduler",
    "A prompt is read in one piece, although it is longer than what is left of the "
    "budget. Look at how much of it fits into this step.",
)
class ServesWithoutBudget(_Server):
    def plan(self):
        return {id: self.unseen(id) for id in self.inside}


@bank.mistake(
    "Scheduler",
    "While a prompt is read, the others do not write: everyone waits. Look at who comes "
    "first in a step.",
)
class ServesPromptsFirst(_Server):
    def plan(self):
        plan, room = {}, self.budget
        for id in sorted(self.inside, key=self.writes):
            if room > 0:
                plan[id] = self.unseen(id)[:room]
                room -= len(plan[id])
        return {id: plan[id] for id in self.inside if id in plan}


@bank.mistake(
    "Scheduler",
    "Only one prompt is read in a step, although the budget has room for more. Look at "
    "when your loop over prompts ends.",
)
class ServesOnePromptAStep(_Server):
    def plan(self):
        reading = [id for id in self.inside if not self.writes(id)]
        return {id: tokens for id, tokens in super().plan().items() if id not in reading[1:]}


@bank.mistake(
    "Scheduler",
    "A request gets a token before its whole prompt has been read. Look at the pieces of "
    "the prompt that are still to come.",
)
class ServesTooEarly(_Server):
    def ready(self, id):
        return True

    def unseen(self, id):
        return self.text[id][self.lanes.n_seen(id) :]


@bank.mistake(
    "Scheduler",
    "The step that ends a prefill gives no token. Look at what its last row of logits tells.",
)
class ServesOneStepLate(_Server):
    def writes(self, id):
        return self.lanes.n_seen(id) >= self.prompt[id] - 1

    def unseen(self, id):
        end = len(self.text[id]) if self.writes(id) else self.prompt[id] - 1
        return self.text[id][self.lanes.n_seen(id) : end]


@bank.mistake(
    "Scheduler",
    "A request gets one token more than it wants. Look at when you call it done.",
)
class ServesOneTooMany(_Server):
    def full(self, id):
        return len(self.text[id]) > self.prompt[id] + self.wants[id]


@bank.mistake(
    "Scheduler",
    "A cancelled request stays among those that run. Look at what cancel has to give back.",
)
class ServesTheCancelled(_Server):
    def cancel(self, id):
        self.refuse_unknown(id)
        self.refuse_over(id)
        self.waiting = [i for i in self.waiting if i != id]
        self.over.append(id)


@bank.mistake(
    "Scheduler",
    "Every request passes through the model on its own. Look at what a single pass can "
    "hold: that is what the server is for.",
)
class ServesOneByOne(_Server):
    def forward(self, plan):
        return {id: self.lanes.run({id: tokens})[id] for id, tokens in plan.items()}


@bank.mistake(
    "Scheduler",
    "A text that is longer than the model's window was let through. Look at what submit "
    "has to refuse.",
)
class ServesPastTheWindow(_Server):
    def refuse_long(self, prompt, n_new):
        pass


@bank.mistake(
    "Scheduler",
    "A budget below the number of slots, or no slot at all, was let through, and somebody"
    " would starve. Look at what the statement says of odd input.",
)
class ServesWithTooLittle(_Server):
    def refuse_server(self, slots, budget):
        pass


@bank.mistake(
    "Scheduler",
    "An id that was used before was let through, and the first request's text is lost. "
    "Look at what submit has to refuse.",
)
class ServesAnIdTwice(_Server):
    def refuse_twice(self, id):
        pass


@bank.mistake(
    "Scheduler",
    "More tokens pass in a step than the budget allows: those who write are not counted. Look at "
    "what is left for the prompts.",
)
class ServesWritersFree(_Server):
    def plan(self):
        plan, room = {}, self.budget
        for id in self.inside:
            if self.writes(id):
                plan[id] = self.unseen(id)
            elif room > 0:
                plan[id] = self.unseen(id)[:room]
                room -= len(plan[id])
        return plan


@bank.mistake(
    "Scheduler",
    "What is left of the budget is shared out evenly among the prompts. Look at the order in which "
    "the statement serves them.",
)
class ServesEvenly(_Server):
    def plan(self):
        plan = {id: self.unseen(id) for id in self.inside if self.writes(id)}
        reading = [id for id in self.inside if id not in plan]
        share = (self.budget - len(plan)) // max(1, len(reading))
        plan |= {id: self.unseen(id)[:share] for id in reading if share}
        return {id: plan[id] for id in self.inside if id in plan}


@bank.mistake(
    "Scheduler",
    "Requests are admitted at the end of a step, so the first one waits for nothing. Look at the "
    "order of the four things in a step.",
)
class ServesLate(_Server):
    def step(self):
        admit, self.admit = self.admit, lambda: None
        new = super().step()
        self.admit = admit
        self.admit()
        return new


@bank.mistake(
    "Scheduler",
    "An unknown id was let through, or raised something other than a ValueError. Look at the list "
    "of errors in the statement.",
)
class ServesAnUnknownId(_Server):
    def refuse_unknown(self, id):
        pass


@bank.mistake(
    "Scheduler",
    "A request was cancelled twice, without an error. Look at the list of errors in the statement.",
)
class ServesACancelTwice(_Server):
    def refuse_over(self, id):
        pass


@bank.mistake(
    "Scheduler",
    "An empty prompt, or a request for no token, was let through. Look at the list of errors in "
    "the statement.",
)
class ServesNothing(_Server):
    def refuse_nothing(self, prompt, n_new):
        pass


@bank.variant("Scheduler")
class ServerInParts(_Server):
    """The parts that the mistakes replace, as they should be."""


@bank.variant("Scheduler")
class ServerWithRecords:
    """One dict a request, in order of arrival."""

    def __init__(self, model, slots, budget):
        if slots < 1 or budget < slots:
            raise ValueError("slots and budget")
        self.model, self.slots, self.budget, self.tokens_in_step = model, slots, budget, 0
        self.lanes, self.all = Lanes(model), {}

    def submit(self, id, prompt, n_new):
        fits = len(prompt) > 0 and n_new > 0 and len(prompt) + n_new <= self.model.config.window
        if id in self.all or not fits:
            raise ValueError(f"cannot serve {id}")
        self.all[id] = {"give": list(prompt), "left": n_new, "in": False, "reads": True}

    def done(self, id):
        if id not in self.all:
            raise ValueError(f"no {id}")
        return self.all[id]["left"] == 0

    def cancel(self, id):
        if self.done(id):
            raise ValueError(f"{id} is done")
        self.all[id]["left"] = 0
        self.lanes.drop(id)

    def step(self):
        going = {id: item for id, item in self.all.items() if item["left"]}
        for item in going.values():
            item["in"] = item["in"] or sum(i["in"] for i in going.values()) < self.slots
        here = {id: item for id, item in going.items() if item["in"]}
        room, sizes = self.budget, {}
        for reads in (False, True):
            for id, item in here.items():
                if item["reads"] == reads:
                    sizes[id] = min(room, len(item["give"]))
                    room -= sizes[id]
        plan = {id: item["give"][: sizes[id]] for id, item in here.items() if sizes[id]}
        self.tokens_in_step = self.budget - room
        best = self.lanes.run(plan) if plan else {}
        found = {}
        for id in plan:
            item = here[id]
            item["give"] = item["give"][sizes[id] :]
            if not item["give"]:
                item["give"], item["reads"] = [best[id]], False
                item["left"] -= 1
                found[id] = [best[id]]
                if not item["left"]:
                    self.lanes.drop(id)
        return found


@bank.variant("Scheduler")
class ServerNewestFirst(_Server):
    """Gives the newest request's tokens first; who stands where in the row is free."""

    def forward(self, plan):
        found = self.lanes.run(dict(reversed(plan.items())))
        return {id: found[id] for id in plan}


class _OwnLanes:
    """As `Lanes`, with the mask of every text written place by place."""

    def __init__(self, model):
        self.model, self.cache, self.who = model, ModelCache(), []

    def n_seen(self, id):
        return sum(name == id for name, _ in self.who)

    def run(self, plan):
        row, ends = [], {}
        for id, tokens in plan.items():
            for token in tokens:
                self.who.append((id, self.n_seen(id)))
                row.append(token)
            ends[id] = len(row) - 1
        new = self.who[-len(row) :]
        mask = torch.tensor([[a == b and j <= i for b, j in self.who] for a, i in new])
        at = torch.tensor([place for _, place in new])
        scores = self.model([row], cache=self.cache, positions=at, mask=mask)
        return {id: int(scores[0, end].argmax()) for id, end in ends.items()}

    def drop(self, id):
        keep = [i for i, (name, _) in enumerate(self.who) if name != id]
        if len(keep) < len(self.who):
            self.cache.keep_tokens(keep)
            self.who = [self.who[i] for i in keep]


@bank.variant("Scheduler")
class ServerWithItsOwnLanes(_Server):
    def __init__(self, model, slots, budget):
        super().__init__(model, slots, budget)
        self.lanes = _OwnLanes(model)


# PrefixCache

_LONG = [4, 9, 1, 0, 4, 9, 7]
bank.calls(
    "PrefixCache",
    [
        call(Given("pool")),
        method("match", _LONG),
        method("insert", _LONG, [0, 1, 2, 3]),
        method("match", _LONG),
        method("match", [*_LONG, 7]),
        method("match", [4, 9, 1, 5, 5]),
        method("match", [1, 0, 4, 9, 3]),
        method("match", [4, 9, 4, 9, 3]),
        method("match", [9, 4, 1, 0, 3]),
        method("match", [4 + 256, 9, 1, 0, 3]),
        method("insert", [4, 9, 8, 8], [4, 5]),
        method("match", [4, 9, 8, 8, 8]),
        hard(method("match", [4, 9, 1, 0])),
        hard(method("evict", 1)),
        hard(call(Given("idle_pool"))),
        hard(method("insert", [1, 2, 3, 4], [0, 1])),
        hard(method("insert", [5, 5, 6, 6], [2, 3])),
        hard(method("match", [1, 2, 8])),
        hard(method("match", [])),
        hard(method("evict", 1)),
        hard(method("evict", 1)),
        hard(method("match", [1, 2, 3, 4, 0])),
        hard(method("match", [5, 5, 6, 6, 0])),
        hard(method("evict", 9)),
        hard(method("match", [1, 2, 9])),
        hard(method("insert", [7, 7, 8, 8], [4])),
        hard(method("match", [7, 7, 8])),
        # What was used longest ago goes first, and a match and an insert are uses.
        hard(call(Given("loose_pool"))),
        *(hard(method("insert", [token] * 2, [token])) for token in (1, 2, 3)),
        hard(method("insert", [1, 1], [5])),
        hard(method("evict", 1)),
        *(hard(method("match", [token] * 3)) for token in (2, 1)),
        hard(call(Given("other_loose_pool"))),
        *(hard(method("insert", [token] * 2, [token])) for token in (1, 2)),
        hard(method("match", [1, 1, 0])),
        hard(method("evict", 1)),
        *(hard(method("match", [token] * 3)) for token in (1, 2)),
        hard(method("insert", [4] * 2, [4])),
        hard(method("insert", [1, 1, 3, 3], [1, 3])),
        hard(method("evict", 1)),
        hard(method("match", [1, 1, 3, 3, 0])),
    ],
)


class _Prefixes:
    """The right cache, in parts that a mistake can replace."""

    def __init__(self, pool):
        self.pool, self.size, self.time = pool, pool.block_size, 0
        self.known = {}  # key → [block, key before, time of use]

    def keys(self, ids):
        before = None
        for i in range(self.n_full(ids)):
            key = (before, tuple(ids[i * self.size : (i + 1) * self.size]))
            yield key, before
            before = key

    def n_full(self, ids):
        return len(ids) // self.size

    def left_over(self, ids):
        return ids[:-1]

    def match(self, ids):
        self.time += 1
        blocks = []
        for key, _ in self.keys(self.left_over(ids)):
            if key not in self.known:
                break
            blocks.append(self.known[key][0])
            self.hold(self.known[key][0])
            self.use(key)
        return self.found(blocks), blocks

    def found(self, blocks):
        return len(blocks) * self.size

    def hold(self, block):
        self.pool.hold(block)

    def use(self, key):
        self.known[key][2] = self.time

    def refuse(self, ids, blocks):
        if len(blocks) < self.n_full(ids):
            raise ValueError("too few blocks")

    def insert(self, ids, blocks):
        self.refuse(ids, blocks)
        self.time += 1
        for (key, before), block in zip(self.keys(ids), blocks, strict=False):
            self.remember(key, before, block)
            self.known[key][2] = self.time

    def remember(self, key, before, block):
        if key not in self.known:
            self.pool.hold(block)
            self.known[key] = [block, before, 0]

    def may_go(self, key):
        return self.is_leaf(key) and self.is_idle(key)

    def is_leaf(self, key):
        return all(before != key for _, before, _ in self.known.values())

    def is_idle(self, key):
        return self.pool.users[self.known[key][0]] == 1

    def pick(self, keys):
        return min(keys, key=lambda key: self.known[key][2])

    def evict(self, n_blocks):
        gone = 0
        while gone < n_blocks:
            keys = [key for key in self.known if self.may_go(key)]
            if not keys:
                break
            self.pool.release(self.known.pop(self.pick(keys))[0])
            gone += 1
        return gone


@bank.mistake(
    "PrefixCache",
    "A block is known by its own tokens only, but after another beginning its keys and "
    "values are others. Look at what its name has to be made of.",
)
class PrefixWithoutChain(_Prefixes):
    def keys(self, ids):
        for key, before in super().keys(ids):
            yield key[1], before and before[1]


@bank.mistake(
    "PrefixCache",
    "A block that is not full was remembered. Look at how many full blocks the tokens make.",
)
class PrefixOfPartBlocks(_Prefixes):
    def n_full(self, ids):
        return -(-len(ids) // self.size)


@bank.mistake(
    "PrefixCache",
    "The whole of ids was found, so nothing is left to compute and there are no logits. "
    "Look at how long a match may be at most.",
)
class PrefixLeavesNothing(_Prefixes):
    def left_over(self, ids):
        return ids


@bank.mistake(
    "PrefixCache",
    "match returns the number of blocks. Look at what the table asks it to count.",
)
class PrefixCountsBlocks(_Prefixes):
    def found(self, blocks):
        return len(blocks)


@bank.mistake(
    "PrefixCache",
    "The blocks of a match can be given back while the caller uses them. Look at how the "
    "pool learns of one user more.",
)
class PrefixDoesNotHold(_Prefixes):
    def hold(self, block):
        pass


@bank.mistake(
    "PrefixCache",
    "A block that was known already is replaced by the new one, although others may use "
    "the old. Look at what insert does with a name that it has.",
)
class PrefixReplaces(_Prefixes):
    def remember(self, key, before, block):
        self.pool.hold(block)
        self.known[key] = [block, before, 0]


@bank.mistake(
    "PrefixCache",
    "A block was given back although another one follows it, and that one can no longer "
    "be found. Look for the blocks that nothing follows.",
)
class PrefixEvictsInner(_Prefixes):
    def is_leaf(self, key):
        return True


@bank.mistake(
    "PrefixCache",
    "A block that somebody uses was given back. Look at how many users a block has when "
    "only the cache holds it.",
)
class PrefixEvictsUsed(_Prefixes):
    def is_idle(self, key):
        return True


@bank.mistake(
    "PrefixCache",
    "The block that was used last goes first. Look at the order in which you give blocks back.",
)
class PrefixEvictsNewest(_Prefixes):
    def pick(self, keys):
        return max(keys, key=lambda key: self.known[key][2])


@bank.mistake(
    "PrefixCache",
    "A match is not counted as a use, so what is found often may leave early. Look at "
    "what match has to note.",
)
class PrefixForgetsUse(_Prefixes):
    def use(self, key):
        pass


@bank.mistake(
    "PrefixCache",
    "Fewer blocks than the tokens fill were let through. Look at what insert has to "
    "compare before it changes anything.",
)
class PrefixTakesTooFew(_Prefixes):
    def refuse(self, ids, blocks):
        pass


@bank.mistake(
    "PrefixCache",
    "Two blocks with the same tokens in another order have the same name. Look at what your name "
    "keeps of the order.",
)
class PrefixWithoutOrder(_Prefixes):
    def keys(self, ids):
        starts = range(0, len(ids), self.size)
        ordered = [sorted(ids[start : start + self.size]) for start in starts]
        return super().keys([token for block in ordered for token in block])


@bank.mistake(
    "PrefixCache",
    "Token ids are cut to a byte, so that 4 and 260 have the same name. Look at how large ids get.",
)
class PrefixOfBytes(_Prefixes):
    def keys(self, ids):
        return super().keys([token % 256 for token in ids])


@bank.mistake(
    "PrefixCache",
    "An insert of a known block is not counted as a use. Look at what the second point below the "
    "table says of an insert.",
)
class PrefixForgetsInserts(_Prefixes):
    def insert(self, ids, blocks):
        before = {key: item[2] for key, item in self.known.items()}
        super().insert(ids, blocks)
        for key, time in before.items():
            self.known[key][2] = time


@bank.mistake(
    "PrefixCache",
    "The blocks leave in the order in which they came. Look at what counts as a use.",
)
class PrefixFirstInFirstOut(_Prefixes):
    def insert(self, ids, blocks):
        self.refuse(ids, blocks)
        for (key, before), block in zip(self.keys(ids), blocks, strict=False):
            if key not in self.known:
                self.time += 1
                self.remember(key, before, block)
                self.known[key][2] = self.time

    def use(self, key):
        pass


@bank.mistake(
    "PrefixCache",
    "evict finds no block that may go. Look at how many users a block has when only the cache "
    "holds it.",
)
class PrefixWaitsForNobody(_Prefixes):
    def is_idle(self, key):
        return self.pool.users[self.known[key][0]] == 0


@bank.mistake(
    "PrefixCache",
    "evict does not say how many blocks it gave back. Look at the table.",
)
class PrefixSaysNothing(_Prefixes):
    def evict(self, n_blocks):
        super().evict(n_blocks)


@bank.mistake(
    "PrefixCache",
    "The last full block is never found, though tokens follow it. Look at when the whole of ids "
    "would be found.",
)
class PrefixLeavesABlock(_Prefixes):
    def left_over(self, ids):
        return ids[: max(0, self.n_full(ids) - 1) * self.size]


@bank.mistake(
    "PrefixCache",
    "An insert that failed left some blocks behind. Look at what is to be compared before anything "
    "changes.",
)
class PrefixFailsHalfway(_Prefixes):
    def insert(self, ids, blocks):
        self.time += 1
        for i, (key, before) in enumerate(self.keys(ids)):
            if i >= len(blocks):
                raise ValueError("too few blocks")
            self.remember(key, before, blocks[i])
            self.known[key][2] = self.time


@bank.variant("PrefixCache")
class PrefixByTuples(_Prefixes):
    """The parts that the mistakes replace, as they should be."""


@bank.variant("PrefixCache")
class PrefixByWholeBeginnings(_Prefixes):
    """The name of a block is all that stands up to its end."""

    def keys(self, ids):
        for i in range(1, self.n_full(ids) + 1):
            before = tuple(ids[: (i - 1) * self.size])
            yield tuple(ids[: i * self.size]), before or None


@bank.variant("PrefixCache")
class PrefixByHashes(_Prefixes):
    def keys(self, ids):
        before = None
        for i in range(self.n_full(ids)):
            own = repr(ids[i * self.size : (i + 1) * self.size])
            key = hashlib.md5(f"{before}{own}".encode(), usedforsecurity=False).hexdigest()
            yield key, before
            before = key


@bank.variant("PrefixCache")
class PrefixByOrder(_Prefixes):
    """Keeps the dict itself in order of use, oldest first."""

    def use(self, key):
        self.known[key] = self.known.pop(key)

    def insert(self, ids, blocks):
        super().insert(ids, blocks)
        for key, _ in self.keys(ids):
            self.use(key)

    def pick(self, keys):
        return keys[0]


# bill

bank.terms("bill", tokens="", dollars="")
_PRICES = {"input": 4.0, "output": 10.0, "write": 1.5, "read": 0.25}
_TURNS = [(700, 50, False), (40, 110, False), (25, 60, False)]
_EDITS = [(500, 30, True), (60, 0, True), (20, 10, False), (8, 4, True)]
bank.calls(
    "bill",
    [
        call(_TURNS, _PRICES, False),
        call(_TURNS, _PRICES, True),
        call(_TURNS[:1], _PRICES, True),
        hard(call(_EDITS, _PRICES, True)),
        hard(call(_EDITS, _PRICES, False)),
        hard(call([], _PRICES, True)),
    ],
)


def _bill(turns, prices, cached, flaw=""):
    history, before, total, cost = 0, 0, 0, 0.0
    for asked, answered, edited in turns:
        now = history + asked
        hit = before if cached and not edited else 0
        if flaw == "answers found" and hit:
            hit = history
        if flaw == "edit ignored" and cached:
            hit = before
        if flaw == "edit for good" and edited:
            before = None
        if before is None:
            hit = 0
        read = (
            1 if flaw == "read at full price" else 0 if flaw == "read is free" else prices["read"]
        )
        write = prices["write"] if cached and flaw != "write at input" else 1
        if flaw == "write always":
            write = prices["write"]
        cost += prices["input"] * (hit * read + (now - hit) * write)
        cost += prices["output"] * (now if flaw == "output of all" else answered)
        total += now - hit if flaw == "counts what is computed" else now
        if flaw == "new only":
            total -= history
            cost -= prices["input"] * (history - hit) * write
        history = now if flaw == "answers forgotten" else now + answered
        before = None if before is None else now
    return total, cost / (1e3 if flaw == "thousands" else 1e6)


for _name, _flaw, _sentence in (
    (
        "bill_forgets_answers",
        "answers forgotten",
        "The answers are not sent again with later turns. Look at what the next turn's text "
        "begins with.",
    ),
    (
        "bill_sends_new_only",
        "new only",
        "Each turn sends its own question only. Look at what a chat sends with every turn.",
    ),
    (
        "bill_finds_answers",
        "answers found",
        "The answer of the turn before is taken as found. Look at what that turn had *sent*.",
    ),
    (
        "bill_reads_at_full_price",
        "read at full price",
        "What is found costs as much as what is not. Look at the factors in `prices`.",
    ),
    (
        "bill_reads_for_nothing",
        "read is free",
        "What is found costs nothing. Look at the factors in `prices`.",
    ),
    (
        "bill_writes_at_input",
        "write at input",
        "With a cache, what is not found is charged as without one. Look at the factors in "
        "`prices`.",
    ),
    (
        "bill_writes_without_cache",
        "write always",
        "The factor `write` is charged without a cache, too. Look at where `cached` comes in.",
    ),
    (
        "bill_counts_what_is_computed",
        "counts what is computed",
        "The tokens that are found are not counted as sent. Look at what the first of the two"
        " results counts.",
    ),
    (
        "bill_charges_output_for_all",
        "output of all",
        "The price of output is charged for what is sent. Look at what the model writes in a turn.",
    ),
    (
        "bill_by_the_thousand",
        "thousands",
        "Your result is a thousand times too large. Look at how many tokens a price is for.",
    ),
    (
        "bill_ignores_edits",
        "edit ignored",
        "After an edited first line something is still found. Look at what the name of every "
        "later block depends on.",
    ),
    (
        "bill_never_finds_again",
        "edit for good",
        "After an edit nothing is ever found again. Look at what the turn after it has in "
        "common with the edited one.",
    ),
):
    _flawed("bill", _bill, _name, _sentence, _flaw)


@bank.mistake(
    "bill",
    "An edited first line throws the whole chat away. Look at what a turn sends after it.",
)
def bill_forgets_after_an_edit(turns, prices, cached):
    length = sent = tokens = 0
    cost = 0.0
    for asked, answered, edited in turns:
        length, found = (0, 0) if edited else (length, sent)
        sent = length + asked
        tokens += sent
        price = found * prices["read"] + (sent - found) * prices["write"] if cached else sent
        cost += prices["input"] * price + prices["output"] * answered
        length = sent + answered
    return tokens, cost / 1e6


@bank.mistake(
    "bill",
    "The cost is rounded to whole cents. Look at what a short chat costs.",
)
def bill_in_whole_cents(turns, prices, cached):
    tokens, cost = bill_by_turns(turns, prices, cached)
    return tokens, round(cost, 2)


@bank.mistake(
    "bill",
    "The result is in millionths of a dollar. Look at how many tokens a price is for.",
)
def bill_in_millionths(turns, prices, cached):
    tokens, cost = bill_by_turns(turns, prices, cached)
    return tokens, cost * 1e6


@bank.mistake("bill", "Dollars come first, tokens second. Look at the row *returns* of the table.")
def bill_the_other_way_round(turns, prices, cached):
    return bill_by_turns(turns, prices, cached)[::-1]


@bank.mistake(
    "bill",
    "The answers are counted as sent in their own turn. Look at what a turn sends, and what comes "
    "back.",
)
def bill_counts_answers_as_sent(turns, prices, cached):
    tokens, cost = bill_by_turns(turns, prices, cached)
    return tokens + sum(answered for _, answered, _ in turns), cost


@bank.mistake(
    "bill",
    "Only the first turn is charged for writing to the cache. Look at which tokens are new in a "
    "later turn.",
)
def bill_writes_once(turns, prices, cached):
    tokens, cost = bill_by_turns(turns, prices, cached)
    if not cached:
        return tokens, cost
    later = [(0, 0, edited) for *_, edited in turns]
    sent = length = 0
    for i, ((asked, answered, _), (*_, edited)) in enumerate(zip(turns, later, strict=True)):
        now = length + asked
        if i:
            fresh = now - (0 if edited else sent)
            cost -= prices["input"] * fresh * (prices["write"] - 1) / 1e6
        sent, length = now, now + answered
    return tokens, cost


@bank.variant("bill")
def bill_by_turns(turns, prices, cached):
    return _bill(turns, prices, cached)


@bank.variant("bill")
def bill_by_sums(turns, prices, cached):
    sent = [sum(a + b for a, b, _ in turns[:i]) + turns[i][0] for i in range(len(turns))]
    found = [0 if turns[i][2] or i == 0 else sent[i - 1] for i in range(len(turns))]
    read, write = (prices["read"], prices["write"]) if cached else (1, 1)
    dollars = (
        prices["input"]
        / 1e6
        * sum(f * read + (s - f) * write for f, s in zip(found, sent, strict=True))
    )
    return sum(sent), dollars + sum(turn[1] for turn in turns) * prices["output"] / 1e6


@bank.variant("bill")
def bill_by_arrays(turns, prices, cached):
    table = np.array(turns, dtype=float).reshape(-1, 3)
    sent = np.cumsum(table[:, 0]) + np.cumsum(table[:, 1]) - table[:, 1]
    found = np.concatenate(([0.0], sent[:-1]))[: len(sent)] * (1 - table[:, 2])
    paid = found * prices["read"] + (sent - found) * prices["write"] if cached else sent
    cost = paid.sum() * prices["input"] + table[:, 1].sum() * prices["output"]
    return int(sent.sum()), float(cost) / 1e6


@bank.variant("bill")
def bill_by_recursion(turns, prices, cached):
    if not turns:
        return 0, 0.0
    *earlier, (asked, answered, edited) = turns
    tokens, cost = bill_by_recursion(earlier, prices, cached)
    sent = asked + sum(a + b for a, b, _ in earlier)
    found = sent - asked - earlier[-1][1] if earlier and not edited else 0
    paid = found * prices["read"] + (sent - found) * prices["write"] if cached else sent
    return tokens + sent, cost + (paid * prices["input"] + answered * prices["output"]) / 1e6


# speculative_step

_NEW = (Given("cache"), Given("draft_cache"))


def _speculate(target, draft, text, k, caches, flaw=""):
    _refuse_speculation(target, draft, text, k, flaw)
    (whole, cheap), old = caches, len(text)
    guesses = []
    for _ in range(k):
        guesses += [int(draft((text + guesses)[cheap.n_seen :], cache=cheap)[0, -1].argmax())]
    if flaw == "k of 0" and k == 0:
        return list(text)
    if flaw == "token by token":
        best = []
        for token in range(k + 1):
            unseen = (text + guesses)[whole.n_seen : old + token]
            best.append(int(target(unseen, cache=whole)[0, -1].argmax()))
    else:
        rows = target((text + guesses)[whole.n_seen :], cache=whole)[0].argmax(-1).tolist()
        best = rows[len(rows) - k - 1 :]
    compared = best[1:] + best[-1:] if flaw == "row too late" else best
    agree = [guess == own for guess, own in zip(guesses, compared, strict=False)]
    n = agree.index(False) if False in agree else k
    if flaw == "keeps all":
        n = k
    if flaw == "keeps later ones":
        n = sum(agree)
    own = [guesses[n]] if flaw == "keeps the wrong one" and n < k else [best[n]]
    longer = text + guesses[:n] + ([] if flaw == "no token of its own" else own)
    held = len(longer) - 1
    if flaw != "target not rolled back":
        whole.truncate(min(held, whole.n_seen))
    if cheap.n_seen < held and flaw != "draft lacks one":
        draft(longer[cheap.n_seen : held], cache=cheap)
    if flaw != "draft not rolled back":
        cheap.truncate(min(held, cheap.n_seen))
    if flaw == "changes text":
        text[:] = longer
    return longer[old:] if flaw == "new only" else longer


def _refuse_speculation(target, draft, text, k, flaw):
    if not text and flaw != "empty":
        raise ValueError("no text")
    if k < 0 and flaw != "negative":
        raise ValueError("k below 0")
    if target.config.vocab_size != draft.config.vocab_size and flaw != "vocabulary":
        raise ValueError("another vocabulary")


def _chain():
    """Return the steps of one text, each call with what the one before gave."""
    models = {name: make(name) for name in ("small_model", "half_right_model")}
    caches, text, steps = (ModelCache(), ModelCache()), [15, 22, 5, 1], []
    for name, k in (*[("half_right_model", 3)] * 4, *[("small_model", 3)] * 2):
        steps.append(call(Given("small_model"), Given(name), text, k, _NEW))
        if len(steps) > 1 and name == "half_right_model":
            steps += [passed("small_model", k + 1, 1), passed(name, k + 2, k + 1)]
        text = _speculate(models["small_model"], models[name], text, k, caches)
    for _ in range(2):
        steps.append(hard(call(Given("small_model"), Given("small_model"), text, 0, _NEW)))
        text = _speculate(models["small_model"], models["small_model"], text, 0, caches)
    steps.append(hard(call(Given("small_model"), Given("small_model"), text, -1, _NEW)))
    return steps


bank.calls(
    "speculative_step",
    [
        *_chain(),
        hard(call(Given("small_model"), Given("foreign_draft"), [3, 4], 2, _NEW)),
        hard(call(Given("small_model"), Given("small_model"), [], 2, _NEW)),
    ],
)

for _name, _flaw, _visible, _sentence in (
    (
        "guess_without_own_token",
        "no token of its own",
        True,
        "The target's own token is missing. Look at the first row that disagrees: it holds "
        "one more token, for free.",
    ),
    (
        "guess_keeps_all",
        "keeps all",
        True,
        "All guesses are kept, whatever the target says. Look at what you compare them with.",
    ),
    (
        "guess_keeps_the_wrong_one",
        "keeps the wrong one",
        True,
        "The guess that disagrees is kept. Look at what stands in its place in the target's "
        "own text.",
    ),
    (
        "guess_keeps_later_ones",
        "keeps later ones",
        True,
        "Guesses are counted that agree after one that does not. Look at where your count has"
        " to end.",
    ),
    (
        "guess_compares_a_row_too_late",
        "row too late",
        True,
        "Guesses are compared with the wrong rows. Look at which row says what follows the "
        "last token of the text.",
    ),
    (
        "guess_leaves_the_target_cache",
        "target not rolled back",
        True,
        "The target's cache still holds the guesses that were thrown away. Look at how many "
        "tokens it has to hold in the end.",
    ),
    (
        "guess_leaves_the_draft_cache",
        "draft not rolled back",
        True,
        "The draft's cache still holds the guesses that were thrown away. Look at how many "
        "tokens it has to hold in the end.",
    ),
    (
        "guess_leaves_the_draft_behind",
        "draft lacks one",
        False,
        "When all guesses agree, the draft's cache lacks one token. Look at whether the draft"
        " has read its own last guess.",
    ),
    (
        "guess_checks_one_by_one",
        "token by token",
        True,
        "The target checks one token a pass. Look at how many tokens a pass may have: that is"
        " what saves passes.",
    ),
    (
        "guess_stands_still_at_zero",
        "k of 0",
        True,
        "With k of 0 no token is written. Look at what is left of a step without guesses.",
    ),
    (
        "guess_returns_new_only",
        "new only",
        True,
        "Only the new tokens come back. The result is the whole text, longer.",
    ),
    (
        "guess_changes_the_text",
        "changes text",
        True,
        "The list that was passed in has grown, and the caller still needs it. Look at where "
        "you copy it.",
    ),
    (
        "guess_with_another_vocabulary",
        "vocabulary",
        True,
        "A draft with another vocabulary was let through: the same number means another token"
        " to it. Look at what you can compare before the first pass.",
    ),
    (
        "guess_backwards",
        "negative",
        True,
        "A k below 0 was let through. Look at the row *raises* of the table.",
    ),
):
    _flawed("speculative_step", _speculate, _name, _sentence, _flaw, _visible)


@bank.mistake(
    "speculative_step",
    "When all guesses agree, the target's own token is missing. Look at the row after the last "
    "guess.",
)
def guess_without_own_token_when_all_agree(target, draft, text, k, caches):
    longer = _speculate(target, draft, text, k, caches)
    if k and len(longer) == len(text) + k + 1:
        longer = longer[:-1]
        for cache in caches:
            cache.truncate(len(longer) - 1)
    return longer


@bank.mistake(
    "speculative_step",
    "The draft reads the whole text for each guess. Look at what its cache has seen already.",
)
def guess_from_the_beginning(target, draft, text, k, caches):
    if k < 0 or not text or target.config.vocab_size != draft.config.vocab_size:
        raise ValueError("this cannot be")
    guesses = list(text)
    for _ in range(k):
        guesses.append(int(draft(guesses)[0, -1].argmax()))
    best = target(guesses[caches[0].n_seen :], cache=caches[0])[0, -k - 1 :].argmax(-1).tolist()
    kept = 0
    while kept < k and guesses[len(text) + kept] == best[kept]:
        kept += 1
    longer = list(text) + best[: kept + 1]
    caches[0].truncate(len(longer) - 1)
    draft(longer[caches[1].n_seen : -1], cache=caches[1])
    return longer


@bank.variant("speculative_step")
def guess_in_parts(target, draft, text, k, caches):
    return _speculate(target, draft, text, k, caches)


@bank.variant("speculative_step")
def guess_recursively(target, draft, text, k, caches):
    _refuse_speculation(target, draft, text, k, "")
    whole, cheap = caches

    def drafted(so_far, left):
        if left == 0:
            return so_far
        scores = draft(so_far[cheap.n_seen :], cache=cheap)
        return drafted([*so_far, scores[0, -1].argmax().item()], left - 1)

    tried = drafted(list(text), k)
    start = whole.n_seen
    said = target(tried[start:], cache=whole).argmax(-1)[0].tolist()
    length = len(text)
    while length < len(tried) and tried[length] == said[length - 1 - start]:
        length += 1
    result = [*tried[:length], said[length - 1 - start]]
    whole.truncate(length)
    cheap.truncate(min(cheap.n_seen, length))
    rest = result[cheap.n_seen : length]
    if rest:
        draft(rest, cache=cheap)
    return result


@bank.variant("speculative_step")
def guess_and_read_the_last(target, draft, text, k, caches):
    """The draft always reads its last guess, and forgets it where it was wrong."""
    _refuse_speculation(target, draft, text, k, "")
    tried = list(text)
    for _ in range(k):
        tried.append(int(torch.argmax(draft(tried[caches[1].n_seen :], cache=caches[1])[0, -1])))
    draft(tried[caches[1].n_seen :], cache=caches[1])
    best = target(tried[caches[0].n_seen :], cache=caches[0])[0, -(k + 1) :].argmax(-1)
    same = (torch.tensor(tried[len(text) :]) == best[:k]).long().cumprod(0).sum().item()
    for cache in caches:
        cache.truncate(len(text) + same)
    return [*tried[: len(text) + same], int(best[same])]


@bank.variant("speculative_step")
def guess_with_prefill_apart(target, draft, text, k, caches):
    """Lets the draft read what it lacks first; the target reads all in one pass."""
    _refuse_speculation(target, draft, text, k, "")
    whole, cheap = caches
    if len(text) - 1 > cheap.n_seen:
        draft(text[cheap.n_seen : -1], cache=cheap)
    return _speculate(target, draft, list(text), k, (whole, cheap))


# accept_or_rest (optional: a visible check only)

_P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
_Q = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
bank.terms("accept_or_rest", kept="", rest="token")
bank.calls(
    "accept_or_rest",
    [
        call(_P, _Q, 0, 0.9),
        call(_P, _Q, 2, 0.4),
        call(_P, _Q, 2, 0.6),
        call(_P, _Q, 3, 0.1),
        call(_P, _Q, 3, 0.13),
        call(_P, _P, 1, 0.99),
        call(torch.tensor([0.0, 1.0]).double(), torch.tensor([0.5, 0.5]).double(), 0, 0.0),
    ],
)


def _accept(p, q, token, u, flaw=""):
    ratio = float(q[token] / p[token] if flaw == "ratio" else p[token] / q[token])
    if flaw == "half":
        ratio /= 2
    if flaw == "target":
        ratio = float(p[token])
    kept = u > ratio if flaw == "inverted" else u < ratio
    if flaw == "at most":
        kept = u <= ratio
    rest = (q - p if flaw == "other way" else p - q).clamp(min=0)
    if flaw == "absolute":
        rest = (p - q).abs()
    if flaw == "draw from p":
        rest = p
    if flaw == "not made whole" and rest.sum() > 0:
        return kept, rest
    return kept, rest / rest.sum() if rest.sum() > 0 or flaw == "nan" else p


for _name, _flaw, _sentence in (
    (
        "lots_by_the_inverse",
        "ratio",
        "The ratio is upside down. Look at which of the two probabilities says how often a "
        "token should come.",
    ),
    (
        "lots_by_the_target",
        "target",
        "A token is kept with probability p, as if the draft had chosen evenly. Look at how "
        "often the draft hands it out.",
    ),
    (
        "lots_the_wrong_way",
        "inverted",
        "Kept and not kept are the wrong way round. Look at what a small u should lead to.",
    ),
    (
        "lots_at_most",
        "at most",
        "A token of probability 0 is kept when u is 0. Look at the comparison at its very edge.",
    ),
    (
        "lots_from_the_target",
        "draw from p",
        "What is not kept is drawn from p, so the tokens that the draft likes come too often."
        " Look at what the draft has handed out already.",
    ),
    (
        "lots_rest_of_the_draft",
        "other way",
        "The rest is what q has more than p. Look at which of the two still lacks something.",
    ),
    (
        "lots_rest_absolute",
        "absolute",
        "The rest holds the absolute differences. Look at the tokens of which q has more than p.",
    ),
    (
        "lots_rest_not_whole",
        "not made whole",
        "The rest does not sum to 1. Look at what is left to do with it.",
    ),
    (
        "lots_rest_of_equals",
        "nan",
        "Where p and q are equal, the rest is 0 / 0. Look at what is to come back then.",
    ),
):
    _flawed("accept_or_rest", _accept, _name, _sentence, _flaw)


@bank.variant("accept_or_rest")
def lots_by_parts(p, q, token, u):
    return _accept(p, q, token, u)


@bank.variant("accept_or_rest")
def lots_by_minimum(p, q, token, u):
    rest = p - torch.minimum(p, q)
    return bool(u < min(1.0, float(p[token] / q[token]))), rest / rest.sum() if rest.any() else p


@bank.variant("accept_or_rest")
def lots_by_lists(p, q, token, u):
    more = [max(0.0, a - b) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    whole = sum(more)
    rest = torch.tensor([x / whole for x in more], dtype=p.dtype) if whole else p.clone()
    return u * float(q[token]) < float(p[token]), rest


@bank.variant("accept_or_rest")
def lots_by_relu(p, q, token, u):
    rest = torch.relu(p - q)
    kept = torch.tensor(u, dtype=p.dtype) * q[token] < p[token]
    return kept.item(), rest / rest.sum() if rest.sum() else p


# PagedKVCache

bank.terms(
    "PagedKVCache",
    "append",
    keys="text head token number",
    values="text head token number",
    mask="query key",
)
_K, _V, _K1, _V1 = (_numbers(seed, 1, 2, 5, 2).float() for seed in (31, 32, 33, 34))


def _page(seq: int, first: int, last: int) -> list[dict]:
    part = slice(first, last)
    return [
        method("append", seq, 0, _K[:, :, part], _V[:, :, part]),
        method("append", seq, 1, _K1[:, :, part], _V1[:, :, part]),
    ]


bank.calls(
    "PagedKVCache",
    [
        call(2, 5, 2, 2, 2),  # freed blocks are taken again, the lowest first
        *(method("new") for _ in range(3)),
        *(step for seq in range(3) for step in _page(seq, 0, 2)),
        method("free", 1),
        method("free", 0),
        method("new"),
        *_page(3, 0, 3),
        method("table", 3),
        get("n_free"),
        call(2, 4, 2, 2, 2),
        method("new"),
        *_page(0, 0, 3),
        method("table", 0),
        get("n_free"),
        method("fork", 0),
        method("table", 1),
        get("n_free"),
        *_page(1, 3, 4),
        method("table", 0),
        method("table", 1),
        *_page(0, 4, 5),
        method("n_seen", 1),
        *_page(1, 2, 4),
        get("n_free"),
        hard(method("append", 0, 0, _K[:, :, :1], _V[:, :, :1])),
        hard(method("table", 0)),
        hard(method("free", 1)),
        hard(get("n_free")),
        hard(method("append", 0, 0, _K, _V)),
        hard(get("n_free")),
        hard(method("free", 1)),
        hard(method("append", 0, 0, _K[:, :, :1], _V[:, :, :1])),
        hard(method("new")),
    ],
)


class _Paged:
    """The right cache, in parts that a mistake can replace."""

    def __init__(self, n_layers, n_blocks, block_size, n_kv_heads, head_dim):
        shape = (n_blocks, n_layers, n_kv_heads, block_size, head_dim)
        self.k, self.v = torch.zeros(shape), torch.zeros(shape)
        self.n_layers, self.size = n_layers, block_size
        self.users = [0] * n_blocks
        self.of, self.used, self.made = {}, {}, 0

    def new(self):
        self.of[self.made], self.used[self.made] = [], [0] * self.n_layers
        self.made += 1
        return self.made - 1

    def find(self, seq):
        if seq not in self.of:
            raise ValueError(f"no sequence {seq}")

    def fork(self, seq):
        self.find(seq)
        child = self.new()
        self.of[child], self.used[child] = self.share(seq), list(self.used[seq])
        return child

    def share(self, seq):
        for block in self.of[seq]:
            self.users[block] += 1
        return list(self.of[seq])

    def free(self, seq):
        self.find(seq)
        for block in self.of.pop(seq):
            self.users[block] -= 1
        del self.used[seq]

    def table(self, seq):
        self.find(seq)
        return list(self.of[seq])

    @property
    def n_free(self):
        return sum(users == 0 for users in self.users)

    def n_seen(self, seq):
        self.find(seq)
        return self.used[seq][-1]

    def must_copy(self, block):
        return self.users[block] > 1

    def take(self):
        block = self.users.index(0)
        self.users[block] = 1
        return block

    def check_room(self, needed):
        if needed > self.n_free:
            raise ValueError("the pool is full")

    def append(self, seq, layer, k, v):
        self.find(seq)
        old = self.used[seq][layer]
        end, table = old + k.shape[2], self.of[seq]
        copies = int(old % self.size > 0 and self.must_copy(table[old // self.size]))
        self.check_room(copies + max(0, -(-end // self.size) - len(table)))
        if copies:
            at = old // self.size
            block = self.take()
            self.k[block], self.v[block] = self.k[table[at]], self.v[table[at]]
            self.users[table[at]] -= 1
            table[at] = block
        while len(table) * self.size < end:
            table.append(self.take())
        for i in range(old, end):
            block, place = table[i // self.size], i % self.size
            self.k[block, layer, :, place] = k[0, :, i - old]
            self.v[block, layer, :, place] = v[0, :, i - old]
        self.used[seq][layer] = end
        keys, values = (
            torch.cat([pool[block, layer] for block in table], dim=1)[None, :, :end]
            for pool in (self.k, self.v)
        )
        return keys, values, torch.ones(end - old, end).tril(old).bool()


@bank.mistake(
    "PagedKVCache",
    "A shared block is written to, so the other sequence finds foreign tokens in it. Look"
    " at what has to happen before you write into a block with two users.",
)
class PagedWritesToShared(_Paged):
    def must_copy(self, block):
        return False


@bank.mistake(
    "PagedKVCache",
    "fork copies every block at once. Look at when two sequences begin to differ.",
)
class PagedCopiesAtFork(_Paged):
    def share(self, seq):
        table = [self.take() for _ in self.of[seq]]
        for block, original in zip(table, self.of[seq], strict=True):
            self.k[block], self.v[block] = self.k[original], self.v[original]
        return table


@bank.mistake(
    "PagedKVCache",
    "Parent and child have the same list of blocks, so a block that one takes is the "
    "other's, too. Look at what fork hands to the child.",
)
class PagedSharesTheTable(_Paged):
    def share(self, seq):
        super().share(seq)
        return self.of[seq]


@bank.mistake(
    "PagedKVCache",
    "A block is free as soon as one of its sequences ends, although another still uses "
    "it. Look at how many users it has left.",
)
class PagedFreesSharedBlocks(_Paged):
    def free(self, seq):
        self.find(seq)
        for block in self.of.pop(seq):
            self.users[block] = 0
        del self.used[seq]


@bank.mistake(
    "PagedKVCache",
    "After a fork the blocks look as if only the parent used them. Look at what is kept "
    "for each block.",
)
class PagedDoesNotCountForks(_Paged):
    def share(self, seq):
        return list(self.of[seq])


@bank.mistake(
    "PagedKVCache",
    "Freeing a sequence twice was let through, or raised something other than a "
    "ValueError. Look at how you know that a sequence is there.",
)
class PagedFreesTwice(_Paged):
    def free(self, seq):
        for block in self.of.pop(seq, []):
            self.users[block] -= 1
        self.used.pop(seq, None)


@bank.mistake(
    "PagedKVCache",
    "A sequence takes a block for each token. Look at how many tokens a block holds.",
)
class PagedTakesABlockAToken(_Paged):
    def __init__(self, n_layers, n_blocks, block_size, n_kv_heads, head_dim):
        super().__init__(n_layers, n_blocks, 1, n_kv_heads, head_dim)


@bank.mistake(
    "PagedKVCache",
    "A full pool was found out in the middle, when blocks had been taken already. Look at"
    " what you can count before you change anything.",
)
class PagedFillsAsFarAsItGoes(_Paged):
    def check_room(self, needed):
        pass

    def take(self):
        if 0 not in self.users:
            raise ValueError("the pool is full")
        return super().take()


@bank.mistake(
    "PagedKVCache",
    "A block is copied although nobody else uses it any more. Look at how many users it "
    "has at that moment.",
)
class PagedCopiesItsOwn(_Paged):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.shared = set()

    def share(self, seq):
        self.shared |= set(self.of[seq])
        return super().share(seq)

    def must_copy(self, block):
        return block in self.shared


@bank.mistake(
    "PagedKVCache",
    "The free block with the highest number is taken. Look at which one the statement asks for.",
)
class PagedTakesTheHighest(_Paged):
    def take(self):
        block = len(self.users) - 1 - self.users[::-1].index(0)
        self.users[block] = 1
        return block


@bank.mistake(
    "PagedKVCache",
    "The block that was freed first, or was never used, is taken first. Look at which free block "
    "the statement asks for.",
)
class PagedTakesInTheOrderOfFreeing(_Paged):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.line = list(range(len(self.users)))

    def free(self, seq):
        table = self.table(seq)
        super().free(seq)
        self.line += [block for block in table if self.users[block] == 0]

    def take(self):
        block = self.line.pop(0)
        self.users[block] = 1
        return block


@bank.mistake(
    "PagedKVCache",
    "A number is given twice: it is made of how many sequences there are. Look at what `new` "
    "returns after one has ended.",
)
class PagedReusesNumbers(_Paged):
    def new(self):
        self.made = len(self.of)
        return super().new()


@bank.mistake(
    "PagedKVCache",
    "A sequence takes a block although its last one is just full. Look at how many blocks so many "
    "tokens need.",
)
class PagedTakesOneBlockAhead(_Paged):
    def append(self, seq, layer, k, v):
        result = super().append(seq, layer, k, v)
        if self.used[seq][layer] == len(self.of[seq]) * self.size and self.n_free:
            self.of[seq].append(self.take())
        return result


@bank.mistake(
    "PagedKVCache",
    "A shared block is copied at one layer only. Look at what else the block holds.",
)
class PagedCopiesOneLayer(_Paged):
    def append(self, seq, layer, k, v):
        before = self.k.clone(), self.v.clone()
        table = self.table(seq)
        result = super().append(seq, layer, k, v)
        for old, new in zip(table, self.of[seq], strict=False):
            if old != new:
                others = [at for at in range(self.n_layers) if at != layer]
                self.k[new, others], self.v[new, others] = (pool[new, others] for pool in before)
        return result


@bank.variant("PagedKVCache")
class PagedWithTwoPools(_Paged):
    """The parts that the mistakes replace, as they should be."""


@bank.variant("PagedKVCache")
class PagedWithAHeap(_Paged):
    """Keeps the free blocks in a heap."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.heap = list(range(sizes[1]))

    @property
    def n_free(self):
        return len(self.heap)

    def take(self):
        block = heapq.heappop(self.heap)
        self.users[block] = 1
        return block

    def free(self, seq):
        blocks = self.table(seq)
        super().free(seq)
        for block in blocks:
            if self.users[block] == 0:
                heapq.heappush(self.heap, block)


@bank.variant("PagedKVCache")
class PagedByTables(_Paged):
    """Counts users by looking into all tables."""

    def must_copy(self, block):
        return sum(block in table for table in self.of.values()) > 1


@bank.variant("PagedKVCache")
class PagedInOneTensor(_Paged):
    """Keys and values are two views of one tensor."""

    def __init__(self, n_layers, n_blocks, block_size, n_kv_heads, head_dim):
        super().__init__(n_layers, n_blocks, block_size, n_kv_heads, head_dim)
        self.k, self.v = torch.zeros(2, n_blocks, n_layers, n_kv_heads, block_size, head_dim)
