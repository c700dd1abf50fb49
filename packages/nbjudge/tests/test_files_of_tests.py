"""Files that a test and the learner's code share: lent by name, brought back as data, bounded."""

from __future__ import annotations

import json
import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.codes import by_hand
from nbjudge.judge import files as judges
from nbjudge.judge.files import Files
from nbjudge.judge.namespace import prepare
from nbjudge.kernel.answering import SharedFiles
from nbjudge.run.judged import COURSE_FOLDER, JudgedExecute
from nbjudge.wire import files as wire
from nbjudge.wire.limits import Unchecked
from nbjudge.wire.plain import OthersPath

# Whole notebooks ----------------------------------------------------------------------------


def cell(source: str, points: int = 0, name: str = "") -> NotebookNode:
    """Return a cell of nbgrader's: a test, or the learner's."""
    about = {"grade_id": name, "grade": bool(points), "locked": bool(points), "points": points}
    made = new_code_cell(source)
    made.metadata.nbgrader = NotebookNode(about, schema_version=3, solution=not points, task=False)
    return made


def graded(tmp_path: Path, cells: list[str], own: dict[str, str] | None = None) -> dict[str, str]:
    """Run cells (tests begin with "#T name") in their sandbox; return what came of the tests.

    own: the course's own files, which both sides have. "passed", the error, or "unchecked".
    """
    folder, course = tmp_path / "submission", tmp_path / "course"
    for place in (folder, course):
        place.mkdir()
        for name, text in (own or {}).items():
            (place / name).write_text(text)
    made = []
    for source in cells:
        head, _, rest = source.partition("\n")
        made.append(cell(rest, 1, head[3:]) if head.startswith("#T ") else cell(source))
    notebook = new_notebook(cells=made)
    execute = JudgedExecute(unasked=False)
    execute.inside = False
    resources = {"metadata": {"path": str(folder)}, COURSE_FOLDER: str(course)}
    ran, _ = execute.preprocess(notebook, resources)
    found = {}
    for each in ran.cells:
        name = each.metadata.nbgrader.grade_id
        errors = [f"{o.ename}: {o.evalue}" for o in each.outputs if o.output_type == "error"]
        if name:
            found[name] = "unchecked" if name in by_hand(ran) else (errors or ["passed"])[0]
    return found


COUNT = """
from collections import Counter
def count(path):
    with open(path) as f: return Counter(f.read().lower().split())
"""


@pytest.mark.slow
def test_files_go_by_name_and_come_back(tmp_path):
    cells = [
        COUNT,
        "#T lent\nwith open('t.txt', 'w') as f: f.write('Red red blue')\n"
        "assert count('t.txt') == {'red': 2, 'blue': 1}",
        "#T lent anew\nwith open('t.txt', 'w') as f: f.write('a')\n"
        "assert count('t.txt') == {'a': 1}",
        "#T removed\nimport os\nos.remove('t.txt')\n"
        "try: count('t.txt')\nexcept FileNotFoundError: pass\nelse: assert False",
        "#T a temporary folder\nimport tempfile\nfrom pathlib import Path\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    path = Path(folder) / 'words.txt'\n    path.write_text('b b')\n"
        "    assert count(path) == count(str(path)) == {'b': 2}",
        "def save(rows, path):\n    with open(path, 'w') as f:\n"
        "        f.writelines(f'{a},{b}\\n' for a, b in rows)\n    return path\n"
        "save([(1, 2)], 'mine.csv')",
        "#T brought back\nsave([(3, 4)], 'out.csv')\nassert open('out.csv').read() == '3,4\\n'",
        "#T written by a cell\nimport os\nassert os.path.exists('mine.csv')\n"
        "assert open('mine.csv').read() == '1,2\\n'",
        "#T in a temporary folder\nimport os, tempfile\nfolder = tempfile.mkdtemp()\n"
        "path = save([(5, 6)], os.path.join(folder, 'x.csv'))\n"
        "assert path == os.path.join(folder, 'x.csv') and open(path).read() == '5,6\\n'",
        "def append(path, line):\n    with open(path, 'a') as f: f.write(line)",
        "#T changed\nopen('log.txt', 'w').write('a\\n')\nappend('log.txt', 'b\\n')\n"
        "assert open('log.txt').read() == 'a\\nb\\n'",
        "#T not written\nimport os\nsave([], 'empty.csv')\nassert os.path.getsize('empty.csv') > 0",
    ]
    found = graded(tmp_path, cells)
    assert found.pop("not written").startswith("AssertionError")
    assert set(found.values()) == {"passed"}, found


