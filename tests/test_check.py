"""The visible check: values as data, scenarios, and the mistake by its name."""

import json
import math

import numpy as np
import pytest
import torch

import llm_memory.check as checking
from llm_memory.check import CheckFailed, check, scenario
from llm_memory.check.scenario import call, get, hard, method
from llm_memory.check.values import decode, difference, encode


@pytest.mark.parametrize(
    "value",
    [
        3,
        True,
        None,
        "text",
        2.5,
        [1, [2.5, "a"]],
        (1, 2),
        {"a": [1.5]},
        np.arange(6.0).reshape(2, 3),
        np.array([[True, False]]),
        np.array(7.0),
        np.zeros((0, 3)),
        torch.arange(6, dtype=torch.float64).reshape(3, 2),
        torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    ],
)
def test_a_value_survives_json(value):
    back = decode(json.loads(json.dumps(encode(value))))
    assert type(back) is type(value)
    assert difference(encode(value), encode(back)) is None


def test_infinities_and_nan_survive_json():
    text = json.dumps(encode(np.array([math.inf, -math.inf, math.nan])), allow_nan=False)
    back = decode(json.loads(text))
    assert np.array_equal(back, [math.inf, -math.inf, math.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("want", "came", "says"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "expected shape (2, 3), came (3, 2)"),
        (np.zeros(2), torch.zeros(2), "came a torch tensor of shape (2,)"),
        (np.zeros(2), None, "came None"),
        (np.zeros(2), np.array([0, math.nan]), "at [1] expected 0, came nan"),
        (np.zeros(2, bool), np.zeros(2), "expected dtype bool, came float64"),
        ((1, 2), 1, "expected 2 values, came 1"),
        (1.0, 1.1, "expected 1, came 1.1"),
        ([1, 2], [1, 3], "value 1: expected 2, came 3"),
    ],
)
def test_the_first_difference_is_named(want, came, says):
    assert says in difference(encode(want), encode(came))


def test_a_bool_is_not_the_number_one():
    assert difference(encode(True), encode(1.0)) is not None


class Counter:
    """A stateful subject, as a cache is one."""

    def __init__(self, start):
        self.n = start

    def add(self, amount):
        if amount < 0:
            raise ValueError("amount below 0")
        self.n += amount
        return self.n


def test_a_scenario_keeps_the_object_between_steps():
    steps = scenario.encode_steps([call(2), method("add", 3), get("n"), method("add", -1)])
    outcomes = scenario.run(Counter, steps)
    assert outcomes[0] == {"value": {"object": "the exercise's own"}}, (
        "a class's name is no outcome"
    )
    assert [step.get("value") for step in outcomes[1:3]] == [5, 5]
    assert outcomes[3] == {"raises": "ValueError", "says": "amount below 0"}


def test_a_changed_argument_is_seen():
    def halve(x):
        x /= 2
        return x.copy()

    steps = scenario.encode_steps([call(np.ones(3))])
    assert scenario.run(halve, steps)[0]["changed"] == [0]


@pytest.fixture
def doubling(monkeypatch):
    """An exercise of its own: double a number."""
    steps = scenario.encode_steps([call(2.0), call(np.array([1.0, 4.0]))])
    stored = {
        "steps": steps,
        "right": scenario.run(lambda x: 2 * x, steps),
        "mistakes": [
            {
                "name": "squared",
                "sentence": "the number is squared, not doubled",
                "outcomes": scenario.run(lambda x: x * x, steps),
            }
        ],
    }
    lesson = {"lesson": "numbers", "quizzes": {}, "exercises": {"double": stored}}
    monkeypatch.setattr(checking, "lessons", lambda: {"numbers": lesson})
    monkeypatch.setattr(checking, "results", {})


def test_right_work_passes(doubling):
    def double(x):
        return x + x

    check(double)
    assert checking.results == {"double": True}


def test_what_is_tried_under_another_name_is_not_noted(doubling):
    def double(x):
        return x + x

    def broken(x):
        return x * x

    check(double)
    with pytest.raises(CheckFailed, match="squared, not doubled"):
        check(broken, "double")
    assert checking.results == {"double": True}


def test_a_known_mistake_is_named(doubling):
    with pytest.raises(CheckFailed, match="squared, not doubled") as failed:
        check(lambda x: x**2, "double")
    assert failed.value.mistake == "squared"


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda x: 3 * x, r"double\(2\): expected 4, came 6"),
        (lambda x: None, "expected 4, came None"),
        (lambda x: x * math.nan, "expected 4, came nan"),
        (lambda x: {}["key"], "expected 4, came KeyError: 'key'"),
        (lambda: 1, "came TypeError"),
        (lambda x: "four", "came 'four'"),
    ],
)
def test_an_unknown_mistake_says_what_was_expected_and_what_came(doubling, work, says):
    with pytest.raises(CheckFailed, match=says) as failed:
        check(work, "double")
    assert failed.value.mistake is None
    assert str(failed.value).startswith("double: ")


def test_an_open_exercise_is_not_a_wrong_one(doubling):
    def double(x):
        raise NotImplementedError

    with pytest.raises(NotImplementedError, match="double is not solved yet"):
        check(double)


def test_hard_steps_count_when_they_are_asked_for(monkeypatch):
    steps = scenario.encode_steps([call(2.0), hard(call(-2.0))])
    outcomes = {sign: scenario.run(lambda x, s=sign: s(x), steps) for sign in (abs, float)}
    known = {"name": "signed", "sentence": "the sign is kept", "outcomes": outcomes[float]}
    stored = {"steps": steps, "right": outcomes[abs], "mistakes": [known]}
    monkeypatch.setattr(checking, "exercises", lambda: {"size": stored})
    monkeypatch.setattr(checking, "results", {})
    check(float, "size")
    with pytest.raises(CheckFailed, match="the sign is kept") as failed:
        check(float, "size", hard=True)
    assert failed.value.mistake == "signed"
    check(abs, "size", hard=True)


def test_an_unknown_exercise_lists_those_there_are(doubling):
    with pytest.raises(ValueError, match="no exercise 'halve'; there are: double"):
        check(lambda x: x, "halve")
