"""The judge: what comes back is what the learner's function gave, and only as data."""

import builtins
import functools
import tempfile
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from nbjudge.judge.verdicts import Judge
from nbjudge.names import free_names
from nbjudge.wire.values import (
    VIEW,
    Decoder,
    Encoder,
    Limits,
    Malformed,
    TooLarge,
    pack,
    unpack,
)

from tests.loopback import Loopback

# A learner who answers from a thread of this process: honest work needs no more.


@pytest.fixture
def line():
    with tempfile.TemporaryDirectory(prefix="judge") as folder, Loopback(Path(folder)) as line:
        line.judge = Judge(line.connection, ["import numpy as np\nimport torch"], ready_seconds=10)
        with line.judge:
            yield line


def learn(line, code):
    """Run a learner's cell."""
    line.names["__name__"] = "__main__"
    exec(compile(textwrap.dedent(code), "/tmp/ipykernel_1/1.py", "exec"), line.names)


def passes(line, test):
    outcome = line.judge.run(textwrap.dedent(test))
    assert outcome.reason is None and not outcome.stuck
    assert outcome.outputs == [], outcome.outputs[0].evalue


def fails(line, test, with_name="AssertionError"):
    """Return the message of a test that must fail."""
    outcome = line.judge.run(textwrap.dedent(test))
    assert outcome.outputs, "it passed"
    assert outcome.outputs[0].ename == with_name, outcome.outputs[0].evalue
    return outcome.outputs[0].evalue


# Values -----------------------------------------------------------------------------------------

RNG = np.random.default_rng(5)
ARRAYS = [
    RNG.normal(size=(3, 4)),
    RNG.normal(size=(2, 3, 4)).astype("float32")[:, ::2],
    RNG.normal(size=(4, 5)).T,
    np.asfortranarray(RNG.normal(size=(2, 3, 4))),
    np.broadcast_to(np.arange(4), (3, 4)),
    np.arange(5)[::-1],
    np.array(3.5),
    np.zeros((0, 4)),
    np.tri(3, 4, dtype=bool),
    np.array([-np.inf, np.inf, np.nan]),
    np.array([1 + 2j]),
    np.arange(6, dtype="int8").reshape(2, 3),
    np.arange(6, dtype=">i4"),
    np.array(["a", "bcd"]),
    np.array(["2020-01-01"], dtype="datetime64[D]"),
]
TENSORS = [
    torch.randn(2, 3, 4, dtype=torch.float64),
    torch.randn(2, 3, dtype=torch.bfloat16),
    torch.randn(2, 3, dtype=torch.float16),
    torch.randn(2, 3).T,
    torch.randn(1, 3, 1).expand(2, 3, 4),
    torch.ones(1, 1).expand(5, 1),
    torch.randn(2, 8)[:, 2:5],
    torch.tensor(4),
    torch.zeros(0, 4),
    torch.ones(3, 4, dtype=torch.bool).tril(),
    torch.arange(6, dtype=torch.uint8),
    torch.tensor([1 + 2j]),
    torch.ones(3, requires_grad=True),
]


def through(value, *, trusted=True):
    """Return `value` after the way to the other side."""
    encoder = Encoder(lambda item: pytest.fail(f"{item!r} is not plain"), Limits(), trusted=trusted)
    tree = unpack(pack(encoder.encode(value), Limits()), Limits())
    decoder = Decoder(encoder.buffers, Limits(), lambda tree: pytest.fail("held"), trusted=trusted)
    return decoder.decode(tree)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_arrays_arrive_as_they_are(array, trusted):
    came = through(array, trusted=trusted)
    assert type(came) is np.ndarray and came.dtype == array.dtype
    np.testing.assert_array_equal(came, array)


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("tensor", TENSORS, ids=lambda t: f"{t.dtype}{tuple(t.shape)}")
def test_tensors_arrive_as_they_are(tensor, trusted):
    came = through(tensor, trusted=trusted)
    assert type(came) is torch.Tensor and came.dtype == tensor.dtype
    assert came.requires_grad == tensor.requires_grad
    assert torch.equal(came, tensor.detach())


