"""What is made ready once for many submissions: imports, data that is read, compiled test cells."""

from __future__ import annotations

import pytest
from nbjudge.judge.libraries import own_texts
from nbjudge.judge.namespace import Prepared, execute, prepare
from nbjudge.run.judge_client import _prepared
from nbjudge.run.provisioner import can_fork
from nbjudge.server.forkserver import ForkServer, ForkServerError
from nbjudge.wire import course
from nbjudge.wire.limits import Unchecked

CELLS = {
    "a value": ("import math\nmath.floor(2.5)", 2),
    "a statement": ("x = 3", None),
    "a text": ("len('one text')", 8),
    "a magic": ("%matplotlib inline\n4", 4),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_that_another_process_compiled_does_the_same(name):
    source, value = CELLS[name]

    class Space(dict):
        special: dict = {}  # noqa: RUF012 (what a magic asks)

        def __missing__(self, name):
            return self.special[name]()

    received = Prepared.unpacked(prepare(source).packed())
    assert received == prepare(source)
    own_texts.known.clear()
    assert execute(received, Space()) == value
    # Texts of the test itself may be run as code there, and no others.
    assert own_texts.known >= received.texts and ("one text" in received.texts) is (
        name == "a text"
    )


def test_what_cannot_be_compiled_is_for_the_judge_to_say():
    for source, error in (("x =", SyntaxError), ("mock.patch('os.getcwd')", Unchecked)):
        assert _prepared(source) is None
        with pytest.raises(error):
            prepare(source)


@pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform")
@pytest.mark.parametrize("named", ["no_such:f", "json:no_such", "json:dumps"])
def test_a_function_that_cannot_be_called_before_the_fork_is_named(monkeypatch, named):
    monkeypatch.setattr(course, "_current", course.Course(preload=[named]))
    server = ForkServer()
    with pytest.raises(ForkServerError, match=f"{named!r}, which cannot be called here"):
        server.start()
