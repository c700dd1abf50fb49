# ruff: noqa: E501
"""The judge on courses that it was not written for: kinds of tests, each by several cases."""

import tempfile
import textwrap
from pathlib import Path

import pytest
from nbjudge.judge.verdicts import Judge

from tests.loopback import Loopback


@pytest.fixture
def line(tmp_path):
    with tempfile.TemporaryDirectory(prefix="judge") as folder, Loopback(Path(folder)) as line:
        (tmp_path / "course_helper.py").write_text("def right(x): return x == 3\n")
        line.judge = Judge(line.connection, ["rate = 1"], folder=tmp_path, ready_seconds=10)
        with line.judge:
            yield line


#: name: (the learner's cells and the tests (marked by "#T") in their order)
GOOD = {
    # 1: earlier test cells
    "an import": ["def f(x): return x ** .5", "#T\nimport math as m\nassert f(4) == m.sqrt(4)",
                  "#T\nassert f(9) == m.sqrt(9)"],
    "a helper": ["def f(x): return 2 * x", "#T\ndef near(a, b): return abs(a - b) < 1e-9",
                 "#T\nassert near(f(2), 4)"],
    "data": ["def f(x): return sum(x)", "#T\nrows = [1, 2]", "#T\nassert f(rows) == 3"],
    "an object": ["class Box:\n def __init__(self): self.n = 0\n def add(self): self.n += 1",
                  "#T\nbox = Box(); box.add()", "#T\nbox.add(); assert box.n == 2"],
    "names anew": ["n = 1", "#T\nassert n == 1", "n = 2", "#T\nassert n == 2"],
    # 2, 3: modules and classes
    "helper module": ["def f(): return 3", "#T\nimport course_helper\nassert course_helper.right(f())"],
    "an array is one": ["import numpy as np\ndef f(): return np.arange(3)",
                        "#T\nassert isinstance(f(), np.ndarray) and f().dtype == np.int64"],
    "a class": ["from collections import Counter\ndef f(w): return Counter(w)",
                "#T\nassert type(f('aab')) == Counter and f('aab')['a'] == 2"],
    "a function": ["from math import sqrt", "#T\nassert sqrt(4) == 2"],
    # 4: introspection
    "names and docs": ["def f(a, b=2):\n 'Adds.'\n return a + b",
                       "#T\nassert f.__name__ == 'f' and f.__doc__ == 'Adds.'"],
    "a signature": ["def f(a, b=2): return a + b",
                    "#T\nimport inspect\nassert list(inspect.signature(f).parameters) == ['a', 'b']\n"
                    "assert f.__code__.co_argcount == 2 and inspect.isfunction(f)"],
    "globals": ["answer = 42", "#T\nassert 'answer' in globals() and 'answer' in dir()\n"
                "assert 'other' not in globals()"],
    "all globals": ["answer = 42\nexit = print", "#T\nall = {**globals()}\n"
                    "assert all['answer'] == 42 and 'exit' not in all"],
    # 5: operators
    "a vector": ["class V:\n def __init__(s, x): s.x = x\n def __add__(s, o): return V(s.x + o.x)\n"
                 " def __rmul__(s, k): return V(k * s.x)\n def __str__(s): return f'<{s.x}>'\n"
                 " def __lt__(s, o): return s.x < o.x",
                 "#T\nassert (V(1) + V(2)).x == 3 and (2 * V(3)).x == 6\n"
                 "assert str(V(1)) == '<1>' and V(1) < V(2)"],
    "a dataclass": ["from dataclasses import dataclass\n@dataclass\nclass P:\n x: int\n y: int",
                    "#T\nassert P(1, 2) == P(1, 2) and P(1, 2) != P(2, 1)"],
    "a context": ["class C:\n log = []\n def __enter__(s): s.log.append(1); return s\n"
                  " def __exit__(s, *a): s.log.append(2)",
                  "#T\nwith C() as c: assert c.log == [1]\nassert c.log == [1, 2]"],
    # 6: names read and bound
    "deleted": ["def f(): return 1", "#T\nassert f() == 1\ndel f", "def f(): return 2",
                "#T\nassert True"],
    "rebound": ["x = 3", "#T\nx = x + 1\nassert x == 4"],
    "augmented": ["total = 1", "#T\ntotal += 1\nassert total == 2"],
    # 7: identity
    "one object": ["class N: pass\nroot = N()\ndef f(): return root", "#T\nassert f() is f() is root"],
    "its class": ["class N: pass\nclass M(N): pass",
                  "#T\nm = M()\nassert type(m) is M and isinstance(m, N) and issubclass(M, N)\n"
                  "assert not isinstance(N(), M)"],
    "an enum": ["import enum\nclass E(enum.Enum):\n A = 1\n B = 2",
                "#T\nassert E.A is E.A and E.A != E.B and E.B.value == 2"],
    # 8: streams, mocks, errors, values
    "prints": ["def f(): print('hi')", "#T\nimport io, contextlib\nout = io.StringIO()\n"
               "with contextlib.redirect_stdout(out): f()\nassert out.getvalue() == 'hi\\n'"],
    "an error of its own": ["class Empty(Exception): pass\ndef f(): raise Empty('no')",
                            "#T\ntry: f()\nexcept Empty as e: assert str(e) == 'no'\n"
                            "else: assert False"],
    "a magic": ["def f(): return 1", "#T\n%matplotlib inline\nassert f() == 1"],
    "exact numbers": ["from fractions import Fraction\nfrom decimal import Decimal\nimport datetime\n"
                      "def f(): return Fraction(1, 3), Decimal('1.10'), datetime.date(2020, 1, 2)",
                      "#T\na, b, c = f()\nassert a * 3 == 1 and str(b) == '1.10' and c.year == 2020"],
    "a match": ["import re\ndef f(s): return re.match('a', s)", "#T\nassert f('ab') and not f('b')"],
    "a global": ["rate = 1\ndef f(): return rate * 2", "#T\nrate = 5\nassert f() == 10"],
    "a frame": ["import pandas as pd\ndef f(): return pd.DataFrame({'a': [1, 2], 'b': ['x', None]})",
                "#T\nd = f()\nassert isinstance(d, pd.DataFrame) and d.shape == (2, 2)\n"
                "assert d['a'].sum() == 3 and list(d.columns) == ['a', 'b'] and d.b.isna().sum() == 1"],
    "a frame that the test made": [
        "def f(d): return d.groupby('k')['v'].mean()",
        "#T\nimport pandas as pd\nr = f(pd.DataFrame({'k': list('aab'), 'v': [1., 3., 5.]}))\n"
        "assert isinstance(r, pd.Series) and r['a'] == 2 and r.index.name == 'k'"],
    "a frame changed in place": [
        "def f(d): d.dropna(inplace=True)\ndef g(d): d['z'] = 2 * d['x']",
        "#T\nimport pandas as pd\nd = pd.DataFrame({'x': [1, None, 3]})\nf(d); g(d)\n"
        "assert list(d['z']) == [2, 6]"],
    "bytes that change": ["def f(s): return bytearray(s.encode())", "#T\nassert f('a') == b'a'"],
    "views": ["d = {'a': 1}\ndef f(): return d.keys()", "#T\nassert f() == {'a'} and 'a' in f()"],
    "a property": ["class T:\n @property\n def f(s): return 1",
                   "#T\nassert T().f == 1 and isinstance(T.f, property)"],
    "a generator that the test made": [
        "def f(rng): return rng.normal(size=3)\ndef g(r): return r.random()",
        "#T\nimport random\nimport numpy as np\n"
        "assert np.allclose(f(np.random.default_rng(3)), np.random.default_rng(3).normal(size=3))\n"
        "assert g(random.Random(1)) == random.Random(1).random()"],
    "a named tuple": ["from collections import namedtuple\nP = namedtuple('P', 'x y')",
                      "#T\np = P(1, 2)\nassert isinstance(p, P) and p.x == 1 and p == (1, 2)"],
}  # fmt: skip