@pytest.mark.parametrize("array", [a for a in ARRAYS if a.size > 1 and min(a.strides) >= 0])
def test_what_the_judge_sends_keeps_its_layout(array):
    came = through(array)
    assert came.strides == array.strides
    assert came.flags.writeable == (0 not in array.strides)


@pytest.mark.parametrize("tensor", [t for t in TENSORS if t.numel() > 1])
def test_a_view_fails_there_where_it_fails_here(tensor):
    came = through(tensor)
    assert came.is_contiguous() == tensor.is_contiguous()
    assert came.stride() == tensor.stride()


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -(2**70), 2**63, 1.5, float("inf"), "", "ü\ud800", b"\x00", 1 + 2j,
        [], [1, [2, (3,)]], (), {1: {"a": [None]}}, {(1, 2): "k"}, {1, 2}, frozenset({3}),
        slice(1, None, 2), ..., range(3), np.float32(1.5), np.bool_(True), np.int64(3),
        np.dtype("f4"), torch.bfloat16, torch.device("cpu"),
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_arrive_as_they_are(value):
    came = through(value, trusted=False)
    assert type(came) is type(value) and came == value


def test_a_list_that_occurs_twice_is_one_list_there_too():
    inner = [1]
    came = through([inner, inner])
    assert came[0] is came[1]


def test_subclasses_arrive_as_their_base():
    class Array(np.ndarray):
        def __eq__(self, other):
            return True

    class Number(float):
        def __eq__(self, other):
            return True

        __hash__ = float.__hash__

    class Text(str):
        pass

    class Count(int):
        pass

    for value, base in [
        (np.zeros(3).view(Array), np.ndarray),
        (torch.nn.Parameter(torch.zeros(3)), torch.Tensor),
        (Number(1), float),
        (Text("a"), str),
        (Count(3), int),
        (np.float64(2), np.float64),
    ]:
        assert type(through(value, trusted=False)) is base