@pytest.mark.slow
def test_what_a_test_compares_with_stays_and_stands(tmp_path):
    cells = [
        "import glob, os\ndef f(path):\n"
        "    seen = sorted(glob.glob('*'))\n"
        "    for name in ('expected.txt', 'given.csv', path):\n"
        "        with open(name, 'w') as out: out.write('same')\n"
        "    return seen",
        "#T expected\nopen('expected.txt', 'w').write('right')\nseen = f('out.txt')\n"
        "assert 'expected.txt' not in seen\n"
        "assert open('out.txt').read() == open('expected.txt').read()",
        "#T course's\nf('out.txt')\nassert open('out.txt').read() == open('given.csv').read()",
        "#T passes\nf('out.txt')\nassert open('given.csv').read() == 'a,b'",
    ]
    found = graded(tmp_path, cells, {"given.csv": "a,b"})
    assert found == {"expected": "unchecked", "course's": "unchecked", "passes": "passed"}


@pytest.mark.slow
def test_a_fresh_kernel_finds_no_files_of_the_last_one(tmp_path):
    cells = [
        "import os\nopen('mine.txt', 'w').write('x')",
        "#T before\nassert open('mine.txt').read() == 'x' and open('own.txt').read() == 'own'",
        "os.remove('mine.txt')\nos._exit(0)",
        "os.remove('mine.txt')",
        "#T after\nimport os\nassert sorted(os.listdir()) == ['own.txt']",
    ]
    found = graded(tmp_path, cells, {"own.txt": "own"})
    assert found == {"before": "passed", "after": "passed"}


@pytest.mark.slow
def test_nothing_of_theirs_is_run(tmp_path):
    marker = tmp_path / "ran"
    attack = f"__import__('pathlib').Path({str(marker)!r}).write_text('x')"
    cells = [
        "import pickle, os\n"
        f"class Bad:\n    def __reduce__(self): return exec, ({attack!r},)\n"
        "def f(path):\n"
        "    with open(path, 'wb') as out: out.write(pickle.dumps(Bad(), protocol=0))\n"
        f"    with open('theirs.py', 'w') as out: out.write({attack!r})\n"
        f"    with open('run.txt', 'w') as out: out.write({attack!r})\n"
        "f('data.txt')",
        "#T unpickled\nimport pickle\nf('data.txt')\nassert pickle.load(open('data.txt', 'rb'))",
        "#T imported\nimport theirs\nassert open('data.txt')",
        "#T run\nimport runpy\nrunpy.run_path('run.txt')\nassert False",
        "#T started\nimport subprocess, sys\nsubprocess.run([sys.executable, 'run.txt'])\n"
        "assert open('data.txt')",
    ]
    found = graded(tmp_path, cells)
    assert set(found.values()) == {"unchecked"}, found
    assert not marker.exists()


# The judge's end ----------------------------------------------------------------------------


class There:
    """The learner's end, which says what a test has it say."""

    def __init__(self) -> None:
        self.files: Any = []
        self.wrote: list[Any] = []
        self.refused: list[str] = []

    def ask(self, op: str, *args: Any) -> Any:
        if op == "write_files":
            self.wrote.append(args[2])
        return {"read_files": self.files, "folder": "/there"}.get(op)


@pytest.fixture
def there() -> There:
    return There()


@pytest.fixture
def here(tmp_path, there) -> Files:
    (tmp_path / "own.txt").write_text("the course's")
    return Files(str(tmp_path), there.ask, there.refused.append)


BAD = {
    "outside": "../x.txt",
    "absolute": "/tmp/x.txt",
    "the course's own": "own.txt",
    "below the course's own": "own.txt/x.txt",
    "a module": "numpy.py",
    "a module's folder": "numpy/__init__.py",
    "a library": "x.so",
    "hidden": ".netrc.txt",
    "plugins": "x.dist-info/entry_points.txt",
    "a notebook": "x.ipynb",
    "a line end": "a\nb.txt",
    "a NUL": "a\0b.txt",
    "nothing": "",
    "a folder": "a/",
    "deep": "a/b/c/d/e/f.txt",
    "settings of a library": "matplotlibrc",
    "long": f"{'x' * 300}.txt",
}


@pytest.mark.parametrize("name", BAD.values(), ids=BAD)
def test_a_name_that_is_no_datas_is_left_out(here, there, tmp_path, name):
    there.files = [[name, b"x"], ["good.txt", b"y"]]
    before = {path for path in tmp_path.parent.rglob("*") if path != tmp_path / "good.txt"}
    here.begin(prepare("open(x)").names)
    after = {path for path in tmp_path.parent.rglob("*") if path != tmp_path / "good.txt"}
    assert after == before and (tmp_path / "own.txt").read_text() == "the course's"
    assert (tmp_path / "good.txt").read_bytes() == b"y"
    assert len(there.refused) == 1


def test_what_is_no_text_is_left_out(here, there, tmp_path):
    there.files = [["a.txt", b"\xff"], ["b.txt", b"a\0"], ["c.txt", False], ["d.txt", 5]]
    here.begin(prepare("open(x)").names)
    assert sorted(os.listdir(tmp_path)) == ["own.txt"] and len(there.refused) == 4


