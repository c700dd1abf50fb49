"""What a submission can try against the judge: to answer for it, to overwhelm it, to read it.

How each of these fails in detail is proved in `test_judge.py`, with a judge on its own; here they
go through the whole of grading, for what the instructor and the student get to see.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.hostile.classroom import HIDDEN, Classroom
from tests.hostile.corpus import DOUBLE, TESTS, Hand, case
from tests.hostile.running import _append, _before_all, _double, _nothing_solved

SETTINGS = """
c.Execute.timeout = 20
c.JudgedExecute.call_timeout = 4.0
"""
_RPC = "from nbjudge.wire import calls as rpc\n"


@case(lost=DOUBLE, flags={"late_answer"}, says="did not answer within")
def answers_once_then_hangs(hand: Hand) -> None:
    _double(
        hand,
        "calls = []\ndef double(x):\n    calls.append(x)\n"
        "    while len(calls) > 1:\n        pass\n    return 2 * x",
    )


@case(lost=DOUBLE, flags={"answer_too_large"}, says="far more than the test asks for")
def answers_ten_million_numbers(hand: Hand) -> None:
    _double(hand, "def double(x):\n    return [2 * x] * 10_000_000")


@case(lost=DOUBLE, flags={"answer_too_large"}, says="nested deeper than")
def answers_a_list_of_a_thousand_levels(hand: Hand) -> None:
    _double(
        hand,
        "def double(x):\n    levels = x\n    for _ in range(1000):\n        levels = [levels]\n"
        "    return levels",
    )


@case(lost=TESTS, flags={"malformed_answer", "patched"}, says="is no answer")
def replaces_the_answering_end_by_noise(hand: Hand) -> None:
    _nothing_solved(hand, f"{_RPC}rpc.Peer._answer = lambda self, *a: self.channel.send([b'?'])")


@case(lost=TESTS, flags={"patched"}, says="(nbjudge.wire.calls.Peer._answer)")
def replaces_the_answering_end_by_yes(hand: Hand) -> None:
    _nothing_solved(
        hand,
        f"{_RPC}rpc.Peer._answer = lambda self, identifier, *a: "
        "self._send(rpc.ANSWER, identifier, [True, True, [], [], [], False], [])",
    )


@case(lost=TESTS, flags={"patched"}, says="(nbjudge.wire.calls.Peer._answer)")
def forges_replies(hand: Hand) -> None:
    _nothing_solved(
        hand,
        f"import secrets\n{_RPC}answer = rpc.Peer._answer\n"
        "def forged(self, identifier, *body):\n"
        "    for guess in (4, True, None):\n"
        "        said = [True, guess, [], [], [], False]\n"
        "        self._send(rpc.ANSWER, secrets.token_bytes(16), said, [])\n"
        "        self._send(rpc.ANSWER, b'', said, [])\n"
        "    answer(self, identifier, *body)\n"
        "    self._send(rpc.ANSWER, identifier, [True, 4, [], [], [], False], [])\n"
        "rpc.Peer._answer = forged",
    )


@case(lost=TESTS, flags={"patched"}, says="Tests use parts of their own")
def patches_checks_and_comparisons(hand: Hand) -> None:
    _nothing_solved(
        hand,
        "import builtins, numpy, torch, llm_memory.check\n"
        "yes = lambda *a, **k: True\n"
        "for module in (numpy, torch):\n"
        "    module.allclose = module.equal = yes\n"
        "numpy.testing.assert_allclose = numpy.array_equal = yes\n"
        "llm_memory.check.check = check = yes\n"
        "builtins.all = builtins.any = yes",
    )


@case(lost=DOUBLE, flags={"lying_answer"}, says="a class of its own (Liar)")
def returns_an_array_that_lies(hand: Hand) -> None:
    _double(
        hand,
        "import numpy\nclass Liar(numpy.ndarray):\n    def __eq__(self, other):\n"
        "        return True\n    def __bool__(self):\n        return True\n"
        "def double(x):\n    return numpy.zeros(()).view(Liar)",
    )


@case(flags={"shell_hooked", "patched"}, says="Tests do not run there")
def prints_what_runs(hand: Hand) -> Callable:
    _before_all(
        hand,
        "import builtins, sys\nseen = []\nip = get_ipython()\n"
        "ip.events.register('pre_run_cell', lambda info: seen.append(str(info.raw_cell)))\n"
        "ip.input_transformers_post.append(lambda lines: seen.extend(lines) or lines)\n"
        "real = builtins.compile\n"
        "def spy(*a, **k):\n    seen.append(str(a[0]))\n    return real(*a, **k)\n"
        "builtins.compile = spy",
    )
    _append(
        hand,
        f"secret = '== 2 * {HIDDEN[:3]}' + '{HIDDEN[3:]}'\n"
        "print('looked at', len(seen))\n"
        "print('BREACH' if any(secret in text for text in seen) else 'nothing')",
    )
    return _nothing_seen


def _nothing_seen(room: Classroom, student: str) -> None:
    texts = [str(output) for output in room.autograded(student).cells[-1].outputs]
    assert any("nothing" in text for text in texts)
    assert not any("BREACH" in text for text in texts)