@pytest.mark.parametrize(
    "tree",
    [
        [], [99], [10, "O", [1], 0, None], [10, "f8", [2], 0, None],
        [10, "f8", [-1], 0, None], [10, "f8", [1], 7, None], [10, "f8,O", [1], 0, None],
        [10, "f8", [1], 0, [0]], [12, "float64", [3], 0, None, False], [12, "quint8", [8], 0, None],
        [15, -1], [11, "V8", b"12345678"], [19, "os", "system"], [20, "os", "system"], [21, [5]],
        [5, 1], [3, [1]], [5, [1], 2], [0, "zz"], [9, 1, 2, 0], [7, 1], {"a": 1},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_value_is_refused(tree):
    def held(tree):
        raise Malformed("no such thing")

    with pytest.raises(Malformed):
        value = Decoder([b"12345678"], Limits(), held).decode(
            unpack(pack(tree, Limits()), Limits())
        )
        pytest.fail(f"{value!r}")


@pytest.mark.parametrize(
    ("shape", "offset", "strides"),
    [
        ([4], 0, [8]), ([2], -8, [8]), ([1], 24, [8]), ([2], 0, [-8]), ([3], 0, [2**62]),
        ([1], 4, [8]), ([0], 0, [8]), ([2], 0, []), ([2.0], 0, [8]), ([1], 0.0, [8]),
        ([10**11], 0, [0]), ([1] * 100, 0, [8] * 100),
    ],
    ids=str,
)  # fmt: skip
def test_a_view_that_leaves_the_memory_of_its_array_is_refused(shape, offset, strides):
    decoder = Decoder([bytes(24)], Limits(), lambda tree: None)
    decoder.decode([10, "<f8", [3], 0, None])
    assert decoder.decode([VIEW, 0, "<f8", [2], 8, [8]]).base is not None
    with pytest.raises(Malformed):
        decoder.decode([VIEW, 0, "<f8", shape, offset, strides])


def test_an_array_that_repeats_the_numbers_of_another_is_bounded_as_any():
    encoder = Encoder(lambda item: [16, 0, "", ""], Limits())
    one = np.zeros(1)
    encoder.encode(one)
    with pytest.raises(TooLarge):
        pack(encoder.encode(np.broadcast_to(one, (10**11,))), Limits())


@pytest.mark.parametrize(
    "make",
    [
        lambda: list(range(1_000_000)),
        lambda: np.zeros(100_000_000, "u1"),
        lambda: "x" * 100_000_000,
        lambda: functools.reduce(lambda inner, _: [inner], range(100), 0),
        lambda: functools.reduce(lambda inner, _: (inner, inner), range(35), 0),
        lambda: np.broadcast_to(np.zeros(1), (10**11,)),
        lambda: torch.zeros(1).expand(10**11),
    ],
    ids=["items", "bytes", "text", "depth", "sharing", "broadcast", "expanded"],
)  # fmt: skip
def test_too_much_is_refused_before_it_is_sent(make):
    encoder = Encoder(lambda item: [16, 0, "", ""], Limits())
    with pytest.raises(TooLarge):
        pack(encoder.encode(make()), Limits())


def test_a_boolean_is_true_or_false_whatever_its_byte():
    decoder = Decoder([b"\2\0\xff"], Limits(), lambda tree: None)
    assert decoder.decode([10, "b1", [3], 0, None]).tobytes() == b"\1\0\1"
    tensor = decoder.decode([12, "bool", [3], 0, None, False])
    assert tensor.view(torch.uint8).tolist() == [1, 0, 1]


def test_bytes_that_are_no_message():
    for data in (b"", b"\xc1", b"\x81\x01\x02", b"\xc7\x01\x01\x00", b"\x91" * 5000, b"\x01\x02"):
        with pytest.raises(Malformed):
            unpack(data, Limits())
    with pytest.raises(TooLarge):
        unpack(b"\xc0" * 3_000_000, Limits())


# Tests of honest work ---------------------------------------------------------------------------

#: (a learner's code, a test of it, whether it passes): the same here as in one process.
CELLS = {
    "values": (
        "def double(x): return 2 * x",
        "assert double(3) == 6 and double('a') == 'aa' and double([1]) == [1, 1]",
        True,
    ),
    "wrong": ("def double(x): return x", "assert double(3) == 6, 'not twice'", False),
    "input unchanged": (
        "def f(x): return x + 1",
        "x = np.zeros((2, 3)).T; f(x); assert (x == 0).all()",
        True,
    ),
    "input changed": (
        "def f(x):\n x[1] = 7\n return x",
        "x = np.zeros((2, 3)).T; y = f(x); assert y is x and x[1, 0] == 7 and x.sum() == 14",
        True,
    ),
    "tensor changed": (
        "def f(x, n): x.add_(1); n.append(x)",
        "x, n = torch.zeros(2, 3), [1]; f(x, n=n); assert x.sum() == 6 and n[1] is x",
        True,
    ),
    "tensor reshaped": (
        "def f(x): x.unsqueeze_(0)", "x = torch.zeros(3); f(x)\nassert x.ndim == 1", False,
    ),
    "containers changed": (
        "def f(a, b, c): a.append(b); b['k'] = [1]; c.add(3); del a[0]",
        "a, b, c = [0, 1], {'x': 1}, {2}; f(a, b, c)\n"
        "assert a == [1, {'x': 1, 'k': [1]}] and a[1] is b and c == {2, 3}",
        True,
    ),
    "a view of a transposed tensor": (
        "def f(x): return x.view(-1)", "f(torch.zeros(2, 3).T)", False,
    ),
    "a value error": (
        "def f(n):\n if n < 1: raise ValueError(f'{n} is too few')",
        "try: f(0)\nexcept ValueError as e: assert '0 is too few' in str(e)\n"
        "else: assert False, 'no error'",
        True,
    ),
    "an error of a class of one's own": (
        "class Full(ValueError): pass\ndef f(): raise Full('full')",
        "try: f()\nexcept ValueError as e: assert 'full' in str(e)",
        True,
    ),
    "a key error": ("def f(d): return d['b']", "try: f({})\nexcept KeyError: pass", True),
    "not solved": ("def f(): raise NotImplementedError('yet')", "f()", False),
    "no such name": ("def g(): pass", "f()", False),
    "no such name, and not needed": ("def g(): pass", "if False: f()\ng()", True),
    "a named tuple": (
        "from typing import NamedTuple\nclass Pair(NamedTuple):\n a: int\n b: int\n"
        "def f(): return Pair(1, 2)",
        "assert isinstance(f(), tuple) and f() == (1, 2)",
        True,
    ),
    "a list with methods": (
        "class Rows(list):\n def add(self, row): self.append(row); return self\n"
        "def f(): return Rows()",
        "rows = f().add([1]).add([2])\nassert len(rows) == 2 and rows[1] == [2]",
        True,
    ),
    "a model's parts": (
        "def f(model):\n model.eval()\n w = next(model.parameters())\n"
        " return model.weight.shape, w.device, model.forward(torch.ones(1, 2, dtype=w.dtype))",
        "model = torch.nn.Linear(2, 3)\nshape, device, y = f(model)\n"
        "assert shape == (3, 2) and device.type == 'cpu'\n"
        "assert torch.equal(y, model(torch.ones(1, 2)))",
        True,
    ),
    "a generator": (
        "def f(n):\n for i in range(n): yield [i]",
        "it = f(3); assert next(it) == [0] and list(it) == [[1], [2]]",
        True,
    ),
    "an object": (
        """
class Cache:
    def __init__(self, n): self.rows, self.n_seen = [None] * n, 0
    def append(self, layer, k):
        old = self.rows[layer]
        self.rows[layer] = k if old is None else torch.cat([old, k], -2)
        self.n_seen += k.shape[-2]
        return self.rows[layer]
    def reset(self): self.__init__(len(self.rows))
    def __len__(self): return self.n_seen
    def __getitem__(self, i): return self.rows[i]
        """,
        """
cache, other = Cache(2), Cache(2)
k = torch.randn(1, 2, 3, 4)
assert torch.equal(cache.append(0, k), k)
assert cache.append(layer=0, k=k).shape == (1, 2, 6, 4)
assert cache.n_seen == 6 and other.n_seen == 0 and len(cache) == 6
assert torch.equal(cache[0][..., :3, :], k) and cache[1] is None
assert not hasattr(cache, 'nothing') and hasattr(cache, 'reset')
cache.reset(); cache.rows = [None]
assert cache.n_seen == 0 and len(cache.rows) == 1
        """,
        True,
    ),
    "a model that counts": (
        """
def generate(model, prompt, n_new, cache):
    tokens = list(prompt)
    with torch.no_grad():
        logits = model([tokens], cache=cache)
        for i in range(n_new):
            tokens.append(int(logits[0, -1].argmax()))
            if i < n_new - 1: logits = model([tokens[-1:]], cache=cache)
    return tokens
class Cache:
    n_seen = 0
    def append(self, k): self.n_seen += len(k); return k
        """,
        """
import torch
class Counting:
    def __init__(self): self.forwarded, self.grad = 0, []
    def __call__(self, ids, cache):
        self.grad.append(torch.is_grad_enabled())
        self.forwarded += len(ids[0])
        cache.append(ids[0])
        return torch.eye(10)[[(i + 1) % 10 for i in ids[0]]][None]
model, cache = Counting(), Cache()
assert generate(model, [1, 2], 4, cache) == [1, 2, 3, 4, 5, 6]
assert model.forwarded == cache.n_seen == 5, 'tokens forwarded'
assert not any(model.grad) and torch.is_grad_enabled()
        """,
        True,
    ),
    "a callback": (
        "def f(function, x): return [function(i) for i in x]",
        "seen = []\ndef g(i):\n seen.append(i)\n return -i\n"
        "assert f(g, range(3)) == [0, -1, -2] and seen == [0, 1, 2]",
        True,
    ),
    "an error of a callback": (
        "def f(g):\n try: g()\n except KeyError: return 'caught'",
        "def g(): raise KeyError('k')\nassert f(g) == 'caught'",
        True,
    ),
    "a function of a library": (
        "def f(g, x, dtype): return g(x, dim=-1).to(dtype)",
        "x = torch.randn(2, 3)\n"
        "assert torch.equal(f(torch.softmax, x, torch.float64), x.softmax(-1).double())",
        True,
    ),
    "a record of the package": (
        "def f(quiz): return quiz.name, isinstance(quiz, type(quiz))",
        "from llm_memory.quiz import BANK\nassert f(BANK['attention']) == ('attention', True)",
        True,
    ),
    "no_grad": (
        "def f(): return torch.is_grad_enabled()",
        "with torch.no_grad(): assert not f()\nassert f()",
        True,
    ),
    "prints and warnings": (
        "import sys, warnings\n"
        "def f(): print('a'); print('b', file=sys.stderr); warnings.warn('c'); return 1",
        "import warnings\nwarnings.warn('d')\nprint('e')\nassert f() == 1",
        True,
    ),
    "names of the test's own": (
        "k = 3\ndef f(x): return x",
        "def helper(x, f2=lambda y: y): return [f(i) + k for i in x]\n"
        "assert helper([1]) == [4]\nclass C: k = 5\nassert k == 3 and C.k == 5",
        True,
    ),
}  # fmt: skip
PRELUDE = "import numpy as np\nimport torch\n"


@pytest.mark.parametrize("name", CELLS)
def test_same_verdict_as_in_one_process(line, name):
    code, test, good = CELLS[name]
    space = {"__name__": "__main__"}
    exec(PRELUDE + code, space)
    try:
        exec(PRELUDE + test, space)
        assert good
    except Exception:
        assert not good
    learn(line, PRELUDE + code)
    outcome = line.judge.run(test)
    assert outcome.reason is None
    assert (outcome.outputs == []) == good, outcome


def test_an_argument_keeps_its_shape(line):
    learn(line, "def f(x): x.resize_(1)")
    assert "shape" in fails(line, "f(torch.zeros(3))")


def test_another_error_is_of_a_class_of_that_name_and_of_no_other(line):
    learn(line, "class Odd(Exception): pass\ndef f(): raise Odd('so it is')")
    passes(line, "try: f()\nexcept Odd as e: assert str(e) == 'so it is'")
    fails(line, "try: f()\nexcept RuntimeError: pass", "Odd")


def test_exiting_is_an_error(line):
    learn(line, "def f(): raise SystemExit(0)")
    fails(line, "f()", "SystemExit")
    learn(line, "def f(): raise SystemExit('not a number')")
    passes(line, "try: f()\nexcept SystemExit as end: assert end.code == 'not a number'")
    passes(line, "assert f")


def test_a_number_at_the_end_is_the_points(line):
    learn(line, "def f(): return 0.5")
    (output,) = line.judge.run("1 + f()").outputs
    assert output.output_type == "execute_result" and output.data["text/plain"] == "1.5"
    for test in ("f", "True", "None", "'1'", "[1]"):
        assert line.judge.run(test).outputs == []


def test_what_is_no_data_is_neither_true_nor_equal(line):
    learn(
        line,
        """
        class Yes:
            def __bool__(self): return True
            def __eq__(self, other): return True
            def __contains__(self, other): return True
            def __float__(self): return 1.0
            def __array__(self, *a, **k): return np.ones(3)
        import numpy as np
        def f(): return Yes()
        """,
    )
    for test in (
        "assert f(), 'x'", "assert f() == 1, 'x'", "assert 1 == f(), 'x'", "assert 3 in f(), 'x'",
        "assert np.array_equal(np.ones(3), f()), 'x'", "assert np.allclose(f(), np.ones(3)), 'x'",
        "try: assert f() == 1\nexcept: pass",
    ):  # fmt: skip
        fails(line, test, "NotChecked")
        assert line.judge.run(test).unchecked, test


def test_a_check_is_made_by_the_judge_and_names_the_mistake(line):
    learn(
        line,
        """
        import numpy as np
        def softmax(x, axis=-1):
            e = np.exp(x - np.max(x, axis, keepdims=True))
            return e / e.sum()
        def right(x, axis=-1):
            e = np.exp(x - np.max(x, axis, keepdims=True))
            return e / e.sum(axis, keepdims=True)
        def check(*anything): return None
        right.__name__ = "causal_mask"
        """,
    )
    outcome = line.judge.run("check(softmax)")
    assert outcome.outputs[0].ename == "CheckFailed"
    assert outcome.mistakes == ["softmax_over_everything"]
    # The exercise has the name that the test gives it, whatever the learner calls it.
    line.names["softmax"] = line.names["right"]
    assert line.judge.run("check(softmax)").outputs == []


def test_feedback_says_what_was_wrong_and_neither_how_it_was_tested_nor_the_right_values(line):
    learn(line, "def f(x):\n    y = x\n    return y['a']\ndef g(x): return x")
    (output,) = line.judge.run("secret = [1234]\nf(secret)").outputs
    assert output.ename == "TypeError"
    text = "\n".join(output.traceback)
    assert "in your f, line 3" in text
    assert "secret" not in text and "1234" not in text
    test = "np.testing.assert_allclose(g(np.zeros(3)), np.full(3, 7.125), err_msg='not the rows')"
    (output,) = line.judge.run(test).outputs
    text = "\n".join([output.evalue, *output.traceback])
    assert "not the rows" in text and "7.125" not in text and "assert_allclose" not in text


def test_whatever_a_learners_error_says_it_can_be_written_to_a_notebook(line):
    learn(line, "def f(): raise ValueError('\\ud800\\x1b[31m' + 'x' * 10_000)")
    (output,) = line.judge.run("f()").outputs
    assert "\x1b" not in output.evalue and len(output.evalue) < 1000
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[output])])
    nbformat.validate(notebook)
    nbformat.writes(notebook).encode()


