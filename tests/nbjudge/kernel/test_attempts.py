"""What a submission tries is noted; what honest work does is not; and a note changes no score."""

import json
import os

import pytest
from nbjudge.codes import REASONS
from nbjudge.kernel import attempts
from nbjudge.run.provisioner import can_fork

from tests.submission_cells import errors, printed, reason, run_cells, test_cell

pytestmark = pytest.mark.slow

forked = pytest.mark.skipif(not can_fork(), reason="kernels cannot be forked on this platform")

#: Cells, and the codes that each must be noted with.
TRIED = {
    "open('/etc/passwd')": {"blocked_read"},
    "import pathlib\npathlib.Path('/etc/passwd').read_text()": {"blocked_read"},
    "import glob\nglob.glob('/home/*')": {"blocked_read"},
    "import os\nos.listdir('/')": {"blocked_read"},
    "import sqlite3\nsqlite3.connect('/gradebook.db')": {"blocked_read"},
    "import numpy as np\nnp.load('/etc/passwd')": {"blocked_read"},
    "import torch\ntorch.load('/etc/passwd')": {"blocked_read"},
    "import os\nos.symlink('/etc/passwd', 'mine'); open('mine')": {"blocked_read"},
    "open('/proc/1/environ')": {"blocked_read"},
    "exec('open(\"/etc/passwd\")')": {"blocked_read"},
    "open('/etc/passwd', 'a')": {"blocked_write"},
    "import shutil\nshutil.rmtree('/home')": {"blocked_write"},
    "import os\nos.rename('here', '/there')": {"blocked_write"},
    "open('quiz_answers.json', 'w')": {"wrote_answers"},
    "import socket\nsocket.create_connection(('127.0.0.1', 9))": {"blocked_network"},
    "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.sendto(b'', ('127.0.0.1', 9))": {
        "blocked_network"
    },
    "import socket\nsocket.socket(socket.AF_UNIX).connect('/run/docker.sock')": {"blocked_network"},
    "import urllib.request\nurllib.request.urlopen('http://host.invalid')": {"blocked_network"},
    "import os\nos.kill(1, 9)": {"blocked_signal"},
    "import subprocess\nsubprocess.run(['true'])": {"started_process"},
    "!true": {"started_process"},
    "import os\nif os.fork() == 0:\n    os._exit(0)": {"started_process"},
    "import threading, time\nthreading.Thread(target=lambda: time.sleep(30)).start()": {
        "thread_goes_on"
    },
    "import ctypes\nctypes.CDLL(None).ptrace(16, 1, 0, 0)": {"native_code"},
    "import gc\nlen(gc.get_objects())": {"looked_inside"},
    "import inspect\ninspect.currentframe()": {"looked_inside"},
    "import sys\nsys.addaudithook(lambda *a: None)": {"shell_hooked"},
    "get_ipython().input_transformers_post.append(lambda lines: lines)": {"shell_hooked"},
    "get_ipython().set_custom_exc((OSError,), lambda *a: None)": {"shell_hooked"},
    "import numpy\nnumpy.allclose = lambda *a: True": {"patched"},
    "import builtins\nbuiltins.all = lambda *a: True": {"patched"},
    "from nbjudge.wire import calls as rpc\nrpc.Peer._perform = lambda *a: True": {"patched"},
    "from IPython.display import HTML\nHTML('<script>1</script>')": {"script"},
}

#: What a learner may well do.
HONEST = {
    "files": "open('mine', 'w').write('x'); open('mine').read()\nimport os; os.listdir('.')",
    "a file that is not there": "import os; os.path.exists('/data/rows.csv'); open('rows.csv')",
    "temporary files": "import tempfile\ntempfile.NamedTemporaryFile('w').write('x')",
    "arrays in files": "import numpy as np; np.save('a.npy', np.ones(3)); np.load('a.npy').sum()",
    "pictures": (
        "import matplotlib.pyplot as plt\nfigure, axes = plt.subplots()\n"
        "axes.set_title('α \\u6f22', fontfamily='no such font'); plt.savefig('a.png'); plt.show()"
    ),
    "its own figures": "open('/proc/self/status').read(); open('/proc/cpuinfo').read()",
    "its own signals": "import os, signal\nos.kill(os.getpid(), 0)",
    "late imports": "import xml.dom.minidom, sqlite3, unittest, torch.utils.data, numpy.testing",
    "classes": (
        "from collections import namedtuple\nfrom dataclasses import dataclass\nfrom enum import "
        "Enum\nP = namedtuple('P', 'x y')\n@dataclass\nclass Q:\n    x: int\n"
        "class E(Enum):\n    A = 1"
    ),
    "warnings and logs": "import logging, warnings\nwarnings.warn('x'); logging.warning('x')",
    "a thread that ends": (
        "import threading\nt = threading.Thread(target=lambda: 1); t.start(); t.join()"
    ),
    "its own names": "def all(x): return True\nallclose = all\nimport numpy as np; np.mine = all",
    "the machine": "import platform; platform.platform()",
    "an error": "1 / 0",
    "html": "import IPython.display as d\nd.HTML('<b>bold</b>')",
}  # fmt: skip


