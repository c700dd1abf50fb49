"""Measure what a model can do, on held-out text, and write the model card from the figures.

python -m course_tools.training.abilities            # the shipped model and its card
"""

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import islice, pairwise
from pathlib import Path
from string import Template

import torch
from torch import Tensor
from torch.nn import functional as F

from course_tools.training.corpus import Corpus, Token, grammar
from llm_memory.model import SHIPPED, Llama, attention_weights, load_model, rotate
from llm_memory.streaming import ModelCache, stream
from llm_memory.tokenizer import WordTokenizer

SEED = 3_000_017  # neither training nor the shipped held-out text uses it
SEED_SENTENCE = "when the student finished the exam , they felt"


def answer_is_right(model: Llama, tokenizer: WordTokenizer, texts: list[list[Token]]) -> Tensor:
    """For each text (N,), whether every answer word in it is the model's first choice.

    The model reads the right words, so a wrong first digit does not spoil the second.
    """
    right = []
    for start in range(0, len(texts), 50):
        part = texts[start : start + 50]
        longest = max(len(text) for text in part)
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        asked = torch.zeros(len(part), longest, dtype=torch.bool)
        for row, text in enumerate(part):
            ids[row, : len(text)] = torch.tensor([tokenizer.ids[token.word] for token in text])
            asked[row, : len(text)] = torch.tensor([token.kind == "answer" for token in text])
        with torch.no_grad():
            chosen = model(ids[:, :-1]).argmax(-1)
        right.append(((chosen == ids[:, 1:]) | ~asked[:, 1:]).all(dim=1))
    return torch.cat(right)


def share(right: Tensor) -> float:
    """Return the share of True in (N,), rounded to three places."""
    return round(right.float().mean().item(), 3)


def unmarked(tokens: Iterable[Token]) -> list[Token]:
    """Return the same words with nothing marked as an answer."""
    return [token._replace(kind="text") for token in tokens]


def recall_text(corpus: Corpus, kind: str, n_facts: int, length: int) -> list[Token]:
    """Competing facts of one kind, other sentences, one fact again: at most `length` tokens.

    The facts stand at the beginning, so the question is nearly `length` tokens after them.
    """
    known: set[str] = set()
    facts = [fact for _ in range(n_facts) if (fact := corpus.fact(kind, known))]
    question = corpus.random.choice(facts)[1]
    text = unmarked(token for first, _ in facts for token in first)
    kinds = [*grammar()["coreference"], *["filler"] * 5]
    while True:
        drawn = corpus.random.choice(kinds)
        sentence = corpus.filler() if drawn == "filler" else corpus.coreference(drawn)
        if len(text) + len(sentence) + len(question) > length:
            return text + question
        text += unmarked(sentence)


def quick_look(model: Llama, tokenizer: WordTokenizer, n: int = 64) -> dict[str, float]:
    """A few cases for the training log: recall of 1 of 3 codes, coreference on held-out pairs."""
    corpus = Corpus(7, held_out=True)
    texts = {"recall": [recall_text(corpus, "code", 3, 62) for _ in range(n)]}
    for kind in ("simple", "object"):
        texts[kind] = [corpus.coreference(kind) for _ in range(n)]
    figures = {
        name: share(answer_is_right(model, tokenizer, cases)) for name, cases in texts.items()
    }
    return figures | {"induction": induction(model, tokenizer, 8)["second_time"]}


def coreference(model: Llama, tokenizer: WordTokenizer, n: int) -> dict[str, float]:
    """Share of held-out pairs of role and event for which "they" is understood, by kind.

    Sentences about a feeling only: right after "they" both "felt" and a reaction would be right.
    """
    corpus, right = Corpus(SEED, held_out=True), {}
    for kind, templates in grammar()["coreference"].items():
        about = [template for template in templates if "{feeling}" in template]
        texts = [corpus.feelings(corpus.random.choice(about)) for _ in range(n)]
        right[kind] = share(answer_is_right(model, tokenizer, texts))
    return right


