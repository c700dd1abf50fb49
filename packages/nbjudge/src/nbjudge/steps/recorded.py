"""Score the quizzes from the recorded answers, in the grader's own process.

The answers were read out of the submission by `Rebuild`; the student's kernel has no say in them.
"""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution
from traitlets import Enum

from llm_memory.quiz import BANK, score
from llm_memory.quiz.bank import Quiz
from llm_memory.quiz.record import Answer
from llm_memory.quiz.widget import marked
from nbjudge.steps.flags import KEY

_QUIZZES = {quiz.grade_id: quiz for quiz in BANK.values() if quiz.graded}


def quiz_of(cell: NotebookNode) -> Quiz | None:
    """Return the quiz with points that a cell of a lesson holds, or None. It need not be run."""
    if cell.cell_type != "code" or not is_grade(cell) or is_solution(cell):
        return None
    return _QUIZZES.get(cell.metadata.nbgrader.grade_id)


class ScoreQuizzes(NbGraderPreprocessor):
    """Gives each quiz cell the output that its recorded answer earns: all of its points or 0.

    Stands after the execution and before the grades are saved; nbgrader takes the points from
    the output.
    """

    count = Enum(
        ["last", "first"],
        "last",
        help="Which answer earns the points: the one that stands at the end, or the first.",
    ).tag(config=True)

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """Replace the outputs of a quiz cell."""
        quiz = quiz_of(cell)
        if quiz is not None:
            answer = self._answers.get(quiz.name)
            maximum = float(cell.metadata.nbgrader.points)
            points = maximum * score(quiz.name, answer, self.count)
            cell.outputs = [
                new_output("display_data", _page(quiz, answer, self.count)),
                # nbgrader takes the number in text/plain as the score.
                new_output(
                    "execute_result",
                    {
                        "text/plain": f"{points:g}",
                        "text/html": f"<p>{points:g} of {maximum:g} points</p>",
                    },
                    execution_count=None,
                ),
            ]
        return cell, resources

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        """Score all quiz cells of a notebook."""
        self._answers = nb.metadata.get(KEY, {}).get("answers", {})
        return super().preprocess(nb, resources)


def _page(quiz: Quiz, answer: Answer | None, count: str) -> dict[str, str]:
    """Return the question, the answer and what it deserves to hear, as text and as HTML."""
    lines = [("Question", quiz.question)]
    if answer is None:
        lines.append(("Your answer", "none was recorded"))
    else:
        lines += [
            ("Your answer", quiz.option(answer["choice"]).text),
            ("", quiz.feedback(answer["choice"])),
        ]
        if answer["tries"] > 1:
            counted = "it counts" if count == "first" else "the last one counts"
            first = quiz.option(answer["first"]).text
            lines.append(("First answer", f"{first} ({answer['tries']} tries; {counted})"))
    return {
        "text/plain": "\n".join(f"{head}: {body}" if head else body for head, body in lines),
        "text/html": "".join(
            f"<p>{f'<b>{head}:</b> ' if head else ''}{marked(body)}</p>" for head, body in lines
        ),
    }
