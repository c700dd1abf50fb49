"""The one namespace in which all test cells of a submission run, in their order.

What a test cell binds (imports, helpers, data) is there for the later ones. Any other name is the
learner's, and is asked for when it is used: anew in each cell, and what is data anew after each
call, which may have changed it. The course's own imports come before the learner's word.

A test shares some names with the learner's code (`x = 5; assert f() == 5`). A value is sent there
when the course's own cells use its name, and never by the learner's: what a test compares with
stays here.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import contextlib
import functools
import inspect
import io
import marshal
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from nbjudge.judge.libraries import listened, own_texts, seeded, state_of
from nbjudge.judge.peer import (
    OF_MEMORY,
    TEST_MODULE,
    JudgePeer,
    StandIn,
    is_instance,
    is_same,
    is_subclass,
    memory_of,
    name_of,
    type_of,
)
from nbjudge.judge.words import Guard
from nbjudge.names import changes_in_place, names_read, names_used, without_magics
from nbjudge.wire import own
from nbjudge.wire.calls import Method
from nbjudge.wire.limits import TooLarge, Unchecked

#: Names that stand for what a test cell's `type`, `isinstance` and `issubclass` do here.
_TYPE, _IS, _BELOW = "__nbjudge_type__", "__nbjudge_isinstance__", "__nbjudge_issubclass__"
#: And for `x.__name__`: elsewhere it is the test's own name for the thing, which a check may trust.
_NAME = "__nbjudge_name__"
#: And for `is`, and for what tells how an array lies in memory.
_SAME, _MEMORY = "__nbjudge_is_same__", "__nbjudge_memory_of__"
#: And for what runs a text as code: here, only a text that stands in a test.
_OWN_TEXT, _NO_TEXT = "__nbjudge_own_text__", "__nbjudge_no_text__"
_IF_TEXT = "__nbjudge_own_if_text__"
_IF_OURS = "__nbjudge_formula__"
_RUNS_TEXT = frozenset(("exec", "eval", "compile"))
_READS_FORMULA = frozenset(("sympify", "S", "parse_expr", "nsimplify", "simplify"))  # evals a text
_WORKS_OUT = frozenset(("query", "eval", "evaluate"))  # a text, as methods of other libraries
#: Functions of Python's that a test may replace for the learner's code, too.
_REPLACEABLE = ("input", "print")
#: What a test may patch, because the learner's code then sees it.
_PATCHABLE = {
    *("builtins.input", "builtins.print", "sys.stdout", "sys.stderr", "sys.stdin"),
    *("__builtin__.input", "__main__.input", "__main__.print"),
}
_STATEFUL = "matplotlib.pyplot"


class Namespace(dict):
    """The globals of a submission's test cells."""

    def __init__(
        self,
        peer: JudgePeer,
        imports: dict[str, str],
        shared: frozenset[str],
        in_solution: frozenset[str] = frozenset(),
    ):
        """`imports`: the course's own, by name; `shared`: names that its own cells use.

        in_solution: those of `imports` that a learner has to make themselves.
        """
        super().__init__(
            {
                "__name__": TEST_MODULE,
                "__builtins__": builtins,
                _TYPE: type_of,
                _IS: is_instance,
                _BELOW: is_subclass,
                _NAME: name_of,
                _SAME: is_same,
                _MEMORY: memory_of,
                _OWN_TEXT: own_texts.checked,
                _IF_TEXT: own_texts.checked_if_text,
                _NO_TEXT: own_texts.refuse,
                _IF_OURS: self._formula,
            }
        )
        self.peer, self.imports, self.shared = peer, imports, shared
        self.guard: Guard = Guard(peer.words, None, own_texts.known.__contains__)
        self._in_solution = in_solution
        self.rebound: frozenset[str] = frozenset()  # shared ones that the learner's functions bind
        self._given: set[str] = set()  # of those, what this test has bound there
        self.special: dict[str, Callable[[], Any]] = {}  # the grader's own names
        self.lost: frozenset[str] = frozenset()  # what tests bound that were stopped
        self._hidden = frozenset(dict.keys(self))
        self._bound: set[str] = set()  # by a test's assignment
        self._gone: set[str] = set()  # deleted by a test
        self._changed: set[str] = set()  # since they were last sent
        self._taken: set[str] = set()  # the learner's, deleted there by a test
        self._lent: set[str] = set()  # the learner's, for class bodies of this cell
        self._asked: dict[str, tuple[int, Any]] = {}
        self._replaced: dict[str, Any] = {}
        self._listening: list | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        peer.before_call = self.send_changes
        peer.after_call = self.take_back

    def _formula(self, text: Any) -> Any:
        return self.guard.formula(text)

    # From cell to cell ------------------------------------------------------------------------

    def begin(self, prepared: Prepared) -> None:
        """Begin with a test cell: the learner's names are as they stand now."""
        self._asked.clear()
        self._given.clear()
        self._replaced.clear()
        self._listening = None
        self.peer.lending = prepared.changes
        known = sorted((self._bound & self.shared) | self._gone)
        if known:
            for name in self.peer.call("rebound", None, None, (known,)):
                if name in self._bound and not _is_lasting(dict.get(self, name)):
                    self._bound.discard(name)
                    dict.pop(self, name, None)
                self._gone.discard(name)
        for name in sorted(prepared.in_classes - set(dict.keys(self)) - set(vars(builtins))):
            with contextlib.suppress(KeyError):
                super().__setitem__(name, self[name])
                self._lent.add(name)

    def end(self) -> None:
        """End a test cell: later cells of the learner's may use what it bound."""
        for name in self._lent:
            dict.pop(self, name, None)
        self._lent.clear()
        self.send_changes(ending=True)

    def send_changes(self, *, ending: bool = False) -> None:
        """Tell the learner's process what the test has bound, replaced and seeded for it."""
        given = []
        for name in sorted(self._changed):
            imported = self._imported(name)
            if name in self._gone:
                self.peer.call("take", None, None, (name,))
                self._taken.add(name)
            elif imported is not None:
                self.peer.call("import", None, None, (name, *imported))
            elif (
                dict.__contains__(self, name)
                and name not in _REPLACEABLE
                and self._goes_there(name)
            ):
                given.append(name)
                self._taken.discard(name)
                self._given |= {name} & self.rebound
        self._give(given)
        self._changed.clear()
        self.peer.give_back()
        if ending:
            self.peer.tell_changed()
            return
        listening = listened.levels()
        if listening != self._listening:
            self._listening = listening
            self.peer.call("listen", None, None, (listening,))
        for name in _REPLACEABLE:
            value = self._replacement(name)
            if value is not self._replaced.get(name):
                self._replaced[name] = value
                self.peer.call("replace", None, None, (name, value and _answering(name, value)))
        for which in sorted(seeded.anew):
            self.peer.call("seed", None, None, (which, state_of(which)))
        seeded.anew.clear()

    def _give(self, names: list[str]) -> None:
        """Bind names there: all at once, since a question takes longer than a small value."""
        values = [dict.get(self, name) for name in names]
        if len(names) > 1:
            # One that cannot be sent, or all together too large: then each by itself.
            with contextlib.suppress(TooLarge, TypeError):
                self.peer.call("give", None, None, (tuple(names), *values))
                return
        for name, value in zip(names, values, strict=True):
            self.peer.call("give", None, None, ((name,), value))

    def take_back(self) -> None:
        """Leave a name to the learner again that their function has bound (`global count`)."""
        if not self._given:
            return
        for name in self.peer.call("regained", None, None, (sorted(self._given),)):
            if name in self._given:
                self._given.discard(name)
                self._bound.discard(name)
                dict.pop(self, name, None)
                self._asked.pop(name, None)

    def _imported(self, name: str) -> tuple[str, str] | None:
        """Return what a test has imported and later cells of the learner's may use, by its name."""
        value = dict.get(self, name)
        if name not in self.shared or isinstance(value, StandIn | Method):
            return None
        return own.name_of(value)

    def _goes_there(self, name: str) -> bool:
        value = dict.get(self, name)
        if isinstance(value, types.ModuleType):
            return False
        # What a test deleted there it puts back; the learner's own object may go by any name.
        return (
            name in self.shared
            or name in self._taken
            or (isinstance(value, StandIn) and name in self._asked)
        )

    def _replacement(self, name: str) -> Any:
        value = dict.get(self, name, getattr(builtins, name))
        if value is not _PYTHONS[name]:
            return value
        if name == "input" and sys.stdin is not _PYTHONS["stdin"]:
            return _read_line
        return None

    def finish(self, coroutine: Any) -> Any:
        """Return what a cell with `await` in it ends with; its tasks go on in the next one."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    # As a dictionary ---------------------------------------------------------------------------

    def __missing__(self, name: str) -> Any:
        return self._find(name)

    def _find(self, name: str) -> Any:
        if name in self._gone or self._is_pythons(name):
            raise KeyError(name)
        if name in self.special:
            return self.special[name]()
        if name in self._asked:
            calls, value = self._asked[name]
            fixed = isinstance(value, StandIn | Method | type | types.ModuleType)
            if (
                fixed
                or callable(value)
                or calls == self.peer.calls
                or id(value) in self.peer.passed
            ):
                return value
        if name in self.imports:
            if name in self._in_solution and not self.peer.call("has", None, None, (name,)):
                raise KeyError(name)
            value = self._import(name)
        else:
            try:
                value = self.peer.name(name)
            except NameError:
                if name in self.lost:
                    raise Unchecked(f"{name} was bound by a test that was stopped") from None
                raise KeyError(name) from None
            if name in own.FIXED and isinstance(value, StandIn):
                raise Unchecked(f"{name} is not the module {own.FIXED[name]} in this notebook")
        self._asked[name] = self.peer.calls, value
        return value

    def _is_pythons(self, name: str) -> bool:
        return name in _PYTHON_NAMES and name not in self.special

    def _import(self, name: str) -> Any:
        space: dict[str, Any] = {"__name__": TEST_MODULE, "__builtins__": builtins}
        try:
            exec(compile(self.imports[name], "<imports>", "exec"), space)
        except ImportError as error:
            raise Unchecked(f"the grader cannot import what the course does: {error}") from None
        return self._own(space[name])

    def _own(self, value: Any) -> Any:
        """Return what a test means by a module: figures are in the learner's process."""
        if isinstance(value, types.ModuleType) and value.__name__ == _STATEFUL:
            return self.peer.call("module", None, None, (_STATEFUL,))
        return value

    def __contains__(self, name: object) -> bool:
        if dict.__contains__(self, name):
            return True
        try:
            self[name]
        except KeyError:
            return False
        return True

    def get(self, name: Any, default: Any = None) -> Any:
        """Return what a name stands for, the learner's too."""
        try:
            return self[name]
        except KeyError:
            return default

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, self._own(value))
        self._lent.discard(name)
        self._gone.discard(name)
        self._bound.add(name)
        self._changed.add(name)

    def __delitem__(self, name: str) -> None:
        if dict.__contains__(self, name):
            super().__delitem__(name)
            self._bound.discard(name)
            with contextlib.suppress(KeyError):
                self._find(name)  # what it hid is gone with it
        else:
            self._find(name)  # KeyError where there is none
            self._changed.add(name)
        self._asked.pop(name, None)
        self._gone.add(name)
        if name in self.shared:
            self._changed.add(name)

    def keys(self) -> Any:
        """Return all names, the learner's too: `dir()` shows them."""
        # Not what the learner has under names of Python's own: there the judge's are meant.
        there = [n for n in self.peer.call("names", None) if not self._is_pythons(n)]
        mine = [name for name in dict.keys(self) if name not in self._hidden]
        return dict.fromkeys([*mine, *(n for n in there if n not in self._gone)]).keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def items(self) -> Any:
        """Return all names with what they stand for."""
        return {name: self[name] for name in self.keys()}.items()

    def values(self) -> Any:
        """Return what all names stand for."""
        return {name: self[name] for name in self.keys()}.values()


