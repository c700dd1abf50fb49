"""The judge: runs a test cell here, in a trusted process, on what the learner's functions answer.

In the test cells' `namespace` each name that no test cell binds stands for the learner's object of
that name: a call sends the arguments to the learner's kernel and brings plain data back
(`wire.values`), and an object that is not plain data stays there and is asked (`peer`, which says
by which rule). So the cell is an ordinary nbgrader test, no line of it is ever in the learner's
process, and its verdict depends on data alone. The learner's code may in turn call what the test
passes to it (a model, a counter): that runs here too, where the learner cannot change what was
counted.

It fails closed: a test that got no answer, a late one, one that is too large or not an answer at
all has failed, with a reason of `codes`. What cannot be judged from here is neither right nor
wrong: `Outcome.unchecked` says why.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import io
import os
import re
import secrets
import sys
import time
import types
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import zmq
from jupyter_client import BlockingKernelClient
from nbformat import NotebookNode

from nbjudge.codes import sentence
from nbjudge.judge.files import Files
from nbjudge.judge.libraries import own_texts, pythons_filters, watched_libraries
from nbjudge.judge.namespace import Main, Namespace, Prepared, execute, prepare
from nbjudge.judge.peer import JudgePeer, Unanswered
from nbjudge.judge.words import Guard
from nbjudge.names import (
    bound_names,
    definitions,
    free_names,
    import_statements,
    names_read,
    shared_names,
    without_magics,
)
from nbjudge.wire import course, named
from nbjudge.wire.calls import END, MESSAGE, READY, Channel
from nbjudge.wire.limits import Limits, Unchecked

__all__ = ["Judge", "Outcome", "free_names", "shared_names"]


@dataclass
class Outcome:
    """What came of a test cell.

    outputs: as nbgrader scores them (none: full points; an error: none).
    reason, fields: why the test could not be finished, for `reasons.mark`; None if it could.
    mistakes: the known mistakes that a visible check named.
    stuck: whether the kernel may still be busy with the test.
    unchecked: a sentence that says why the test cannot be judged from outside the learner's
        process, or None; the outputs then say so, and the cell is neither right nor wrong.
    """

    outputs: list[NotebookNode] = field(default_factory=list)
    reason: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    stuck: bool = False
    unchecked: str | None = None


def unfinished(reason: str, *, stuck: bool = True, **fields: Any) -> Outcome:
    """Return the outcome of a test that was not finished."""
    said = sentence(reason, **fields)
    return Outcome([_error_output("TestNotFinished", said)], reason, fields, stuck=stuck)


class Judge:
    """Judges the test cells of one submission, over a client of its own on the learner's kernel."""

    def __init__(
        self,
        connection: dict[str, Any],
        imports: Iterable[str] = (),
        *,
        solution_imports: Iterable[str] = (),
        folder: str | os.PathLike[str] | None = None,
        shared: Iterable[str] = (),
        rebound: Iterable[str] = (),
        settings: Iterable[str] = (),
        earlier: Iterable[str] = (),
        own_process: bool = False,
        limits: Limits | None = None,
        call_seconds: float = 20.0,
        cell_seconds: float = 60.0,
        ready_seconds: float = 20.0,
    ):
        """Connect to the kernel of `connection` (a connection file's contents).

        `imports` are the sources of cells of the instructor's: a name that they import is the
        judge's own, wherever a test uses it. So is one that `solution_imports`, statements of the
        course's own solution, bind, where the learner's cells have bound that name. `folder` has
        the course's own files for the assignment: its modules are imported from there, and, in a
        process of the judge's own, it is where a test's relative paths begin. `shared` are names
        besides those of `imports` that the course's own code has in common with its tests; those
        that its functions bind (`rebound`) are the learner's again once a function has bound them.
        `settings` are those of `wire.given` that the course's own code makes. `earlier` are the
        test cells that ran in a judge that was stopped: what they define is said again, what else
        they bound is lost, and a test that reads any of it is never found wrong for that. The other
        numbers bound one call of the learner's code, one test cell, and the wait for a kernel that
        is still busy.
        """
        self.limits = limits or Limits()
        self.call_seconds, self.cell_seconds = call_seconds, cell_seconds
        self.ready_seconds = ready_seconds
        imports = list(imports)
        self.imports = dict(import_statements(imports))
        solved = dict(import_statements(solution_imports))
        self._in_solution = frozenset(solved) - frozenset(self.imports)
        self.imports = {**solved, **self.imports}
        self.shared = shared_names(imports) | frozenset(shared) | self._in_solution
        self.settings = list(settings)
        self.earlier = list(earlier)
        self._course = _CourseFolder(folder, own_process)
        self._context = zmq.Context()
        # More than this in one frame ends the connection, before it is in memory here.
        self._context.setsockopt(zmq.MAXMSGSIZE, self.limits.buffers + self.limits.tree)
        self._context.setsockopt(zmq.RCVHWM, 8)
        self._context.setsockopt(zmq.LINGER, 0)
        client = BlockingKernelClient(context=self._context)
        client.load_connection_info(cast(Any, connection))
        self._session, identity = client.session, secrets.token_hex(16).encode()
        self._shell = client.connect_shell(identity)
        stdin = client.connect_stdin(identity)
        self._shell.linger = stdin.linger = 0
        channel = Channel(stdin, self._session.key)
        self._peer = JudgePeer(channel, self.limits, self.call_seconds, self.cell_seconds)
        self._peer.course = self._course.modules
        self._files: Files | None = None
        if own_process and self._course.folder and os.path.isdir(self._course.folder):
            self._files = Files(
                self._course.folder, self._peer.call, self._peer.refuse, self._course.modules
            )
            self._peer.files = self._files
        self.namespace = Namespace(self._peer, self.imports, self.shared, self._in_solution)
        self.namespace.rebound = frozenset(rebound)
        in_folder = None if self._files is None else self._course.folder
        self._guard = Guard(self._peer.words, in_folder, own_texts.known.__contains__)
        self.namespace.guard = self._guard
        for name, what in course.here().test_names.items():
            self.namespace.special[name] = functools.partial(named.load, what)
        self._bound_before = frozenset[str]().union(*map(bound_names, self.earlier))
        self.namespace.lost = self._bound_before
        own_texts.forget()
        self._install()

    def _install(self) -> None:
        # An expression: it leaves no name behind among the learner's.
        code = "__import__('nbjudge.kernel.answering', fromlist=['install']).install()"
        content = {"code": code, "silent": True, "store_history": False, "allow_stdin": False}
        self._session.send(self._shell, "execute_request", content)

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the kernel."""
        self._context.destroy(linger=0)

    def run(
        self, source: str, seconds: float | None = None, prepared: Prepared | None = None
    ) -> Outcome:
        """Run a test cell's source, for at most `seconds` of calls, and return what came of it.

        prepared: what `prepare` made of it, where somebody has done that already.
        """
        seconds = self.cell_seconds if seconds is None else seconds
        peer = self._peer
        peer.begin(self.call_seconds, seconds)
        Unchecked.forget()
        session = secrets.token_bytes(16)
        try:
            begin = {"session": session.hex(), "set_by_course": self.settings}
            self._session.send(self._shell, MESSAGE, begin)
            peer._send(READY, session, None, [])
            self._await_ready(peer, session, min(seconds, self.ready_seconds))
            outcome = self._judge(source, prepared)
            if peer.failed is not None:  # a test that caught it is no further for that
                raise peer.failed
            return outcome
        except Unanswered as error:
            return unfinished(error.reason, **error.fields)
        except zmq.ZMQError:  # it does not even take the question
            return unfinished("no_answer")
        finally:
            with contextlib.suppress(zmq.ZMQError):
                peer._send(END, session, None, [])

    def _await_ready(self, peer: JudgePeer, session: bytes, seconds: float) -> None:
        peer.deadline, peer.allowed = time.monotonic() + seconds, seconds
        while True:
            kind, identifier, *_ = peer._next()
            if kind == READY and identifier == session:
                peer.deadline = peer.cell_deadline
                return

    def _judge(self, source: str, prepared: Prepared | None) -> Outcome:
        nowhere = io.StringIO()
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
            pythons_filters(),
            self._course.entered(),
            watched_libraries(),
            _as_main(Main(self.namespace)),
            contextlib.nullcontext() if self._files is None else self._files.shared(),
            self._guard.watching(),
        ):
            self._say_again()
            outcome = self._verdict(source, prepared)
        why = Unchecked.seen()
        if why is None and _has_failed(outcome):
            why = self._peer.refused
        if why is None and _has_failed(outcome) and self._bound_before:
            # What an earlier test did to its own data may be what is missing.
            missing = sorted(self._bound_before & names_read(without_magics(source))[0])
            if missing:
                why = f"it needs {', '.join(missing[:5])} of a test that was stopped"
        return outcome if why is None else _not_checked(why)

    def _say_again(self) -> None:
        """Define once more what the tests of a judge that was stopped had defined."""
        earlier, self.earlier = self.earlier, []
        if not earlier:
            return
        for source in earlier:
            for name in bound_names(source):
                dict.pop(self.namespace, name, None)
            for statement in definitions(source):
                with contextlib.suppress(Exception, Unchecked):  # it may have failed then, too
                    execute(ast.unparse(statement), self.namespace)
        self.namespace.lost -= frozenset(dict.keys(self.namespace))
        Unchecked.forget()

    def _verdict(self, source: str, prepared: Prepared | None) -> Outcome:
        try:
            prepared = prepared or prepare(source)
            if self._files is not None:
                self._files.begin(prepared.names)
            self.namespace.begin(prepared)
            try:
                outcome = Outcome(_points_output(execute(prepared, self.namespace)))
            finally:
                if self._peer.failed is None:
                    self.namespace.end()
            return outcome
        except Unchecked as error:
            return _not_checked(str(error))
        except (Unanswered, KeyboardInterrupt):
            raise
        except BaseException as error:  # pytest's failures are no Exception
            if isinstance(error, ModuleNotFoundError) and not hasattr(error, "place"):
                return _not_checked(f"the test needs a module that is not here: {error}")
            if str(error) == "called match pattern must be a type":
                return _not_checked("the test matches a class of theirs as a pattern")
            part = _part_not_imported(error)
            if part is not None:
                return _not_checked(f"{part} was imported in the learner's process only")
            shown = _error_output(type(error).__name__, str(error), error)
            return Outcome([shown], mistakes=_mistakes(error))


@contextlib.contextmanager
def _as_main(module: types.ModuleType) -> Iterator[None]:
    before = sys.modules["__main__"]
    sys.modules["__main__"] = module
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _mistakes(error: BaseException) -> list[str]:
    """Return the names that a course's check gives to what it found, if it gives any."""
    names = getattr(error, "mistakes", None)
    return [name for name in names if isinstance(name, str)] if isinstance(names, tuple) else []


