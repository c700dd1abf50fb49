"""What a cell can do to the rest of its notebook: nothing.

Each test runs a notebook of a few cells in a real, sandboxed kernel.
"""

import re
import threading

import pytest
from nbformat import validate
from nbformat.v4 import new_code_cell, new_notebook
from nbjudge.codes import REASONS
from nbjudge.run.execution import OutputFlood, OutputTally, SandboxedExecute
from nbjudge.run.judged import JudgedExecute
from nbjudge.run.provisioner import NoSuchKernel

from tests.submission_cells import errors, printed, reason, run_cells, test_cell
from tests.submissions import ROOT

pytestmark = pytest.mark.slow


def test_cells_share_a_kernel_and_keep_their_outputs():
    nb = run_cells("a = 1\nprint('printed')", "a + 1", "1 / 0", "a")
    assert [printed(cell) for cell in nb.cells] == ["printed\n", "2", "", "1"]
    assert errors(nb.cells[2]) == ["ZeroDivisionError"]
    assert reason(nb.cells[2]) is None
    assert [cell.execution_count for cell in nb.cells] == [1, 2, 3, 4]
    validate(nb)


def test_a_line_for_the_shell_costs_no_cell_its_definitions():
    nb = run_cells(
        "!echo from the shell; exit 3\ndef f():\n    return _exit_code",
        "%pip install nothing-of-this-name -qqq\ng = 4",
        "%%bash\necho in bash",
        "names = !echo one\nprint(f(), g, names)",
    )
    assert [errors(cell) for cell in nb.cells] == [[], [], [], []]
    assert "from the shell" in printed(nb.cells[0])
    assert "in bash" in printed(nb.cells[2])
    assert printed(nb.cells[3]).endswith("4 ['one']\n")


