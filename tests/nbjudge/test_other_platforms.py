"""Where there is no fork, Landlock or `resource`: grading works, and says what is missing.

Each test is a process of its own, to which everything that is not on Windows is missing.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile.classroom import FULL, LESSON, POINTS, Classroom, cell_of

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
PATH = os.pathsep.join([str(TESTS / "as_on_windows"), str(TESTS.parent)])

GRADE = """
import json, logging, sys
from nbformat.v4 import new_code_cell, new_notebook
from traitlets.config import Config
from nbjudge.run.judged import JudgedExecute
from tests.submission_cells import errors, test_cell

said = []
class Keep(logging.Handler):
    def emit(self, record):
        said.append(record.getMessage())
logging.getLogger("traitlets").addHandler(Keep())

def grade(*cells, **settings):
    cells = [new_code_cell(c) if isinstance(c, str) else c for c in cells]
    notebook = new_notebook(cells=cells)
    execute = JudgedExecute(config=Config({"SandboxProvisioner": settings}))
    graded, _ = execute.preprocess(notebook, {"metadata": {"path": sys.argv[1]}})
    return [[*errors(c), c.metadata.get("nbjudge", {}).get("reason")] for c in graded.cells]
"""


def run_as_on_windows(code, *arguments):
    """Run Python code that sees no more than Windows has; return what it prints, as JSON."""
    environment = {**os.environ, "PYTHONPATH": PATH, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_module_imports():
    code = """
import importlib, json, pkgutil, llm_memory, nbjudge
names = [
    module.name
    for package in (llm_memory, nbjudge)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
from nbjudge.run import judge_client
from nbjudge.run import provisioner
from nbjudge.server import forkserver, sandbox
seen = [hasattr(m.os, n) for m, n in ((forkserver, "fork"), (judge_client, "pidfd_open"))]
print(json.dumps([names, seen, sandbox.sys.platform, provisioner.can_fork()]))
"""
    names, seen, platform, can_fork = run_as_on_windows(code)
    assert {"nbjudge.judge.process", "nbjudge.classes.class_run"} <= {*names}
    assert (seen, platform, can_fork) == ([False, False], "win32", False)


def test_a_submission_is_judged_and_what_is_missing_is_said_once(tmp_path):
    (tmp_path / "data.txt").write_text("3", encoding="utf-8")
    code = (
        GRADE
        + """
import nbjudge.judge.verdicts as judge
here = []
run = judge.Judge.run
judge.Judge.run = lambda *given: here.append(1) or run(*given)
work = '''
def double(x):
    return 2 * x
def triple(x):
    return x
def read():
    return open("data.txt").read()
'''
first = grade(
    work,
    test_cell("import numpy as np\\nassert (double(np.arange(3)) == [0, 2, 4]).all()", "test_a"),
    test_cell("assert triple(2) == 6, 'not three times as much'", "test_b"),
    test_cell("assert read() == '3'", "test_c"),
    "import os; os._exit(1)",
    test_cell("assert double(4) == 8", "test_d"),
)
second = grade("1 / 0", test_cell("assert nothing() is None", "test_e"))
warned = [text for text in said if text.startswith("Sandbox: no ")]
print(json.dumps([first, second, warned, len(here)]))
"""
    )
    first, second, warned, judged_here = run_as_on_windows(code, tmp_path)
    assert first == [
        [None], [None], ["AssertionError", None], [None], ["kernel_died", "kernel_died"], [None]
    ]  # fmt: skip
    assert second == [["ZeroDivisionError", None], ["NameError", None]]
    assert judged_here == 5
    assert len(warned) == 1 and "own rights" in warned[0]


def test_require_sandbox_refuses_and_runs_nothing(tmp_path):
    code = (
        GRADE
        + """
from nbjudge.run.provisioner import SandboxMissing
try:
    grade("open('ran', 'w').close()", require_sandbox=True)
except SandboxMissing as error:
    print(json.dumps(str(error)))
"""
    )
    message = run_as_on_windows(code, tmp_path)
    assert "Nothing was run" in message and "fork" in message and "landlock" in message
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("command", [["nbgrader", "autograde"], ["course_tools.cli", "grade"]])
def test_a_class_is_graded_by_either_command(command, tmp_path, monkeypatch):
    room = Classroom(tmp_path / "course")
    room.hand_in("ada")
    wrong = room.solved()
    cell_of(wrong, "total").source = "def total(rows):\n    return 6"
    room.hand_in("ben", wrong)
    monkeypatch.setenv("PYTHONPATH", PATH)
    done = subprocess.run(
        [sys.executable, "-m", *command, LESSON], cwd=room.folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(room.scores("ada").values()) == FULL
    assert room.scores("ben") == POINTS | {"test_total_core": 0.0, "test_total_hard": 0.0}
    assert (done.stdout + done.stderr).count("own rights") == 1