def noted(cell):
    """Return the codes of a cell's notes."""
    return {entry.code for entry in cell.metadata.get("nbjudge", {}).get("notes", [])}


@forked
def test_what_is_tried_is_noted_at_its_cell_and_costs_nothing():
    nb = run_cells(*TRIED, test_cell("assert 1 + 1 == 2"))
    assert {cell.source: noted(cell) for cell in nb.cells[:-1]} == TRIED
    assert not any(reason(cell) for cell in nb.cells)
    assert not errors(nb.cells[-1]) and noted(nb.cells[-1]) == set()
    flags = nb.metadata.nbjudge.flags
    assert {flag.code for flag in flags} == set().union(*TRIED.values())
    assert all(flag.sentence.endswith("That alone costs no points.") for flag in flags)


@forked
def test_honest_work_is_not_noted():
    nb = run_cells(*HONEST.values())
    assert {name: noted(cell) for name, cell in zip(HONEST, nb.cells, strict=True)} == {
        name: set() for name in HONEST
    }
    assert nb.metadata.nbjudge.flags == []


@forked
def test_a_forged_note_adds_a_flag_at_most_and_a_silenced_one_takes_nothing_away():
    nb = run_cells(
        'import os\nos.write(3, b\'["blocked_read", "<b>https://a.b/*c*"]\\n\')',
        # As much as fits, none of which is a note.
        "lines = [b'{}', b'[' * 400, b'[\"timeout\", \"x\"]', b'\\xff', b'']\n"
        "for line in lines * 50: os.write(3, line + b'\\n')",
        'try:\n    while True: os.write(3, b\'["patched", "%d"]\\n\' % os.getpid())\n'
        "except BlockingIOError: pass",
        "os.close(3)\nopen('/etc/passwd')",
        test_cell("assert 1 + 1 == 2"),
        "print(2)",
    )
    assert (
        nb.cells[0]
        .metadata.nbjudge.notes[0]
        .detail.startswith(
            "This cell tried to read what grading does not give it: ?b?https:/a.b/?c?."
        )
    )
    assert noted(nb.cells[1]) == set() and not errors(nb.cells[1])
    assert noted(nb.cells[2]) == {"patched"}
    assert errors(nb.cells[3]) == ["FileNotFoundError"]
    assert errors(nb.cells[4]) == []
    assert printed(nb.cells[5]) == "2\n"
    assert [reason(cell) for cell in nb.cells] == [None] * 6


@forked
def test_what_a_dying_cell_tried_is_noted_too():
    nb = run_cells("import os\nos.kill(os.getppid(), 0)\nos.kill(1, 15)\nos._exit(1)", "1")
    assert reason(nb.cells[0]) == "kernel_died"
    assert noted(nb.cells[0]) == {"blocked_signal"}
    assert [flag.code for flag in nb.metadata.nbjudge.flags] == ["kernel_died", "blocked_signal"]


@forked
def test_the_flags_of_a_thousand_attempts_are_few():
    nb = run_cells(*[f"for i in range(30): print(open('/etc/{n}-%d' % i))" for n in range(5)],
                   *[f"open('/etc/{n}')" for n in range(20)])  # fmt: skip
    flags = nb.metadata.nbjudge.flags
    assert {flag.code for flag in flags} == {"blocked_read"}
    assert len(flags) == 10


def test_only_notes_are_read():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    assert attempts.read(reading) == {}
    lines = [
        *(b"", b"5", b"null", b"[1, 2]", b"[]", b'{"code": "patched"}', b'["patched", 1]'),
        *(b"[" * 500, b'["' + b"x" * 600 + b'", "y"]', b'["kernel_died", "x"]', b'["patched", "a'),
        json.dumps(["patched", "a\u202e\x1b[31m<b>" + "x" * 400]).encode(),
        json.dumps(["patched", "b"]).encode(),
    ]
    os.write(writing, b"\n".join(lines))
    found = attempts.read(reading)
    assert found.keys() == {"patched"}
    first, second = found["patched"]
    assert first.startswith("a??") and len(first) <= 120 and "<" not in first
    assert second == "b"
    os.write(writing, b'["patched", "x"]\n' * 3000)
    assert found.keys() == attempts.read(reading).keys()
    os.close(writing)
    os.close(reading)
    assert attempts.read(reading) == {}


def test_every_kind_of_note_has_a_reason_that_costs_nothing():
    assert REASONS.keys() >= attempts.KINDS
    assert not any(REASONS[code].costs for code in attempts.KINDS)