class Main(types.ModuleType):
    """What `__main__` is to a test: the notebook's names, with those of its tests."""

    def __init__(self, namespace: Namespace):
        super().__init__("__main__")
        vars(self)["_namespace"] = namespace

    def __getattr__(self, name: str) -> Any:
        try:
            return vars(self)["_namespace"][name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        # A test that sets it so (`patch("__main__.fetch")`) means the learner's code.
        self._namespace.shared |= {name}
        self._namespace[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self._namespace[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return list(self._namespace.keys())


_PYTHON_NAMES = frozenset(vars(builtins)) | {"__file__", "__annotations__", "__warningregistry__"}
_PYTHONS = {"input": builtins.input, "print": builtins.print, "stdin": sys.stdin}


def _is_lasting(value: Any) -> bool:
    """Whether a test's name is a helper or a module, which no cell of the learner's replaces."""
    return isinstance(value, types.ModuleType | types.FunctionType | type)


def _answering(name: str, value: Any) -> Callable[..., Any]:
    """Return a function for the learner's code: what a mock gives for a print is nothing to it."""

    def answer(*args: Any, **kwargs: Any) -> Any:
        result = value(*args, **kwargs)
        return result if name == "input" else None

    return answer


def _read_line(prompt: str = "") -> str:
    sys.stdout.write(str(prompt))
    line = sys.stdin.readline()
    if not line:
        raise EOFError("EOF when reading a line")
    return line.removesuffix("\n")


# A test cell's source ---------------------------------------------------------------------------


class _Rewriter(ast.NodeTransformer):
    """Makes questions for an object's class go by the learner's classes."""

    def __init__(self) -> None:
        self._called: set[int] = set()  # names of what runs a text, its argument being looked at
        self.texts: set[str] = set()

    def visit_Call(self, node: ast.Call) -> ast.AST:
        check = None
        if isinstance(node.func, ast.Name) and node.func.id in _RUNS_TEXT and node.args:
            self._called.add(id(node.func))
            check = _OWN_TEXT
        elif ast.unparse(node.func).rpartition(".")[2] in _READS_FORMULA and node.args:
            check = _IF_TEXT
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _WORKS_OUT and node.args:
            check = _IF_OURS
        if check is not None:
            checked = ast.Call(ast.Name(check, ast.Load()), [node.args[0]], [])
            node.args[0] = ast.copy_location(checked, node.args[0])
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "type" and len(node.args) == 1:
            node.func = ast.copy_location(ast.Name(_TYPE, ast.Load()), node.func)
        target = node.args[0] if node.args else None
        name = ast.unparse(node.func).rpartition(".")[2]
        patched = target.value if isinstance(target, ast.Constant) else None
        if (
            name == "patch"
            and isinstance(patched, str)
            and patched not in _PATCHABLE
            and not re.fullmatch(r"__main__\.\w+", patched)
        ):
            raise Unchecked(f"the test patches {patched}, here and not in their process")
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str):
            self.texts.add(node.value)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        instead = {"isinstance": _IS, "issubclass": _BELOW}.get(node.id)
        if node.id in _RUNS_TEXT and id(node) not in self._called:
            instead = _NO_TEXT
        if instead is None or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(ast.Name(instead, ast.Load()), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        instead = {"__class__": _TYPE, "__name__": _NAME}.get(node.attr)
        more: list[ast.expr] = []
        if node.attr in OF_MEMORY:
            instead, more = _MEMORY, [ast.Constant(node.attr)]
        if instead is None or not isinstance(node.ctx, ast.Load):
            return node
        asked = ast.Call(ast.Name(instead, ast.Load()), [node.value, *more], [])
        return ast.fix_missing_locations(ast.copy_location(asked, node))

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        sides = [node.left, *node.comparators]
        apart = isinstance(node.ops[0], ast.IsNot)
        if len(node.ops) > 1 or not (apart or isinstance(node.ops[0], ast.Is)):
            return node
        if any(isinstance(side, ast.Constant) for side in sides):
            return node
        asked: ast.expr = ast.Call(ast.Name(_SAME, ast.Load()), sides, [])
        if apart:
            asked = ast.UnaryOp(ast.Not(), asked)
        return ast.fix_missing_locations(ast.copy_location(asked, node))


@dataclass(frozen=True)
class Prepared:
    """A test cell, read and compiled: the same for every submission.

    body, last: the code of its statements, and of the expression that it ends with, if any.
    texts: those that stand in it. magics: whether it asks IPython. names: all that it uses.
    in_classes: names that its class bodies read. changes: whether it may change things in place.
    """

    body: types.CodeType
    last: types.CodeType | None
    texts: frozenset[str]
    magics: bool
    names: frozenset[str]
    in_classes: frozenset[str]
    changes: bool

    def packed(self) -> bytes:
        """Return it for another process of this Python; believed by `unpacked`."""
        return marshal.dumps([getattr(self, each.name) for each in fields(self)])

    @classmethod
    def unpacked(cls, data: bytes) -> Prepared:
        """Return what the grader packed. Never for bytes of anybody else: they are code."""
        return cls(*marshal.loads(data))


@functools.lru_cache(maxsize=256)
def prepare(source: str) -> Prepared:
    """Read and compile a test cell. Raises SyntaxError; `Unchecked` for what cannot be judged."""
    magics = False
    try:
        tree = ast.parse(source)
    except SyntaxError:
        tree = ast.parse(without_magics(source))
        magics = True
    rewriter = _Rewriter()
    tree = ast.fix_missing_locations(rewriter.visit(tree))
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    return Prepared(
        _compiled(tree, "exec"),
        None if last is None else _compiled(ast.Expression(last.value), "eval"),
        frozenset(rewriter.texts),
        magics,
        frozenset(names_used(source)),
        frozenset(names_read(source)[1]),
        changes_in_place(source),
    )


def _compiled(tree: Any, mode: str) -> types.CodeType:
    """Return the code of a part of a cell, which may `await`, as IPython lets it."""
    code: types.CodeType = compile(tree, "<test>", mode, flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return code


def execute(cell: str | Prepared, namespace: Namespace) -> Any:
    """Run a cell; return the value of the expression that it ends with, or None."""
    prepared = prepare(cell) if isinstance(cell, str) else cell
    if prepared.magics:
        namespace.special["get_ipython"] = lambda: lambda: Shell(namespace)
    own_texts.known |= prepared.texts
    _evaluate(prepared.body, namespace)
    return None if prepared.last is None else _evaluate(prepared.last, namespace)


def _evaluate(code: types.CodeType, namespace: Namespace) -> Any:
    value = eval(code, namespace)
    return namespace.finish(value) if code.co_flags & inspect.CO_COROUTINE else value


#: What `%timeit` is told besides the code; once is enough to see that it runs.
_TIMEITS_OPTIONS = re.compile(r"^\s*(-[nrp]\s*\d+\s*|-[tcqv]+\s*)+")


class Shell:
    """What a test cell's magics ask of IPython."""

    #: Magics that say how a notebook looks, and change nothing that a test sees.
    _IDLE = ("matplotlib", "config", "autoreload", "load_ext", "reload_ext", "precision", "pylab")

    def __init__(self, namespace: Namespace):
        self._namespace = namespace

    def run_line_magic(self, name: str, line: str, *args: Any) -> Any:
        """Run a line's magic; `Unchecked` for one that is not known here."""
        if name in self._IDLE:
            return None
        if name == "time":
            return execute(line, self._namespace)
        if name == "timeit" and "-o" not in line.split():
            execute(_TIMEITS_OPTIONS.sub("", line), self._namespace)
            return None
        raise Unchecked(f"the test uses the magic %{name}")

    def run_cell_magic(self, name: str, line: str, cell: str) -> Any:
        """Run a cell's magic; `Unchecked` for one that is not known here."""
        if name == "time":
            return execute(cell, self._namespace)
        if name == "timeit" and "-o" not in line.split():
            setup = _TIMEITS_OPTIONS.sub("", line)
            execute(f"{setup}\n{cell}", self._namespace)
            return None
        if name == "capture":
            from IPython.utils.capture import CapturedIO

            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                execute(cell, self._namespace)
            names = [word for word in line.split() if not word.startswith("-")]
            if names:
                self._namespace[names[0]] = CapturedIO(out, err)
            return None
        raise Unchecked(f"the test uses the magic %%{name}")

    def __getattr__(self, name: str) -> Any:
        raise Unchecked(f"the test asks IPython for {name}")
