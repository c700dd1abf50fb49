"""Points for a recorded answer. The grader calls this in its own process."""

from collections.abc import Mapping
from typing import Any, Literal

from llm_memory.quiz.bank import find


def score(
    name: str, answer: Mapping[str, Any] | None, count: Literal["last", "first"] = "last"
) -> float:
    """The share of the quiz's points that an answer earns, between 0 and 1.

    Parameters
    ----------
    name
        The quiz.
    answer
        A valid answer, as ``read_answers`` and ``answers_in_notebook`` return them; None if the
        learner gave none.
    count
        Which answer earns the points: the one that stands at the end, or the first.

    Raises
    ------
    UnknownQuizError
        There is no quiz of this name.
    ValueError
        ``count`` is neither of the two.
    """
    quiz = find(name)
    if count not in ("last", "first"):
        raise ValueError(f'count is "last" or "first", not {count!r}')
    if answer is None:
        return 0.0
    chosen = answer["choice" if count == "last" else "first"]
    return float(quiz.option(chosen).correct)
