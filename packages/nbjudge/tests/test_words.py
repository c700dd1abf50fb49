"""A learner's words do nothing where the test runs: neither code nor a command nor a path."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbjudge.judge.words import Guard, Words
from nbjudge.wire.limits import Unchecked

from .test_files_of_tests import graded

#: What a test does with a text of theirs, in the words of a test. `mark` would be made by it.
HANDED_ON = {
    "unsafe yaml": ("yaml", "import yaml\nyaml.load(text(), Loader=yaml.UnsafeLoader)"),
    "full yaml": ("yaml_name", "import yaml\nyaml.load(text(), Loader=yaml.FullLoader)"),
    "pickle": ("pickled", "import pickle\npickle.loads(text())"),
    "pickle, encoded": (
        "encoded",
        "import base64, pickle\npickle.loads(base64.b64decode(text()))",
    ),
    "pickle in an array's file": (
        "pickled",
        "import io, numpy as np\n"
        "head = np.lib.format.header_data_from_array_1_0(np.array([None]))\n"
        "file = io.BytesIO()\nnp.lib.format.write_array_header_1_0(file, head)\n"
        "file.write(text())\nfile.seek(0)\nnp.load(file, allow_pickle=True)",
    ),
    "marshal": ("marshalled", "import marshal\neval(marshal.loads(text()))"),
    "a shell": ("command", "import os\nos.system(text())"),
    "a part of a command": (
        "command",
        "import subprocess\nsubprocess.run('echo x; ' + text(), shell=True)",
    ),
    "timeit": ("code", "import timeit\ntimeit.timeit(text(), number=1)"),
    "a console": ("code", "import code\ncode.InteractiveInterpreter().runsource(text())"),
    "a template": (
        "template",
        "import jinja2\njinja2.Template(text()).render(os=__import__('os'))",
    ),
    "a database": (
        "attach",
        "import sqlite3\ncon = sqlite3.connect(':memory:')\n"
        "try: con.execute(text())\nexcept sqlite3.DatabaseError: pass\n"
        "con.execute('create table if not exists other.t (a)')",
    ),
    "a copied database": (
        "vacuum",
        "import sqlite3\ncon = sqlite3.connect(':memory:')\ncon.execute(text())",
    ),
    "a path to write": ("path", "open(text(), 'w').write('x')"),
    "a path to remove": ("secret", "import os\nos.remove(text())"),
    "a folder to remove": ("folder", "import shutil\nshutil.rmtree(text())"),
    "a path to read": ("secret", "assert open(text()).read() == 'x', open(text()).read()"),
    "a path in parts": (
        "parts",
        "from pathlib import Path\nassert Path('/').joinpath(*text()).read_text() == 'x'",
    ),
    "a module of C": ("secret", "import ctypes\nctypes.CDLL(text())"),
    "an address": ("address", "import socket\nsocket.create_connection((text(), 9), 1)"),
}


@pytest.mark.slow
def test_what_they_say_is_not_done_here(tmp_path):
    mark, kept = tmp_path / "made", tmp_path / "kept"
    kept.mkdir()
    secret = kept / "secret.txt"
    secret.write_text("SECRET")
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    texts = {
        "yaml": repr(f'!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.'
                     f'Path ["{mark}"]]'),
        "yaml_name": repr("!!python/name:os.system"),
        "pickled": "pickle.dumps(Bad())",
        "encoded": "base64.b64encode(pickle.dumps(Bad())).decode()",
        "marshalled": f"marshal.dumps(compile({code!r}, 'x', 'eval'))",
        "command": repr(f"touch {mark}"),
        "code": repr(code),
        "template": repr("{{ os.mkdir('" + str(mark) + "') }}"),
        "attach": repr(f"attach database '{mark}' as other"),
        "vacuum": repr(f"vacuum into '{mark}'"),
        "path": repr(str(mark)),
        "secret": repr(f"{kept}/./secret.txt"),
        "folder": repr(str(kept)),
        "parts": repr(list(secret.parts[1:])),
        "address": repr("localhost.localdomain"),
    }  # fmt: skip
    cells = [
        f"import base64, marshal, pickle\nclass Bad:\n    def __reduce__(self): "
        f"return exec, ({code!r},)"
    ]
    for name, (text, test) in HANDED_ON.items():
        cells += [f"def text():\n    return {texts[text]}", f"#T {name}\n{test}"]
    found = graded(tmp_path, cells)
    assert found == dict.fromkeys(HANDED_ON, "unchecked")
    assert not mark.exists() and secret.read_text() == "SECRET"


@pytest.mark.slow
def test_a_test_of_its_own_does_what_it_likes(tmp_path):
    cells = [
        "import json\n"
        "def text(): return 'name: Ünï\\nages: [1, 2]\\n'\n"
        "def rows(): return [(1, 'a'), (2, 'b')]\n"
        "def query(): return 'select a from t where a > 1'\n"
        "def greeting(name): return 'Hello ' + name",
        "#T yaml\nimport yaml\nfor load in (yaml.safe_load, yaml.full_load, yaml.unsafe_load):\n"
        "    assert load(text()) == {'name': 'Ünï', 'ages': [1, 2]}",
        "#T pickle\nimport pickle, numpy as np, datetime\n"
        "own = [np.ones(2), {1, 2}, datetime.date(2026, 1, 1)]\n"
        "assert text() and len(pickle.loads(pickle.dumps(own))) == 3",
        "#T a database\nimport sqlite3\ncon = sqlite3.connect(':memory:')\n"
        "con.execute('create table t (a, b)')\ncon.executemany('insert into t values (?, ?)', "
        "rows())\nassert con.execute(query()).fetchall() == [(2,)]",
        "#T a program\nimport subprocess, sys\ntext()\n"
        "assert subprocess.run([sys.executable, '-c', 'print(7)'], capture_output=True)."
        "stdout == b'7\\n'",
        "#T a template\nimport jinja2\n"
        "assert jinja2.Template('Hello {{ n }}').render(n='you') == greeting('you')",
        "#T classes\nfrom collections import namedtuple\nfrom dataclasses import make_dataclass\n"
        "assert namedtuple(greeting('you').split()[0], 'x y')(1, 2).x == 1\n"
        "assert make_dataclass('P', ['x'])(1).x == 1",
        "#T files\nimport tempfile, os\nwith tempfile.TemporaryDirectory() as folder:\n"
        "    open(os.path.join(folder, 'x'), 'w').write(text())\n"
        "assert open('/etc/hostname').read() is not None and os.listdir('/')",
    ]
    own = [source.split("\n")[0][3:] for source in cells[1:]]
    assert graded(tmp_path, cells) == dict.fromkeys(own, "passed")


@pytest.fixture
def guard(tmp_path) -> Iterator[Guard]:
    guard = Guard(Words(), str(tmp_path), {"/srv/own.csv"}.__contains__)
    with guard.watching():
        yield guard


def test_who_says_too_much_is_believed_nothing(guard):
    for part in range(5):
        guard.words.note([[chr(97 + part) * 1_000_000]], [])
    with pytest.raises(Unchecked):
        guard.look("os.system", ("ls",))
    with pytest.raises(Unchecked):
        guard.look("open", ("/somewhere/else.txt", "r", 0))


def test_texts_in_arrays_are_words(guard):
    guard.words.note([], ["rm -r all".encode("utf-32-le")])
    with pytest.raises(Unchecked):
        guard.look("os.system", (b"rm -r all",))


def test_what_a_test_names_itself_it_may_read(guard, tmp_path):
    guard.words.note(["function", ["/srv/own.csv", b"srv"]], [])
    guard.look("open", ("/srv/own.csv", "r", 0))
    guard.look("open", (str(Path(json.__file__)), "r", 0))
    guard.look("open", ("new.txt", "w", 0))
    guard.look("open", (3, "w", 0))
    for path in ("/srv/other.csv", f"{tmp_path}/../../srv"):
        with pytest.raises(Unchecked):
            guard.look("open", (path.replace(f"{tmp_path}/../..", ""), "r", 0))


def test_pickles_of_a_tests_own_are_read_where_nothing_is_said():
    words = Words()
    with Guard(words, None, {}.__contains__).watching():
        assert pickle.loads(pickle.dumps(json.JSONDecodeError("x", "y", 0))).msg == "x"
        words.note(["a text that is long enough"], [])
        with pytest.raises(Unchecked):
            pickle.loads(pickle.dumps(json.JSONDecodeError("x", "y", 0)))
