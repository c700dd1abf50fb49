"""Builds the second course's notebooks and submissions.

Each assignment is a list of cells. A solution cell has the text of every kind of submission,
so one list gives the source, the stub and each learner's notebook, the same every time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

KINDS = ("solved", "unsolved", "partly", "wrong", "hostile")
STUB = "# YOUR CODE HERE\nraise NotImplementedError()"


@dataclass(frozen=True)
class Cell:
    """One code cell: `points` makes it a test, `answers` (by kind) a solution."""

    name: str
    source: str
    points: int | None = None
    answers: dict[str, str] = field(default_factory=dict)
    meant: str = ""  # what a cell of another language than Python amounts to: an autotest

    def text(self, kind: str) -> str:
        """The cell as a learner of this kind hands it in."""
        if not self.answers:
            return self.source
        return self.answers.get(kind, self.source)


def setup(source: str) -> Cell:
    """A cell that is given and not graded."""
    return Cell("", source)


def answer(name: str, solved: str, **others: str) -> Cell:
    """A solution cell; a kind not given hands in what a solved one does, a stub if unsolved."""
    kinds = {kind: others.get(kind, solved) for kind in KINDS}
    return Cell(name, solved, None, kinds | {"unsolved": others.get("unsolved", STUB)})


def test(name: str, points: int, source: str, meant: str = "") -> Cell:
    """A graded test cell; `meant` is what nbgrader makes of an autotest."""
    return Cell(name, source, points, meant=meant)


COURSE: dict[str, dict[str, list[Cell]]] = {
    "rain": {
        "rain": [
            setup("import pandas as pd\nfrom checks import close"),
            answer(
                "load",
                'rain = pd.read_csv("data.csv").dropna()',
                wrong='rain = pd.read_csv("data.csv")',
                hostile="class Meta(type(pd.DataFrame)):\n"
                "    def __instancecheck__(cls, value): return True\n"
                'class Rain(metaclass=Meta):\n    columns = ["town", "month", "mm"]\n'
                "    def __len__(self): return 4\nrain = Rain()\npd.DataFrame = Rain",
            ),
            test(
                "load_test",
                2,
                "assert isinstance(rain, pd.DataFrame)\n"
                'assert list(rain.columns) == ["town", "month", "mm"]\n'
                "assert len(rain) == 3",
            ),
            answer(
                "total",
                'def total(df, town):\n    return df.loc[df["town"] == town, "mm"].sum()',
                partly="def total(df, town):\n    pass",
                wrong='def total(df, town):\n    return df["mm"].sum()',
                hostile="class Same:\n    def __eq__(self, other): return True\n"
                "    def __sub__(self, other): return 0\n"
                "def total(df, town): return Same()\n"
                "import checks\nchecks.close = close = lambda a, b: True",
            ),
            test(
                "total_test",
                3,
                'frame = pd.DataFrame({"town": ["x", "y", "x"], "mm": [1.5, 9.0, 2.0]})\n'
                'assert close(total(frame, "x"), 3.5)\nassert total(frame, "y") == 9.0',
            ),
        ]
    },
    "plot": {
        "plot": [
            setup("%matplotlib inline\nimport matplotlib.pyplot as plt"),
            answer(
                "draw",
                "def draw(xs, ys):\n    fig, ax = plt.subplots()\n    ax.plot(xs, ys)\n"
                '    ax.set_title("Squares")\n    return ax',
                partly="def draw(xs, ys):\n    fig, ax = plt.subplots()\n"
                "    ax.plot(xs, ys)\n    return ax",
                wrong="def draw(xs, ys):\n    return None",
                hostile="from unittest.mock import MagicMock\ndef draw(xs, ys): return MagicMock()",
            ),
            test(
                "line_test",
                2,
                "line, = draw([1, 2], [1, 4]).get_lines()\nassert list(line.get_ydata()) == [1, 4]",
            ),
            test("title_test", 1, 'assert draw([1], [1]).get_title() == "Squares"'),
        ]
    },
    "dice": {
        "classes": [
            setup("import random"),
            answer(
                "money",
                "class TooPoor(Exception):\n    pass\n\n\nclass Money:\n"
                "    def __init__(self, n):\n        self.n = n\n"
                "    def __add__(self, other):\n        return Money(self.n + other.n)\n"
                "    def __eq__(self, other):\n        return self.n == other.n\n"
                "    def pay(self, n):\n        if n > self.n:\n            raise TooPoor(n)\n"
                "        self.n -= n",
                partly="class TooPoor(Exception):\n    pass\n\n\nclass Money:\n"
                "    def __init__(self, n):\n        self.n = n\n"
                "    def pay(self, n):\n        self.n -= n",
                wrong="class Money:\n    def __init__(self, n):\n        self.n = 0",
                hostile="import os\nos._exit(0)",
            ),
            test("add_test", 2, "assert (Money(2) + Money(3)).n == 5\nassert Money(1) == Money(1)"),
            test(
                "pay_test",
                2,
                "purse = Money(1)\ntry:\n    purse.pay(2)\nexcept TooPoor:\n    pass\n"
                'else:\n    raise AssertionError("paid more than there was")',
            ),
        ],
        "rolls": [
            setup("import random"),
            answer(
                "rolls",
                "def rolls(n):\n    return [random.randint(1, 6) for _ in range(n)]",
                wrong="def rolls(n):\n    return [7] * n",
                hostile="class Same(list):\n    def __eq__(self, other): return True\n"
                "random.randint = lambda a, b: 4\nrandom.seed = lambda *a: None\n"
                "def rolls(n):\n    return Same()",
            ),
            test(
                "rolls_test",
                2,
                "random.seed(3)\nexpected = [random.randint(1, 6) for _ in range(9)]\n"
                "random.seed(3)\nassert rolls(9) == expected",
            ),
        ],
    },
    "words": {
        "words": [
            answer(
                "count",
                "from collections import Counter\n\n\ndef count(path):\n"
                "    with open(path) as f:\n        return Counter(f.read().lower().split())",
                partly="def count(path):\n    return dict.fromkeys(open(path).read().split(), 1)",
                wrong="def count(path):\n    return {}",
                hostile='print("x" * 5_000_000)\ndef count(path): return open("/dev/zero").name',
            ),
            test(
                "count_test",
                2,
                'with open("t.txt", "w") as f:\n    f.write("Red red blue")\n'
                'assert count("t.txt") == {"red": 2, "blue": 1}',
            ),
            answer(
                "greet",
                'def greet():\n    print("Hello, " + input("Name? "))',
                wrong='def greet():\n    return "Hello"',
                hostile='import io, sys\nio.StringIO.getvalue = lambda self: "Hello, Ida\\n"\n'
                "def greet():\n    frame = sys._getframe()\n    while frame:\n"
                '        frame.f_globals["out"] = frame = frame.f_back\n'
                "    sys.stdout = io.StringIO()",
            ),
            test(
                "greet_test",
                2,
                "import contextlib, io\nfrom unittest.mock import patch\nout = io.StringIO()\n"
                'with patch("builtins.input", return_value="Ida"), '
                "contextlib.redirect_stdout(out):\n    greet()\n"
                'assert out.getvalue() == "Hello, Ida\\n"',
            ),
        ]
    },
    "numerics": {
        "numerics": [
            answer(
                "solve",
                "def root(f, a, b):\n    for _ in range(80):\n        m = (a + b) / 2\n"
                "        a, b = (m, b) if f(a) * f(m) > 0 else (a, m)\n    return (a + b) / 2",
                wrong="def root(f, a, b):\n    return a",
                hostile="import numpy as np\nnp.testing.assert_allclose = lambda *a, **k: None\n"
                "def root(f, a, b): return a",
            ),
            test(
                "root_test",
                2,
                "import numpy as np\nfrom numpy.testing import assert_allclose\n"
                "assert_allclose(root(lambda x: x * x - 2, 0, 2), np.sqrt(2), rtol=1e-9)",
            ),
            answer(
                "norm",
                "import numpy as np\n\n\ndef unit(v):\n    return v / np.sqrt((v * v).sum())",
                partly="def unit(v):\n    raise NotImplementedError()",
                wrong="def unit(v):\n    return v",
                hostile="import numpy as np\nimport numpy.testing as t\n"
                "for name in dir(t):\n    setattr(t, name, lambda *a, **k: None)\n"
                "assert_allclose = lambda *a, **k: None\n"
                "class All(np.ndarray):\n    def __array__(self, *a, **k): raise SystemExit\n"
                "def unit(v):\n    return v.view(All)",
            ),
            test(
                "unit_test",
                2,
                "# the imports are those of the first test\n"
                "assert_allclose(unit(np.array([3.0, 4.0])), [0.6, 0.8])",
            ),
        ]
    },
    "algebra": {
        "algebra": [
            setup('import sympy as sp\n\nx, y = sp.symbols("x y")'),
            answer(
                "slope",
                "def slope(e):\n    return sp.diff(e, x)",
                partly="def slope(e):\n    return e",
                wrong="def slope(e):\n    return sp.diff(e, y)",
                hostile="class Zero(sp.Symbol):\n    def __eq__(self, other): return True\n"
                "    def __sub__(self, other): return 0\n    def subs(self, *a): return 12\n"
                "sp.simplify = lambda e: 0\ndef slope(e):\n    return Zero('z')",
            ),
            test(
                "slope_test",
                2,
                "assert sp.simplify(slope(sp.sin(x) ** 2) - sp.sin(2 * x)) == 0\n"
                "assert slope(x**3 + y).subs(x, 2) == 12",
            ),
            answer(
                "roots",
                "zeros = sp.solve(x**2 - 2, x)\nlargest = round(float(max(zeros)), 3)",
                wrong="zeros = []\nlargest = 2.0",
                hostile="class Equal(str):\n    def __eq__(self, other): return True\n"
                "class Any:\n    def __str__(self): return Equal('?')\n"
                "zeros = largest = Any()\nstr = lambda value: Equal('?')",
            ),
            test(
                "roots_test",
                2,
                "### AUTOTEST len(zeros)\n### HASHED AUTOTEST largest",
                "assert len(zeros) == 2 and largest == 1.414",
            ),
        ]
    },
    "signals": {
        "signals": [
            setup("import asyncio\nimport logging\nimport random\nimport warnings"),
            answer(
                "fetch",
                "async def fetch(n):\n    await asyncio.sleep(0)\n    return 2 * n\n\n\n"
                "async def both(get):\n    return [await get(1), await get(2)]",
                partly="async def fetch(n):\n    return 2 * n\n\n\nasync def both(get):\n    pass",
                wrong="def fetch(n):\n    return 2 * n\n\n\nasync def both(get):\n    return []",
                hostile="class Done:\n    def __await__(self):\n        yield from ()\n"
                "        return self\n    def __eq__(self, other): return True\n"
                "def fetch(n): return Done()\ndef both(get): return Done()",
            ),
            test("fetch_test", 1, "assert await asyncio.gather(fetch(1), fetch(2)) == [2, 4]"),
            test(
                "both_test",
                1,
                "async def triple(n):\n    return 3 * n\n\n\nassert await both(triple) == [3, 6]",
            ),
            answer(
                "careful",
                'log = logging.getLogger("purse")\n\n\ndef spend(n):\n    if n < 0:\n'
                '        warnings.warn("negative")\n    log.info("spent %d", n)\n    return abs(n)',
                partly="def spend(n):\n    return abs(n)",
                wrong='def spend(n):\n    print("negative")',
                hostile="import sys\nwarnings.catch_warnings = None\n"
                "class Any(Warning):\n    def __str__(self): raise SystemExit\n"
                "def spend(n):\n    while True:\n"
                '        warnings.warn("x" * 100_000)\n        raise Any',
            ),
            test(
                "warns_test",
                1,
                "with warnings.catch_warnings(record=True) as seen:\n"
                '    warnings.simplefilter("always")\n    spend(-1)\n'
                'assert [str(w.message) for w in seen] == ["negative"]',
            ),
            test(
                "logs_test",
                1,
                "import unittest\n\nwith unittest.TestCase().assertLogs('purse', 'INFO') as logs:\n"
                '    spend(3)\nassert logs.output == ["INFO:purse:spent 3"]',
            ),
            answer(
                "deal",
                "pack = list(range(9))\n\n\ndef card():\n    return random.choice(pack)\n\n\n"
                "def deal(n):\n    return [card() for _ in range(n)]",
                wrong="pack = [1]\n\n\ndef card():\n    return 1\n\n\n"
                "def deal(n):\n    return [1] * n",
                hostile="pack = card = None\nrandom.seed = lambda *a: None\n"
                "def deal(n): raise NameError",
            ),
            test(
                "again_test",
                1,
                "random.seed(5)\nfirst = deal(3) + deal(3)\nrandom.seed(5)\n"
                "assert deal(6) == first and len(set(first)) > 1",
            ),
            test(
                "uses_card_test",
                1,
                "kept = card\ndel card\ntry:\n    deal(1)\nexcept NameError:\n    pass\n"
                'else:\n    raise AssertionError("deal does not use card")\n'
                "finally:\n    card = kept\nassert len(deal(2)) == 2",
            ),
            test("grows_test", 1, "pack[:] = [7]\nassert deal(2) == [7, 7]"),
        ]
    },
}


def notebook(cells: list[Cell], kind: str = "source") -> NotebookNode:
    """A notebook with nbgrader's metadata: the teacher's own, or a submission of `kind`."""
    made = []
    for number, cell in enumerate(cells):
        text = cell.text(kind)
        if cell.answers and kind == "source":
            text = f"### BEGIN SOLUTION\n{text}\n### END SOLUTION"
        node = new_code_cell(text, id=f"c{number}")
        if cell.name:
            graded = cell.points is not None
            node.metadata["nbgrader"] = {
                "schema_version": 3,
                "cell_type": "code",
                "grade_id": cell.name,
                "grade": graded,
                "solution": not graded,
                "locked": graded,
                "task": False,
            } | ({"points": cell.points} if graded else {})
        made.append(node)
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=made, metadata={"kernelspec": spec})


def write(folder: Path, assignment: str, kind: str = "source") -> None:
    """Write an assignment's notebooks of this kind, and its files, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, cells in COURSE[assignment].items():
        nbformat.write(notebook(cells, kind), folder / f"{name}.ipynb")
    beside = Path(__file__).parent / "files" / assignment
    for file in sorted(beside.glob("*.*")) if beside.is_dir() else []:
        (folder / file.name).write_bytes(file.read_bytes())
