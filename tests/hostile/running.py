"""What a submission can do while it runs, to its own grade, to others and to the machine.

Every attack is bounded on its own: where a protection is missing, the test fails and the machine
goes on. A cell that reaches what it must not reach prints BREACH.
"""

from __future__ import annotations

import copy
import os
import socket
from collections.abc import Callable
from pathlib import Path

from nbformat.v4 import new_code_cell

from tests.hostile.classroom import HIDDEN, LESSON, WRONG, Classroom, cell_of
from tests.hostile.corpus import DOUBLE, TESTS, Hand, case

#: The settings under which these are graded: an endless loop need not take half a minute.
# Less memory than in a course: a busy machine takes seconds to fill two gigabytes.
SETTINGS = """
c.Execute.timeout = 8
c.SandboxProvisioner.memory_limit = 1_200 * 1024**2
c.JudgedExecute.call_timeout = 5.0
"""


def _append(hand: Hand, source: str) -> None:
    hand.notebook.cells.append(new_code_cell(source))


def _before_all(hand: Hand, source: str) -> None:
    hand.notebook.cells.insert(0, new_code_cell(source))


def _double(hand: Hand, source: str) -> None:
    cell_of(hand.notebook, "double").source = source


def _held(room: Classroom, student: str) -> None:
    """Assert that the attacks ran, and that none of them said that it got through."""
    shown = [
        str(output)
        for cell in room.autograded(student).cells
        if cell.cell_type == "code" and "BREACH" in cell.source
        for output in cell.outputs
    ]
    assert shown
    assert not any("BREACH" in text.replace("print('BREACH'", "") for text in shown), shown


def _attempt(action: str) -> str:
    """Return code that tries something and says BREACH if it worked."""
    return f"try:\n    {action}\n    print('BREACH')\nexcept OSError as e:\n    print('held', e)"


def _things_to_attack(hand: Hand) -> dict[str, Path]:
    course = hand.room.folder
    return {
        "source": course / "source" / LESSON / f"{LESSON}.ipynb",
        "gradebook": course / "gradebook.db",
        "configuration": course / "nbgrader_config.py",
        "another's work": course / "submitted" / "-first" / LESSON / f"{LESSON}.ipynb",
        "another's grade": course / "autograded" / "-first" / LESSON / f"{LESSON}.ipynb",
        "home": Path.home() / ".profile",
    }


@case(flags={"blocked_read"}, says="tried to read what grading does not give it")
def reads_what_is_the_instructors(hand: Hand) -> Callable:
    for path in _things_to_attack(hand).values():
        _append(hand, _attempt(f"open({str(path)!r}, 'rb').read(1)"))
    _append(hand, _attempt(f"__import__('os').listdir({str(hand.room.folder)!r})"))
    return _held


@case(flags={"blocked_write"}, says="tried to write where grading does not allow it")
def writes_what_is_the_instructors(hand: Hand) -> Callable:
    for name, path in _things_to_attack(hand).items():
        if name != "home":
            # Opened for writing, and left as it is: the attempt is what counts.
            _append(hand, _attempt(f"open({str(path)!r}, 'r+b').close()"))
    new = str(hand.room.folder / "source" / "new")
    _append(hand, _attempt(f"open({new!r}, 'w').close()"))
    _append(hand, _attempt("open('/etc/llm-memory-test', 'x').close()"))
    return _held


@case()
def reads_the_hidden_tests_beside_it(hand: Hand) -> Callable:
    """Not flagged: its own folder is there to be read, and no hidden test is in it."""
    _append(
        hand,
        "import pathlib\n"
        "for path in pathlib.Path('.').rglob('*'):\n"
        "    if path.is_file():\n"
        f"        print('BREACH' if '{HIDDEN[:3]}' + '{HIDDEN[3:]}' in path.read_text() else path)",
    )
    return _held


@case(flags={"looked_inside"}, says="Nothing of the tests is there")
def looks_for_the_hidden_tests_in_memory(hand: Hand) -> Callable:
    code = (
        "import gc, sys\n"
        f"secret = '{HIDDEN[:3]}' + '{HIDDEN[3:]}'\n"
        "def double(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        if secret in str(frame.f_code.co_consts):\n"
        "            print('BREACH')\n"
        "        frame = frame.f_back\n"
        "    return 2 * x"
    )
    _double(hand, code)
    _append(
        hand,
        "for thing in gc.get_objects():\n"
        "    inside = thing.values() if type(thing) is dict else thing\n"
        "    for text in inside if isinstance(inside, (list, tuple, type({}.values()))) else ():\n"
        "        if type(text) is str and secret in text and text != secret:\n"
        "            print('BREACH')\n"
        "print('held')",
    )
    return _held


