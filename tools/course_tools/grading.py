"""What this course hands over to the grading engine; `nbgrader_config.py` names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbgrader.utils import is_grade, is_solution
from nbjudge.intake.recorded import Question

from llm_memory.quiz import BANK, answers_in_notebook, merge, read_answers, score
from llm_memory.quiz.bank import Quiz
from llm_memory.quiz.record import FILE_NAME, Answer

_GRADED = {quiz.grade_id: quiz for quiz in BANK.values() if quiz.graded}


class Quizzes:
    """The quizzes' recorded answers: an `nbjudge.intake.recorded.Recorder`."""

    files = (FILE_NAME,)

    def question_of(self, cell: NotebookNode) -> str | None:
        """Return the name of the quiz with points that a cell holds, or None."""
        if cell.cell_type != "code" or not is_grade(cell) or is_solution(cell):
            return None
        quiz = _GRADED.get(cell.metadata.nbgrader.grade_id)
        return quiz.name if quiz is not None else None

    def in_notebook(self, content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the answers in the outputs of a notebook."""
        return answers_in_notebook(content)

    def in_file(self, path: Path) -> tuple[dict[str, Any], list[str]]:
        """Return the answers in the file beside a notebook."""
        return read_answers(path)

    def merge(self, one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
        """Return the later answer of each quiz."""
        return merge(one, other)

    def score(self, name: str, answer: Answer | None, count: str) -> float:
        """Return 1 or 0."""
        return score(name, answer, count)

    def page(self, name: str, answer: Answer | None, count: str) -> dict[str, str]:
        """Return question, answer and feedback, as text and as HTML."""
        from llm_memory.quiz.widget import marked  # loads ipywidgets

        lines = _lines(BANK[name], answer, count)
        return {
            "text/plain": "\n".join(f"{head}: {body}" if head else body for head, body in lines),
            "text/html": "".join(
                f"<p>{f'<b>{head}:</b> ' if head else ''}{marked(body)}</p>" for head, body in lines
            ),
        }

    def choices(self, answer: Answer) -> tuple[str, str]:
        """Return the first and the last choice."""
        return answer["first"], answer["choice"]

    def questions(self) -> dict[str, Question]:
        """Return every quiz and every guess."""
        return {
            quiz.name: Question(
                quiz.name,
                quiz.question,
                {option.id: option.text for option in quiz.options},
                frozenset(option.id for option in quiz.options if option.correct),
            )
            for quiz in BANK.values()
        }


def _lines(quiz: Quiz, answer: Answer | None, count: str) -> list[tuple[str, str]]:
    lines = [("Question", quiz.question)]
    if answer is None:
        return [*lines, ("Your answer", "none was recorded")]
    lines += [
        ("Your answer", quiz.option(answer["choice"]).text),
        ("", quiz.feedback(answer["choice"])),
    ]
    if answer["tries"] > 1:
        counted = "it counts" if count == "first" else "the last one counts"
        first = quiz.option(answer["first"]).text
        lines.append(("First answer", f"{first} ({answer['tries']} tries; {counted})"))
    return lines


quizzes = Quizzes()


def exercise_of(test: str, exercises: list[str]) -> str | None:
    """Return the exercise of a test cell, by this course's rule for names; a quiz is its own."""
    from course_tools.build.lesson import tested_exercise

    return test if test in _GRADED else tested_exercise(test, exercises)
