"""The visible check in a real Jupyter kernel: work in any form, and work that goes astray."""

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow

SETUP = """
import functools, itertools, random, sys, threading, time
import numpy as np
import torch
from llm_memory.check import check, limits

limits.SECONDS = 1.5  # the tests need not wait as long as a learner does


def right(x, axis=-1):
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


class RightCache:
    def __init__(self, n_layers):
        self.n_layers = n_layers
        self.reset()

    def reset(self):
        self.held = [None] * self.n_layers

    @property
    def n_seen(self):
        return 0 if self.held[-1] is None else self.held[-1].shape[3]

    def append(self, layer, k, v):
        if k.shape != v.shape:
            raise ValueError("keys and values differ")
        pair, n_new = torch.stack((k, v)), k.shape[2]
        if (held := self.held[layer]) is not None:
            if pair[..., :0, :].shape != held[..., :0, :].shape:
                raise ValueError("the shapes do not fit")
            pair = torch.cat((held, pair), dim=3)
        self.held[layer] = pair
        n_held = pair.shape[3]
        return *pair, torch.ones(n_new, n_held).tril(n_held - n_new).bool()


def logged(function):
    return lambda *args, **kwargs: function(*args, **kwargs)
"""

ACCEPTED = {
    "a lambda": "softmax = lambda x, axis=-1: right(x, axis)",
    "an alias": "softmax = right",
    "a partial": "softmax = functools.partial(lambda f, x, axis=-1: f(x, axis), right)",
    "decorated without wraps": "@logged\ndef softmax(x, axis=-1):\n    return right(x, axis)",
    "cached by a decorator of one's own": "softmax = logged(logged(right))",
    "a callable object": (
        "class Softmax:\n    def __call__(self, x, axis=-1):\n        return right(x, axis)\n"
        "softmax = Softmax()"
    ),
    "a static method": (
        "class Mine:\n    @staticmethod\n    def of(x, axis=-1):\n        return right(x, axis)\n"
        "softmax = Mine.of"
    ),
    "another global of the same object": "copied = softmax = logged(right)",
    "megabytes printed": (
        "def softmax(x, axis=-1):\n    print('x' * 10**6)\n"
        "    print('y' * 10**6, file=sys.stderr)\n    return right(x, axis)"
    ),
}
DEFINED = "def softmax(x, axis=-1):\n    "
SAID = {
    "a wrong type": (DEFINED + "return right(x, axis).tolist()", "came a list of 3"),
    "a text without end": (DEFINED + "return 'ab' * 10**6", "2,000,002 characters"),
    "nothing": (DEFINED + "right(x, axis)", "came None"),
    "a generator": (DEFINED + "yield right(x, axis)", "a generator (is there a `yield`"),
    "a coroutine": ("async " + DEFINED + "return right(x, axis)", "a coroutine (is there an"),
    "a list in itself": (DEFINED + "x = []; x.append(x); return x", "expected a NumPy array"),
    "far too many numbers": (DEFINED + "return np.zeros(3 * 10**6)", "shape (3000000,)"),
    "a masked array": (DEFINED + "return np.ma.masked_less(right(x, axis), 9)", "MaskedArray"),
    "complex numbers": (DEFINED + "return torch.zeros(3, dtype=torch.complex64)", "complex64"),
    "another device": (DEFINED + "return torch.zeros(3, device='meta')", "device meta"),
    "an argument more": ("def softmax(x, axis, more):\n    return x", "required positional arg"),
    "no arguments": ("def softmax():\n    return 1", "takes 0 positional arguments"),
    "a loop without end": (DEFINED + "while True: pass", "is there a loop that never ends?"),
    "a sleep": (DEFINED + "time.sleep(1000)", "is there a loop that never ends?"),
    "a lock twice": (DEFINED + "l = threading.Lock(); l.acquire(); l.acquire()", "never ends?"),
    "a loop that catches everything": (
        DEFINED
        + "while True:\n        try:\n            x = x + 1\n        except:\n            pass",
        "is there a loop that never ends?",
    ),
    "no end of items": (DEFINED + "return sum(i for i in itertools.count())", "never ends?"),
    "recursion without end": (DEFINED + "return softmax(x, axis)", "calls itself without end"),
    "two that call each other": (
        DEFINED + "return other(x)\ndef other(x):\n    return softmax(x)",
        "calls itself without end",
    ),
    "a changed input": (
        DEFINED + "x -= x.max(axis=axis, keepdims=True); return right(x, axis)",
        "changes the array that it was given",
    ),
    "a random number": (DEFINED + "return x * random.random()", "is there a random number"),
    "an exception of one's own": (
        "class Oops(Exception): pass\n" + DEFINED + "raise Oops('not like this')",
        "Oops: not like this (your code, softmax, line 3: raise Oops('not like this'))",
    ),
    "an exception that cannot be told": (
        "class Oops(Exception):\n    def __str__(self): raise Exception\n" + DEFINED + "raise Oops",
        "an exception whose message cannot be read",
    ),
    "leaving": (DEFINED + "sys.exit()", "SystemExit"),
    "the result, not the function": ("softmax = right(np.ones(3))", "which cannot be called"),
    "a call, not the function": (
        DEFINED + "return right(x, axis)\ncheck(softmax(np.ones(3)))",
        "Give it the function itself: check(softmax)",
    ),
}


