"""Kernels that are forked warm: they work, they differ, they end with their grader."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from nbjudge.run import provisioner as module
from nbjudge.run.provisioner import (
    KERNEL_NAME,
    SandboxKernelSpecManager,
    SandboxMissing,
    SandboxProvisioner,
    can_fork,
)
from nbjudge.server.forkserver import ForkServer, descendants

from tests.submission_cells import errors, printed, run_cells

pytestmark = pytest.mark.slow

forked = pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform")


@forked
def test_libraries_are_there_and_compute():
    """The first matrix product of a child hangs if its parent had computed one."""
    nb = run_cells(
        "import sys; print({'torch', 'numpy', 'matplotlib.pyplot'} <= set(sys.modules))",
        "import numpy as np; x = np.random.rand(600, 600); print((x @ x).shape)",
        "import torch; y = torch.rand(600, 600); print((y @ y).shape, torch.get_num_threads())",
        "w = torch.rand(50, 50, requires_grad=True); (w @ w).sum().backward(); print(w.grad.shape)",
        timeout=60,
    )
    assert [printed(cell) for cell in nb.cells] == [
        "True\n",
        "(600, 600)\n",
        "torch.Size([600, 600]) 1\n",
        "torch.Size([50, 50])\n",
    ]


@forked
def test_the_server_has_one_thread_and_no_kernel_of_its_own():
    server = ForkServer.instance()
    server.start()
    assert os.listdir(f"/proc/{server.pid}/task") == [str(server.pid)]
    run_cells("1")
    assert os.listdir(f"/proc/{server.pid}/task") == [str(server.pid)]
    assert descendants(server.pid) == []


@forked
def test_pictures_are_drawn_into_the_notebook():
    nb = run_cells("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    assert "image/png" in nb.cells[0].outputs[0].data


@forked
def test_pictures_are_drawn_where_the_course_names_no_matplotlib():
    picture = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    before = "import sys\nprint('matplotlib' in sys.modules)"
    nb = run_cells(before, picture, config={"NbJudge": {"preload": []}})
    assert printed(nb.cells[0]) == "False\n"
    assert "image/png" in nb.cells[1].outputs[0].data


@forked
def test_kernels_share_nothing():
    run_cells("import llm_memory\nllm_memory.left_behind = 1\nopen('file', 'w').write('x')")
    nb = run_cells("import os, llm_memory\nprint(hasattr(llm_memory, 'left_behind'), os.listdir())")
    assert printed(nb.cells[0]) == "False []\n"


@forked
def test_a_server_that_died_is_started_again():
    server = ForkServer.instance()
    server.start()
    first = server.pid
    os.kill(first, signal.SIGKILL)
    assert printed(run_cells("1 + 1").cells[0]) == "2"
    assert server.pid != first


@forked
def test_files_of_a_submission_do_not_stop_its_kernel(tmp_path):
    for name in (".ipython", ".matplotlib", "json.py", "zmq.py", "matplotlib_inline.py"):
        (tmp_path / name).write_text("raise SystemExit('no kernel today')")
    os.mkfifo(tmp_path / "pipe")
    assert printed(run_cells("1 + 1", folder=tmp_path).cells[0]) == "2"


@forked
def test_boxes_are_removed(tmp_path, monkeypatch):
    made = []
    make = module._make_folder
    monkeypatch.setattr(module, "_make_folder", lambda: made.append(make()) or made[-1])
    run_cells("1", "import os; os._exit(0)", "2")
    assert len(made) == 2
    assert not any(os.path.exists(path) for path in made)


GRADER = """
import time
from jupyter_client import KernelManager
from nbjudge.server.forkserver import ForkServer
from nbjudge.run.provisioner import KERNEL_NAME, SandboxKernelSpecManager
km = KernelManager(kernel_name=KERNEL_NAME, kernel_spec_manager=SandboxKernelSpecManager())
km.start_kernel()
process = km.provisioner.process
print(ForkServer.instance().pid, process.pid, km.provisioner.box.path, flush=True)
time.sleep(600)
"""


@forked
def test_nothing_outlives_a_grader_that_is_killed():
    grader = subprocess.Popen([sys.executable, "-c", GRADER], stdout=subprocess.PIPE, text=True)
    *pids, box = grader.stdout.readline().split()
    server, init = map(int, pids)
    family = [server, init, *descendants(init)]
    assert all(map(alive, family))
    grader.kill()
    grader.wait()
    deadline = time.monotonic() + 60
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, family))
    assert not os.path.exists(box)


def alive(pid):
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
            != "Z"
        )
    except OSError:
        return False


def test_the_kernelspec_is_found_without_being_installed():
    spec = SandboxKernelSpecManager().get_kernel_spec(KERNEL_NAME)
    assert spec.metadata["kernel_provisioner"]["provisioner_name"] == KERNEL_NAME
    with pytest.raises(NoSuchKernel):
        KernelSpecManager().get_kernel_spec(KERNEL_NAME)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"name": "python3", "display_name": "Python 3"},
        {"name": "somebody's environment", "display_name": "Mine", "language": "python"},
    ],
)
def test_python_is_run_warm_whatever_its_environment_is_called(spec):
    assert module.kernel_for({"kernelspec": spec}) == KERNEL_NAME


def test_a_kernel_that_is_not_installed_is_named():
    spec = {"name": "befunge", "display_name": "Befunge", "language": "befunge"}
    with pytest.raises(module.NoSuchKernel, match=r"'befunge' is not installed.*there are: "):
        module.kernel_for({"kernelspec": spec})


def test_an_ordinary_kernel_where_there_is_no_fork(monkeypatch, caplog):
    monkeypatch.setattr(module, "can_fork", lambda: False)
    SandboxProvisioner.missing_here.clear()
    nb = run_cells("a = 1", "import os; os._exit(0)", "a", "1 / 0", timeout=60)
    assert printed(nb.cells[2]) == "1"
    assert errors(nb.cells[3]) == ["ZeroDivisionError"]
    said = [r.getMessage() for r in caplog.records if "Sandbox" in r.getMessage()]
    assert len(said) == 1
    assert "own rights" in said[0]


def test_require_sandbox_refuses_an_ordinary_kernel(monkeypatch):
    monkeypatch.setattr(module, "can_fork", lambda: False)
    with pytest.raises(SandboxMissing, match="fork"):
        run_cells("1", config={"SandboxProvisioner": {"require_sandbox": True}})


def test_the_kernelspec_starts_an_ordinary_kernel_by_itself():
    path = Path(module.__file__).with_name("kernels") / KERNEL_NAME / "kernel.json"
    assert "{connection_file}" in json.loads(path.read_text())["argv"]
