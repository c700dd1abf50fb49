"""A grammar of hostile submissions: whole hand-ins, as data that can be shrunk and kept in a file.

A submission is a list of mutations of a solved notebook and its folder. A mutation is a list of a
name in `MUTATIONS` and its arguments, all of them JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from tests.hostile.classroom import LESSON, POINTS
from tests.hostile.corpus import Hand

Mutation = list[Any]
MUTATIONS: dict[str, tuple[Callable[..., None], tuple[st.SearchStrategy, ...]]] = {}

#: Would run, if a page took it for more than text.
MARKUP = [
    "<img src=x onerror=owned()>",
    "<script>owned()</script>",
    "</script><script>owned()</script>",
    "[x](javascript:owned())",
    "$\\href{javascript:owned()}{x}$",
    "'\"><svg/onload=owned()>",
    "=cmd|' /C owned()'!A1",
    "{{ owned() }}{% raw %}",
    "```\n<script>owned()</script>\n```",
    "\x1b]0;owned()\x07\x1b[2J",
    "%s%n{0.__class__}{what}",
]
words = st.one_of(st.sampled_from(MARKUP), st.text(max_size=30))
sizes = st.sampled_from([0, 1, 100, 3_000, 30_000, 250_000])
counts = st.sampled_from([1, 2, 30])
cells = st.integers(0, 12)
exercises = st.sampled_from(["double", "total"])
grade_ids = st.one_of(st.sampled_from(sorted(POINTS)), exercises, words)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)),
    max_leaves=5,
)
#: File names that are no way out of the folder for whoever writes them down here.
file_names = st.one_of(
    words.map(lambda text: text.replace("/", "_").replace("\0", "_")[:40]),
    st.sampled_from(["timestamp.txt", "quiz_answers.json", "gradebook.db", "numpy.py", "*", "[a]"]),
    st.sampled_from([f"{LESSON} (1).ipynb", f"{LESSON}.ipynb.ipynb", ".ipynb", "a.IPYNB"]),
).filter(lambda name: name not in ("", ".", "..", f"{LESSON}.ipynb"))
mimes = st.sampled_from(
    [
        *("text/html", "text/plain", "text/latex", "text/markdown", "image/svg+xml", "image/png"),
        *("application/javascript", "application/json"),
        "application/vnd.jupyter.widget-view+json",
    ]
)
#: What a repeated piece of source or text is made of.
pieces = st.one_of(
    words, st.sampled_from(["\n", " \n", "\t", "(", "[", "-", "a.", "#", "`", "|", "\\", "$", "'"])
)
#: Statements, to be run at the top of a cell or in the learner's function.
statements = st.one_of(
    st.sampled_from(
        [
            "import sys; sys.stdout = None",
            "import sys; sys.stderr = sys.stdin = None",
            "import os; os.close(1); os.close(2)",
            "import os; os._exit(0)",
            "import atexit, os; atexit.register(os._exit, 3)",
            "import os; os.kill(os.getpid(), 9)",
            "import sys; sys.setrecursionlimit(60)",
            "import numpy; numpy.seterr(all='raise')",
            "import warnings; warnings.simplefilter('error')",
            "import locale; locale.setlocale(locale.LC_ALL, 'C')",
            "import random; random.seed(0)",
            "import builtins; builtins.print = None",
            "import builtins; del builtins.isinstance",
            "get_ipython().kernel.iopub_socket = None",
            "get_ipython().kernel.session.key = b'no'",
            "get_ipython().kernel.shell_handlers.clear()",
            "get_ipython().user_ns.clear()",
            "get_ipython().run_line_magic('reset', '-f')",
            "raise SystemExit('owned()')",
            "raise KeyboardInterrupt",
            "open('../escaped', 'w').write('x')",
            "open('quiz_answers.json', 'w').write('{')",
            "import os; os.symlink('/etc/passwd', 'link.txt')",
            "import os; [os.mkfifo(f'pipe{i}') for i in range(9)]",
            "import threading; threading.Thread(target=lambda: [print('x') for _ in iter(int, 1)]"
            ", daemon=True).start()",
            "x = bytearray(3 << 30)",
            "import gc; [o.clear() for o in gc.get_objects() if type(o) is list][:0]",
            "import nbjudge.wire.calls as c; c.Peer._answer = None",
            "import signal, os; signal.signal(signal.SIGINT, signal.SIG_IGN)",
            "print('y' * 3_000_000)",
        ]
    ),
    words.map(
        lambda text: f"raise type({text!r}.replace(chr(0), ''), (Exception,), {{}})({text!r})"
    ),
    words.map(lambda text: f"print({text!r})"),
    st.builds(
        lambda mime, text: (
            f"from IPython.display import display\ndisplay({{{mime!r}: {text!r}}}, raw=True)"
        ),
        mimes,
        words,
    ),
    st.builds(
        lambda kind, text: (
            "get_ipython().kernel.session.send(get_ipython().kernel.iopub_socket, "
            f"{kind!r}, {{'data': {text!r}, 'text': {text!r}, 'name': 3, 'ename': {text!r}}})"
        ),
        st.sampled_from(["stream", "error", "display_data", "status", "owned"]),
        words,
    ),
)
#: What a function gives in the place of an answer.
answers = st.one_of(
    st.sampled_from(
        [
            "float('nan')", "[[]] * 100_000", "b'x' * 1_000_000", "10 ** 5000", "lambda *a: x",
            "type('<img src=x onerror=owned()>', (int,), {'__eq__': lambda *a: True})(4)",
            "(i for i in iter(int, 1))", "open", "__import__('numpy').ones(10_000)", "x", "...",
        ]
    ),
    words.map(repr),
)  # fmt: skip


def mutation(*arguments: st.SearchStrategy) -> Callable:
    """Register a mutation with the strategies of its arguments."""

    def register(apply: Callable[..., None]) -> Callable[..., None]:
        MUTATIONS[apply.__name__] = (apply, arguments)
        return apply

    return register


def submissions(names: Collection[str] = ()) -> st.SearchStrategy[list[Mutation]]:
    """Return the strategy of whole submissions; names: of the mutations, of all by default."""
    each = [st.tuples(st.just(name), *MUTATIONS[name][1]).map(list) for name in names or MUTATIONS]
    return st.lists(st.one_of(each), min_size=1, max_size=4)


#: Mutations of the files alone. Most leave no notebook that can be read, so nothing is run.
FILES = ("cuts_off", "spoils_bytes", "encodes", "nests", "stamps", "records_answers", "adds_link")


def unreadable() -> st.SearchStrategy[list[Mutation]]:
    """Return the strategy of submissions that end early, besides other things with their files."""
    cut = st.tuples(st.just("cuts_off"), *MUTATIONS["cuts_off"][1]).map(list)
    return st.tuples(submissions(FILES), cut).map(lambda parts: [*parts[0][:3], parts[1]])


def spoil(hand: Hand, mutations: list[Mutation]) -> None:
    """Apply mutations to a submission, and write it."""
    for name, *arguments in mutations:
        MUTATIONS[name][0](hand, *arguments)
    if not os.path.lexists(hand.path) or hand.path.is_file():
        # NaN and halves of characters are written as Python's json does: no file is too odd.
        hand.path.write_bytes(json.dumps(hand.notebook).encode("ascii"))
    for rewrite in hand.__dict__.pop("rewrites", []):
        rewrite()


def _last(hand: Hand, step: Callable[[], None]) -> None:
    """Let something be done to the files when the notebook is written."""
    hand.__dict__.setdefault("rewrites", []).append(step)


def _cell(hand: Hand, number: int) -> Any:
    return hand.notebook.cells[number % len(hand.notebook.cells)]


def _exercise(hand: Hand, name: str) -> Any:
    return next(
        (c for c in hand.notebook.cells if _about(c).get("grade_id") == name),
        hand.notebook.cells[0],
    )


def _about(cell: Any) -> dict:
    found = cell["metadata"].get("nbgrader") if isinstance(cell["metadata"], dict) else None
    return found if isinstance(found, dict) else {}


@mutation(exercises, statements)
def runs_in_function(hand: Hand, name: str, statement: str) -> None:
    """Let a function do something before it answers."""
    body = statement.replace("\n", "\n    ")
    _exercise(hand, name)["source"] = f"def {name}(x):\n    {body}\n    return x"


@mutation(exercises, answers)
def answers_oddly(hand: Hand, name: str, answer: str) -> None:
    """Let a function give something else."""
    _exercise(hand, name)["source"] = f"def {name}(x):\n    return {answer}"


@mutation(cells, statements)
def runs_in_cell(hand: Hand, place: int, statement: str) -> None:
    """Add a cell that does something."""
    hand.notebook.cells.insert(place, new_code_cell(statement))


@mutation(cells, words, pieces, sizes)
def adds_text(hand: Hand, place: int, text: str, piece: str, size: int) -> None:
    """Add a text cell."""
    filling = piece * (size // max(1, len(piece)))
    hand.notebook.cells.insert(place, new_markdown_cell(text + filling))


@mutation(cells, words, pieces, sizes)
def writes_source(hand: Hand, place: int, text: str, piece: str, size: int) -> None:
    """Put something in the place of a cell's source."""
    _cell(hand, place)["source"] = text + piece * (size // max(1, len(piece)))


@mutation(cells, st.sampled_from(["source", "outputs", "id", "cell_type", "metadata"]), json_values)
def replaces_field(hand: Hand, place: int, key: str, value: Any) -> None:
    """Put something else in a field of a cell."""
    if key != "metadata" or isinstance(value, dict):
        _cell(hand, place)[key] = value


@mutation(cells, words, json_values)
def marks_cell(hand: Hand, place: int, key: str, value: Any) -> None:
    """Add to a cell's metadata."""
    _cell(hand, place)["metadata"][key] = value


@mutation(cells, grade_ids, st.booleans(), json_values)
def relabels(hand: Hand, place: int, name: str, grade: bool, points: Any) -> None:
    """Give a cell another name and other points."""
    about = {"grade_id": name, "grade": grade, "solution": not grade, "points": points}
    _cell(hand, place)["metadata"]["nbgrader"] = about


@mutation(cells, mimes, words, counts, sizes)
def saves_outputs(hand: Hand, place: int, mime: str, text: str, count: int, size: int) -> None:
    """Bring outputs along."""
    output = new_output("execute_result", {mime: text + "x" * size}, execution_count=1)
    _cell(hand, place)["outputs"] = [output] * count


@mutation(cells, counts)
def repeats_cell(hand: Hand, place: int, count: int) -> None:
    """Have a cell several times."""
    hand.notebook.cells += [dict(_cell(hand, place)) for _ in range(count)]


@mutation(cells)
def leaves_cell_out(hand: Hand, place: int) -> None:
    """Have a cell no more."""
    if len(hand.notebook.cells) > 1:
        hand.notebook.cells.remove(_cell(hand, place))


@mutation(words, json_values)
def marks_notebook(hand: Hand, key: str, value: Any) -> None:
    """Add to the notebook's metadata."""
    hand.notebook["metadata"][key] = value


@mutation(words)
def names_kernel(hand: Hand, name: str) -> None:
    """Name another kernel and language."""
    spec = {"name": name, "display_name": name, "language": name}
    hand.notebook["metadata"]["kernelspec"] = spec


@mutation(words, words, json_values)
def attaches(hand: Hand, name: str, mime: str, value: Any) -> None:
    """Attach something to a text cell."""
    hand.notebook.cells[0]["attachments"] = {name: {mime: value}}


@mutation(st.one_of(words, st.sampled_from(["1." * 40_000, "9" * 90, "2026-13-45", "\x00"])))
def stamps(hand: Hand, text: str) -> None:
    """Write another time of handing in."""
    path = hand.folder / "timestamp.txt"
    _last(hand, lambda: _write(path, text.encode("utf-8", "surrogatepass")))


@mutation(json_values, json_values)
def records_answers(hand: Hand, choice: Any, tries: Any) -> None:
    """Write another record of quiz answers."""
    record = {"choice": choice, "first": choice, "tries": tries, "time": choice}
    text = json.dumps({"schema": 1, "answers": {LESSON: record, "attention": record}})
    _last(hand, lambda: _write(hand.folder / "quiz_answers.json", text.encode("ascii")))


@mutation(file_names, words, sizes)
def adds_file(hand: Hand, name: str, text: str, size: int) -> None:
    """Hand in a file more."""
    data = (text + "x" * size).encode("utf-8", "surrogatepass")
    _last(hand, lambda: _write(hand.folder / os.fsdecode(name.encode("utf-8", "replace")), data))


@mutation(file_names, st.sampled_from(["/etc/passwd", "..", "/dev/zero", "nowhere", "."]))
def adds_link(hand: Hand, name: str, target: str) -> None:
    """Hand in a link."""
    path = hand.folder / os.fsdecode(name.encode("utf-8", "replace"))
    _last(hand, lambda: None if os.path.lexists(path) else path.symlink_to(target))


@mutation(st.sampled_from(["utf-16", "utf-8-sig", "latin-1"]))
def encodes(hand: Hand, encoding: str) -> None:
    """Write the notebook in another encoding."""
    _last(hand, lambda: _write(hand.path, _text(hand).encode(encoding, "replace")))


@mutation(st.integers(0, 5_000))
def cuts_off(hand: Hand, size: int) -> None:
    """Hand in the beginning of the file."""
    _last(hand, lambda: _write(hand.path, hand.path.read_bytes()[:size]))


@mutation(st.integers(0, 5_000), st.binary(min_size=1, max_size=4))
def spoils_bytes(hand: Hand, place: int, data: bytes) -> None:
    """Change bytes of the file."""

    def change() -> None:
        found = bytearray(hand.path.read_bytes())
        found[place : place + len(data)] = data
        _write(hand.path, bytes(found))

    _last(hand, change)


@mutation(st.sampled_from([50, 2_000, 100_000]))
def nests(hand: Hand, depth: int) -> None:
    """Nest the notebook's metadata."""
    text = _text(hand)[:-1] + ', "deep": ' + "[" * depth + "]" * depth + "}"
    _last(hand, lambda: _write(hand.path, text.encode("utf-8", "surrogatepass")))


def _text(hand: Hand) -> str:
    return json.dumps(hand.notebook)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError:  # a name that this file system takes for too long, or a link in its place
        return


def as_json(mutations: list[Mutation]) -> str:
    """Return a submission as it is kept in a file."""
    return json.dumps(mutations, indent=1, default=lambda data: {"bytes": data.hex()}) + "\n"


def from_json(text: str) -> list[Mutation]:
    """Return a submission of a file's content."""
    return json.loads(
        text, object_hook=lambda d: bytes.fromhex(d["bytes"]) if d.keys() == {"bytes"} else d
    )
