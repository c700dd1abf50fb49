"""What a hidden test passes to a function is shown nowhere."""

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.run.judged import JudgedExecute
from nbjudge.run.provisioner import can_fork

from tests.submission_cells import errors, printed, reason, test_cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]

SECRET = 42424242
KEEPS = """
import atexit, os, pathlib
seen = []
def keep(x):
    seen.append(x)
    pathlib.Path("seen.txt").write_text(str(x))
    os.environ["SEEN"] = str(x)
    print("called with", x)
    try:
        open(f"/{x}/x")
    except OSError:
        pass
    return x
"""


def graded(*cells, **traits):
    notebook = new_notebook(
        cells=[new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    return JudgedExecute(**traits).preprocess(notebook, {})[0]


@pytest.fixture(scope="module")
def notebook():
    return graded(
        KEEPS,
        "print('above', seen)",
        test_cell(f"assert keep({SECRET}) == {SECRET}", "test_keep"),
        "print('below', seen, os.environ.get('SEEN'), os.path.exists('seen.txt'))\n7",
        "keep(1)\nraise ValueError(str(seen))",
        test_cell(f"assert keep({SECRET + 1}) == {SECRET + 1}", "test_again"),
        "helper = 3\nseen.append(2)",
        "print(seen, helper)",
        "import os\nprint(seen, flush=True)\nif len(seen) > 3:\n    os._exit(0)",
        "print('last', helper)",
    )


def test_a_cell_behind_a_test_shows_what_it_shows_without_the_test(notebook):
    shown = [cell for cell in notebook.cells if cell.outputs]
    assert not [cell for cell in shown if str(SECRET)[:-1] in str(cell)], shown
    assert printed(notebook.cells[3]) == "below [] None False\n7"
    assert "[1]" in notebook.cells[4].outputs[-1].evalue
    assert printed(notebook.cells[7]) == "[1, 2] 3\n"
    assert printed(notebook.cells[9]) == "last 3\n"


def test_the_tests_have_their_verdicts_and_the_cells_their_reasons(notebook):
    assert [reason(notebook.cells[at]) for at in (2, 5)] == [None, None]
    assert errors(notebook.cells[2]) == errors(notebook.cells[5]) == []
    assert reason(notebook.cells[8]) == "kernel_died"
    assert errors(notebook.cells[8]) == ["kernel_died"]
    flags = str(notebook.metadata.nbjudge.flags)
    assert "blocked_read" in flags and "something" in flags


def test_a_display_above_a_test_is_not_updated_behind_it():
    notebook = graded(
        "import threading, time\nfrom IPython.display import display\nseen = []\n"
        "place = display('nothing yet', display_id=True)\n"
        "def show():\n    while True:\n        time.sleep(0.02)\n"
        "        if seen:\n            place.update(str(seen))\n"
        "threading.Thread(target=show, daemon=True).start()\n"
        "def keep(x):\n    seen.append(x)\n    return x",
        test_cell(f"assert keep({SECRET}) == {SECRET}", "test_keep"),
        "time.sleep(1)",
    )
    assert notebook.cells[0].outputs[0].data["text/plain"] == "'nothing yet'"
    assert reason(notebook.cells[1]) is None
    assert str(SECRET) not in str(
        [cell.get("outputs") for cell in (notebook.cells[0], notebook.cells[2])]
    )


def test_a_cell_that_needs_what_a_test_defines_is_not_found_wrong():
    cells = (
        "given = 1",
        test_cell("import math\ngiven = 5\nassert given == 5", "test_given"),
        "print(given)",
    )
    notebook = graded(*cells)
    assert errors(notebook.cells[2]) == []


def test_it_can_be_switched_off():
    test = test_cell(f"assert keep({SECRET}) == {SECRET}", "test_keep")
    notebook = graded("seen = []\ndef keep(x):\n    seen.append(x)\n    return x", test,
                      "print(seen)", unasked=False)  # fmt: skip
    assert printed(notebook.cells[2]) == f"[{SECRET}]\n"
