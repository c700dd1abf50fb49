"""Mutants of the solutions: what they are, and that the hidden tests are what ends them."""

import pytest
from course_tools.build import lesson as reading
from course_tools.mutants.__main__ import Result, equivalents, report
from course_tools.mutants.operators import mutants
from course_tools.mutants.trial import Trial, trials

from tests.lessons_and_mistakes import LESSONS


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("return a + b", {"return a - b", "return a", "return b", "return b + a", "pass"}),
        ("return a * b", {"return a / b", "return a", "return b", "pass"}),
        ("return x.sum(-1)", {"return x.sum(0)", "return x.sum(-2)", "return x.sum()", "return x"}),
        ("return f(a, b)", {"return f(b, a)", "return f(a)", "return f(b)", "return a"}),
        ("return f(a, b=c)", {"return f(a)", "return f(b=c)"}),
        ("return a < b", {"return a <= b", "return a >= b"}),
        ("return a < b <= c", {"return a < b", "return b <= c"}),
        ("return not a or b", {"return not a and b", "return not a", "return b", "return a or b"}),
        ("return x[1:n]", {"return x[:n]", "return x[1:]", "return x[2:n]"}),
        ("return b, a", {"return (a, b)"}),
        ("return x.max()", {"return x.min()", "return x"}),
        ("x -= a", {"x += a", "x = a", "pass"}),
        ("if a:\n        b = 1", {"b = 1", "pass", "if a:"}),
    ],
)
def test_every_fault_of_a_line_is_tried(line, changed):
    made = mutants(f"def f(x, a, b, c, n):\n    {line}")
    bodies = {mutant.source.split("\n", 1)[1].strip().split("\n")[0] for mutant in made}
    assert changed <= bodies
    assert len(bodies) <= len({mutant.source for mutant in made}) == len(made), "each once"


def test_what_an_error_says_is_no_fault():
    said = "raise ValueError(f'not {a + 1}')"
    made = mutants(f"def f(a):\n    if a:\n        {said}")
    assert made
    assert all(said in mutant.source or "ValueError" not in mutant.source for mutant in made)


@pytest.mark.slow
def test_the_hidden_tests_alone_end_the_mutants_and_half_of_them_does_not():
    trial = next(
        t for t in trials(LESSONS["attention"], "attention") if t.exercise == "causal_mask"
    )
    made = mutants(trial.source)
    whole = list(trial.run(made, 2))
    assert len(whole) == len(made) > 20
    assert not any(verdict.passes_hidden_tests or verdict.passes_check for verdict in whole)
    trial.tests = trial.tests[:1]  # without the hard cases
    half = [verdict.mutant.before for verdict in trial.run(made, 2) if verdict.passes_hidden_tests]
    assert any(before.startswith("if n_queries > n_keys:") for before in half)


def test_a_mutant_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr("course_tools.mutants.trial.SECONDS", 1)
    trial = object.__new__(Trial)
    trial.exercise, trial.space, trial.source = (
        "f",
        {},
        "def f(n):\n    while n > 0:\n        n -= 1",
    )
    trial.tests = [compile("f(3)", "test", "exec")]
    endless = [mutant for mutant in mutants(trial.source) if mutant.after == "n += 1"]
    assert [verdict.passes_hidden_tests for verdict in trial.run(endless, 1)] == [False]


@pytest.mark.slow
def test_every_equivalent_is_a_mutant_of_today():
    # One lesson here, for the time it takes: `make mutants` looks at all.
    known = equivalents()
    for cell in filter(reading.is_exercise, LESSONS["attention"].cells):
        names = known.get(cell.id, {})
        assert set(names) <= {mutant.name for mutant in mutants(cell.source)}, cell.id
        assert all(names.values())


def test_the_page_has_a_row_an_exercise_and_the_reasons():
    result = Result("f", 9, ["f: a → b"], ["f: c → d"], ["f: e → g"])
    page = report([result], {"f": {"f: a → b": "They are one."}})
    assert "| `f` | 9 | 7 | 1 | 1 | 1 |" in page
    assert "| They are one. | 1 |" in page
    assert "7 of 9 are killed" in page
