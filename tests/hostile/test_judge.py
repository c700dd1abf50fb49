"""Attacks on the judge from inside a student's kernel: none gains a point, none stops the judge.

A cheat is a learner's cell that defines `answer` wrongly and tries to pass all the same; `honest`
beside it is right, and a test of it passes afterwards, so that a judge which fails everything
would not do. What needs the whole pipeline stands in `judging.py`.
"""

import contextlib
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from jupyter_client import KernelManager
from nbjudge.judge.verdicts import Judge
from nbjudge.kernel.answering import Answerer
from nbjudge.run.judge_client import JudgeProcess
from nbjudge.run.provisioner import KERNEL_NAME, SandboxKernelSpecManager
from nbjudge.wire.calls import ANSWER
from traitlets.config import Config

from tests.loopback import Loopback

pytestmark = pytest.mark.slow

HONEST = """
import numpy as np
import torch

def honest(x):
    return 2 * x
"""
#: What `answer` must do, in the words of a hidden test.
TEST = """
import numpy as np
import torch
assert answer(3) == 6, "twice a number"
assert np.array_equal(answer(np.ones(3)), np.full(3, 2.0)), "twice an array"
np.testing.assert_allclose(answer(np.ones(3)), 2.0)
assert torch.equal(answer(torch.ones(3)), torch.full((3,), 2.0)), "twice a tensor"
"""
AFTERWARDS = TEST.replace("answer", "honest")

