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
    where = outcomes[3].pop("where")
    assert outcomes[3] == {"raises": "ValueError", "says": "amount below 0"}
    assert where.startswith("add, line ") and 'raise ValueError("amount below 0")' in where


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
        (lambda x: 3 * x, r"double\(2.0\): expected 4, came 6"),
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


def exercise(monkeypatch, right, steps, **mistakes):
    """Make `work` the only exercise there is; `mistakes` are known by their names."""
    stored = {"steps": scenario.encode_steps(steps), "mistakes": []}
    stored["right"] = scenario.run(right, stored["steps"])
    for name, mistake in mistakes.items():
        outcomes = scenario.run(mistake, stored["steps"])
        stored["mistakes"].append({"name": name, "sentence": f"it is {name}", "outcomes": outcomes})
    monkeypatch.setattr(checking, "exercises", lambda: {"work": stored})
    monkeypatch.setattr(checking, "results", {})


def failure(work, **kind):
    with pytest.raises(CheckFailed) as failed:
        check(work, "work", **kind)
    return failed.value


def share(x, parts=2, least=0):
    if parts < 1:
        raise ValueError("parts below 1")
    return x / parts + least


NUMBERS = np.array([1.0, 4.0, 6.0])
CALLS = [call(NUMBERS), call(NUMBERS, parts=4), call(NUMBERS, least=3), call(NUMBERS, parts=0)]
SHARES = {
    "ignoring parts": lambda x, parts=2, least=0: share(x, 2, least) if parts else share(x, parts),
    "ignoring least": lambda x, parts=2, least=0: share(x, parts),
    "unguarded": lambda x, parts=2, least=0: x / max(parts, 1) + least,
}


def test_a_first_draft_is_named_though_its_guard_is_missing(monkeypatch):
    exercise(monkeypatch, share, CALLS, **SHARES)

    def draft(x, parts=2, least=0):
        with np.errstate(divide="ignore"):
            return x / parts

    assert failure(draft).mistakes == ("ignoring least", "unguarded")


def test_two_mistakes_at_once_are_both_named(monkeypatch):
    exercise(monkeypatch, share, CALLS, **SHARES)
    both = failure(lambda x, parts=2, least=0: share(x) if parts else share(x, parts))
    assert set(both.mistakes) == {"ignoring parts", "ignoring least"}


def test_a_mistake_that_explains_some_steps_is_one_of_them(monkeypatch):
    exercise(monkeypatch, share, CALLS, **SHARES)
    found = failure(lambda x, parts=2, least=0: share(x, parts) - (7 if parts == 4 else 0))
    assert found.mistakes == ("ignoring least",)
    assert "Besides, work(" in str(found) and "parts=4" in str(found)


def test_an_exception_of_another_cause_names_no_mistake(monkeypatch):
    def transposed(x):
        return x @ np.zeros((7, 2))

    def unpacks(x):
        _batch, _length, _width = x.shape
        return x

    exercise(monkeypatch, lambda x: x, [call(NUMBERS)], transposed=transposed)
    assert failure(transposed).mistakes == ("transposed",)
    found = failure(unpacks)
    assert found.mistakes == ()
    assert "not enough values to unpack" in str(found)
    assert "_batch, _length, _width = x.shape" in str(found), "the line of their own code"


@pytest.mark.parametrize(
    ("came", "says"),
    [
        (lambda x: x.T, "axes stand in another order"),
        (lambda x: x * 3, "a matter of scale: every number is 3 times"),
        (lambda x: x[::-1].copy(), "stand at other places"),
        (lambda x: np.where(x == 4, np.nan, x), "There are nan in it"),
        (lambda x: x * np.linspace(1, 1.001, 6).reshape(x.shape), "too far away for rounding"),
        (lambda x: x > 1, "dtype"),
        (lambda x: torch.from_numpy(x), "NumPy arrays and PyTorch tensors are mixed up"),
    ],
)
def test_an_unknown_mistake_is_sorted(monkeypatch, came, says):
    exercise(monkeypatch, lambda x: x, [call(np.array([[0.0, 2, 3], [4, 50, 7]]))])
    assert says in str(failure(lambda x: came(x.copy())))


