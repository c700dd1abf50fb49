"""Radio-button quizzes whose answers are kept, and what the grader needs to score them."""

from typing import TYPE_CHECKING, Any

from llm_memory.quiz.bank import BANK, UnknownQuizError
from llm_memory.quiz.record import answers_in_notebook, merge, read_answers
from llm_memory.quiz.scoring import score

if TYPE_CHECKING:
    from llm_memory.quiz.widget import hand_in, quiz

__all__ = [
    "BANK",
    "UnknownQuizError",
    "answers_in_notebook",
    "hand_in",
    "merge",
    "quiz",
    "read_answers",
    "score",
]


def __getattr__(name: str) -> Any:
    """Return what shows quizzes when it is asked for: scoring needs no ipywidgets."""
    if name not in ("hand_in", "quiz"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from llm_memory.quiz import widget

    return getattr(widget, name)
