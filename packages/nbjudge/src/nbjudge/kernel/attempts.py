"""What a submission tried that has no place in a lesson: notes from inside its own process.

The sandbox and the judge hold attacks off without a word. So that the instructor hears of them,
an audit hook in the kernel writes a line to a pipe, whose other end the grader holds, when the
*learner's* code asks for what the sandbox refuses; after each cell, and before each test, the
kernel is also compared with its fresh state.

The process that notes is the one that attacks: it can forge a note, and it can be silent (by a
system call that Python does not see). So a note adds a flag and never changes a score.

Sources: "Audit events table" in the documentation of Python, PEP 578.
"""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from nbjudge.wire import course

#: Bounds: of one note, of the notes of each kind in one cell, of those read after a cell.
MOST_BYTES, MOST_OF_A_KIND, MOST_READ = 512, 16, 64
_MOST_TEXT = 120

#: The reason codes (of `reasons`) that a note may have.
KINDS = frozenset(
    (
        *("blocked_read", "blocked_write", "blocked_network", "blocked_signal"),
        *("started_process", "thread_goes_on", "native_code", "looked_inside"),
        *("shell_hooked", "patched", "lying_answer", "wrote_answers"),
    )
)

# -- the grader's side ----------------------------------------------------------------------


def read(descriptor: int) -> dict[str, list[str]]:
    """Return what arrived at a non-blocking pipe: by reason code, what was tried, as safe text.

    Anything may have been written there: what is no note is passed over.
    """
    found: dict[str, list[str]] = {}
    try:
        lines = os.read(descriptor, 1 << 16).split(b"\n")[:MOST_READ]
    except OSError:
        return found
    for line in lines:
        try:
            code, what = json.loads(line) if len(line) <= MOST_BYTES else (None, None)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(code, str) and code in KINDS and isinstance(what, str):
            texts = found.setdefault(code, [])
            if (text := presentable(what)) not in texts:
                texts.append(text)
    return found


def presentable(what: str) -> str:
    """Return a submission's text as it may stand in a sentence: short, no markup, no link."""
    text = re.sub(r"[^\w .,:;()+/@=-]", "?", what[:_MOST_TEXT])
    return re.sub(r"/{2,}", "/", text)


# -- the kernel's side ----------------------------------------------------------------------