@pytest.mark.parametrize(
    ("killer", "how"),
    [
        ("import os; os._exit(3)", "status 3"),
        ("import ctypes; ctypes.string_at(0)", "segmentation fault"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed"),
    ],
)
def test_what_a_killer_defined_is_lost_and_nothing_else(killer, how):
    nb = run_cells("a = 1", "1 / 0", killer, "a", test_cell("assert a == 1"))
    assert [reason(cell) for cell in nb.cells] == [None, None, "kernel_died", None, None]
    assert how in nb.cells[2].metadata.nbjudge.detail
    assert errors(nb.cells[2]) == ["kernel_died"]
    assert errors(nb.cells[1]) == ["ZeroDivisionError"]
    assert printed(nb.cells[3]) == "1"
    assert nb.cells[4].outputs == []
    assert nb.metadata.nbjudge.flags[0].code == "kernel_died"
    validate(nb)


def test_earlier_cells_run_again_but_tests_and_killers_do_not():
    nb = run_cells(
        "runs = ['first']; print('once')",
        "import os; os._exit(1)",
        "runs.append('second')",
        test_cell("runs.append('test')"),
        "import os; os._exit(1)",
        "print(runs)",
    )
    assert printed(nb.cells[0]) == "once\n"
    assert printed(nb.cells[5]) == "['first', 'second']\n"


def test_a_test_that_kills_the_kernel_loses_its_own_points_only():
    nb = run_cells(
        "import os\ndef good(): return 1\ndef bad(): os._exit(0)",
        test_cell("assert good() == 1", "test_good_core"),
        test_cell("bad()", "test_bad_core"),
        test_cell("bad()", "test_bad_hard"),
        test_cell("assert good() == 1", "test_good_hard"),
    )
    assert [reason(c) for c in nb.cells[1:]] == [None, "kernel_died", "kernel_died", None]
    assert [bool(errors(c)) for c in nb.cells[1:]] == [False, True, True, False]
    codes = [(flag.code, flag.cell) for flag in nb.metadata.nbjudge.flags]
    assert codes == [("kernel_died", "test_bad_core"), ("kernel_died", "test_bad_hard")]


def test_an_endless_loop_is_interrupted_and_its_kernel_lives():
    nb = run_cells("a = 1", "b = 2\nwhile True: pass", "a + b", timeout=3)
    assert [reason(cell) for cell in nb.cells] == [None, "timeout", None]
    assert printed(nb.cells[2]) == "3"


def test_an_endless_loop_that_swallows_the_interrupt_is_ended():
    swallow = """
while True:
    try:
        while True: sum(range(100))
    except KeyboardInterrupt:
        pass
"""
    nb = run_cells("a = 1", test_cell(swallow), "a", timeout=3, interrupt_grace=1.0)
    assert [reason(cell) for cell in nb.cells] == [None, "timeout", None]
    assert "timeout" in errors(nb.cells[1])
    assert printed(nb.cells[2]) == "1"


def test_a_late_test_has_failed_even_if_it_ends_well():
    # An empty loop would do, but CPython does not always take its jump to be inside the `try`.
    late = "try:\n    while True: sum(range(100))\nexcept KeyboardInterrupt:\n    pass"
    nb = run_cells(test_cell(late), timeout=3)
    assert errors(nb.cells[0]) == ["timeout"]


def test_the_whole_notebook_has_a_time_too():
    nb = run_cells("import time; time.sleep(60)", "1", "2", timeout=50, total_timeout=3.0)
    assert [reason(cell) for cell in nb.cells] == ["timeout", "timeout_total", "timeout_total"]
    assert errors(nb.cells[2]) == ["timeout_total"]


def test_output_is_cut_while_it_arrives_and_costs_nothing():
    nb = run_cells(
        "print('x' * 200_000_000); a = 1",
        "for i in range(100): print('y' * 2_000_000)\nb = 2",
        test_cell("print('z' * 2_000_000); assert a + b == 3"),
        output_limit=100_000,
        timeout=120,
    )
    for cell in nb.cells:
        assert reason(cell) == "output_limit"
        assert len(printed(cell)) < 110_000
        assert not errors(cell)


def test_display_updates_without_end_are_bounded():
    nb = run_cells(
        "from IPython.display import display\nh = display('start', display_id='d')",
        "while True: h.update('x' * 10_000)",
        "print('on')",
        output_limit=50_000,
        timeout=5,
    )
    assert reason(nb.cells[1]) in ("timeout", "output_flood", "output_limit")
    assert errors(nb.cells[1])
    assert printed(nb.cells[2]) == "on\n"
    validate(nb)


def test_input_is_answered_with_an_error_at_once():
    nb = run_cells("input('name?')", "1")
    assert errors(nb.cells[0]) == ["StdinNotImplementedError"]
    assert reason(nb.cells[0]) == "input"
    assert printed(nb.cells[1]) == "1"


def test_a_warning_in_a_test_costs_nothing():
    from nbgrader.utils import determine_grade

    source = "import sys, warnings\nwarnings.warn('careful')\nprint('note', file=sys.stderr)"
    nb = run_cells(test_cell(source))
    assert "careful" in printed(nb.cells[0])
    assert determine_grade(nb.cells[0]) == (1, 1)


def test_cells_that_only_show_are_left_out():
    shown = new_code_cell("1 / 0", metadata={"tags": ["show"]})
    nb = run_cells("a = 1", shown, "a")
    assert nb.cells[1].outputs == []
    assert printed(nb.cells[2]) == "1"


def test_threads_that_go_on_do_not_outlive_the_notebook():
    code = "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()"
    nb = run_cells(code, "1 + 1")
    assert printed(nb.cells[1]) == "2"


def test_a_test_cell_runner_takes_the_test_cells_over():
    seen = []

    def runner(cell, kernel):
        client = kernel.km.blocking_client()
        client.start_channels(stdin=False, hb=False)
        reply = client.execute("pass", user_expressions={"v": "value"}, reply=True, timeout=20)
        client.stop_channels()
        text = reply["content"]["user_expressions"]["v"]["data"]["text/plain"]
        seen.append((text, threading.current_thread() is threading.main_thread()))

    nb = run_cells("value = 42", test_cell("assert False"), test_cell_runner=runner)
    assert seen == [("42", False)]
    assert nb.cells[1].outputs == []


def test_a_test_cell_runner_that_kills_or_hangs_is_one_cell_too():
    async def runner(cell, kernel):
        if cell.source == "dies":
            kernel.kc.execute("import os; os._exit(1)")
        import asyncio

        await asyncio.sleep(600)

    nb = run_cells(
        "a = 1",
        test_cell("dies", "test_a_core"),
        test_cell("hangs", "test_b_core"),
        "a",
        test_cell_runner=runner,
        timeout=3,
        interrupt_grace=0.5,
    )
    assert [reason(c) for c in nb.cells] == [None, "kernel_died", "timeout", None]
    assert printed(nb.cells[3]) == "1"


def test_a_kernel_that_lies_cannot_spoil_the_notebook():
    """Messages that no notebook can hold are dropped; the error of a test cannot be cleared."""
    lie = r"""
from IPython import get_ipython
k = get_ipython().kernel
def send(kind, content):
    k.session.send(k.iopub_socket, kind, content, parent=k.get_parent())
send("stream", {"name": "nowhere", "text": 5})
send("display_data", {"data": {"text/plain": 7}, "metadata": None, "transient": 3})
send("error", {"ename": 1, "evalue": [], "traceback": "no"})
send("stream", {"name": "stdout", "text": "half \ud800 a character"})
send("execute_result", {"data": {}, "metadata": {}, "execution_count": "many"})
send("execute_result", {"data": {"xjson": {}}, "metadata": {}, "execution_count": True})
send("nonsense", {})
deep = []
for _ in range(400):
    deep = [[deep]]
send("display_data", {"data": {"application/json": deep}, "metadata": {}})
k.iopub_thread.socket.send_multipart([b"not", b"a", b"message"])
"""
    hide = "from IPython.display import clear_output\n" + (
        "from IPython import get_ipython\n"
        "get_ipython().events.register('post_run_cell', lambda *a: clear_output())"
    )
    nb = run_cells(lie, "print('on')", hide, test_cell("assert False"))
    validate(nb)
    for cell in nb.cells:
        str(cell).encode()
    assert printed(nb.cells[1]) == "on\n"
    assert errors(nb.cells[3]) == ["AssertionError"]


def test_the_tally_counts_what_it_does_not_keep():
    kept = []
    tally = OutputTally(1000, kept.append)
    message = {"header": {"msg_type": "stream"}, "content": {"name": "stdout", "text": "x" * 600}}
    for _ in range(3):
        tally(message)
    assert tally.cut
    assert "cut" in kept[-1]["content"]["text"]
    assert len(kept) == 2
    with pytest.raises(OutputFlood):
        for _ in range(10_000):
            tally({"header": {"msg_type": "comm_msg"}, "content": {}, "buffers": [bytes(100_000)]})


def test_every_reason_has_its_sentence():
    fields = {
        "seconds": 3.0,
        "megabytes": 5.0,
        "how": "it aborted",
        "what": "a thing",
        "why": "it is",
    }
    for entry in REASONS.values():
        assert entry.sentence.format(**fields).endswith((".", "!"))


def test_the_documentation_lists_every_code():
    page = (ROOT / "docs" / "instructors.md").read_text(encoding="utf-8")
    section = page.split("## Flags, and what each means")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = [code for row in rows for code in re.findall(r"`([\w-]+)`", row)]
    assert sorted(listed) == sorted(REASONS)


def test_it_is_configured_as_nbgraders_execute():
    from traitlets.config import Config

    execute = SandboxedExecute(config=Config({"Execute": {"timeout": 7}}))
    assert execute.timeout == 7


# ipykernel answers no more after each of these; the second is mended before it matters.
@pytest.mark.parametrize(
    ("silencer", "found"),
    [
        ("from IPython import get_ipython\nget_ipython().kernel.shell_handlers.clear()", True),
        ("import sys\nsys.stdout = sys.stderr = None", False),
    ],
)
def test_a_cell_that_silences_its_kernel_loses_what_it_did_and_nothing_else(silencer, found):
    nb = run_cells("a = 1", silencer, "b = 1", "print(a + b)")
    assert reason(nb.cells[1]) == ("kernel_silent" if found else None)
    assert [reason(nb.cells[index]) for index in (0, 2, 3)] == [None] * 3
    assert printed(nb.cells[3]) == "2\n"


def test_a_kernel_that_is_not_there_is_an_error_that_names_it():
    nb = new_notebook(cells=[new_code_cell("1")])
    nb.metadata.kernelspec = {"name": "no-such-kernel", "display_name": "R", "language": "R"}
    with pytest.raises(NoSuchKernel, match=r"'no-such-kernel'.*python3"):
        SandboxedExecute().preprocess(nb, {})
    assert nb.cells[0].outputs == []


def test_a_python_of_another_name_is_the_warm_one():
    nb = new_notebook(cells=[new_code_cell("__import__('os').getpid() < 100")])
    nb.metadata.kernelspec = {"name": "theirs", "display_name": "P", "language": "python"}
    nb, _ = SandboxedExecute().preprocess(nb, {})
    assert printed(nb.cells[0]) == "True"


def test_a_cell_that_leaves_its_kernel_dying_loses_nothing_of_the_test_behind_it():
    notebook = new_notebook(
        cells=[
            new_code_cell("def double(x):\n    return 2 * x"),
            new_code_cell("import asyncio\nasyncio.get_event_loop().stop()"),
            test_cell("assert double(2) == 4", "test_first"),
            new_code_cell("import os\ndef double(x):\n    os._exit(0)"),
            test_cell("assert double(3) == 6", "test_second"),
            new_code_cell("def double(x):\n    return 2 * x"),
            test_cell("assert double(4) == 8", "test_third"),
        ]
    )
    JudgedExecute().preprocess(notebook, {})
    reasons = [reason(cell) for cell in notebook.cells]
    assert reasons == [None, "kernel_died", None, None, "kernel_died", None, None]
    assert [errors(notebook.cells[at]) for at in (2, 6)] == [[], []]
