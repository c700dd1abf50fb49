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


def test(name: str, points: int, source: str) -> Cell:
    """A graded test cell."""
    return Cell(name, source, points)


COURSE: dict[str, dict[str, list[Cell]]] = {
    "rain": {
        "rain": [
            setup("import pandas as pd\nfrom checks import close"),
            answer(
                "load",
                'rain = pd.read_csv("data.csv").dropna()',
                wrong='rain = pd.read_csv("data.csv")',
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
            ),
            test(
                "unit_test",
                2,
                "# the imports are those of the first test\n"
                "assert_allclose(unit(np.array([3.0, 4.0])), [0.6, 0.8])",
            ),
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