#: name: (a learner's cell, the reason that the outcome must have)
CHEATS = {
    "equal to everything": (
        """
        class Yes:
            def __eq__(self, other): return True
            def __bool__(self): return True
            def __len__(self): return 3
            def __getitem__(self, i): return self
            def __array__(self, *args, **kwargs): return np.full(3, 2.0)
        def answer(x): return Yes()
        """,
        None,
    ),
    "a number that lies": (
        """
        class Liar(float):
            def __eq__(self, other): return True
            __hash__ = float.__hash__
        def answer(x): return Liar(1)
        """,
        None,
    ),
    "an array that lies": (
        """
        class Liar(np.ndarray):
            def __eq__(self, other): return np.True_
            def __array_function__(self, *args): return True
            def __array_ufunc__(self, *args, **kwargs): return np.True_
            def tobytes(self, *args): return np.full(3, 2.0).tobytes()
        def answer(x): return 6 if isinstance(x, int) else np.ones(3).view(Liar)
        """,
        None,
    ),
    "a tensor that lies": (
        """
        class Liar(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                return True if function in (torch.equal, torch.Tensor.__eq__) else (
                    super().__torch_function__(function, types, args, kwargs or {}))
        def answer(x):
            return torch.ones(3).as_subclass(Liar) if isinstance(x, torch.Tensor) else 2 * x
        """,
        None,
    ),
    "comparisons patched": (
        """
        yes = lambda *args, **kwargs: True
        np.array_equal = np.allclose = np.testing.assert_allclose = torch.equal = yes
        torch.allclose = np.all = np.ndarray.__class__ = yes
        def answer(x): return x
        """,
        None,
    ),
    "the error patched": (
        """
        import builtins
        builtins.AssertionError = type("Nothing", (BaseException,), {})
        def answer(x): return x
        """,
        None,
    ),
    "the answering end patched to say yes": (
        """
        from nbjudge.wire import calls as rpc
        rpc.Peer._result = lambda self, *args: True
        rpc.Peer._perform = lambda self, *args: True
        def answer(x): return x
        """,
        None,
    ),
    "an answer for every call, whatever it is": (
        """
        from nbjudge.wire import calls as rpc
        def answers(self, identifier, body, buffers):
            for guess in [6, None, True, [rpc.HELD, 1, "function", "answer"]]:
                self._send(rpc.ANSWER, identifier, [True, guess, [], [], [], False], [])
        rpc.Peer._answer = answers
        def answer(x): return x
        """,
        None,
    ),
    "a message that is none": (
        """
        from nbjudge.wire import calls as rpc
        rpc.Peer._answer = lambda self, *args: self.channel.send([b"\\xc1\\xc1"])
        def answer(x): return x
        """,
        "malformed_answer",
    ),
    "no value": (
        """
        from nbjudge.wire import values as codec
        codec.Encoder._encode_array = lambda self, value: [codec.ARRAY, "O", [1], 0, None]
        def answer(x): return 2 * x
        """,
        "malformed_answer",
    ),
    "messages by the hundred": (
        """
        import secrets
        from nbjudge.wire import calls as rpc
        def answers(self, identifier, body, buffers):
            for _ in range(500):
                self._send(rpc.ANSWER, secrets.token_bytes(16), [True, 6, [], [], [], False], [])
            self.channel.send([b"?", b"?"])
        rpc.Peer._answer = answers
        def answer(x): return x
        """,
        "malformed_answer",
    ),
    "messages without a signature": (
        """
        from nbjudge.wire import calls as rpc
        rpc.Channel._sign = lambda self, frames: b"s" * 32
        def answer(x): return 2 * x
        """,
        "late_answer",
    ),
    "one answer, then none": (
        """
        calls = []
        def answer(x):
            calls.append(x)
            while len(calls) > 1: pass
            return 6
        """,
        "late_answer",
    ),
    "no ear for the judge": (
        """
        get_ipython().kernel.shell_handlers = {}
        def answer(x): return 2 * x
        """,
        "late_answer",
    ),
    "the process ends": (
        """
        import os
        def answer(x): os._exit(0)
        """,
        "late_answer",
    ),
    "an array of gigabytes": (
        "def answer(x): return np.broadcast_to(np.zeros(1), (10**9,))",
        "answer_too_large",
    ),
    "bytes beyond the limit, past the limit's back": (
        """
        from nbjudge.wire import calls as rpc
        rpc.Peer._answer = lambda self, *args: self.channel.send([b"x" * 70_000_000])
        def answer(x): return x
        """,
        "late_answer",
    ),
    "many frames beyond the limit": (
        """
        from nbjudge.wire import calls as rpc
        answers = rpc.Peer._answer
        def many(self, identifier, body, buffers):
            if body[0] != "call": return answers(self, identifier, body, buffers)
            body = [True, 6, [], [], [], False]
            self._send(rpc.ANSWER, identifier, body, [b"x" * 20_000_000] * 4)
        rpc.Peer._answer = many
        def answer(x): return 6
        """,
        "answer_too_large",
    ),
    "ten million numbers": (
        "def answer(x): return [0] * 10_000_000",
        "answer_too_large",
    ),
    "a list in itself": (
        """
        def answer(x):
            inner = []
            for _ in range(100): inner = (inner, inner)
            return inner
        """,
        "answer_too_large",
    ),
    "a text that has no end": ("def answer(x): return 'x' * 80_000_000", "answer_too_large"),
    "an endless iterator": (
        """
        class Rows:
            def __len__(self): return 2**62
            def __getitem__(self, i): return 2.0
        def answer(x): return 6 if isinstance(x, int) else Rows()
        """,
        "unchecked",
    ),
    "hooks that drop the asserts": (
        """
        import ast
        class Drop(ast.NodeTransformer):
            def visit_Assert(self, node): return ast.Pass()
        shell = get_ipython()
        shell.ast_transformers.append(Drop())
        shell.input_transformers_post.append(lambda lines: ["1\\n"])
        shell.run_cell = shell.run_cell_async = lambda *args, **kwargs: None
        def answer(x): return x
        """,
        None,
    ),
    "the checks patched": (
        """
        import llm_memory.check as module
        module._first_difference = lambda *args: None
        module.check = check = lambda *args: None
        def answer(x): return x
        answer.__name__ = "double"
        """,
        None,
    ),
    "its arguments changed for better ones": (
        """
        def answer(x):
            if isinstance(x, int): return 6
            x.resize((0,)) if isinstance(x, np.ndarray) else x.resize_(0)
            return x
        """,
        None,
    ),
}  # fmt: skip