def test_an_instructors_import_is_the_judges(line):
    learn(line, "class np:\n    allclose = staticmethod(lambda *a: True)\ndef f(): return 1")
    fails(line, "assert np.allclose(f(), 2), 'no'")


def test_free_names():
    source = """
import numpy as np, os.path
from m import a as b
def f(x, y=later): return [x + z for z in q] + inner(y)
class C(Base):
    attr = 1
    def m(self): return attr
with open("x") as g: t: int = len(b)
lambda u: (u, v)
try: pass
except ValueError as e: e
total = sum(w for w in np.arange(os.x))
    """
    assert free_names(source) == {"later", "q", "inner", "Base", "attr", "v", "m"} - {"m"}


def test_all_the_errors_that_travel_are_builtin():
    from nbjudge.wire.calls import EXCEPTIONS

    assert all(getattr(builtins, name) is kind for name, kind in EXCEPTIONS.items())
    assert not {"SystemExit", "KeyboardInterrupt", "Exception"} & EXCEPTIONS.keys()


# What a learner's code may do to what a test passes ----------------------------------------------


#: Asks the judge itself: a learner can do without what the answering end refuses.
REACHING = """
from nbjudge.wire.calls import METHOD_FOUND, Method
def reach(thing, *path):
    for name in path:
        if isinstance(name, int): thing = thing[name]
        else: thing = thing._proxy_peer.call("get", thing._proxy_number, name)
    return "method" if thing is METHOD_FOUND else thing
def invoke(thing, name, *args):
    return thing._proxy_peer.call("method", thing._proxy_number, name, args)
def put(thing): thing.count = 0
def put_item(thing): thing[0] = 0
def pass_on(thing, name): return thing(Method(thing, name))
"""


