"""Text for the small model, made from `grammar.toml` with a seeded generator.

A document has a fixed cast and fixed facts: what was said stays true until its end. Nearly half of
its sentences say an earlier fact again. Pairs of role and event that `is_held_out` names never
occur together in training text: `Corpus(held_out=True)` makes text of nothing else.
"""

import random
import re
import tomllib
from collections.abc import Iterator
from functools import cache, partial
from importlib import resources
from typing import NamedTuple

SLOT = re.compile(r"\{([a-z_]+)(\d?)\}")


class Token(NamedTuple):
    """A word and whether it can be known from what was said before (`answer`) or not at all."""

    word: str
    kind: str = "text"  # "text", "answer" or "news" (an answer said for the first time)


@cache
def grammar() -> dict:
    """The grammar as read from grammar.toml."""
    text = resources.files(__package__).joinpath("grammar.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def events(kind: str = "events") -> list[tuple[str, bool]]:
    """All (event, is it good) of "events" or "deeds", in the order in which they are counted."""
    return [
        (event, good)
        for good in (True, False)
        for event in grammar()[kind]["good" if good else "bad"]
    ]


def is_held_out(role: str, event: str) -> bool:
    """Whether this pair of role and event (or deed) is kept out of training text."""
    rule, kind = grammar()["held_out"], "deeds" if " " not in event else "events"
    row = list(grammar()["roles"]).index(role)
    column = [name for name, _ in events(kind)].index(event)
    return (5 * row + column) % rule["every"] == rule["which"]


def vocabulary() -> list[str]:
    """Every word of the grammar, `<unk>` and punctuation and digits first, then by the alphabet."""
    found: set[str] = set()

    def collect(part: object) -> None:
        if isinstance(part, str):
            found.update(word for word in part.split() if "{" not in word)
        elif isinstance(part, dict):
            for value in part.values():
                collect(value)
        elif isinstance(part, list):
            for value in part:
                collect(value)

    collect(grammar())
    found |= set(grammar()["roles"])
    found -= {"[", "]"}
    signs = {"<unk>", ".", ",", ":", ";", "?", "!", "'", '"', "-"} | set("0123456789")
    words = sorted(found - signs)
    return [
        *sorted(signs - set("0123456789"), key=lambda s: (s != "<unk>", s)),
        *"0123456789",
        *words,
    ]


class Corpus:
    """Documents without end. The same seed gives the same documents."""

    def __init__(self, seed: int, held_out: bool = False) -> None:
        self.random = random.Random(seed)
        self.held_out = held_out
        self.words = dict(grammar()["words"])
        self.words["name"] = self.words["woman"] + self.words["man"]
        self.all_words = vocabulary()[1:]
        self.song_words = [
            *self.words["object"],
            *self.words["animal"],
            *self.words["colour"],
            *grammar()["extra"]["words"],
        ]

    def fill(self, template: str, kind: str, **given: str) -> list[Token]:
        """Fill the slots of a template; words in [ ] get `kind`, the others "text"."""
        numbered: dict[str, str] = {}

        def choose(match: re.Match) -> str:
            slot, number = match.groups()
            if match[0] in numbered:
                return numbered[match[0]]
            word = given.get(slot) or self.choose(slot)
            while number and word in numbered.values():
                word = self.choose(slot)
            return numbered.setdefault(match[0], word) if number else word

        inside, tokens = False, []
        for word in SLOT.sub(choose, template).split():
            if word in "[]":
                inside = word == "["
            else:
                tokens.append(Token(word, kind if inside else "text"))
        return tokens

    def choose(self, slot: str) -> str:
        """Choose what a slot may hold."""
        if slot == "filler":
            sentence = self.random.choice(grammar()["sentences"]["filler"])
            return " ".join(token.word for token in self.fill(sentence, "text"))
        if slot == "role":
            return self.random.choice(list(grammar()["roles"]))
        return self.random.choice(self.song_words if slot == "word" else self.words[slot])

    def coreference(self, kind: str) -> list[Token]:
        """A sentence of one kind of "coreference" in the grammar."""
        return self.feelings(self.random.choice(grammar()["coreference"][kind]))

    def feelings(self, template: str) -> list[Token]:
        """Fill a template about a role and an event: a pair that training may, or may not, have."""
        kind, roles = "deeds" if "{deed}" in template else "events", grammar()["roles"]
        is_good = dict(events(kind))
        role, event = self.random.choice(list(roles)), self.random.choice(list(is_good))
        while is_held_out(role, event) != self.held_out:
            role, event = self.random.choice(list(roles)), self.random.choice(list(is_good))
        other = self.random.choice([name for name in roles if name != role])
        good, bad, reaction = roles[role]
        feeling = good if is_good[event] else bad
        return self.fill(
            template,
            "answer",
            role=role,
            event=event,
            deed=event,
            other=other,
            feeling=feeling,
            reaction=reaction,
            other_reaction=roles[other][2],
        )

    def fact(self, kind: str, known: set[str]) -> tuple[list[Token], list[Token]] | None:
        """A new fact whose key is not among `known`: as it is said first, and said again."""
        for _ in range(8):
            first = self.fill(grammar()["facts"][kind], "news")
            key = kind + " ".join(token.word for token in first if token.kind == "text")
            if key not in known:
                known.add(key)
                again = [
                    token._replace(kind="answer") if token.kind == "news" else token
                    for token in first
                ]
                return first, again
        return None

    def filler(self) -> list[Token]:
        """A sentence that says nothing that is needed later."""
        kind = "pronoun" if self.random.random() < 0.3 else "filler"
        return self.fill(self.random.choice(grammar()["sentences"][kind]), "answer")

    def kind_of_fact(self) -> str:
        """A kind of fact, some more often than others."""
        weights = grammar()["fact_weights"]
        return self.random.choices(list(weights), list(weights.values()))[0]

    def dense(self) -> Iterator[list[Token]]:
        """Sentences of a document of a few competing facts, asked again in another order."""
        known: set[str] = set()
        chance_of_filler = self.random.choice([0.0, 0.0, 0.3, 0.6])
        while True:
            kind = self.kind_of_fact()
            facts = [self.fact(kind, known) for _ in range(self.random.randint(2, 4))]
            facts = [fact for fact in facts if fact]
            if self.random.random() < 0.3 and (odd := self.fact(self.kind_of_fact(), known)):
                facts.append(odd)
            for first, _ in facts:
                yield first
                if self.random.random() < chance_of_filler / 2:
                    yield self.filler()
            for _ in range(self.random.randint(len(facts), 4 * len(facts)) if facts else 0):
                if self.random.random() < chance_of_filler:
                    yield self.filler()
                else:
                    yield self.random.choice(facts)[1]

    def story(self) -> Iterator[list[Token]]:
        """Sentences of a document of everything: facts, feelings, filler, up to 30 back again."""
        known: set[str] = set()
        said: list[tuple[int, list[Token]]] = []
        kinds = list(grammar()["coreference"])
        number = 0
        while True:
            number += 1
            draw = self.random.random()
            recent = [again for when, again in said if number - when <= 30]
            if draw < min(0.40, 0.08 * len(recent)):
                yield self.random.choice(recent)
            elif draw < 0.68:
                yield self.coreference(self.random.choice(kinds))
            elif draw < 0.90 and (fact := self.fact(self.kind_of_fact(), known)):
                said.append((number, fact[1]))
                yield fact[0]
            else:
                yield self.filler()

    def echo(self) -> Iterator[list[Token]]:
        """Random words, said again and again: the purest form of what recall needs."""
        while True:
            words = self.random.choices(self.all_words, k=self.random.randint(3, 20))
            yield [Token(word, "news") for word in words]
            for _ in range(self.random.randint(1, 2)):
                yield [Token(words[0], "news"), *(Token(word, "answer") for word in words[1:])]

    def far(self, length: int) -> Iterator[list[Token]]:
        """Sentences of a document that asks at its end for the facts of its beginning."""
        kind, known, kinds = self.kind_of_fact(), set(), list(grammar()["coreference"])
        drawn = [self.fact(kind, known) for _ in range(self.random.randint(2, 4))]
        facts = [fact for fact in drawn if fact]
        said = sum(len(first) for first, _ in facts)
        yield from (first for first, _ in facts)
        end = length - self.random.randint(1, len(facts)) * len(facts[0][1])
        while True:
            filler = self.random.random() < 0.5
            sentence = self.filler() if filler else self.coreference(self.random.choice(kinds))
            said += len(sentence)
            if said > end:
                break
            yield sentence
        while True:
            yield self.random.choice(facts)[1]

    def document(self, length: int, shares: tuple[float, ...] = (0.5, 0.45)) -> list[Token]:
        """One document of exactly `length` tokens (its last sentence may be cut).

        `shares` are the chances of a dense document, of a story and, if there is a third, of one
        that asks across its whole length (`far`); the rest are echoes.
        """
        dense, story, far = (*shares, 0.0)[:3]
        chances = [dense, story, max(0.0, 1 - sum(shares)), far]
        kinds = [self.dense, self.story, self.echo, partial(self.far, length)]
        kind = self.random.choices(kinds, chances)[0]
        sentences, tokens = kind(), []
        while len(tokens) < length:
            tokens += next(sentences)
        return tokens[:length]

    def text(self, length: int) -> str:
        """One document as text, dense or a story."""
        return " ".join(token.word for token in self.document(length, (0.5, 0.5)))
