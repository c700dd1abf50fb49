"""Measure what a model can do, on held-out text."""

import torch
from torch import Tensor

from llm_memory.model import Llama
from llm_memory.tokenizer import WordTokenizer
from llm_memory.training.corpus import Corpus, Token


def answer_is_right(model: Llama, tokenizer: WordTokenizer, texts: list[list[Token]]) -> Tensor:
    """For each text, whether every answer word in its last sentence is the model's first choice.

    The model reads the right words, so a wrong first digit does not spoil the second.
    """
    longest = max(len(text) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    asked = torch.zeros(len(texts), longest, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text)] = torch.tensor([tokenizer.ids[token.word] for token in text])
        asked[row, : len(text)] = torch.tensor([token.kind == "answer" for token in text])
    with torch.no_grad():
        chosen = model(ids[:, :-1]).argmax(-1)
    return ((chosen == ids[:, 1:]) | ~asked[:, 1:]).all(dim=1)


def recall_text(corpus: Corpus, kind: str, n_facts: int, filler_tokens: int) -> list[Token]:
    """Competing facts of one kind, filler of about that many tokens, one fact again."""
    known: set[str] = set()
    facts = [corpus.fact(kind, known) for _ in range(n_facts)]
    first = [token._replace(kind="text") for fact in facts for token in fact[0]]
    between: list[Token] = []
    while len(between) < filler_tokens:
        between += [token._replace(kind="text") for token in corpus.filler()]
    return first + between + corpus.random.choice(facts)[1]


def quick_look(model: Llama, tokenizer: WordTokenizer, n: int = 64) -> dict[str, float]:
    """A few cases for the training log: recall of 1 of 3 codes, coreference on held-out pairs."""
    corpus = Corpus(7, held_out=True)
    recall = [recall_text(corpus, "code", 3, 20) for _ in range(n)]
    figures = {"recall": answer_is_right(model, tokenizer, recall).float().mean().item()}
    for kind in ("simple", "object"):
        texts = [corpus.coreference(kind) for _ in range(n)]
        figures[kind] = answer_is_right(model, tokenizer, texts).float().mean().item()
    return {name: round(value, 3) for name, value in figures.items()}