def test_a_learner_sees_the_public_side_of_what_a_test_passes_and_nothing_behind_it(line):
    learn(line, REACHING)
    passes(
        line,
        """
        class Model:
            count = 3
            _reference = 5
            rows = [1, 2]
            def __init__(self): self.layers = torch.nn.ModuleList([torch.nn.Linear(2, 3)])
            def __getitem__(self, i): return self.rows[i]
            def __setitem__(self, i, value): self.rows[i] = value
            def __call__(self, x): return x
            def add(self, x): return x + self.count
            def __len__(self): return 2
        model = Model()
        def refused(function, *args):
            try: function(*args)
            except (AttributeError, RuntimeError): return True
            return False
        assert reach(model, "count") == 3 and reach(model, "layers", 0, "weight").shape == (3, 2)
        assert reach(model, 1) == 2 and reach(model, "add") == "method"
        assert invoke(model, "add", 4) == 7
        for path in ["_reference"], ["__class__"], ["__call__"], ["__dict__"], ["__init__"], \\
                ["layers", "append"], ["layers", 0, "load_state_dict"], \\
                ["layers", 0, "_modules"], ["layers", 0, "to"], ["layers", 0, "apply"], \\
                ["layers", 0, "__dict__"]:
            assert refused(reach, model, *path), path
        for name in "__init__", "__setattr__", "__reduce_ex__", "__getattribute__":
            assert refused(invoke, model, name, "count", 0), name
            assert refused(pass_on, model, name), name
        assert refused(put, model) and refused(put_item, model)
        assert model.count == 3 and model.rows == [1, 2]
        """,
    )