def _not_checked(why: str) -> Outcome:
    why = _presentable(why)
    sentence = f"The grader cannot check this from outside: {why}."
    return Outcome([_error_output("NotChecked", sentence)], unchecked=why)


def _part_not_imported(error: BaseException) -> str | None:
    """Return the module that a test takes for imported, where its package has no such part yet."""
    package, name = getattr(error, "obj", None), getattr(error, "name", None)
    if not isinstance(error, AttributeError) or not isinstance(package, types.ModuleType):
        return None
    if not isinstance(name, str) or not hasattr(package, "__path__"):
        return None
    part = f"{package.__name__}.{name}"
    return part if importlib.util.find_spec(part) is not None else None


def _has_failed(outcome: Outcome) -> bool:
    return any(output.output_type == "error" for output in outcome.outputs)


class _CourseFolder:
    """The course's own files: its modules come from there, before any others of their names."""

    def __init__(self, folder: str | os.PathLike[str] | None, enter: bool):
        self.folder = None if folder is None else os.path.realpath(folder)
        self.enter = enter
        found = os.listdir(self.folder) if self.folder and os.path.isdir(self.folder) else []
        self.modules = frozenset(
            name.removesuffix(".py")
            for name in found
            if name.endswith(".py") or os.path.isfile(f"{self.folder}/{name}/__init__.py")
        )
        self._loaded: dict[str, Any] = {}

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Import from the folder for a while, and from elsewhere again afterwards."""
        if self.folder is None:
            yield
            return
        before = os.getcwd() if self.enter else None
        hidden = self._take_out()
        sys.modules.update(self._loaded)
        sys.path.insert(0, self.folder)
        if self.enter and os.path.isdir(self.folder):
            os.chdir(self.folder)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):
                sys.path.remove(self.folder)
            self._loaded = self._take_out()
            sys.modules.update(hidden)
            if before is not None:
                os.chdir(before)

    def _take_out(self) -> dict[str, Any]:
        if not self.modules:
            return {}
        names = [name for name in sys.modules if name.partition(".")[0] in self.modules]
        return {name: sys.modules.pop(name) for name in names}


def _points_output(value: Any) -> list[NotebookNode]:
    """A test that ends in a number gives that many points, in nbgrader."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    data = {"data": {"text/plain": repr(value)}, "metadata": {}, "execution_count": None}
    return [NotebookNode(output_type="execute_result", **data)]


def _error_output(name: str, message: str, error: BaseException | None = None) -> NotebookNode:
    message = _presentable(message)
    lines = [f"{name}: {message}"]
    place = _presentable(getattr(error, "place", ""))
    if place:
        lines.append(f"in your {place}")
    # Not by `new_output`, which compiles nbformat's schema in each process.
    return NotebookNode(output_type="error", ename=name, evalue=message, traceback=lines)


#: Lines with which NumPy's comparisons print the values that a hidden test expects.
_GIVEAWAY = re.compile(r"^\s*(ACTUAL|DESIRED|x|y)\s*:.*|.*\b(ACTUAL|DESIRED)\b.*|^\s*array\(.*")


def _presentable(message: str) -> str:
    """Return a message as feedback may show it: no control characters, no reference values."""
    lines = []
    # A learner's text may hold what no file can.
    for line in message[:4000].encode("utf-8", "replace").decode("utf-8").splitlines():
        if _GIVEAWAY.match(line):
            break
        lines.append(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", line))
    return "\n".join(lines).strip()[:2000]