class _Listeners:
    """Ends of the test's own, on which nothing may arrive."""

    def __init__(self, folder: Path):
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.path = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(folder)  # a socket's name is short
        try:
            self.path.bind("s")
        finally:
            os.chdir(here)
        self.path.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0llm-memory-{os.getpid()}")
        self.abstract.listen()
        for end in self.ends:
            end.setblocking(False)

    @property
    def ends(self) -> list[socket.socket]:
        """All of them."""
        return [self.tcp, self.udp, self.path, self.abstract]

    def check(self, room: Classroom, student: str) -> None:
        """Assert that nothing arrived."""
        for end in self.ends:
            try:
                arrived = end.recv(10) if end is self.udp else end.accept()
            except BlockingIOError:
                arrived = None
            end.close()
            assert arrived is None
        _held(room, student)


@case(flags={"blocked_network"}, says="tried to reach the network")
def calls_out(hand: Hand) -> Callable:
    listeners = _Listeners(hand.room.folder)
    tcp, udp = listeners.tcp.getsockname(), listeners.udp.getsockname()
    path = str(hand.room.folder / "s")
    abstract = f"\0llm-memory-{os.getpid()}"
    _append(hand, f"import socket\n{_attempt(f'socket.create_connection({tcp!r}, 3)')}")
    for address in (abstract, path):
        _append(hand, _attempt(f"socket.socket(socket.AF_UNIX).connect({address!r})"))
    # A datagram may be taken and go nowhere: whether it arrived is what counts.
    _append(
        hand,
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        f"try:\n    s.sendto(b'x', {udp!r})\nexcept OSError as e:\n    print(e)",
    )
    return listeners.check


@case(lost=DOUBLE, flags={"timeout"}, says="ran for longer than")
def endless_loop(hand: Hand) -> None:
    _double(hand, "while True:\n    pass")


@case(lost=DOUBLE, flags={"timeout"}, says="ran for longer than")
def loop_that_swallows_the_interrupt(hand: Hand) -> None:
    _double(
        hand,
        "import time\nwhile True:\n    try:\n        time.sleep(0.1)\n"
        "    except BaseException:\n        pass",
    )


@case(lost=DOUBLE, flags={"late_answer"}, says="did not answer within")
def loop_in_a_called_function(hand: Hand) -> None:
    _double(hand, "def double(x):\n    while True:\n        pass")


@case(lost=DOUBLE, flags={"kernel_died"}, says="ended Python itself")
def exits_at_once(hand: Hand) -> None:
    _double(hand, "import os\nos._exit(0)")


@case(lost=DOUBLE, flags={"kernel_died"}, says="graded in a fresh kernel")
def exits_when_called(hand: Hand) -> None:
    _double(hand, "import os\n\ndef double(x):\n    os._exit(0)")


@case(lost=DOUBLE, flags={"kernel_died", "native_code"}, says="segmentation fault")
def segfaults(hand: Hand) -> None:
    _double(hand, "import ctypes\nctypes.string_at(0)")


@case(flags={"kernel_died"}, says="ended Python itself")
def leaves_the_shell(hand: Hand) -> None:
    # The shell ends a moment after `exit()`: while the next cell runs, so that one is left waiting.
    _append(hand, "exit()")
    _append(hand, "import time\ntime.sleep(1)")
    _append(hand, "raise SystemExit")
    _append(hand, "raise KeyboardInterrupt")
    hand.notebook.cells.insert(1, new_code_cell("%reset -f"))