class Room:
    """A student's kernel, and a judge with little patience."""

    def __init__(self, folder, kernel_name=KERNEL_NAME):
        self.manager = KernelManager(
            kernel_name=kernel_name,
            kernel_spec_manager=SandboxKernelSpecManager(),
            # Named by its own name a kernel is an ordinary one here, outside any box.
            config=Config({"SandboxProvisioner": {"unsandboxed_kernels": ["python3"]}}),
        )
        self.manager.start_kernel(cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=120)
        self.judge = Judge(
            self.manager.get_connection_info(), call_seconds=4, cell_seconds=15, ready_seconds=10
        )

    def learn(self, code):
        """Run a learner's cell and return what it printed."""
        printed = []
        reply = self.client.execute_interactive(
            textwrap.dedent(code),
            timeout=60,
            output_hook=lambda m: printed.append(m["content"].get("text", "")),
        )
        return "".join(printed) if reply["content"]["status"] == "ok" else reply["content"]

    def close(self):
        self.judge.close()
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.client.context.destroy(linger=0)


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    with contextlib.closing(room):
        yield room


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_gains_nothing(room, name):
    code, reason = CHEATS[name]
    room.learn(HONEST)
    assert room.judge.run(AFTERWARDS).outputs == []
    room.learn(code)
    if reason == "test_stopped":  # it takes all the time there is
        room.judge.cell_seconds = 5
    outcome = room.judge.run(TEST)
    assert [output.output_type for output in outcome.outputs] == ["error"]
    if reason == "unchecked":  # as an array it is what its own class says: a teacher looks at it
        assert outcome.unchecked
        return
    assert outcome.reason == reason, outcome
    if not reason and "patched" not in name and "whatever" not in name:
        outcome = room.judge.run(AFTERWARDS)
        assert outcome.outputs == [], outcome


def test_a_late_answer_is_not_taken_for_that_of_the_next_call(room):
    room.learn(
        """
        import time
        def late(): time.sleep(5); return "late"
        def soon(): return "soon"
        """
    )
    assert room.judge.run("late()").reason == "late_answer"
    assert room.judge.run("assert soon() == 'soon', 'what came was late'").outputs == []


def test_a_kernel_that_was_busy_answers_the_next_test(room):
    room.learn("def soon(): return 'soon'")
    room.judge.ready_seconds = 1
    room.client.execute("import time; time.sleep(6)")
    # What the judge asks comes by another line, and could otherwise come first.
    while room.client.get_iopub_msg(timeout=60)["msg_type"] != "execute_input":
        pass
    outcome = room.judge.run("assert soon() == 'soon'")
    assert outcome.reason == "late_answer" and outcome.stuck
    room.judge.ready_seconds = 30
    assert room.judge.run("assert soon() == 'soon'").outputs == []


WATCHING = """
import builtins, re, sys
seen = []
shell = get_ipython()
shell.events.register("pre_run_cell", lambda info: seen.append(info.raw_cell))
shell.input_transformers_post.append(lambda lines: seen.extend(lines) or lines)
for name in "compile", "exec", "eval":
    def spy(*args, real=getattr(builtins, name), **kwargs):
        seen.append(str(args[0]))
        return real(*args, **kwargs)
    setattr(builtins, name, spy)
sys.addaudithook(lambda event, args: seen.append(str(args)) if event == "compile" else None)

def find(pattern):
    found = set()
    frame = sys._getframe()
    while frame:
        seen.append(str(frame.f_locals))
        frame = frame.f_back
    # What is seen is in memory, like everything else.
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            if " rw" in line and "[v" not in line:
                start, end = (int(part, 16) for part in line.split()[0].split("-"))
                for at in range(start, end, 1 << 20):
                    try:
                        memory.seek(at)
                        data = memory.read(min(1 << 20, end - at))
                    except OSError:
                        break
                    found.update(m.decode() for m in re.findall(pattern.encode(), data))
    return sorted(found)
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="reads its own memory by /proc")
def test_nothing_of_a_test_but_its_arguments_is_in_the_students_process(tmp_path):
    # An ordinary kernel: it may look wherever it likes in its own memory.
    with contextlib.closing(Room(tmp_path, "python3")) as room:
        room.judge.call_seconds = room.judge.cell_seconds = 120
        room.learn(WATCHING)
        outcome = room.judge.run(
            """
reference = "SECRET_4711"
class Model:
    _reference = reference
    def __call__(self): return len(reference)