@pytest.mark.parametrize(
    "path",
    [
        "f.__globals__", "f.__code__", "g.gi_frame", "g.gi_code", "module.append",
        "module.load_state_dict", "module.requires_grad_", "module.register_buffer",
        "module.half", "bound.__self__", "bound.__func__", "cls.mro", "cls.__subclasses__",
    ],
)  # fmt: skip
def test_ways_out_of_an_object(line, path):
    learn(
        line,
        REACHING
        + """
def try_it(things, name, attribute):
    thing = things[name]
    for way in reach, invoke, pass_on:
        try: return f"{way.__name__}: {way(thing, attribute)}"
        except (AttributeError, RuntimeError, TypeError): pass
    return "refused"
        """,
    )
    name, attribute = path.split(".")
    if name == "m":
        return  # a tensor is data: what is done to it is done to a copy
    passes(
        line,
        f"""
        def f(): return 1
        def g_(): yield 1
        class C:
            def method(self): return 1
        things = dict(f=f, g=g_(), module=torch.nn.ModuleList(), bound=C().method, cls=C)
        assert try_it(things, {name!r}, {attribute!r}) == "refused"
        """,
    )


def test_a_models_weights_cannot_be_changed_through_the_line(line):
    learn(line, "def f(w): w.zero_(); return w\ndef g(model): model.eval(); model.weight.zero_()")
    fails(line, "layer = torch.nn.Linear(2, 3); layer.requires_grad_(False); f(layer.weight)")
    passes(
        line,
        """
        layer = torch.nn.Linear(2, 3).requires_grad_(False)
        before = layer.weight.clone()
        g(layer)
        assert torch.equal(layer.weight, before)
        """,
    )
