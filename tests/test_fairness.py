"""What an honest cell sets for the whole process costs right work no points."""

import ast

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.kernel import given
from nbjudge.run.judged import JudgedExecute
from nbjudge.run.provisioner import can_fork
from nbjudge.wire.given import SET_BY, set_by

from tests.submission_cells import reason, test_cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]

WORK = """
import decimal, locale, os, random, sys, warnings
import numpy as np
import torch

def softmax(x):
    shares = np.exp(x - np.max(x))
    return shares / shares.sum()

def warned():
    warnings.warn("beware")
    return 1

def total(n):
    return n + total(n - 1) if n else 0

def zeros(n):
    return torch.zeros(n)

def shown(x):
    return str(np.asarray(x))

def third():
    return str(decimal.Decimal(1) / 3)

def digits(n):
    return str(10 ** n)

def lines():
    with open("notes.txt") as file:
        return file.read()

def slope(at):
    x = torch.tensor(at, requires_grad=True)
    (x * x).backward()
    return float(x.grad)

def precision():
    return torch.get_float32_matmul_precision()

def added(n):
    return torch.ones(3).index_add(0, torch.tensor([0]), torch.ones(1))

open("notes.txt", "w").write("mine")
"""
#: What a cell does, the test that it is not to spoil, and what a later cell finds of it.
CASES = {
    "NumPy's errors": (
        "np.seterr(all='raise')",
        "assert softmax([0.0, -1e4])[0] == 1",
        "np.geterr()['under'] == 'raise'",
    ),
    "warnings": (
        "warnings.simplefilter('error')",
        "assert warned() == 1",
        "any(f[0] == 'error' for f in warnings.filters)",
    ),
    "torch's dtype": (
        "torch.set_default_dtype(torch.float16)",
        "import torch\nassert zeros(2).dtype == torch.float32",
        "torch.get_default_dtype() == torch.float16",
    ),
    "torch's device": (
        "torch.set_default_device('meta')",
        "assert zeros(2).tolist() == [0, 0]",
        "torch.get_default_device().type == 'meta'",
    ),
    "torch's algorithms": (
        "torch.use_deterministic_algorithms(True)",
        "assert added(1).tolist() == [2, 1, 1]",
        "torch.are_deterministic_algorithms_enabled()",
    ),
    "torch's gradients": (
        "torch.set_grad_enabled(False)",
        "assert slope(3.0) == 6",
        "not torch.is_grad_enabled()",
    ),
    "torch's precision": (
        "torch.set_float32_matmul_precision('medium')",
        "assert precision() == 'highest'",
        "torch.get_float32_matmul_precision() == 'medium'",
    ),
    "NumPy's printing": (
        "np.set_printoptions(precision=1)",
        "assert shown([0.125]) == '[0.125]'",
        "np.get_printoptions()['precision'] == 1",
    ),
    "decimals": (
        "decimal.getcontext().prec = 2",
        "assert len(third()) > 20",
        "decimal.getcontext().prec == 2",
    ),
    "digits of an int": (
        "sys.set_int_max_str_digits(700)",
        "assert len(digits(1000)) == 1001",
        "sys.get_int_max_str_digits() == 700",
    ),
    "more digits": (
        "sys.set_int_max_str_digits(0)",
        "assert len(digits(9000)) == 9001",
        "sys.get_int_max_str_digits() == 0",
    ),
    "recursion limit": (
        "sys.setrecursionlimit(70)", "assert total(500) == 125250", "sys.getrecursionlimit() > 70",
    ),
    "more depth": (
        "sys.setrecursionlimit(20_000)", "assert total(3000) == 4501500",
        "sys.getrecursionlimit() == 20_000",
    ),
    "folder": (
        "os.mkdir('below'); os.chdir('below')",
        "assert lines() == 'mine'",
        "os.getcwd().endswith('below')",
    ),
    "a folder that is gone": (
        "os.rmdir('../below')", "assert lines() == 'mine'", "True",
    ),
    "locale": (
        "locale.setlocale(locale.LC_ALL, 'C')", "assert softmax([0.0]) == 1",
        "locale.setlocale(locale.LC_ALL) == 'C'",
    ),
    "random state": ("random.seed(1); np.random.seed(1)", "assert softmax([0.0]) == 1", "True"),
}  # fmt: skip


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    cells = [new_code_cell(WORK)]
    for name, (action, test, _) in CASES.items():
        cells += [new_code_cell(action), test_cell(test, name.replace(" ", "_"))]
    asked = "[" + ", ".join(there for _, _, there in CASES.values()) + "]"
    cells.append(new_code_cell(asked))
    notebook = new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("fairness")
    # The last cell is to tell of the kernel in which the tests have asked.
    JudgedExecute(unasked=False).preprocess(notebook, {"metadata": {"path": str(folder)}})
    return notebook


@pytest.mark.parametrize("name", CASES)
def test_what_a_cell_sets_costs_no_points(graded, name):
    at = 2 + 2 * list(CASES).index(name)
    test = graded.cells[at]
    assert reason(test) is None and test.outputs == [], (test.source, test.outputs)
    assert not [output for output in graded.cells[at - 1].outputs if output.output_type == "error"]


def test_behind_the_test_the_learners_own_settings_stand_again(graded):
    found = ast.literal_eval(graded.cells[-1].outputs[-1].data["text/plain"])
    # The later of two settings of one thing is what is found.
    later = {"digits of an int", "folder"}
    wrong = [name for name, there in zip(CASES, found, strict=True) if not there]
    assert set(wrong) == later, wrong


def test_the_courses_own_settings_are_left_alone():
    sources = {
        "warnings.simplefilter('error')": ["warnings"],
        "import numpy as np\nif True:\n    np.seterr(all='raise')": ["NumPy's errors"],
        "with np.errstate(all='raise'):\n    np.seterr(all='raise')": [],
        "def f():\n    os.chdir('x')": [],
        "torch.set_default_dtype(torch.float64); sys.setrecursionlimit(9)": [
            "recursion limit", "torch's dtype",
        ],
    }  # fmt: skip
    for source, settings in sources.items():
        assert set_by([ast.parse(source)]) == settings
    given.remember()
    before = given.SETTINGS["recursion limit"].read()
    try:
        given.SETTINGS["NumPy's errors"].write({"over": "raise"})
        with given.as_given(["NumPy's errors"]):
            assert given.SETTINGS["NumPy's errors"].read()["over"] == "raise"
        with given.as_given([]):
            assert given.SETTINGS["NumPy's errors"].read()["over"] != "raise"
        assert given.SETTINGS["NumPy's errors"].read()["over"] == "raise"
    finally:
        np.seterr(over="warn")
    assert given.SETTINGS["recursion limit"].read() == before


def test_each_setting_has_its_name_on_both_sides():
    assert set(given.SETTINGS) == set(SET_BY)
