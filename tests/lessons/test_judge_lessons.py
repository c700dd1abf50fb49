"""Every test cell of the lessons, judged and run as stock nbgrader would: the same verdict.

The learner's work is the solution, each known mistake and each accepted variant.
"""

import tempfile
import warnings
from pathlib import Path

import pytest
from course_tools.build import fingerprints
from course_tools.build.lesson import grade_id, tags
from nbjudge import settings
from nbjudge.judge.verdicts import Judge
from nbjudge.names import free_names

from llm_memory.check import check
from tests.lessons_and_mistakes import BANKS, LESSONS, cells_that_test
from tests.loopback import Loopback
from tests.settings import COURSE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line():
    settings.apply(COURSE)  # before the judge begins: a fixture of a test comes after a module's
    with tempfile.TemporaryDirectory(prefix="judge") as folder, Loopback(Path(folder)) as line:
        line.judge = Judge(line.connection, call_seconds=60, cell_seconds=120)
        with line.judge:
            yield line


def error_in_one_process(source, exercise, work):
    """Return the error that the cell ends in where everything is in one process, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(source, "<test>", "exec"), {exercise: work, "check": check})
        except Exception as error:
            return error
    return None


WORKS = [
    pytest.param(lesson, exercise, work, id=f"{lesson}-{exercise}-{work.__name__}")
    for lesson, bank in BANKS.items()
    for exercise, known in bank.exercises.items()
    for work in [*(mistake.work for mistake in known.mistakes), *known.variants]
]


@pytest.mark.parametrize(("lesson", "exercise", "work"), WORKS)
def test_same_verdict_as_in_one_process(line, lesson, exercise, work):
    # The check knows an exercise by the learner's name for it, which a test makes `exercise`.
    work.__name__ = exercise
    for cell in cells_that_test(lesson, exercise):
        line.names.clear()
        line.names[exercise] = work
        outcome = line.judge.run(cell.source)
        error = error_in_one_process(cell.source, exercise, work)
        assert outcome.reason is None, outcome
        assert bool(outcome.outputs) == (error is not None), (grade_id(cell), outcome, error)


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solutions_get_all_points(line, lesson):
    line.names.clear()
    line.names.update(fingerprints.solved_namespace(LESSONS[lesson], lesson))
    for exercise in BANKS[lesson].exercises:
        for cell in cells_that_test(lesson, exercise):
            assert line.judge.run(cell.source).outputs == [], grade_id(cell)


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_test_cell_can_be_judged_from_outside(lesson):
    for exercise in BANKS[lesson].exercises:
        for cell in cells_that_test(lesson, exercise):
            assert not {"judge-inside", "judge-manual"} & set(tags(cell)), grade_id(cell)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_test_cell_asks_the_learner_for_its_exercise_only(lesson):
    for exercise in BANKS[lesson].exercises:
        for cell in cells_that_test(lesson, exercise):
            assert free_names(cell.source) <= {exercise, "check"}, grade_id(cell)