CACHE = (
    "class KVCache(RightCache):\n    def append(self, layer, k, v):\n"
    "        found = super().append(layer, k.clone(), v.clone())\n        "
)
#: Work with a state: what each call of a method does, and what is said of it.
SAID_OF_A_CACHE = {
    "a method without end": (CACHE + "time.sleep(1000)", "is there a loop that never ends?"),
    "a method that calls itself": (CACHE + "return self.append(layer, k, v)", "without end"),
    "a method with a yield": (CACHE + "yield found", "a generator (is there a `yield`"),
    "a method with an argument more": (
        "class KVCache(RightCache):\n    def append(self, layer, k, v, more):\n        return k",
        "missing 1 required positional argument: 'more'",
    ),
    "keys by chance": (CACHE + "return found[0] * random.random(), *found[1:]", "a random number"),
    "keys elsewhere": (CACHE + "return found[0].to('meta'), *found[1:]", "device meta"),
    "keys that are gone": (CACHE + "k.zero_(); return found", "changed its argument 2"),
}


def output_of(cell):
    """Return what a learner reads below a cell."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts += output.traceback
        else:
            parts.append(output.data["text/plain"])
    return "\n".join(parts)


@pytest.fixture(scope="module")
def outputs():
    """What each way of writing `softmax` shows: one kernel, one cell to write it, one to check."""
    works = {**ACCEPTED, **{name: code for name, (code, _) in {**SAID, **SAID_OF_A_CACHE}.items()}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SETUP)])
    for name, code in works.items():
        notebook.cells += [
            nbformat.v4.new_code_cell(code),
            nbformat.v4.new_code_cell(
                f"check(KVCache, hard=True)  # {name}"
                if name in SAID_OF_A_CACHE
                else f"check(softmax)  # {name}"
            ),
        ]
    notebook.cells.append(nbformat.v4.new_code_cell("softmax = right\ncheck(softmax, hard=True)"))
    NotebookClient(notebook, kernel_name="python3", allow_errors=True, timeout=60).execute()
    texts = list(map(output_of, notebook.cells[1:-1]))
    pairs = zip(texts[::2], texts[1::2], strict=True)
    shown = dict(zip(works, map("\n".join, pairs), strict=True))
    return {**shown, "afterwards": output_of(notebook.cells[-1])}


@pytest.mark.parametrize("way", ACCEPTED)
def test_the_work_may_be_written_in_any_way(outputs, way):
    assert "✔ softmax: right" in outputs[way]
    assert len(outputs[way]) < 3000


@pytest.mark.parametrize("way", SAID)
def test_work_that_goes_astray_is_told_what_happened(outputs, way):
    assert SAID[way][1] in outputs[way]
    assert len(outputs[way]) < 1500
    assert "llm_memory/check" not in outputs[way], "our own code is no help to a learner"


@pytest.mark.parametrize("way", SAID_OF_A_CACHE)
def test_a_method_that_goes_astray_is_told_and_no_guard_is_blamed(outputs, way):
    assert SAID_OF_A_CACHE[way][1] in outputs[way]
    assert len(outputs[way]) < 1500
    assert "expected a ValueError" not in outputs[way]


def test_the_kernel_is_as_good_as_new_afterwards(outputs):
    assert "✔ softmax: right (6 checks, hard cases too)." in outputs["afterwards"]
