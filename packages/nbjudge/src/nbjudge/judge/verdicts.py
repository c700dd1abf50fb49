"""The judge: runs a test cell here, in a trusted process, on what the learner's functions answer.

In the test cell's namespace each name that the cell uses and does not define itself stands for the
learner's object of that name: a call sends the arguments to the student's kernel and brings plain
data back (`codec`), and an object that is not plain data stays there and is asked (`rpc`). So the
cell is an ordinary nbgrader test, no line of it is ever in the student's process, and its verdict
depends on data alone. The learner's code may in turn call what the test passes to it (a model, a
counter): that runs here too, where the learner cannot change what was counted.

It fails closed: a test that got no answer, a late one, one that is too large or not an answer at
all has failed, with a reason of `reasons`.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import io
import re
import secrets
import symtable
import sys
import time
import types
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client import BlockingKernelClient
from nbformat import NotebookNode
from nbformat.v4 import new_output

from nbjudge.codes import REASONS
from nbjudge.kernel.answering import MESSAGE
from nbjudge.wire.calls import END, READY, Channel, Peer, Proxy
from nbjudge.wire.values import PACKAGE, Limits, Malformed, TooLarge

__all__ = ["Judge", "Outcome", "free_names"]

#: The module name of what a test cell defines.
TEST_MODULE = "hidden_tests"
#: What the learner's code may call on a `torch.nn.Module` of the judge's: nothing that changes it.
MODULE_METHODS = {
    *("buffers", "children", "eval", "forward", "modules", "named_buffers", "named_children"),
    *("named_modules", "named_parameters", "parameters", "state_dict"),
}
_SECRETIVE = (
    types.ModuleType, types.FrameType, types.CodeType, types.TracebackType,
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
)  # fmt: skip


class Unanswered(BaseException):
    """No usable answer. Not an `Exception`, so that a test's own `except` does not catch it."""

    def __init__(self, reason: str, **fields: Any):
        super().__init__(reason)
        self.reason, self.fields = reason, fields


@dataclass
class Outcome:
    """What came of a test cell.

    outputs: as nbgrader scores them (none: full points; an error: none).
    reason, fields: why the test could not be finished, for `reasons.mark`; None if it could.
    mistake: the known mistake that a visible check named, or None.
    stuck: whether the kernel may still be busy with the test.
    """

    outputs: list[NotebookNode] = field(default_factory=list)
    reason: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    mistake: str | None = None
    stuck: bool = False


def unfinished(reason: str, *, stuck: bool = True, **fields: Any) -> Outcome:
    """Return the outcome of a test that was not finished."""
    sentence = REASONS[reason].sentence.format(**fields)
    return Outcome([_error_output("TestNotFinished", sentence)], reason, fields, stuck=stuck)


class StandIn(Proxy):
    """A learner's object, as a test cell sees it."""

    __slots__ = ()

    def __bool__(self):
        raise TypeError(f"{self!r} is not plain data: it is neither true nor false here")

    def __instancecheck__(self, value):
        raise TypeError(f"what is an instance of {self!r} is not for its own process to say")


class JudgePeer(Peer):
    """The judge's end: believes nothing, and shows only what a test passes."""

    trusted = True
    proxy_class = StandIn

    def __init__(self, channel: Channel, limits: Limits, call_seconds: float, seconds: float):
        super().__init__(channel, limits)
        self.call_seconds, self.seconds = call_seconds, seconds
        self.cell_deadline = self.deadline = time.monotonic() + seconds
        self.allowed = call_seconds  # seconds for the call that is waited for

    def call(self, *args: Any, **kwargs: Any) -> Any:
        outer, now = self.deadline, time.monotonic()
        self.deadline = min(self.cell_deadline, now + self.call_seconds)
        self.allowed = self.call_seconds
        try:
            return super().call(*args, **kwargs)
        finally:
            self.deadline = outer

    def wait(self) -> list[bytes] | None:
        now = time.monotonic()
        if now >= self.cell_deadline:
            raise Unanswered("test_stopped", seconds=self.seconds)
        left = self.deadline - now
        if left <= 0:
            raise Unanswered("late_answer", seconds=self.allowed)
        frames = self.channel.receive(left * 1000)
        if frames and sum(map(len, frames)) > self.limits.tree + self.limits.buffers:
            raise Unanswered("answer_too_large", what="too many bytes")
        return frames

    def _next(self) -> tuple[int, bytes, Any, Any, list[bytes]]:
        try:
            return super()._next()
        except TooLarge as error:
            raise Unanswered("answer_too_large", what=str(error)) from None
        except Malformed as error:
            raise Unanswered("malformed_answer", what=_presentable(str(error))) from None

    def _result(self, body: Any, buffers: list[bytes], table: list) -> Any:
        try:
            if body[0] is False and body[1][0][0] == TooLarge.__name__:
                raise Unanswered("answer_too_large", what=_presentable(str(body[1][1])[:200]))
            return super()._result(body, buffers, table)
        except (Malformed, TypeError, IndexError, KeyError) as error:
            if isinstance(error, Malformed) or not hasattr(error, "place"):
                raise Unanswered("malformed_answer", what=_presentable(str(error)[:200])) from None
            raise

    def may_change(self) -> bool:
        return False

    def may_hold(self, value: Any) -> bool:
        if isinstance(value, types.MethodType):
            return self.may_read(value.__self__, value.__name__)
        if isinstance(value, types.GeneratorType | map | zip | filter | enumerate):
            return True
        return _is_module(value) or _is_ours(value if callable(value) else type(value))

    def may_read(self, value: Any, name: str) -> bool:
        if name.startswith("_") or isinstance(value, _SECRETIVE):
            return False
        if name in getattr(value, "__dict__", {}):
            return True
        for kind in type(value).__mro__:
            if name in vars(kind):
                return _is_ours(kind) or (_is_module(value) and name in MODULE_METHODS)
        if _is_module(value):
            return any(name in vars(value)[f"_{part}"] for part in _MODULE_PARTS)
        return any("__getattr__" in vars(kind) and _is_ours(kind) for kind in type(value).__mro__)


