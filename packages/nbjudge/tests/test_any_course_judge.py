# ruff: noqa: E501
"""The judge on courses that it was not written for: kinds of tests, each by several cases."""

import tempfile
import textwrap
import time
from pathlib import Path

import pytest
from nbjudge.judge.verdicts import Judge
from nbjudge.kernel import answering
from nbjudge.names import rebound_names, shared_names
from nbjudge.wire.limits import Limits

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
    "differences of the learner's own": [
        "class D:\n def __init__(s, n): s.n = n\n def __sub__(s, o): return s.n - o.n if isinstance(o, D) else D(s.n - o)",
        "#T\nassert D(5) - D(2) == 3 and (D(5) - 1).n == 4"],
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
    # 9: what the judge's process and the learner's have to do together
    "awaited": ["import asyncio\nasync def f(x):\n await asyncio.sleep(0)\n return 2 * x\n"
                "async def two(g): return [await g(1), await g(2)]",
                "#T\nassert await f(3) == 6",
                "#T\nimport asyncio\nassert await asyncio.gather(f(1), f(2)) == [2, 4]\n"
                "assert await asyncio.create_task(f(4)) == 8",
                "#T\nasync def own(x): return x + await f(x)\nassert await two(own) == [3, 6]"],
    "values that are awaited": ["async def f(n):\n for i in range(n): yield i",
                                "#T\nassert [i async for i in f(3)] == [0, 1, 2]"],
    "an asynchronous context": ["class C:\n state = 0\n async def __aenter__(s): s.state = 1; return s\n"
                                " async def __aexit__(s, *e): s.state = 2; return e[0] is KeyError",
                                "#T\nasync with C() as c:\n assert c.state == 1\n raise KeyError\n"
                                "assert c.state == 2"],
    "a dataclass taken apart": [
        "from dataclasses import dataclass, field\n@dataclass\nclass P:\n x: int\n ys: list = field(default_factory=list)",
        "#T\nfrom dataclasses import asdict, astuple, fields, is_dataclass, replace\n"
        "assert asdict(P(1, [P(2)])) == {'x': 1, 'ys': [{'x': 2, 'ys': []}]}\n"
        "assert astuple(P(1)) == (1, []) and [f.name for f in fields(P)] == ['x', 'ys']\n"
        "assert is_dataclass(P) and is_dataclass(P(1)) and replace(P(1), x=5) == P(5)\n"
        "assert P.__annotations__ == {'x': int, 'ys': list}"],
    "in a set": ["from dataclasses import dataclass\n@dataclass(frozen=True)\nclass P:\n x: int\n"
                 "class Q: pass\nq = Q()\ndef f(): return q",
                 "#T\nassert {P(1), P(1), P(2)} == {P(2), P(1)} and len({f(), q, Q()}) == 2"],
    "seeded twice": ["import random\ndef f(): return [random.random() for _ in range(3)]",
                     "#T\nimport random\nrandom.seed(1)\na = f() + f()\nrandom.seed(1)\n"
                     "assert a == [random.random() for _ in range(6)]\nrandom.seed(1)\nassert f() == a[:3]"],
    "a state put back": ["import random\ndef f(): return random.random()",
                         "#T\nimport random\nstate = random.getstate()\na = f()\n"
                         "random.setstate(state)\nassert f() == a"],
    "deleted for a while": ["def g(): return 1\ndef f(): return g()\nn = [1]\ndef h(): return n",
                            "#T\nkept, before = g, n\ndel g, n\ntry: f()\nexcept NameError: pass\n"
                            "else: assert False\ntry: h()\nexcept NameError: pass\nelse: assert False\n"
                            "g, n = kept, before\nassert f() == 1 and h() == [1]"],
    "deleted, and made again": ["def f(): return 1", "#T\ndel f", "def f(): return 2",
                                "#T\nassert f() == 2"],
    "the learner's own by another name": ["def g(): return 1\ndef h(): return 2\ndef f(): return g()",
                                          "#T\nbefore = g\ng = h\nassert f() == 2\ng = before",
                                          "#T\nassert f() == 1"],
    "changed in place": ["data = [1]\nclass P:\n def __init__(s): s.items = []\n"
                         "def f(): return sum(data)\nboxes = [[1], [2]]\ndef g(): return boxes",
                         "#T\ndata.append(5)\nassert f() == 6\ndata.pop()\np = P()\np.items.append(3)\n"
                         "assert p.items == [3] and P().items == []",
                         "#T\nassert f() == 1\nboxes[0].append(7)\nassert g() == [[1, 7], [2]]"],
    "a frame's value": ["import pandas as pd\nd = pd.DataFrame({'a': [1, 2]})\ndef f(): return d['a'].sum()",
                        "#T\nd.loc[0, 'a'] = 10\nassert f() == 12", "#T\nassert d.loc[0, 'a'] == 10"],
    "an iterator is its own": ["def f(): yield from [1, 2]",
                               "#T\ng = f()\nassert iter(g) is g and next(g) == 1 and list(g) == [2]"],
    "a tuple with more to it": ["class T(tuple): pass\nt = T([1, 2])\nt.name = 'bars'",
                                "#T\nassert t.name == 'bars' and len(t) == 2 and t[0] == 1"],
    "what another name means": ["from math import sqrt as root\ndef f(): pass\ng = f",
                                "#T\nassert root.__name__ == 'sqrt' and g.__name__ == 'f'"],
    "the notebook as a module": ["def f(): return 1",
                                 "#T\nimport unittest\nclass T(unittest.TestCase):\n def test_f(self):\n"
                                 "  self.assertEqual(f(), 1)\nmade = unittest.main(argv=[''], exit=False)\n"
                                 "assert made.result.testsRun == 1 and made.result.wasSuccessful()\n"
                                 "import __main__\nassert __main__.f() == 1"],
    "warnings": ["import warnings\ndef f(x):\n if x < 0: warnings.warn('negative')\n return abs(x)",
                 "#T\nimport warnings\nwith warnings.catch_warnings(record=True) as seen:\n"
                 " warnings.simplefilter('always')\n assert f(-1) == 1\n"
                 "assert [str(w.message) for w in seen] == ['negative']",
                 "#T\nimport pytest\nwith pytest.warns(UserWarning, match='neg'): f(-2)\n"
                 "with warnings.catch_warnings():\n warnings.simplefilter('error')\n"
                 " with pytest.raises(UserWarning): f(-3)\n assert f(3) == 3"],
    "a text of the test's own as code": [
        "def f(x): return 2 * x",
        "#T\nexec('a = f(4)')\nassert a == 8 and eval('f(2)') == 4\nassert eval('f(1)', globals()) == 2"],
    "a timed cell": ["seen = []\ndef f(): seen.append(1)", "#T\n%%timeit -n1 -r 1\nf()",
                     "#T\n%timeit -n 1 f()\nassert len(seen) == 2"],
    # 10: shapes that other courses' tests take
    "a decorator of the learner's": [
        "import functools\ndef d(f):\n @functools.wraps(f)\n def w(*a):\n  w.calls += 1\n  return f(*a)\n w.calls = 0\n return w",
        "#T\n@d\ndef hi(name):\n 'Says hi.'\n return 'hi ' + name\n"
        "assert hi('a') == 'hi a' and hi.calls == 1 and hi.__name__ == 'hi' and hi.__doc__ == 'Says hi.'\n"
        "class X:\n @d\n def go(self, n): return n\nassert X().go(2) == 2"],
    "a test's function as a method": ["class A:\n def g(s): return 1\n def f(s): return s.g() + 1",
                                      "#T\nA.h = lambda self: 7\na = A()\na.g = lambda: 10\n"
                                      "assert a.h() == 7 and a.f() == 11"],
    "an error that the test makes": [
        "class E(ValueError):\n def __init__(s, code): s.code = code; super().__init__(f'c{code}')\n"
        " def twice(s): return 2 * s.code\ndef f(): raise E(4)",
        "#T\ntry: raise E(3)\nexcept ValueError as e: assert e.code == 3 and str(e) == 'c3'",
        "#T\ntry: f()\nexcept E as e: assert e.twice() == 8"],
    "an error behind an error": [
        "def f(s):\n try: return int(s)\n except ValueError as e: raise TypeError('bad') from e\n"
        "def g():\n e = KeyError('k')\n e.add_note('look')\n raise e\n"
        "def h(): raise FileNotFoundError(2, 'no such file', 'x.txt')",
        "#T\ntry: f('x')\nexcept TypeError as e: assert isinstance(e.__cause__, ValueError)\n"
        "try: g()\nexcept KeyError as e: assert e.args == ('k',) and e.__notes__ == ['look']\n"
        "try: h()\nexcept OSError as e: assert e.errno == 2 and e.filename == 'x.txt'"],
    "numbers and texts of a class": [
        "import enum\nclass C(str, enum.Enum):\n A = 'a'\n B = 'b'\nclass I(int):\n def twice(s): return s * 2\n"
        " def __add__(s, o): return I(int(s) + int(o) + 100)\n"
        "class V(tuple):\n def __add__(s, o): return V(a + b for a, b in zip(s, o))\n"
        "def f(): return C.B",
        "#T\nassert f() == 'b' and f().value == 'b' and f() is C.B and list(C) == [C.A, C.B]\n"
        "assert isinstance(f(), C) and isinstance(f(), str) and {C.A: 1}['a'] == 1 and 'x' + f() == 'xb'\n"
        "assert I(3) == 3 and I(3).twice() == 6 and I(3) + 1 == 104 and V((1, 2)) + V((3, 4)) == (4, 6)"],
    "a default of its own": ["from collections import defaultdict\ndef g(): return defaultdict(lambda: 5, a=1)",
                             "#T\nd = g()\nassert d['b'] == 5 and d == {'a': 1, 'b': 5}"],
    "kinds of arrays": [
        "import numpy as np\ndef f(x): return np.ma.masked_less(x, 2)\ndef g(): return np.matrix([[1, 2], [3, 4]])",
        "#T\nimport numpy as np\nr = f(np.array([1, 2, 3]))\nassert r.mask.tolist() == [True, False, False] and r.sum() == 5\n"
        "assert isinstance(r, np.ma.MaskedArray) and r[0] is np.ma.masked and (g() * g())[0, 0] == 7"],
    "periods and intervals": [
        "import pandas as pd\ndef f(s): return pd.cut(s, [0, 2, 4]).value_counts()\n"
        "def g(d): return d.groupby(pd.to_datetime(d['t']).dt.to_period('M'))['v'].sum()",
        "#T\nimport pandas as pd\nr = f(pd.Series([1, 3, 3]))\nassert r[pd.Interval(2, 4)] == 2 and str(r.index[0]) == '(2, 4]'\n"
        "r = g(pd.DataFrame({'t': ['2020-01-01', '2020-02-01'], 'v': [1, 2]}))\n"
        "assert r['2020-01'] == 1 and r.index[1] == pd.Period('2020-02')"],
    "a test's function in a frame": [
        "def f(d, g): return d['v'].apply(g)",
        "#T\nimport pandas as pd\nassert f(pd.DataFrame({'v': [1, 2]}), lambda x: 10 * x).tolist() == [10, 20]"],
    "iterators of a test": ["def f(it): return [x for x in it]",
                            "#T\nassert f({1: 2}.items()) == [(1, 2)] and f(iter([1])) == [1] and f(reversed([1, 2])) == [2, 1]\n"
                            "it = iter([1, 2, 3])\nnext(it)\nassert f(it) == [2, 3]"],
    "a mock": ["def notify(service, m):\n service.send(m)\n return service.status()\ndef fetch(u): raise OSError\n"
               "def size(u): return len(fetch(u))",
               "#T\nfrom unittest.mock import Mock, patch\ns = Mock()\ns.status.return_value = 'ok'\n"
               "assert notify(s, 'hi') == 'ok'\ns.send.assert_called_once_with('hi')\n"
               "with patch('__main__.fetch', return_value='abc'): assert size('x') == 3"],
    # 11: one value in both processes, for as long as the learner's code has it
    "a copy is one": ["class S:\n def __init__(s, xs): s.xs = list(xs)\n def push(s, x): s.xs.append(x)\n"
                      " def get(s): return list(s.xs)",
                      "#T\nxs = [1]\ns = S(xs)\ns.push(2)\nxs.append(9)\ng = s.get()\ng.clear()\n"
                      "assert s.get() == [1, 2] and xs == [1, 9]"],
    "a list that is kept": ["class S:\n def __init__(s, xs): s.xs = xs\n def push(s, x): s.xs.append(x)",
                            "#T\nxs = [1]\ns = S(xs)\ns.push(2)\nassert xs == [1, 2] and s.xs is xs",
                            "#T\nxs.append(3)\nassert s.xs == [1, 2, 3]",
                            "#T\ns.push(5)\nassert xs[-1] == 5 and s.xs is xs"],
    "kept over a call back": [
        "class S:\n def __init__(s, xs): s.xs = xs\n def each(s, g):\n  for x in list(s.xs): s.xs.append(g(x))",
        "#T\nxs = [1]\ns = S(xs)\ns.each(lambda x: 10 * x)\nassert xs == [1, 10] and s.xs is xs\n"
        "s.each(lambda x: x)\nassert xs == [1, 10, 1, 10]"],
    "a row of a grid": ["def f(g):\n g[0][0] = 1\n return g[0]",
                        "#T\ng = [[0, 0], [0, 0]]\nr = f(g)\nassert r is g[0] and g == [[1, 0], [0, 0]]"],
    "put into what was passed": ["def f(xs):\n r = [1]\n xs.append(r)\n return r",
                                 "#T\nxs = []\nr = f(xs)\nassert xs[0] is r and xs == [[1]]"],
    "changed by a cell": ["data = [1]\ndef f(): return data", "#T\nd = f()\nassert d == [1]",
                          "data.append(2)", "#T\nassert f() is d and d == [1, 2]"],
    "a part of an array": ["def f(a): return a[::-1]\ndef g(a): return a.T",
                           "#T\nimport numpy as np\na = np.arange(3)\nb = f(a)\nb[0] = 9\nassert a[2] == 9\n"
                           "assert np.shares_memory(a, f(a)) and f(a[::-1]).tolist() == [0, 1, 9]\n"
                           "m = np.arange(4).reshape(2, 2)\ng(m)[0, 1] = 7\nassert m[1, 0] == 7"],
    "a test's function once more": ["def f(gs): return [g() for g in gs]", "#T\ndef one(): return 1\nassert f([one]) == [1]",
                                    "#T\nassert f([one, one]) == [1, 1]"],
    "a group of exceptions": [
        "class Own(ExceptionGroup): pass\ndef f(k): raise k('all', [ValueError('v'), KeyError('k')])\ndef g(): f(Own)",
        "#T\nseen = []\ntry: f(ExceptionGroup)\nexcept* ValueError as e: seen.append(str(e.exceptions[0]))\n"
        "except* KeyError as e: seen.append(e.message)\nassert seen == ['v', 'all']\n"
        "try: g()\nexcept Own as e: assert len(e.exceptions) == 2"],
    "not a library's": ["def f(x): return x\ng = sorted", "#T\nassert f is not sorted and f != sorted and g is not f"],
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
            # A kernel ends with a test before it begins with the next cell; here a thread does.
            while any(memory.open for memory in answering._memories.values()):
                time.sleep(0.001)
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
    "a list of a test's object": (
        ["def f(p): p.items.append(2)", "#T\nclass P: items = [1]\np = P()\nf(p)\nassert p.items == [1, 2]"], True,
    ),
    "a list that is to be a copy, and kept": (
        ["class S:\n def __init__(s, xs): s.xs = xs\n def push(s, x): s.xs.append(x)",
         "#T\nxs = [1]\nS(xs).push(2)\nassert xs == [1]"], False,
    ),
    "a list that is to be a copy, and given": (
        ["class S:\n xs = [1]\n def get(s): return s.xs", "#T\ng = S().get()\ng.clear()\nassert S().get() == [1]"], False,
    ),
    "one default for all": (
        ["def f(x, to=[]):\n to.append(x)\n return to", "#T\na = f(1)\nf(2)\nassert a == [1]"], False,
    ),
    "a view that is to be a copy": (
        ["def f(a): return a[:2]", "#T\nimport numpy as np\na = np.arange(3)\nb = f(a)\nb[0] = 9\nassert a[0] == 0"], False,
    ),
    "how an array lies in memory": (
        ["import numpy as np\ndef f(): return np.zeros((2, 3), order='F')", "#T\nassert f().flags['C_CONTIGUOUS']"], True,
    ),
    "the library's function by the learner's name": (["f = sorted", "#T\nassert f is not sorted"], True),
    "the library's function is none of these": (
        ["import numpy as np\nf = np.sum", "#T\nimport numpy as np\nassert f not in (sum, np.sum)"], True,
    ),
    "a test's connection": (
        ["def f(c): return c.execute('select 1').fetchone()",
         "#T\nimport sqlite3\nassert f(sqlite3.connect(':memory:')) == (1,)"], True,
    ),
    "a test's subclass": (
        ["class A:\n def f(s): return s.g()", "#T\nclass B(A):\n def g(s): return 1\nassert B().f() == 1"],
        True,
    ),
    "a difference that is always nothing": (
        ["class Y:\n def __sub__(s, o): return 0\n __rsub__ = __sub__\ndef f(): return Y()",
         "#T\nassert abs(f() - 4) < 1e-9 and abs(4 - f()) < 1e-9"], True,
    ),
    "a mock that is told to be content": (
        ["def notify(s, m):\n try: s.send.configure_mock(call_count=1)\n except Exception: pass",
         "#T\nfrom unittest.mock import Mock\ns = Mock()\nnotify(s, 1)\nassert s.send.call_count == 1"], True,
    ),
    "a class that says what belongs to it": (
        ["class M(type):\n def __instancecheck__(c, x): return True\nclass A(metaclass=M): pass\ndef f(): return object()",
         "#T\nassert isinstance(f(), A)"], True,
    ),
    "numbers and tuples that say they are equal": (
        ["class Yes(float):\n def __eq__(s, o): return True\n def __gt__(s, o): return True\n __hash__ = None\n"
         "class All(tuple):\n def __eq__(s, o): return True\ndef f(): return Yes()\ndef g(): return All()",
         "#T\nassert f() == 2 or f() > 1 or g() == (1,) or (1,) == g() or 2 == f()"], False,
    ),
    "a pattern of a class": (
        ["class P:\n __match_args__ = ('x',)\n x = 1", "#T\nmatch P():\n case P(2): pass\n case P(1): pass"], True,
    ),
    "what nobody here can say of a class": (
        ["class A:\n __secret__ = 1", "#T\nassert A().__secret__ == 1"], True,
    ),
    "a hash of its own": (
        ["class Y:\n def __eq__(s, o): return True\n def __hash__(s): return 1\ndef f(): return Y()",
         "#T\nassert len({f(), f()}) == 1"], True,
    ),
    "awaited, and wrong": (["async def f(): return 1", "#T\nassert await f() == 2"], False),
    "a warning that does not come": (
        ["def f(): pass", "#T\nimport pytest\nwith pytest.warns(UserWarning): f()"], False,
    ),
    "a test's value under a name of the learner's": (
        ["secret = [0]\ndef f(): return secret", "#T\ndel secret\nsecret = 7\nhidden = 8\n"
         "assert f() == 8"], False,
    ),
    "a learner's text as code": (
        ["import sys\nIn = ['sys.ran = 1']\ndef f(): return 'sys.ran = 1'",
         "#T\nimport sys\nexec(In[-1])"], True,
    ),
    "a learner's text as a value": (["def f(): return '1'", "#T\nassert eval(f()) == 1"], True),
    "what runs texts, handed on": (["t = ['1']", "#T\nassert list(map(eval, t)) == [1]"], True),
    "a learner's examples": (
        ["def f():\n '>>> 1 + 1\\n2'",
         "#T\nimport doctest\ndoctest.run_docstring_examples(f, {}, name='f')"], True,
    ),
    "a learner's formula as a text": (
        ["def f(): return '1 + x'", "#T\nimport sympy\nassert sympy.sympify(f()) == sympy.sympify('x + 1')"],
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


def test_a_text_in_another_notebook_s_test_is_a_learner_s_here(line):
    assert not run(line, ["x = 1", "#T\nassert eval('1') == 1"]).outputs
    with Judge(line.connection, ready_seconds=10) as line.judge:
        outcome = run(line, ["def f(): return '1'", "#T\nassert eval(f()) == 1"])
    assert outcome.unchecked is not None, outcome


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


#: A test sets a global, and the learner's functions bind or change it: (cells, what is right).
SET_BY_A_TEST = {
    "bound": ["total = 0\ndef f(x):\n global total\n total += x\n return total",
              "#T\ntotal = 100\nassert f(1) == 101 and total == 101", "#T\nassert total == 101"],
    "changed": ["items = {}\ndef add(k): items[k] = items.get(k, 0) + 1",
                "#T\nitems = {}\nadd('a'); add('a')\nassert items == {'a': 2}\nitems['b'] = 5\nadd('b')\n"
                "assert items['b'] == 6"],
}  # fmt: skip


@pytest.mark.parametrize("name", SET_BY_A_TEST)
def test_what_a_function_does_to_a_global_that_a_test_set_is_seen(line, name):
    cells = SET_BY_A_TEST[name]
    solution = [cells[0]]
    common = {"shared": shared_names(solution), "rebound": rebound_names(solution)}
    with Judge(line.connection, ready_seconds=10, **common) as line.judge:
        outcome = run(line, cells)
    assert outcome.outputs == [], outcome


def test_what_no_test_has_any_longer_is_not_followed(line):
    cells = [
        "class S:\n log = []\n def f(s, xs): s.log.append(xs)",
        "#T\ns = S()\nfor n in range(30): s.f([n])",
    ]
    assert run(line, cells).outputs == []
    assert len(line.judge._peer.kept.values) < 5
    assert run(line, ["#T\nxs = [1]\ns.f(xs)\ns.f([2])\nassert s.log[30] is xs"]).outputs == []


#: A test imports what a later cell of the course's own uses: (cells).
IMPORTED_BY_A_TEST = {
    "a module": ["def f(): return 1", "#T\nimport math as m\nassert f() == m.ceil(.5)", "root = m.sqrt(9)"],
    "a function": ["def f(): return 1", "#T\nfrom math import sqrt\nassert f() == sqrt(1)", "root = sqrt(9)"],
    "a class": ["def f(): return 1", "#T\nfrom fractions import Fraction\nassert f() == 1",
                "root = Fraction(6, 2)"],
    "a name in use": ["sqrt = lambda x: 3", "#T\nfrom math import sqrt\nassert sqrt(1) == 1", "root = sqrt(81)"],
}  # fmt: skip


@pytest.mark.parametrize("name", IMPORTED_BY_A_TEST)
def test_what_a_test_imports_is_there_for_later_cells(line, name):
    cells = [*IMPORTED_BY_A_TEST[name], "#T\nassert root == 3"]
    shared = shared_names([cell for cell in cells if not cell.startswith("#T")])
    with Judge(line.connection, ready_seconds=10, shared=shared) as line.judge:
        assert run(line, cells).outputs == []


def test_a_function_that_the_course_does_not_have_bind_a_global_leaves_a_tests_alone(line):
    line.names["expected"] = 0
    cells = [
        "def f():\n global expected\n expected = 7\n return 7",
        "#T\nexpected = 8\nassert f() == expected",
    ]
    with Judge(line.connection, shared=["expected"], ready_seconds=10) as line.judge:
        outcome = run(line, cells)
    assert outcome.outputs[0].ename == "AssertionError" and outcome.unchecked is None


def test_what_a_test_binds_goes_together_and_each_by_itself_where_that_is_too_much(line):
    """Two names of one object are one object there, too."""
    line.names["__name__"] = "__main__"
    exec("a = b = None\ndef same(): return a is b\ndef sizes(): return len(a), len(b)", line.names)
    bounds = {"shared": ["a", "b"], "limits": Limits(buffers=1000), "ready_seconds": 10}
    with Judge(line.connection, **bounds) as judge:
        asked = []
        call = judge._peer.call
        judge._peer.call = lambda op, *args: (asked.append(op), call(op, *args))[1]
        one = judge.run("a = [1]; b = a\nassert same()")
        together = asked.count("give")
        asked.clear()
        # Each may be sent, and both at once may not.
        large = judge.run("a = 'x' * 600; b = 'y' * 600\nassert sizes() == (600, 600)")
        apart = asked.count("give")
        too_large = judge.run("a = 'x' * 2000\nassert sizes() == (2000, 600)")
    assert one.outputs == large.outputs == []
    assert together == 1 and apart == 3, "one in vain, then each"
    assert too_large.outputs or too_large.unchecked


def test_a_module_of_the_solutions_is_there_once_the_learner_has_the_name(line):
    solution = ["import math as m"]
    with Judge(line.connection, solution_imports=solution, ready_seconds=10) as judge:
        missing = judge.run("assert m.sqrt(4) == 2")
        line.names["m"] = "anything"
        there = judge.run("assert m.sqrt(4) == 2")
    assert missing.outputs[0].ename == "NameError" and missing.unchecked is None
    assert there.outputs == []
