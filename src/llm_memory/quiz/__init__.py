"""Radio-button quizzes whose answers are kept, and what the grader needs to score them."""

from llm_memory.quiz.bank import BANK, UnknownQuizError
from llm_memory.quiz.record import answers_in_notebook, merge, read_answers
from llm_memory.quiz.scoring import score
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
