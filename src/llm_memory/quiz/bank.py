"""The bank of quizzes, read from ``bank.json``: the only place where their texts stand."""

import json
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files


class UnknownQuizError(ValueError):
    """There is no quiz of this name."""

    def __init__(self, name: object):
        near = get_close_matches(str(name)[:80], BANK, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        super().__init__(
            f"There is no quiz {str(name)[:80]!r}.{hint} The quizzes are: {', '.join(BANK)}."
        )


@dataclass(frozen=True)
class Option:
    """One answer to choose, and what whoever chooses it deserves to hear."""

    id: str
    text: str
    correct: bool
    feedback: str


@dataclass(frozen=True)
class Quiz:
    """A question with its options, in the order in which they are shown.

    ``kind`` is ``"quiz"`` (has points) or ``"guess"`` (asked before the cell that shows the
    answer: recorded, never graded). Texts may hold ``**bold**`` and `` `code` ``, nothing else.
    """

    name: str
    topic: str
    kind: str
    heading: str
    question: str
    options: tuple[Option, ...]
    right: str
    wrong: str

    @property
    def graded(self) -> bool:
        """Whether the answer earns points."""
        return self.kind == "quiz"

    @property
    def grade_id(self) -> str:
        """The nbgrader ``grade_id`` of the cell that holds this quiz."""
        return "quiz_" + self.name.replace("-", "_")

    def option(self, option_id: str) -> Option:
        """The option with this id; ``KeyError`` if there is none."""
        for option in self.options:
            if option.id == option_id:
                return option
        raise KeyError(option_id)

    def feedback(self, option_id: str) -> str:
        """What a learner hears who chose this option: the verdict, then the reason."""
        option = self.option(option_id)
        opening = self.right if option.correct else self.wrong
        return f"{opening} {option.feedback}"


def load_bank(text: str) -> dict[str, Quiz]:
    """Read a bank from its JSON text.

    A quiz takes heading and verdicts from its kind, and may say its own.
    """
    data = json.loads(text)
    bank = {}
    for name, entry in data["quizzes"].items():
        kind = data["kinds"][entry["kind"]]
        bank[name] = Quiz(
            name=name,
            topic=entry["topic"],
            kind=entry["kind"],
            heading=kind["heading"].format(icon=data["topics"][entry["topic"]]["icon"]),
            question=entry["question"],
            options=tuple(Option(**option) for option in entry["options"]),
            right=entry.get("right", kind["right"]),
            wrong=entry.get("wrong", kind["wrong"]),
        )
    return bank


BANK: dict[str, Quiz] = load_bank(files(__package__).joinpath("bank.json").read_text("utf-8"))


def find(name: str) -> Quiz:
    """The quiz of this name.

    Raises
    ------
    UnknownQuizError
        With the nearest name and the list of those there are.
    """
    if not isinstance(name, str) or name not in BANK:
        raise UnknownQuizError(name)
    return BANK[name]