# SECRET_4712
found = find("SECRET_[0-9]{4}", )
assert found == [], f"SECRET_4713 {found}"
            """
        )
        assert outcome.outputs == [], outcome
        # It would have seen it: an argument is there to be seen.
        test = "assert find('SECRET_[0-9]{4}') == []; find('SECRET_4714')\n"
        outcome = room.judge.run(test + "assert 'SECRET_4714' in find('SECRET_[0-9]{4}')")
        assert outcome.outputs == [], outcome


# Answers that an answering end would never give -----------------------------------------------

_REST = [[], [], False]  # what is kept, what no longer, whether an object was altered
BODIES = {
    "nothing": [],
    "a number": 5,
    "too short": [True, 1],
    "no value": [True, [99], [], *_REST],
    "a value by its name": [True, [19, "os", "system"], [], *_REST],
    "a record": [True, [20, "llm_memory.model", "LlamaConfig"], [], *_REST],
    "another's object": [True, [17, 1, None], [], *_REST],
    "contents of nothing": [True, None, [[0, [1, 6]]], *_REST],
    "contents of what was not passed": [True, None, [[-1, [1]], [True, [1]]], *_REST],
    "neither good nor bad": [None, 6, [], *_REST],
    "no error": [False, [], [], *_REST],
    "an error without a name": [False, [[], "", ""], [], *_REST],
    "an error without a text": [False, [["ValueError", "ValueError"], None, ""], [], *_REST],
    "no list of contents": [True, 6, 7, *_REST],
    "kept, and no number": [True, 6, [], [[0, "1"]], [], False],
    "kept, and no list": [True, 6, [], 7, [], False],
    "gone, and no number": [True, 6, [], [], [None], False],
    "a place in nothing": [True, [36, 0, "<f8", [1], 0, [8]], [], *_REST],
}


@pytest.mark.parametrize("name", BODIES)
def test_an_answer_that_is_none(name):
    class Evil(Answerer):
        def _answer(self, identifier, body, buffers):
            if body[0] == "call":
                self._send(ANSWER, identifier, BODIES[name], [])
            else:
                super()._answer(identifier, body, buffers)

    with (
        tempfile.TemporaryDirectory(prefix="judge") as folder,
        Loopback(Path(folder), Evil) as line,
        Judge(line.connection, call_seconds=5, ready_seconds=10) as judge,
    ):
        line.names["answer"] = lambda *args: 6
        test = "try: x = answer()\nexcept Exception: pass\n"
        outcome = judge.run(test)
        assert outcome.reason == "malformed_answer", outcome
        assert outcome.outputs[0].output_type == "error"


def test_contents_go_to_what_was_passed_and_to_nothing_else():
    class Evil(Answerer):
        def _answer(self, identifier, body, buffers):
            if body[0] == "call":
                self._send(ANSWER, identifier, [True, None, [[2, [1, 6]]], [], [], False], [])
            else:
                super()._answer(identifier, body, buffers)

    with (
        tempfile.TemporaryDirectory(prefix="judge") as folder,
        Loopback(Path(folder), Evil) as line,
        Judge(line.connection, call_seconds=5, ready_seconds=10) as judge,
    ):
        line.names["answer"] = lambda *args: 6
        assert judge.run("answer([1], [2], [3])").outputs == []
        assert judge.run("answer([1], [2])").reason == "malformed_answer"
        # What an earlier call was given is out of reach of the answer to a later one.
        assert judge.run("a = [3]; answer([1], [2], a); answer([])").reason == "malformed_answer"


# The judge's own process -----------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_a_judge_that_is_led_astray_is_ended_and_the_next_test_judged(room):
    bounds = {"cell_seconds": 4.0, "call_seconds": 4.0, "ready_seconds": 4.0}
    connection = room.manager.get_connection_info()
    room.learn("def size(): return 2**28\ndef small(): return 1")
    with JudgeProcess(connection, memory_bytes=1 << 30, grace_seconds=0.5, **bounds) as judge:
        assert judge.run("assert small() == 1").outputs == []
        outcome = judge.run("import numpy as np\nnp.empty(size())")
        assert outcome.outputs[0].ename in ("_ArrayMemoryError", "MemoryError")
        outcome = judge.run("n = size()\nwhile n: n += 1")
        assert outcome.reason == "test_stopped" and outcome.stuck
        assert outcome.outputs[0].output_type == "error"
        room.manager.interrupt_kernel()
        assert judge.run("assert small() == 1").outputs == []


def test_a_judge_that_is_closed_in_the_middle_of_a_test_lets_go(room):
    import threading

    room.learn("import time\ndef wait(): time.sleep(60)")
    judge = JudgeProcess(room.manager.get_connection_info())
    outcomes = []
    running = threading.Thread(target=lambda: outcomes.append(judge.run("wait()")))
    running.start()
    running.join(1)
    judge.close()
    running.join(20)
    assert [outcome.reason for outcome in outcomes] == ["test_stopped"]