def recall(model: Llama, tokenizer: WordTokenizer, n: int, lengths: Iterable[int]) -> dict:
    """Share of facts said again rightly: codes by number of rivals and length, kinds of fact."""
    corpus, window = Corpus(SEED + 1, held_out=True), model.config.window

    def measured(kind: str, n_facts: int, length: int) -> float:
        texts = [recall_text(corpus, kind, n_facts, length) for _ in range(n)]
        return share(answer_is_right(model, tokenizer, texts))

    return {
        "by_length": {
            str(rivals): {str(length): measured("code", rivals, length) for length in lengths}
            for rivals in (2, 3, 4)
        },
        "by_kind": {kind: measured(kind, 2, window // 2) for kind in grammar()["facts"]},
    }


def top(model: Llama, tokenizer: WordTokenizer, text: str, hide: Iterable[int] = ()) -> dict:
    """Return the three most probable next words of a text and their probabilities."""
    with torch.no_grad():
        chances = model(tokenizer.encode(text), hide=list(hide))[0, -1].softmax(-1)
    best = chances.topk(3)
    return {
        tokenizer.words[i]: round(p, 3)
        for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    }


def seed_sentence(model: Llama, tokenizer: WordTokenizer, n: int) -> dict:
    """The seed's own sentence: the answer, the head that looks from "they" to the role, hiding.

    The head is the one that looks there most on `n` other held-out sentences.
    """
    corpus = Corpus(SEED + 2, held_out=True)
    total, right, hidden = 0, 0.0, 0.0
    words = tokenizer.tokens(SEED_SENTENCE)
    role, they, felt = (words.index(word) for word in ("student", "they", "felt"))
    for _ in range(n):
        text = [token.word for token in corpus.coreference("simple")]
        prompt = tokenizer.encode(" ".join(text[: text.index("felt") + 1]))
        answer = tokenizer.ids[text[text.index("felt") + 1]]
        total = total + attention_weights(model, prompt)[:, :, text.index("they"), role]
        with torch.no_grad():
            right += model(prompt)[0, -1].softmax(-1)[answer].item() / n
            hidden += model(prompt, hide=[role])[0, -1].softmax(-1)[answer].item() / n
    layer, head = divmod(int((total / n).argmax()), model.config.n_heads)
    weights = attention_weights(model, tokenizer.encode(SEED_SENTENCE))[layer, head]
    answer = tokenizer.ids["relieved"]
    with torch.no_grad():
        without = model(tokenizer.encode(SEED_SENTENCE), hide=[role])[0, -1].softmax(-1)[answer]
    return {
        "next": top(model, tokenizer, SEED_SENTENCE),
        "next_teacher": top(model, tokenizer, SEED_SENTENCE.replace("student", "teacher")),
        "next_failed": top(model, tokenizer, SEED_SENTENCE.replace("finished", "failed")),
        "head": [layer, head],
        "they_to_student": round(weights[they, role].item(), 3),
        "felt_to_student": round(weights[felt, role].item(), 3),
        "they_to_role_mean": round((total / n)[layer, head].item(), 3),
        "relieved_if_student_hidden": round(without.item(), 3),
        "right_word_mean": round(right, 3),
        "right_word_mean_if_role_hidden": round(hidden, 3),
    }


def loss_by_position(
    model: Llama, tokenizer: WordTokenizer, n: int, edges: list[int], rope: Callable | None = None
) -> dict[str, float]:
    """Perplexity of held-out documents between positions, such as {"0-32": 5.1, ...}."""
    corpus = Corpus(SEED + 3, held_out=True)
    losses = []
    for _ in range(n // 8):
        documents = [corpus.text(edges[-1] + 1) for _ in range(8)]
        ids = torch.tensor([tokenizer.encode(text) for text in documents])
        with torch.no_grad():
            logits = model(ids[:, :-1], rope=rope)
        losses.append(F.cross_entropy(logits.movedim(-1, 1), ids[:, 1:], reduction="none"))
    mean = torch.cat(losses).mean(0)
    return {f"{a}-{b}": round(mean[a:b].mean().exp().item(), 2) for a, b in pairwise(edges)}


def extrapolation(model: Llama, tokenizer: WordTokenizer, n: int) -> dict[str, dict]:
    """Loss by position inside and past the window, and with RoPE changed without retraining."""
    window, d = model.config.window, model.config.head_dim
    edges = [0, window // 16, window // 8, window // 4, window // 2, 3 * window // 4, window]
    edges += [window * k // 4 for k in (5, 6, 7, 8, 10)]
    ropes = {
        "as trained": None,
        "NTK base, factor 2": lambda x, p, base: rotate(x, p, base * 2 ** (d / (d - 2))),
        "interpolated, factor 2": lambda x, p, base: rotate(x, p, base, scale=2.0),
    }
    return {name: loss_by_position(model, tokenizer, n, edges, r) for name, r in ropes.items()}


def induction(model: Llama, tokenizer: WordTokenizer, n: int, length: int = 24) -> dict:
    """Random words said twice: what the best heads do, and how well the second time is known."""
    generator = torch.Generator().manual_seed(SEED)
    words = torch.arange(20, model.config.vocab_size)
    previous, copying, right = 0, 0, 0.0
    places = torch.arange(length - 1)
    for _ in range(n):
        once = words[torch.randperm(len(words), generator=generator)[:length]]
        ids = once.repeat(2)
        weights = attention_weights(model, ids)
        previous = previous + weights.diagonal(-1, 2, 3).mean(-1) / n
        # From the second time a word stands to what followed it the first time.
        copying = copying + weights[:, :, length + places, places + 1].mean(-1) / n
        with torch.no_grad():
            chosen = model(ids)[0].argmax(-1)
        right += (chosen[length:-1] == once[1:]).float().mean().item() / n

    def best(scores: Tensor) -> dict[str, float]:
        order = scores.flatten().topk(3)
        names = [divmod(i, model.config.n_heads) for i in order.indices.tolist()]
        return {
            f"L{layer}H{head}": round(value, 2)
            for (layer, head), value in zip(names, order.values.tolist(), strict=True)
        }

    return {"second_time": round(right, 3), "induction": best(copying), "previous": best(previous)}


def beyond(model: Llama, tokenizer: WordTokenizer, n: int) -> dict[str, float]:
    """Share right on what training never shows ("beyond" in the grammar)."""
    corpus = Corpus(SEED + 4, held_out=True)

    def text(template: str) -> list[Token]:
        about = "{feeling}" in template
        return corpus.feelings(template) if about else corpus.fill(template, "answer")

    return {
        name: share(answer_is_right(model, tokenizer, [text(template) for _ in range(n)]))
        for name, template in grammar()["beyond"].items()
    }


def speed(model: Llama, tokenizer: WordTokenizer, n: int = 64) -> dict[str, float]:
    """CPU milliseconds for loading and a token, recomputed and cached: the best of five here.

    Tokens are counted from the seed's sentence on, `n` of them.
    """

    def best(action: Callable[[], object]) -> float:
        seconds = []
        for _ in range(5):
            began = time.process_time()
            action()
            seconds.append(time.process_time() - began)
        return min(seconds) * 1e3

    prompt = tokenizer.encode(SEED_SENTENCE)
    recomputed = best(lambda: list(islice(stream(model, prompt), n)))
    cached = best(lambda: list(islice(stream(model, prompt, ModelCache()), n)))
    return {
        "load_ms": round(best(load_model), 1),
        "recompute_ms": round(recomputed / n, 2),
        "cached_ms": round(cached / n, 2),
        "new_tokens": n,
    }


def identity(folder: Path, model: Llama, tokenizer: WordTokenizer) -> dict:
    """Return what says which file was measured."""
    weights = folder / "model.safetensors"
    return {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "bytes": weights.stat().st_size,
        "parameters": sum(p.numel() for p in model.parameters()),
        "words": len(tokenizer),
        "window": model.config.window,
    }


def measure(folder: Path, n: int, only: Iterable[str] = ()) -> dict:
    """Return the figures of the model in a folder, of `n` cases each.

    With `only`, the other figures are those of `abilities.json`, which must be of the same weights.
    """
    model, tokenizer = load_model(folder)
    window = model.config.window
    lengths = [window * k // 4 for k in (1, 2, 3, 4, 5, 6, 7, 8, 10)]
    parts = {
        "seed_sentence": lambda: seed_sentence(model, tokenizer, min(n, 100)),
        "coreference": lambda: coreference(model, tokenizer, n),
        "recall": lambda: recall(model, tokenizer, n, lengths),
        "perplexity": lambda: extrapolation(model, tokenizer, n),
        "induction": lambda: induction(model, tokenizer, min(n, 50)),
        "beyond": lambda: beyond(model, tokenizer, n),
        "speed": lambda: speed(model, tokenizer),
    }
    figures = {**identity(folder, model, tokenizer), "cases": n}
    if only:
        old = json.loads((folder / "abilities.json").read_text(encoding="utf-8"))
        if old["sha256"] != figures["sha256"] or old["cases"] != n:
            raise ValueError(f"{folder}/abilities.json is of other weights: measure all of it")
        figures = old
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts past the window are what is measured
        return figures | {name: parts[name]() for name in only or parts}


def table(rows: dict[str, dict], corner: str) -> str:
    """Return nested figures as a Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(str(row[c]) for c in columns) + " |"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def model_card(figures: dict, training: dict, tries: list[dict]) -> str:
    """Return the model card: the template with the figures in place."""
    template = Path(__file__).with_name("MODEL_CARD.template.md").read_text(encoding="utf-8")
    seed, recipe = figures["seed_sentence"], training["recipe"]
    chances = {
        key: ", ".join(f"{word} {p:.2f}" for word, p in seed[key].items())
        for key in ("next", "next_teacher", "next_failed")
    }
    heads = {
        key: ", ".join(f"{head} {value:.2f}" for head, value in figures["induction"][key].items())
        for key in ("induction", "previous")
    }
    rivals = {f"1 of {n} codes": row for n, row in figures["recall"]["by_length"].items()}
    columns = {"share right": figures["recall"]["by_kind"]}
    stages = {
        part: "\n".join(
            f"- {millions} million tokens in texts of {length}, {rows} a step"
            for length, rows, millions, _ in recipe[part]
        )
        for part in ("stages", "polish")
    }
    values = {
        **figures,
        **seed,
        **stages,
        **chances,
        **heads,
        **figures["speed"],
        "megabytes": f"{figures['bytes'] / 1e6:.2f}",
        "n_parameters": f"{figures['parameters']:,}",
        "millions": f"{training['history'][-1]['tokens'] / 1e6:.1f}",
        "head": "L{}H{}".format(*seed["head"]),
        "second_time": figures["induction"]["second_time"],
        "shape": json.dumps({k: v for k, v in recipe.items() if k not in stages}),
        "polish_rate": recipe["polish_rate"],
        "coreference_table": table({"share right": figures["coreference"]}, "kind"),
        "recall_table": table(rivals, "text length"),
        "kinds_table": table(columns, "kind of fact"),
        "perplexity_table": table(figures["perplexity"], "positions"),
        "beyond_table": "\n".join(
            f"- {name}: {value}" for name, value in figures["beyond"].items()
        ),
        "tries_table": table({f"{i}": t for i, t in enumerate(tries, 1)}, "try"),
        "n_tries": len(tries),
        "n_learned": sum(t["learned"] == "yes" for t in tries),
    }
    return Template(template).substitute({key: str(value) for key, value in values.items()})


def main(arguments: list[str] | None = None) -> int:
    """Measure a model folder; write abilities.json and MODEL_CARD.md into it."""
    parser = argparse.ArgumentParser(prog="python -m course_tools.training.abilities")
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--only", nargs="+", default=[], help="measure these again, keep the rest")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures = measure(options.folder, options.cases, options.only)
    text = json.dumps(figures, indent=1) + "\n"
    (options.folder / "abilities.json").write_text(text, encoding="utf-8")
    training = json.loads((options.folder / "training.json").read_text(encoding="utf-8"))
    tries = json.loads(Path(__file__).with_name("tries.json").read_text(encoding="utf-8"))
    card = model_card(figures, training, tries)
    (options.folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card)
    return 0


if __name__ == "__main__":
    sys.exit(main())