@pytest.mark.parametrize("said", [None, 3, "x", [1], [[1, 2]], [["x"]], [["a.txt", b"x", 1]]])
def test_an_answer_that_is_none_brings_nothing(here, there, tmp_path, said):
    there.files = said
    here.begin(prepare("open(x)").names)
    assert sorted(os.listdir(tmp_path)) == ["own.txt"]


def test_a_link_of_the_tests_leads_nowhere(here, there, tmp_path):
    outside = tmp_path.parent / "outside"
    outside.mkdir()
    (outside / "x.txt").write_text("safe")
    (tmp_path / "folder").symlink_to(outside)
    (tmp_path / "link.txt").symlink_to(outside / "x.txt")
    here.lend(("link.txt", "folder"), {})
    there.files = [["folder/x.txt", b"x"], ["folder/y.txt", b"x"], ["link.txt", b"x"]]
    here.begin(prepare("open(x)").names)
    assert len(there.refused) == 3
    assert [path.name for path in outside.iterdir()] == ["x.txt"]
    assert (outside / "x.txt").read_text() == "safe"


def test_bytes_and_numbers_are_bounded(here, there, tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "MOST_BYTES", 10)
    monkeypatch.setattr(judges, "MOST_FILES", 3)
    there.files = [["a.txt", b"x" * 8], ["b.txt", b"x" * 8], ["c.txt", b"x"], ["d.txt", b""]]
    here.begin(prepare("open(x)").names)
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "c.txt", "d.txt", "own.txt"]
    there.files = [["e.txt", b""], ["a.txt", b""]]
    here.fetch()
    assert not (tmp_path / "e.txt").exists()


def test_a_test_that_looks_at_no_file_asks_for_none(here, there, tmp_path):
    there.files = [["a.txt", b"x"]]
    here.begin(prepare("assert double(2) == 4  # open, read\nassert f('open')").names)
    here.fetch()
    assert not (tmp_path / "a.txt").exists()


def test_only_what_a_call_names_is_lent_and_once(here, there, tmp_path):
    (tmp_path / "t.txt").write_text("lent")
    (tmp_path / "expected.txt").write_text("kept")
    here.lend(("t.txt", 1, "text"), {"other": ["own.txt"]})
    here.lend(("t.txt",), {})
    assert there.wrote == [([["t.txt", b"lent"]], [])]


def test_more_than_may_go_is_not_judged(here, tmp_path):
    (tmp_path / "big.bin").write_bytes(b"x" * (wire.MOST_BYTES + 1))
    with pytest.raises(Unchecked, match="bytes of files"):
        here.lend(("big.bin",), {})


def test_paths_are_those_of_either_side(here, there, tmp_path):
    (tmp_path / "t").mkdir()
    args, kwargs = here.lend((str(tmp_path / "t" / "x.txt"), tmp_path / "t", "/etc"), {"k": "t"})
    assert args == ("/there/t/x.txt", Path("/there/t"), "/etc") and kwargs == {"k": "t"}
    assert there.wrote == [([], ["t"])]
    assert here.as_here("/there/t/x.txt") == str(tmp_path / "t" / "x.txt")
    assert here.as_here("/therefore") == "/therefore"
    # A path of theirs is a way to the files that they wrote, and to no others.
    assert type(here.as_here(OthersPath("/there/own.txt"))) is OthersPath
    there.files = [["t/x.txt", b"x"]]
    here.begin(prepare("open(x)").names)
    assert here.as_here(OthersPath("/there/t/x.txt")).read_text() == "x"


# The learner's end, and both ----------------------------------------------------------------


def test_links_pipes_and_much_stay_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.txt").write_text("given")
    shared = SharedFiles()
    assert shared.changed() == []
    shared.remember()
    (tmp_path / "link.txt").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "new.txt").write_text("new")
    (tmp_path / "z.bin").write_bytes(b"x" * (wire.MOST_BYTES + 1))
    assert shared.changed() == [["sub/new.txt", b"new"], ["z.bin", False]]
    assert shared.changed() == []
    (tmp_path / "given.txt").unlink()
    assert shared.changed() == [["given.txt", None]]


def test_a_file_is_written_through_no_link(tmp_path):
    (tmp_path / "outside.txt").write_text("safe")
    (tmp_path / "link.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(OSError):
        wire.write(str(tmp_path / "link.txt"), b"x")
    wire.write(str(tmp_path / "sub" / "x.txt"), b"x")
    assert stat.S_IMODE((tmp_path / "sub" / "x.txt").stat().st_mode) & 0o111 == 0
    wire.write(str(tmp_path / "sub" / "x.txt"), None)
    wire.write(str(tmp_path / "sub" / "x.txt"), None)
    assert (tmp_path / "outside.txt").read_text() == "safe"
    assert not list((tmp_path / "sub").iterdir())


def test_pickles_of_the_courses_own_are_read_where_nothing_of_theirs_lies(here):
    with here.shared():
        here.begin(prepare("pickle.loads(data)").names)
        assert pickle.loads(pickle.dumps(json.JSONDecodeError("x", "y", 0))).msg == "x"