def test_something_where_nothing_should_be_is_a_matter_of_the_mask_where_there_is_one(monkeypatch):
    shut = np.array([[False, True], [True, True]])
    for steps, says in (([call(np.eye(2), shut)], True), ([call(np.eye(2))], False)):
        exercise(monkeypatch, lambda x, mask=None: 1 - x, steps)
        said = str(failure(lambda x, mask=None: np.full((2, 2), 0.5) - 0.2 * x))
        assert ("a matter of the mask" in said) == says


def test_near_means_near_in_every_call(monkeypatch):
    exercise(monkeypatch, lambda x: x, [call(np.arange(1.0, 4)), call(np.arange(2.0, 9))])
    coarse = failure(lambda x: x * np.linspace(1, 1.001, x.size))
    assert "too far away for rounding" in str(coarse)
    chance = failure(lambda x: x * np.linspace(1, 1.001 if x.size == 3 else 2, x.size))
    assert "rounding" not in str(chance)


def test_a_mistake_that_a_plain_step_contradicts_is_not_named(monkeypatch):
    steps = [call(NUMBERS, least=n) for n in range(3)]
    exercise(monkeypatch, share, steps, **SHARES)
    found = failure(lambda x, parts=2, least=0: share(x, parts) + (5 if least == 2 else 0))
    assert found.mistakes == (), "only one of the two calls is as if `least` were not used"


def test_a_small_whole_number_proves_nothing(monkeypatch):
    steps = [call([7, 8]), hard(call([1, 2, 3]))]
    exercise(monkeypatch, len, steps, last=lambda x: x[-1])
    assert failure(lambda x: x[-1] if len(x) == 2 else 9, hard=True).mistakes == ()
    assert failure(lambda x: x[-1], hard=True).mistakes == ("last",)


def test_the_mistake_that_shows_first_is_said_first_with_a_call_that_shows_it(monkeypatch):
    steps = [call(NUMBERS, least=3), call(NUMBERS, parts=4), call(NUMBERS, parts=0)]
    exercise(monkeypatch, share, steps, **SHARES)
    found = failure(lambda x, parts=2, least=0: share(x) if parts else share(x, parts))
    assert found.mistakes == ("ignoring least", "ignoring parts")
    guard = failure(SHARES["unguarded"])
    assert "parts=0): expected a ValueError" in str(guard)


def test_a_guard_is_missing_though_a_library_refuses_a_part_of_it(monkeypatch):
    def counted(n):
        if n < 1:
            raise ValueError("n below 1")
        return list(range(0, 6, n))

    exercise(
        monkeypatch, counted, [call(2), call(0), call(-1)], any=lambda n: [*range(0, 6, n or 1)]
    )
    found = failure(lambda n: list(range(0, 6, n)))  # range refuses a step of 0 itself
    assert found.mistakes == ("any",)


def test_the_axis_in_a_librarys_message_is_a_cause(monkeypatch):
    def joined(x, axis):
        return torch.cat((x, x.new_zeros(1, 1, 1)), axis)

    exercise(monkeypatch, lambda x: x, [call(torch.ones(2, 3, 4))], last=lambda x: joined(x, 2))
    assert failure(lambda x: joined(x, 2)).mistakes == ("last",)
    assert failure(lambda x: joined(x, 1)).mistakes == ()


def test_the_first_place_is_said_in_the_learners_words(monkeypatch):
    step = {**call(np.eye(3)), "terms": [["weights", ["query", "key"]]]}
    exercise(monkeypatch, lambda x: x, [step])

    def wrong(x):
        y = x.copy()
        y[2, 1] = 0.5
        return y

    assert "weights: at query 2, key 1 expected 0, came 0.5" in str(failure(wrong))


def test_whole_numbers_are_exact(monkeypatch):
    big = 2**53 + 1
    exercise(monkeypatch, lambda n: n * 10**9, [call(3), call(big)])
    check(lambda n: n * 10**9, "work")
    assert "one too few" in str(failure(lambda n: n * 10**9 - (n == 3)))
    failure(lambda n: n * 10**9 + (n == big))