_MODULE_PARTS = ("parameters", "buffers", "modules")


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_ours(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] in (TEST_MODULE, PACKAGE)


class Judge:
    """Judges the test cells of one submission, over a client of its own on the student's kernel."""

    def __init__(
        self,
        connection: dict[str, Any],
        imports: Iterable[str] = (),
        *,
        limits: Limits | None = None,
        call_seconds: float = 20.0,
        cell_seconds: float = 60.0,
        ready_seconds: float = 20.0,
    ):
        """Connect to the kernel of `connection` (a connection file's contents).

        `imports` are the sources of cells of the instructor's: a name that they import is the
        judge's own, wherever a test uses it. The other numbers bound one call of the learner's
        code, one test cell, and the wait for a kernel that is still busy.
        """
        self.limits = limits or Limits()
        self.call_seconds, self.cell_seconds = call_seconds, cell_seconds
        self.ready_seconds = ready_seconds
        self.imports = dict(_import_statements(imports))
        self._context = zmq.Context()
        # More than this in one frame ends the connection, before it is in memory here.
        self._context.setsockopt(zmq.MAXMSGSIZE, self.limits.buffers + self.limits.tree)
        self._context.setsockopt(zmq.RCVHWM, 8)
        self._context.setsockopt(zmq.LINGER, 0)
        client = BlockingKernelClient(context=self._context)
        client.load_connection_info(connection)
        self._session, identity = client.session, secrets.token_hex(16).encode()
        self._shell = client.connect_shell(identity)
        stdin = client.connect_stdin(identity)
        self._shell.linger = stdin.linger = 0
        self._channel = Channel(stdin, self._session.key)
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

    def run(self, source: str, seconds: float | None = None) -> Outcome:
        """Run a test cell's source, for at most `seconds` of calls, and return what came of it."""
        seconds = self.cell_seconds if seconds is None else seconds
        peer = JudgePeer(self._channel, self.limits, self.call_seconds, seconds)
        session = secrets.token_bytes(16)
        try:
            self._session.send(self._shell, MESSAGE, {"session": session.hex()})
            peer._send(READY, session, None, [])
            self._await_ready(peer, session, min(seconds, self.ready_seconds))
            return self._judge(peer, source)
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

    def _judge(self, peer: JudgePeer, source: str) -> Outcome:
        namespace: dict[str, Any] = {"__name__": TEST_MODULE, "__builtins__": builtins}
        nowhere = io.StringIO()
        with (
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            try:
                for name in sorted(free_names(source)):
                    self._provide(peer, name, namespace)
                return Outcome(_points_output(_execute(source, namespace)))
            except (Exception, SystemExit) as error:
                shown = _error_output(type(error).__name__, str(error), error)
                return Outcome([shown], mistake=getattr(error, "mistake", None))

    def _provide(self, peer: JudgePeer, name: str, namespace: dict[str, Any]) -> None:
        if name == "check":
            from llm_memory.check import check

            namespace[name] = check
        elif name in self.imports:
            exec(compile(self.imports[name], "<imports>", "exec"), namespace)
        else:
            # A name that is not there is missed by the test itself, if and where it uses it.
            with contextlib.suppress(NameError):
                value = peer.call("name", None, name)
                if isinstance(value, StandIn):
                    # The name by which a check knows it is the test's, not the learner's word.
                    value = type(value)(peer, value._proxy_number, name)
                namespace[name] = value


def free_names(source: str) -> set[str]:
    """Return the names that a cell uses and neither defines, imports nor finds in builtins."""
    module = symtable.symtable(source, "<test>", "exec")
    bound = {s.get_name() for s in module.get_symbols() if s.is_assigned() or s.is_imported()}
    used: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if table is module and symbol.is_referenced():
                used.add(symbol.get_name())
            elif table is not module and symbol.is_global():
                (bound if symbol.is_assigned() else used).add(symbol.get_name())
        for child in table.get_children():
            walk(child)

    walk(module)
    return used - bound - set(vars(builtins)) - {"__name__", "__builtins__"}


def _import_statements(sources: Iterable[str]) -> Iterable[tuple[str, str]]:
    for source in sources:
        try:
            statements = ast.parse(source).body
        except SyntaxError:  # a cell with IPython's magics
            continue
        for statement in statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    yield (alias.asname or alias.name.partition(".")[0]), ast.unparse(statement)


def _execute(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; return the value of the expression that it ends with, or None."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<test>", "exec"), namespace)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), "<test>", "eval"), namespace)


def _points_output(value: Any) -> list[NotebookNode]:
    """A test that ends in a number gives that many points, in nbgrader."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return []
    return [new_output("execute_result", {"text/plain": repr(value)}, execution_count=None)]


def _error_output(name: str, message: str, error: BaseException | None = None) -> NotebookNode:
    message = _presentable(message)
    lines = [f"{name}: {message}"]
    place = _presentable(getattr(error, "place", ""))
    if place:
        lines.append(f"in your {place}")
    return new_output("error", ename=name, evalue=message, traceback=lines)


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