#: Modules through which a learner's call passes on its way: `Path.read_text` is still theirs.
#: What any other library asks for, while it does its own work or is imported, is not.
_PASSING = frozenset(
    (
        *("io", "_pyio", "os", "posixpath", "pathlib", "shutil", "glob", "tempfile", "fileinput"),
        *("codecs", "gzip", "bz2", "lzma", "zipfile", "tarfile", "sqlite3", "dbm", "shelve"),
        *("subprocess", "multiprocessing", "concurrent", "socket", "socketserver", "http"),
        *("urllib", "ftplib", "smtplib", "asyncio", "pty", "runpy", "threading", "contextlib"),
        *("functools", "ctypes", "signal", "numpy", "torch.serialization"),
        *("IPython", "ipykernel", "pexpect", "ptyprocess", "nbjudge.kernel.warm"),
    )
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_OPEN_TO_ALL = ("/dev/shm", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
#: What Python itself tries, one after another, for a program started from a cell.
_TERMINALS = ("/dev/pt", "/dev/tty")
#: What tests compare with, and all of what stands between the kernel and the judge.
_COMPARISONS = (
    *("all", "allclose", "any", "array_equal", "array_equiv", "eq", "equal", "isclose"),
    *("not_equal", "testing"),
)
_WATCHED: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(("numpy", "torch"), _COMPARISONS),
    **dict.fromkeys(("builtins", "numpy.testing", "torch.testing")),
    "nbjudge.kernel.answering": None,
    **dict.fromkeys(f"nbjudge.{name}" for name in ("kernel.attempts", "wire.values", "wire.calls")),
}
#: Methods by which a value answers for itself in a comparison.
_ANSWERS_FOR_ITSELF = (
    *("__eq__", "__ne__", "__lt__", "__gt__", "__bool__", "__array_function__"),
    *("__array_ufunc__", "__torch_function__"),
)
_PLAIN = (int, float, complex, str, bytes, list, tuple, dict, set, frozenset)

#: Methods of IPython's shell that run a cell or say what went wrong in it.
_REPLACEABLE = ("run_cell", "run_cell_async", "run_code", "showtraceback", "_showtraceback")

#: Python's own, whatever a submission puts in their place.
_all, _any = all, any

#: The kernel's own, or None where nothing is watched (an ordinary kernel).
watcher: Watcher | None = None


class _Here(Exception):
    """Raised to see the frame: `sys._getframe` would be an event of its own."""


class Watcher:
    """Notes what the learner's code in this process tries.

    Parameters
    ----------
    descriptor
        Where the notes are written; never waited for.
    space
        The folder in which the kernel may write, and whose code is the learner's.
    readable
        Folders and files that may be read besides.
    answers
        The names of the files of recorded answers, which are not for a cell to write.
    """

    def __init__(
        self, descriptor: int, space: str, readable: Iterable[str], answers: Iterable[str]
    ):
        self._descriptor = descriptor
        self._space = os.path.realpath(space)
        self._given = tuple(readable)
        self._answers = frozenset(answers)
        self._said: dict[str, set[str]] = {}  # since the last cell
        self._seen: dict[str, set[str]] = {}  # of what stays
        self._fresh: list[tuple[str, Any, dict[str, Any]]] = []
        self._shell: Any = None
        self._hooks: list[tuple[str, Any]] = []

    def install(self, shell: Any = None) -> None:
        """Watch from now on. `shell`: IPython's, whose hooks are compared with what they are."""
        os.set_blocking(self._descriptor, False)
        for name, parts in {**_WATCHED, **dict.fromkeys(_shared_modules())}.items():
            module = sys.modules.get(name)
            if module is not None:
                self._remember(name, vars(module), parts)
                for kind in list(vars(module).values()) if name.startswith("nbjudge.") else ():
                    if isinstance(kind, type) and kind.__module__ == name:
                        self._remember(f"{name}.{kind.__name__}", vars(kind))
        if shell is not None:
            self._shell = shell
            self._hooks = self._all_hooks()
            shell.events.register("post_run_cell", lambda result: self.look())
        handlers = {event: getattr(self, f"_on_{name}") for event, name in _EVENTS.items()}

        def hook(event: str, args: tuple, handlers: dict[str, Callable] = handlers) -> None:
            if event in handlers:
                # Whatever goes wrong in here, what was asked for goes on.
                with contextlib.suppress(Exception):
                    handlers[event](args)

        sys.addaudithook(hook)

    def _remember(self, name: str, held: Any, parts: Iterable[str] | None = None) -> None:
        functions = {key: held[key] for key in parts or list(held) if callable(held.get(key))}
        self._fresh.append((name, held, functions))

    def note(self, code: str, what: object = "", said: dict[str, set] | None = None) -> None:
        """Write a note, once for each cell (or once for each `said`)."""
        text = str(what)[:300]
        texts = (self._said if said is None else said).setdefault(code, set())
        if text in texts or len(texts) >= MOST_OF_A_KIND:
            return
        texts.add(text)
        line = json.dumps([code, text]).encode() + b"\n"
        if len(line) > MOST_BYTES:
            line = json.dumps([code, ascii(text)[1:161]]).encode() + b"\n"
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line)

    # What is asked for as it is asked ----------------------------------------------------------

    def _asked(self, passing: frozenset[str] = _PASSING) -> bool:
        """Whether the learner's code asks for what this hook was called for."""
        try:
            raise _Here
        except _Here as here:
            trace = here.__traceback__
            frame: FrameType | None = trace.tb_frame if trace is not None else None
        while frame is not None:
            name, path = dict.get(frame.f_globals, "__name__"), frame.f_code.co_filename
            if path.startswith(self._space) or (name == "__main__" and path[:1] == "<"):
                return True
            package = name.partition(".")[0] if isinstance(name, str) else None
            if name != __name__ and name not in passing and package not in passing:
                return False
            frame = frame.f_back
        return False

    @functools.cached_property
    def _readable(self) -> tuple[str, ...]:
        return tuple(os.path.realpath(path) for path in self._given)

    def _reads(self, path: Any) -> None:
        real = _real(path)
        if real is None or not self._asked():
            return
        process = re.match(r"/proc/(\d+)(?=/|$)", real)
        others = process is not None and int(process[1]) != os.getpid()
        allowed = (self._space, *_OPEN_TO_ALL, "/proc", *self._readable)
        if others or not _within(real, allowed):
            self.note("blocked_read", real)

    def _changes(self, path: Any) -> None:
        real = _real(path)
        if real is None or real.startswith(_TERMINALS) or not self._asked():
            return
        if not _within(real, (self._space, *_OPEN_TO_ALL)):
            self.note("blocked_write", real)
        elif os.path.basename(real) in self._answers:
            self.note("wrote_answers")

    def _on_open(self, args: tuple) -> None:
        path, _, flags = args
        (self._changes if flags & _WRITES else self._reads)(path)

    def _on_read(self, args: tuple) -> None:
        self._reads(args[0])

    def _on_change(self, args: tuple) -> None:
        self._changes(args[0])

    def _on_move(self, args: tuple) -> None:
        self._changes(args[0])
        self._changes(args[1])

    def _on_link(self, args: tuple) -> None:
        self._reads(args[0])
        self._changes(args[1])

    def _on_network(self, args: tuple) -> None:
        address = args[1]
        if isinstance(address, str | bytes):
            name = os.fsdecode(address)
            if name.startswith("\0") or not _within(os.path.realpath(name), (self._space,)):
                self._note_network("the socket " + name.replace("\0", "@"))
        elif isinstance(address, tuple):
            self._note_network(*address[:2])

    def _on_lookup(self, args: tuple) -> None:
        self._note_network(*args[:2])

    def _note_network(self, *parts: Any) -> None:
        if self._asked():
            self.note("blocked_network", ":".join(str(part) for part in parts))

    def _on_signal(self, args: tuple) -> None:
        pid, number = args[0], args[1]
        if pid != os.getpid() and number and self._asked():
            self.note("blocked_signal", f"process {pid}")

    def _on_process(self, args: tuple) -> None:
        if self._asked():
            program = args[0] if args else "a copy of itself"
            if isinstance(program, list | tuple):
                program = program[0]
            self.note("started_process", os.fsdecode(program))

    def _on_native(self, args: tuple) -> None:
        if self._asked():
            name = args[-1] if isinstance(args[-1], str) else "ctypes"
            self.note("native_code", name)

    def _on_inside(self, args: tuple) -> None:
        # Named tuples and loggers look at their caller's frame: theirs is not the learner's look.
        if self._asked(frozenset({"inspect"})):
            self.note("looked_inside")

    def _on_trace(self, args: tuple) -> None:
        if self._asked(frozenset()):
            self.note("shell_hooked", "audit and trace hooks")

    # What has changed when a cell has ended ----------------------------------------------------

    def look(self) -> None:
        """Compare the process with its fresh state, and note what is the learner's in it."""
        self._said = {}
        with contextlib.suppress(Exception):
            for name, held, before in self._fresh:
                now = list(map(held.get, before))
                if _all(map(operator.is_, now, before.values())):
                    continue
                for key, value in zip(before, now, strict=True):
                    if value is not before[key] and _is_learners(value):
                        self.note("patched", f"{name}.{key}", self._seen)
            fresh = {id(hook) for _, hook in self._hooks}
            for name, hook in self._all_hooks():
                if id(hook) not in fresh and _is_learners(hook):
                    self.note("shell_hooked", name, self._seen)
            if getattr(self._shell, "custom_exceptions", ()):
                self.note("shell_hooked", "custom_exceptions", self._seen)
            for thread in threading.enumerate():
                if _is_learners(thread) or _is_learners(getattr(thread, "_target", None)):
                    self.note("thread_goes_on", thread.ident, self._seen)

    def look_at_answer(self, value: Any) -> None:
        """Note an answer to a test that is dressed as plain data and answers for itself."""
        with contextlib.suppress(Exception):
            plain = [*_PLAIN, *_arrays()]
            kind = type(value)
            if kind in plain or not issubclass(kind, tuple(plain)):
                return
            own = [vars(base) for base in kind.__mro__ if base.__module__ == "__main__"]
            if _any(method in names for names in own for method in _ANSWERS_FOR_ITSELF):
                self.note("lying_answer", kind.__name__)

    def _all_hooks(self) -> list[tuple[str, Any]]:
        """What IPython calls when it runs a cell, each with its name."""
        shell = self._shell
        if shell is None:
            return []
        lists = {
            "ast_transformers": shell.ast_transformers,
            "input_transformers_post": shell.input_transformers_post,
            "input_transformers_cleanup": shell.input_transformer_manager.cleanup_transforms,
            **shell.events.callbacks,
        }
        hooks = [(name, hook) for name, held in lists.items() for hook in held]
        hooks += [(name, vars(shell)[name]) for name in _REPLACEABLE if name in vars(shell)]
        return [*hooks, ("excepthook", sys.excepthook), ("displayhook", sys.displayhook)]