@case(flags={"kernel_died", "blocked_signal"}, says="sent a signal to another process")
def kills_its_parents(hand: Hand) -> None:
    _append(hand, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(1, 9)")
    _append(hand, "os.kill(os.getpid(), signal.SIGKILL)")


@case(lost=DOUBLE, flags={"memory"}, says="more memory than grading allows")
def memory_bomb(hand: Hand) -> None:
    _double(hand, "parts = []\nfor _ in range(60):\n    parts.append(b'x' * 100_000_000)")


@case(flags={"processes", "started_process"}, says="more processes or threads")
def fork_bomb(hand: Hand) -> None:
    _append(
        hand,
        "import os, time\n"
        "for _ in range(200):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(20)\n"
        "        os._exit(0)",
    )


@case(flags={"disk"}, says="more to disk than grading allows")
def disk_fill(hand: Hand) -> None:
    _append(
        hand,
        "with open('filler', 'wb') as file:\n"
        "    for _ in range(2_000):\n"
        "        file.write(b'x' * 1_000_000)",
    )


@case(flags=[{"output_flood"}, {"output_limit"}], says="1 MB")
def output_of_200_megabytes(hand: Hand) -> None:
    _append(hand, "for _ in range(200):\n    print('x' * 1_000_000, flush=True)")


@case(flags={"output_limit"}, says="that alone costs no points")
def output_beyond_the_limit(hand: Hand) -> None:
    source = cell_of(hand.notebook, "double").source
    _double(hand, f"{source}\nprint('x' * 3_000_000)")


@case(flags=[{"output_flood"}, {"output_limit"}, {"output_flood", "output_limit"}], says="1 MB")
def endless_display_updates(hand: Hand) -> None:
    _append(
        hand,
        "from IPython.display import display\n"
        "handle = display('x', display_id=True)\n"
        "for number in range(2_000):\n    handle.update(str(number) * 20_000)",
    )


@case(flags={"input"}, says="asks for input()")
def asks_for_input(hand: Hand) -> None:
    _append(hand, "input('your grade: ')")


@case()
def warns_beside_correct_code(hand: Hand) -> None:
    """Not flagged: a warning is no wrong answer."""
    _double(
        hand,
        "import sys, warnings\n\ndef double(x):\n    warnings.warn('beware')\n"
        "    print('oh', file=sys.stderr)\n    return 2 * x",
    )


@case()
def allows_itself_three_files(hand: Hand) -> None:
    """Not flagged: it is refused, and so the tests behind it are answered."""
    _before_all(hand, "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))")


@case(flags={"thread_goes_on"}, says="ended with your notebook")
def threads_that_go_on(hand: Hand) -> None:
    _append(
        hand,
        "import threading, time\n\ndef forever():\n    while True:\n        time.sleep(0.01)\n\n"
        "for daemon in (True, False):\n    threading.Thread(target=forever, daemon=daemon).start()",
    )


_MARK = f"llm-memory-detached-{os.getpid()}"


def _nothing_left(room: Classroom, student: str) -> None:
    left = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            left += [process] if _MARK.encode() in process.read_bytes() else []
        except OSError:
            continue
    assert not left


@case(flags={"started_process"}, says="which ended with your notebook")
def detached_child(hand: Hand) -> Callable:
    _append(
        hand,
        "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', "
        f"'import time; time.sleep(300)', {_MARK!r}], start_new_session=True)",
    )
    return _nothing_left


def _nothing_solved(hand: Hand, trick: str) -> None:
    hand.notebook = copy.deepcopy(hand.room.released)
    _before_all(hand, trick)
    _append(hand, trick)


_TURNED_OFF = {"patched", "shell_hooked"}


# Their tricks leave the shell unable to answer the judge, which then gives up waiting.
@case(
    lost=TESTS,
    flags=[{"late_answer", "shell_hooked"}, {"test_stopped", "shell_hooked"}],
    says="changed how the notebook runs cells",
)
def asserts_removed_by_a_transformer(hand: Hand) -> None:
    _nothing_solved(
        hand,
        "import ast\n\nclass NoAsserts(ast.NodeTransformer):\n"
        "    def visit_Assert(self, node):\n        return ast.Pass()\n\n"
        "ip = get_ipython()\nip.ast_transformers.append(NoAsserts())\n"
        "ip.input_transformers_post.append(lambda lines: ['pass\\n'])",
    )


@case(
    lost=TESTS,
    flags=[{"late_answer", *_TURNED_OFF}, {"test_stopped", *_TURNED_OFF}],
    says="replaced parts of libraries (builtins.AssertionError",
)
def errors_turned_off(hand: Hand) -> None:
    _nothing_solved(
        hand,
        "import builtins, sys\nip = get_ipython()\n"
        "builtins.AssertionError = builtins.NotImplementedError = type('E', (Exception,), {})\n"
        "ip.showtraceback = lambda *a, **k: None\nip._showtraceback = lambda *a, **k: None\n"
        "ip.set_custom_exc((BaseException,), lambda *a, **k: None)\n"
        "sys.excepthook = lambda *a: None\n"
        "ip.run_cell = lambda *a, **k: type('R', (), dict(success=True, result=None, "
        "error_in_exec=None, error_before_exec=None, execution_count=1))()",
    )


@case(lost=DOUBLE, flags={"lying_answer"}, says="a class of its own (Anything)")
def an_answer_equal_to_everything(hand: Hand) -> None:
    _double(
        hand,
        "class Anything(float):\n    def __eq__(self, other):\n        return True\n"
        "    __hash__ = float.__hash__\n\ndef double(x):\n    return Anything(7)",
    )


@case(
    lost={"quiz_attention"},
    flags={"wrote_answers", "patched"},
    says="Your answers count as you handed them in",
)
def quiz_answered_by_the_kernel(hand: Hand) -> None:
    path = hand.folder / "quiz_answers.json"
    path.write_text(path.read_text().replace("relevant", WRONG))
    _before_all(
        hand,
        "import json, pathlib\npath = pathlib.Path('quiz_answers.json')\n"
        "text = path.read_text().replace('2026', '2027')\n"
        f"path.write_text(text.replace({WRONG!r}, 'relevant'))\n"
        "from IPython.display import display\nrecord = json.loads(path.read_text())\n"
        "display({'text/plain': ''}, metadata={'llm_memory': record}, raw=True)\n"
        "import llm_memory.quiz\nllm_memory.quiz.score = lambda *a, **k: 1.0",
    )


@case(flags={"blocked_read", "wrote_answers"}, says="what grading does not give it")
def replaces_its_own_notebook(hand: Hand) -> None:
    gradebook = str(hand.room.folder / "gradebook.db")
    _append(
        hand,
        "import os\nfor name in os.listdir('.'):\n    os.remove(name)\n"
        f"os.symlink({gradebook!r}, 'attention.ipynb')\n"
        "os.symlink('/etc/passwd', 'leak.txt')\nos.chmod('.', 0)",
    )
