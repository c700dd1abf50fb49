"""No exercise of the lessons gives a point to work that is not its own.

The ways are those of `nothing.py`; reading the caller is tried in a student's real kernel.
"""

import contextlib
import tempfile
import warnings
from pathlib import Path

import pytest
from course_tools.build import fingerprints
from course_tools.build.lesson import grade_id
from nbjudge import settings
from nbjudge.judge.verdicts import Judge
from nbjudge.run.provisioner import can_fork

from llm_memory.check import check
from tests.hostile.nothing import OWN, Memory, Spoiler, answers_later
from tests.hostile.test_judge import Room
from tests.lessons_and_mistakes import BANKS, LESSONS, cells_that_test
from tests.loopback import Loopback
from tests.settings import COURSE

pytestmark = pytest.mark.slow

EXERCISES = {
    exercise: lesson
    for lesson, bank in BANKS.items()
    for exercise in bank.exercises
    if cells_that_test(lesson, exercise)
}
#: What an attempt has done itself, and has its points for.
EARNED = {"never_absorbs": ["test_latent_attention_core", "test_latent_attention_hard"]}


@pytest.fixture(scope="module")
def line():
    settings.apply(COURSE)
    with tempfile.TemporaryDirectory(prefix="judge") as folder, Loopback(Path(folder)) as line:
        line.judge = Judge(line.connection, call_seconds=60, cell_seconds=120)
        with line.judge:
            yield line


@pytest.fixture(scope="module")
def solutions():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: fingerprints.solved_namespace(LESSONS[lesson], lesson)[name]
            for name, lesson in EXERCISES.items()
        }


def gained(line, exercise, work):
    """Return the test cells of an exercise that give their points to `work`."""
    work.__name__ = exercise  # the check knows it by this name
    line.names.clear()
    line.names[exercise] = work
    cells = cells_that_test(EXERCISES[exercise], exercise)
    return [grade_id(cell) for cell in cells if not line.judge.run(cell.source).outputs]


ATTEMPTS = [
    pytest.param(exercise, work, id=f"{exercise}-{number}-{work.__name__}")
    for exercise, works in OWN.items()
    for number, work in enumerate(works)
]


@pytest.mark.parametrize(("exercise", "work"), ATTEMPTS)
def test_calling_what_was_given_and_lying_gain_nothing(line, exercise, work):
    earned = EARNED.get(work.__name__, [])
    assert gained(line, exercise, work) == earned


@pytest.mark.parametrize("exercise", EXERCISES)
def test_remembering_what_the_check_wanted_gains_nothing(line, solutions, exercise):
    memory = Memory()
    work = memory.remembering(solutions[exercise])
    work.__name__ = exercise
    for kind in (False, True, "chunks", "hard"):
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")
            check(work, exercise, hard=kind)
    assert memory.given
    assert gained(line, exercise, memory.reciting(solutions[exercise])) == []


@pytest.mark.parametrize("exercise", EXERCISES)
def test_an_object_that_answers_later_gains_nothing(line, exercise):
    assert gained(line, exercise, answers_later) == []


@pytest.mark.parametrize("exercise", EXERCISES)
def test_emptying_the_arguments_first_gains_nothing(line, solutions, exercise):
    """What a test wants is computed before the call, or from what the learner's code never had."""
    spoiler = Spoiler()
    special = line.judge.namespace.special
    kept = special["check"]
    # What the visible check wants could be remembered.
    special["check"] = lambda: lambda *args, **named: None
    try:
        line.names.clear()
        line.names[exercise] = spoiler.spoiling(solutions[exercise])
        for cell in cells_that_test(EXERCISES[exercise], exercise):
            spoiler.changed = 0
            outcome = line.judge.run(cell.source)
            assert outcome.outputs or not spoiler.changed, grade_id(cell)
    finally:
        special["check"] = kept


PEEK = """
import sys

def found():
    for frame in list(sys._current_frames().values()):
        while frame:
            yield from frame.f_locals.items()
            yield from frame.f_globals.items()
            frame = frame.f_back

def peek(*args, **named):
    answers = {"wanted", "expected", "right", "want", "alone", "reference", "greedy", "wanted_mask"}
    for name, value in found():
        if type(name) is str and name in answers and not callable(value):
            return value
    raise LookupError("nothing of the test is here")
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform")
def test_reading_the_caller_gains_nothing(tmp_path):
    settings.apply(COURSE)
    with contextlib.closing(Room(tmp_path)) as room:
        room.learn(PEEK)
        room.judge.namespace.special["check"] = lambda: lambda *args, **named: None
        for exercise in EXERCISES:
            room.learn(f"{exercise} = peek")
            for cell in cells_that_test(EXERCISES[exercise], exercise):
                outcome = room.judge.run(cell.source)
                assert outcome.outputs, grade_id(cell)
                if "expect" not in outcome.outputs[0].evalue:
                    assert outcome.unchecked is None, outcome
