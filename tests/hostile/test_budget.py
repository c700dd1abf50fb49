"""One budget for a submission, whoever holds what it makes: kernel, judge or the grader itself."""

import os
import threading

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.run.judge_client import resident_bytes
from nbjudge.run.judged import JudgedExecute
from nbjudge.run.provisioner import can_fork
from traitlets.config import Config

from tests.submission_cells import reason, test_cell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform"),
]

MB = 1 << 20
#: Bytes by which the grader may grow, for one submission and for a moment.
MOST = 700 * MB
#: How a learner's function speaks on the kernel's own sockets.
SOCKETS = """
import zmq
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
big = b"x" * (15 << 20)
def many(socket, head, parts, times):
    for _ in range(times):
        socket.send_multipart([*head, *[big] * parts], copy=False)
def flood(parts, times):
    app.iopub_thread.schedule(lambda: many(app.iopub_thread.socket, [b"stream"], parts, times))
"""
TALKING = {
    "many large messages": "flood(1, 400)",
    "one message of many parts": "flood(400, 1)",
    "messages that are no messages": (
        "import threading\n"
        "    threading.Thread(target=many, args=(app.iopub_thread.socket, [b'?'], 2,"
        " 200)).start()"
    ),
}


class Peak:
    """The most that this process grew by, while a block ran."""

    def __enter__(self):
        self.start, self.most = resident_bytes(os.getpid()), 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self):
        while not self._over.wait(0.02):
            self.most = max(self.most, resident_bytes(os.getpid()) - self.start)

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def graded(*cells, **traits):
    """Run cells, sources and test cells, as a submission is graded."""
    notebook = new_notebook(
        cells=[new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    )
    JudgedExecute(**traits).preprocess(notebook, {})
    return notebook


@pytest.mark.parametrize("talk", TALKING.values(), ids=TALKING)
def test_what_is_sent_while_a_test_is_judged_does_not_pile_up_in_the_grader(talk):
    with Peak() as peak:
        notebook = graded(
            "def honest(x):\n    return 2 * x",
            SOCKETS + f"def loud(x):\n    {talk}\n    import time; time.sleep(3)\n    return x",
            test_cell("assert honest(2) == 4", "test_before"),
            test_cell("assert loud(2) == 2", "test_loud"),
            test_cell("assert honest(3) == 6", "test_after"),
        )
    assert peak.most < MOST
    before, loud, after = (reason(cell) for cell in notebook.cells[2:])
    assert before is None and after is None
    # One message is either read, and is too much, or still on its way when the answer is there.
    late = {None} if talk == TALKING["one message of many parts"] else set()
    assert loud in {"output_flood", "memory"} | late


def test_a_message_without_end_to_a_cell_is_ended_by_what_the_grader_holds():
    with Peak() as peak:
        notebook = graded(
            "a = 1",
            SOCKETS + "flood(400, 1)\nimport time; time.sleep(5)",
            test_cell("assert a == 1", "test_after"),
        )
    assert peak.most < MOST
    assert reason(notebook.cells[1]) in ("memory", "output_flood", "kernel_died")
    assert reason(notebook.cells[2]) is None


@pytest.mark.parametrize(("kept", "outcome"), [(10, None), (700, "memory")])
def test_kernel_and_judge_share_one_budget(kept, outcome):
    notebook = graded(
        f"import numpy as np\nkept = np.ones({kept} << 17)\ndef half(n):\n    return n",
        test_cell(
            "import time\nimport numpy as np\nmine = np.ones(half(1100) << 17)\ntime.sleep(2)",
            "test_both",
        ),
        config=Config({"SandboxProvisioner": {"memory_limit": 1700 * MB}}),
    )
    assert reason(notebook.cells[1]) == outcome


def test_the_outputs_of_all_cells_together_have_a_bound():
    shower = JudgedExecute(notebook_output_limit=3 * MB)
    notebook = new_notebook(cells=[new_code_cell("print('x' * 900_000)") for _ in range(8)])
    shower.preprocess(notebook, {})
    kept = sum(len(output.text) for cell in notebook.cells for output in cell.outputs)
    assert 2 * MB < kept < 3.1 * MB
    assert {flag.code for flag in notebook.metadata.nbjudge.flags} == {"outputs_limit"}
    assert reason(notebook.cells[0]) is None
    assert "the rest was cut" in notebook.cells[-1].outputs[0].text