def run(line, cells):
    outcome = None
    line.names["__name__"] = "__main__"
    for cell in cells:
        if cell.startswith("#T\n"):
            outcome = line.judge.run(cell[3:])
            if outcome.outputs:
                break
        else:
            exec(compile(textwrap.dedent(cell), "/tmp/ipykernel_1/1.py", "exec"), line.names)
    return outcome


@pytest.mark.parametrize("name", GOOD)
def test_right_work_passes(line, name):
    outcome = run(line, GOOD[name])
    assert outcome.outputs == [] and outcome.unchecked is None, outcome


#: What must not pass: (cells, whether it is not checked rather than wrong).
BAD = {
    "np of the learner's own": (
        ["class np:\n allclose = staticmethod(lambda *a: True)", "#T\nassert np.allclose(1, 2)"],
        True,
    ),
    "a patched np": (
        ["import numpy as np\ndef f(): return 1", "#T\nassert np.allclose(f(), 2)"], False,
    ),
    "equal to all": (
        ["class Y:\n def __eq__(s, o): return True\ndef f(): return Y()", "#T\nassert f() == 3"],
        True,
    ),
    "pytest's failure is none of Python's exceptions": (
        ["def f(): pass", "#T\nimport pytest\nwith pytest.raises(ValueError): f()"], False,
    ),
    # With nbgrader these pass: they must not be wrong for that the judge keeps its own objects.
    "a test's object that the code changes": (
        ["def f(p): p.age += 1", "#T\nclass P: age = 1\np = P()\nf(p)\nassert p.age == 2"], True,
    ),
    "a test's object that the code caught": (
        ["def f(p):\n try: p.age += 1\n except Exception: pass\n return 1",
         "#T\nclass P: age = 1\np = P()\nf(p)\nassert p.age == 2"], True,
    ),
    "a test's connection": (
        ["def f(c): return c.execute('select 1').fetchone()",
         "#T\nimport sqlite3\nassert f(sqlite3.connect(':memory:')) == (1,)"], True,
    ),
    "a test's subclass": (
        ["class A:\n def f(s): return s.g()", "#T\nclass B(A):\n def g(s): return 1\nassert B().f() == 1"],
        True,
    ),
    "an unknown magic": (["x = 1", "#T\n%%bash\nexit 0"], True),
    "a function by another's name": (
        ["from pickle import loads as f", "#T\nassert f(b'N.') == 1"], False,
    ),
    "what a test compares with stays here": (
        ["secret = None\ndef f(): return secret", "#T\nsecret = 7\nassert f() == secret"], False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_must_not_pass(line, name):
    cells, unchecked = BAD[name]
    outcome = run(line, cells)
    assert outcome.outputs and (outcome.unchecked is not None) == unchecked, outcome


#: A test that was stopped, what comes after it, and what that is: True: right, None: not checked.
AFTER_A_STOP = {
    "an import that it used": ("import math as m\nassert f(4) == m.sqrt(4)", "assert f(9) == m.sqrt(9)", True),
    "a helper and its bound": ("TOL = 1e-9\ndef near(a, b): return abs(a - b) < TOL\nnear(f(4), 2)",
                               "assert near(f(9), 3)", True),
    "a helper with a magic beside it": ("%matplotlib inline\ndef three(): return 3", "assert f(9) == three()", True),
    "what it computed": ("expected = f(9)", "assert f(9) == expected", None),
    "what it counted": ("seen = []\ndef note(x): seen.append(x)\nnote(1)", "note(2)\nassert len(seen) == 2", None),
    "a helper that it replaced": ("def g(): return 1\ng = str", "assert g(3) == '3'", None),
    "a global of a helper": ("n = 0\ndef step():\n global n\n n += 1\nstep()", "step()\nassert n == 2", None),
    "nothing of it": ("import math", "assert f(9) == 3", True),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER_A_STOP)
def test_a_test_after_one_that_was_stopped_is_right_or_not_checked(line, tmp_path, name):
    stopped, later, right = AFTER_A_STOP[name]
    line.names["f"] = lambda x: x**0.5
    with Judge(line.connection, earlier=[stopped], folder=tmp_path, ready_seconds=10) as judge:
        outcome = judge.run(later)
    assert (outcome.outputs == [] and outcome.unchecked is None) is bool(right), outcome
    assert (outcome.unchecked is None) is bool(right), outcome


def test_a_wrong_answer_is_wrong_after_a_test_that_was_stopped(line):
    line.names["f"] = lambda x: x
    with Judge(line.connection, earlier=["import math"], ready_seconds=10) as judge:
        wrong = judge.run("assert f(9) == 3")
    assert wrong.outputs and wrong.unchecked is None