def test_softmax_in_float32_is_right_and_less_is_not():
    def idiom(x, axis=-1):
        return torch.softmax(torch.from_numpy(np.array(x)).float(), axis).double().numpy()

    check(idiom, "softmax", hard=True)
    with pytest.raises(CheckFailed):
        check(lambda x, axis=-1: idiom(x, axis).round(4), "softmax")


def test_the_calls_that_are_shown_can_be_run():
    from llm_memory.check.given import make
    from llm_memory.shapes import MODELS

    space = {"np": np, "torch": torch, "math": math, "MODELS": MODELS, "make": make}
    for name, stored in checking.exercises().items():
        for index, step in enumerate(stored["steps"]):
            calls, text = [], checking.example(name, index)
            if step["step"] != "call":
                continue  # needs the exercise itself
            exec(
                text, {**space, name: lambda *args, _to=calls, **kwargs: _to.append((args, kwargs))}
            )
            args, kwargs = calls[-1]
            made = scenario.encode_steps([call(*args, **kwargs)])[0]
            for a, b in zip(made["args"], step["args"], strict=True):
                assert _alike(a, b), (name, index)


def _alike(made, stored) -> bool:
    """Tell whether an argument is the stored one; a given object is made anew, also in a tuple."""
    if isinstance(stored, dict) and "given" in stored:
        return True
    if isinstance(stored, dict) and "tuple" in stored:
        return all(map(_alike, made["tuple"], stored["tuple"]))
    return made == stored


def test_any_name_of_the_notebook_will_do(doubling):
    import functools

    def quiet(function):
        return lambda *args: function(*args)

    double = lambda x: x + x  # noqa: E731
    check(double)
    double = quiet(double)
    check(double)
    double = functools.partial(lambda y, x: y * x, 2)
    check(double)
    twice = double = functools.partial(lambda y, x: y * x, 3)
    with pytest.raises(CheckFailed):
        check(double)
    assert set(checking.results) == {"double"}
    assert twice is double


def test_code_that_never_returns_is_stopped():
    def forever(x):
        while True:
            pass

    steps = scenario.encode_steps([call(1), call(2)])
    outcomes = scenario.run(forever, steps, seconds=0.2)
    assert [outcome["raises"] for outcome in outcomes] == ["TookTooLong"] * 2
    assert "never ends" in outcomes[0]["says"]


def test_code_that_calls_itself_without_end_says_so():
    def again(x):
        return again(x)

    assert "without end" in scenario.run(again, scenario.encode_steps([call(1)]))[0]["says"]


def test_prints_without_end_are_cut(monkeypatch, capsys):
    exercise(monkeypatch, lambda n: n, [call(3)])

    def chatty(n):
        print("x" * 10**6)
        return n

    check(chatty, "work")
    assert len(capsys.readouterr().out) < 3000


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda n: (i for i in range(n)), "a generator"),
        (lambda n: exit(), "SystemExit"),
        (lambda n, m: n, "missing 1 required positional argument"),
        (lambda n: torch.zeros(2, device="meta"), "device meta"),
        (lambda n: object(), "an object of type object"),
        (7, "work is 7, which cannot be called"),
    ],
)
def test_bad_answers_are_said_in_words(monkeypatch, work, says):
    exercise(monkeypatch, lambda n: n, [call(3)])
    assert says in str(failure(work))


def test_a_random_number_is_noticed(monkeypatch):
    exercise(monkeypatch, lambda x: x, [call(np.ones((2, 2)))])
    random = np.random.default_rng(1)
    assert "random number" in str(failure(lambda x: x + random.normal(size=x.shape)))


def test_torchs_own_not_implemented_is_no_open_exercise(monkeypatch):
    def calls_it(x):
        raise NotImplementedError("Could not run 'aten::x' with arguments from the 'Y' backend")

    exercise(monkeypatch, lambda x: x, [call(1)])
    assert "aten::x" in str(failure(calls_it))


# Steps as a bank has them: two plain ones, then hard ones that ask for errors.
def cut(x, size, keep=0):
    if size < 1:
        raise ValueError("no room")
    if keep > size:
        raise ValueError("too many to keep")
    return x[:keep] + x[len(x) - (size - keep) :] if len(x) > size else list(x)


