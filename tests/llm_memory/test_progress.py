"""Progress: what is right, wrong and open, and the points that follow from it."""

import json

import pytest

import llm_memory.check as checking
from llm_memory import progress
from tests.submissions import record


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    stored = {
        "lesson": "numbers",
        "quizzes": {"attention": 1, "guess-they": 0},
        "exercises": {"double": {"points": 3}, "halve": {"points": 2}, "square": {"points": 4}},
    }
    monkeypatch.setattr(progress, "lessons", lambda: {"numbers": stored})
    monkeypatch.setattr(
        progress,
        "results",
        {"double": True, "halve": "halve: wrong\n more", "square": checking.OPEN},
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_exercises_have_the_state_of_their_check(lesson):
    states = {name: (state, points) for name, state, points, _ in progress.rows("numbers")}
    assert states["double"] == ("right", 3)
    assert states["halve"] == ("wrong", 2)
    assert states["square"] == ("open", 4)
    assert states["quiz attention"] == ("open", 1)


def test_an_answered_quiz_is_right_or_wrong(lesson):
    (lesson / "quiz_answers.json").write_text(json.dumps(record({"attention": "recent"})))
    states = {name: state for name, state, _, _ in progress.rows("numbers")}
    assert states["quiz attention"] == "wrong"


def test_the_head_line_adds_up(lesson, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    progress.progress("numbers")
    text = shown[0]["text/plain"]
    assert text.startswith("3 of 10 points, if the hidden tests agree. Still open: halve, square")


def test_an_unknown_lesson_lists_those_there_are(lesson):
    with pytest.raises(ValueError, match="no lesson 'letters'; there are: numbers"):
        progress.rows("letters")
