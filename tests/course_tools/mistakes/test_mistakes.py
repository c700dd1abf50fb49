"""The bank of mistakes proves the hidden tests: each mistake fails, each variant passes."""

import ast
import copy
import warnings

import pytest
from course_tools.build import fingerprints
from course_tools.build.lesson import grade_id, is_exercise
from course_tools.mistakes import drafts, table

from llm_memory.check import CheckFailed, check, exercises
from tests import lessons_and_mistakes
from tests.lessons_and_mistakes import BANKS, LESSONS


def cells_that_test(lesson, exercise):
    """Return the exercise's test cells as code to run."""
    return [
        compile(cell.source, grade_id(cell), "exec")
        for cell in lessons_and_mistakes.cells_that_test(lesson, exercise)
    ]


def run(code, exercise, work, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, {exercise: work, "check": check})


def every(kind):
    return [
        pytest.param(
            lesson,
            exercise,
            item,
            id=f"{lesson}-{exercise}-{getattr(item, '__name__', getattr(item, 'name', ''))}",
        )
        for lesson, bank in BANKS.items()
        for exercise, known in bank.exercises.items()
        for item in kind(known)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "exercise", "mistake"), every(lambda known: [m.work for m in known.mistakes])
)
def test_a_mistake_fails_the_hidden_tests_with_a_message(lesson, exercise, mistake):
    messages = []
    cells = cells_that_test(lesson, exercise)
    if not cells:  # an optional exercise has its visible check only
        with pytest.raises(CheckFailed) as raised:
            check(mistake, exercise)
        assert raised.value.mistake
        return
    for code in cells:
        try:
            # Without the visible check: the hidden tests must find the mistake on their own.
            run(code, exercise, mistake, lambda *_, **__: None)
        except Exception as error:
            messages.append(str(error))
    assert messages, "no hidden test found it"
    assert all(messages), "a hidden test failed without saying why"


def named(work, exercise):
    """Return the sentences that the check says of the work."""
    sentences = {m["name"]: m["sentence"] for m in exercises()[exercise]["mistakes"]}
    with warnings.catch_warnings(), pytest.raises(CheckFailed) as raised:
        warnings.simplefilter("ignore")
        check(work, exercise, hard=True)
    return [sentences[name] for name in raised.value.mistakes]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "exercise", "mistake"),
    every(lambda known: [m for m in known.mistakes if m.visible]),
)
def test_the_check_names_a_mistake_and_no_other(lesson, exercise, mistake):
    assert set(named(mistake.work, exercise)) == {mistake.sentence}


DRAFTS = {
    lesson: drafts.load(lessons_and_mistakes.ROOT / f"tools/course_tools/mistakes/{lesson}.py").bank
    for lesson in LESSONS
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lesson", "exercise", "mistake"),
    every(lambda known: [m for m in known.mistakes if m.visible]),
)
def test_the_check_names_a_mistake_in_a_first_draft(lesson, exercise, mistake):
    draft = next(
        m.work for m in DRAFTS[lesson].exercises[exercise].mistakes if m.name == mistake.name
    )
    drafts_of = {m.name: m.work for m in DRAFTS[lesson].exercises[exercise].mistakes}
    guards = table.guards_of(exercise, drafts_of)
    assert table.judged(exercise, mistake, draft, guards) == table.NAMED


@pytest.mark.slow
@pytest.mark.parametrize(("lesson", "exercise", "variant"), every(lambda known: known.variants))
def test_a_variant_passes(lesson, exercise, variant):
    check(variant, exercise, hard=True)
    for code in cells_that_test(lesson, exercise):
        run(code, exercise, variant, lambda work, **kind: check(work, exercise, **kind))


@pytest.mark.parametrize("lesson", LESSONS)
def test_the_solutions_pass(lesson):
    space = fingerprints.solved_namespace(LESSONS[lesson], lesson)
    for exercise in BANKS[lesson].exercises:
        for code in cells_that_test(lesson, exercise):
            run(code, exercise, space[exercise], check)


def solved_without_guards(lesson):
    """Return what the lesson's solutions define once every `raise ValueError` is gone."""
    notebook = copy.deepcopy(LESSONS[lesson])
    for cell in filter(is_exercise, notebook.cells):
        cell.source = ast.unparse(drafts.unguarded(cell.source))
    return fingerprints.solved_namespace(notebook, lesson)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_a_solution_without_guards_loses_no_core_points(lesson):
    space = solved_without_guards(lesson)
    for exercise in BANKS[lesson].exercises:
        for code in cells_that_test(lesson, exercise):
            if not code.co_filename.endswith("_hard"):
                run(code, exercise, space[exercise], check)


@pytest.mark.parametrize("lesson", LESSONS)
def test_stored_fingerprints_are_those_of_the_lesson(lesson):
    computed = fingerprints.compute(LESSONS[lesson], lesson, BANKS[lesson])
    for name, stored in computed["exercises"].items():
        there = exercises()[name]
        assert there["steps"] == stored["steps"], f"{name}: run `make build`"
        assert [m["sentence"] for m in there["mistakes"]] == [
            m["sentence"] for m in stored["mistakes"]
        ], f"{name}: run `make build`"


@pytest.mark.parametrize(
    ("lesson", "exercise"),
    [(lesson, exercise) for lesson, bank in BANKS.items() for exercise in bank.exercises],
)
def test_the_check_names_three_mistakes_or_more(lesson, exercise):
    known = BANKS[lesson].exercises[exercise]
    assert len({m.sentence for m in known.mistakes if m.visible}) >= 3