ITEMS = [3, 1, 4, 1, 5]
CUTS = [
    *(call(ITEMS, 3), call(ITEMS, 4, keep=1), hard(call(ITEMS, 2, keep=2))),
    *(hard(call(ITEMS, 0)), hard(call(ITEMS, 2, keep=3))),
    *(hard(call(ITEMS[:1], 0)), hard(call(ITEMS[:1], 2, keep=3))),
]


def late(x, size, keep=0):
    return list(x) if len(x) <= size or len(x) < 2 else cut(x, size, keep)


def roomless(x, size, keep=0):
    return cut(x, size, keep) if size > 0 else []


def greedy(x, size, keep=0):
    return cut(x, size, min(keep, size))


def test_a_draft_without_guards_lacks_those_and_none_that_only_moves_them(monkeypatch):
    exercise(monkeypatch, cut, CUTS, late=late, roomless=roomless, greedy=greedy)
    draft = failure(
        lambda x, size, keep=0: cut(x, max(size, 1), min(keep, max(size, 1))), hard=True
    )
    assert set(draft.mistakes) == {"roomless", "greedy"}
    assert failure(late, hard=True).mistakes == ("late",)


def test_what_is_computed_is_said_before_what_is_refused(monkeypatch):
    exercise(monkeypatch, cut, CUTS, roomless=roomless, greedy=greedy)
    said = str(failure(lambda x, size, keep=0: x[:size], hard=True))
    assert said.index("expected 4, came 3") < said.index("it is roomless")


def test_a_guard_is_known_whatever_it_says(monkeypatch):
    def picky(n, said="only even numbers"):
        if n % 2:
            raise ValueError(said)
        return n

    def clumsy(n):
        return n if n % 2 == 0 else int("no number")

    exercise(monkeypatch, lambda n: n, [call(2), call(3)], picky=picky)
    assert failure(lambda n: picky(n, "I do not like it")).mistakes == ("picky",)
    assert failure(clumsy).mistakes == (), "no guard of its own, though a ValueError, too"


def test_a_mistake_is_sure_that_explains_all_but_the_hard_cases(monkeypatch):
    steps = [call(2.0), call(3.0), *(hard(call(float(-i))) for i in range(1, 6))]
    exercise(monkeypatch, lambda x: abs(x) * 2, steps, tripled=lambda x: abs(x) * 3)
    assert failure(lambda x: x * 3, hard=True).mistakes == ("tripled",)


def test_numpys_integers_are_ints_only_where_the_type_is_not_asked_for(monkeypatch):
    exercise(monkeypatch, lambda n: [n, 7], [call(3)])
    check(lambda n: [np.int64(n), 7], "work")
    exercise(monkeypatch, lambda n: [n, 7], [scenario.typed(call(3))])
    check(lambda n: [n, 7], "work")
    assert "NumPy int64" in str(failure(lambda n: [np.int64(n), 7]))
    assert "expected the int 3, came 3" in str(failure(lambda n: [float(n), 7]))


def test_an_accident_in_every_call_says_nothing_of_a_guard(monkeypatch):
    exercise(monkeypatch, cut, CUTS, roomless=roomless, greedy=greedy)
    for accident in (lambda x: x, lambda x, size, keep=0: (i for i in x), lambda *_, **__: None):
        assert failure(accident, hard=True).mistakes == ()
        assert "expected a ValueError" not in str(failure(accident, hard=True))
    lost = failure(lambda x, size, keep=0: x[: size + 1], hard=True)
    assert set(lost.mistakes) == {"roomless", "greedy"}


def test_a_random_factor_is_no_matter_of_scale(monkeypatch):
    exercise(monkeypatch, lambda x: x, [call(np.arange(1.0, 4))])
    random = np.random.default_rng(2)
    said = str(failure(lambda x: x * random.random()))
    assert "random number" in said
    assert "matter of scale" not in said


def test_a_changed_input_is_no_other_dtype(monkeypatch):
    exercise(monkeypatch, lambda x: x.copy(), [call(np.arange(1.0, 4))])

    def doubles(x):
        x *= 2
        return x / 2

    assert "dtype" not in str(failure(doubles)).split("work(")[1].split("argument", 1)[1]