_EVENTS = {
    "open": "open",
    **dict.fromkeys(("os.listdir", "os.scandir", "os.chdir", "sqlite3.connect"), "read"),
    **dict.fromkeys(
        (
            *("os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.chown"),
            *("os.utime", "shutil.rmtree"),
        ),
        "change",
    ),
    "os.rename": "move",
    **dict.fromkeys(("os.link", "os.symlink"), "link"),
    **dict.fromkeys(
        ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg"), "network"
    ),
    "socket.getaddrinfo": "lookup",
    **dict.fromkeys(("os.kill", "os.killpg"), "signal"),
    **dict.fromkeys(
        (
            *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
            *("os.forkpty", "pty.spawn"),
        ),
        "process",
    ),
    **dict.fromkeys(
        (
            *("ctypes.dlopen", "ctypes.dlsym", "ctypes.string_at", "ctypes.wstring_at"),
            *("ctypes.cdata", "ctypes.call_function"),
        ),
        "native",
    ),
    **dict.fromkeys(
        ("sys._getframe", "sys._current_frames", "gc.get_objects", "gc.get_referrers",
         "gc.get_referents"),
        "inside",
    ),
    **dict.fromkeys(("sys.addaudithook", "sys.settrace", "sys.setprofile"), "trace"),
}  # fmt: skip


def _real(path: Any) -> str | None:
    """The path without links, or None for a descriptor."""
    return os.path.realpath(os.fsdecode(path)) if isinstance(path, str | bytes) else None


def _within(real: str, roots: Iterable[str]) -> bool:
    return _any(real == root or real.startswith(root.rstrip("/") + "/") for root in roots)


def _arrays() -> list[type]:
    """The array classes of the libraries that are loaded."""
    found = []
    for module, name in (("numpy", "ndarray"), ("numpy", "generic"), ("torch", "Tensor")):
        kind = getattr(sys.modules.get(module), name, None)
        found += [kind] if isinstance(kind, type) else []
    return found


def _shared_modules() -> list[str]:
    """Return the modules of the course's own packages that are loaded."""
    roots = tuple(f"{name}." for name in course.here().shared)
    return [name for name in list(sys.modules) if f"{name}.".startswith(roots)]


def _is_learners(value: Any) -> bool:
    return getattr(value, "__module__", None) == "__main__"


def watch(descriptor: int, space: str, readable: Iterable[str], shell: Any) -> None:
    """Watch this process, which is a kernel, from now on; see `Watcher`."""
    global watcher
    watcher = Watcher(descriptor, space, readable, course.here().answer_files)
    watcher.install(shell)
