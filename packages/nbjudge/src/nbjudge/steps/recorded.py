"""Score recorded answers, in the grader's own process.

The answers were read out of the submission by `Rebuild`; the learner's kernel has no say in them.
"""

from __future__ import annotations

from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Enum

from nbjudge.codes import KEY
from nbjudge.intake.recorded import recorder


class ScoreRecorded(NbGraderPreprocessor):
    """Gives each cell of a recorded question the output that its answer earns, in points.

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
        """Replace the outputs of a recorded question."""
        records = recorder()
        name = records.question_of(cell)
        if name is not None:
            answer = self._answers.get(name)
            maximum = float(cell.metadata.nbgrader.points)
            points = maximum * records.score(name, answer, self.count)
            cell.outputs = [
                new_output("display_data", records.page(name, answer, self.count)),
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
        """Score all recorded questions of a notebook."""
        self._answers = nb.metadata.get(KEY, {}).get("answers", {})
        return super().preprocess(nb, resources)
