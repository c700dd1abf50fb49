"""The faults: each gives all ways to change one node of a solution's syntax tree."""

from __future__ import annotations

import ast
import copy
import difflib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

#: Operators that are taken for one another.
ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
#: Comparisons: the edge moved, and the opposite.
COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq, ast.LtE, ast.GtE),
    ast.NotEq: (ast.Eq, ast.Lt, ast.Gt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
#: Functions and methods that are taken for one another.
NAMES = {
    "min": "max",
    "max": "min",
    "amax": "amin",
    "sin": "cos",
    "cos": "sin",
    "zeros": "ones",
    "ones": "zeros",
    "tril": "triu",
    "repeat_interleave": "repeat",
    "argmax": "argmin",
    "round": "floor",
}
#: Their last two arguments can be exchanged.
SYMMETRIC = ("transpose", "swapaxes", "min", "max")


@dataclass(frozen=True)
class Mutant:
    """One changed solution; `before` and `after` are the lines that differ."""

    source: str
    function: str
    before: str
    after: str

    @property
    def name(self) -> str:
        """What was changed, as `equivalent.toml` writes it."""
        return f"{self.function}: {self.before} → {self.after}"


def mutants(source: str) -> list[Mutant]:
    """Return every mutant of a solution, each once; what an exception says is left alone."""
    tree = ast.parse(source)
    plain = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for path in _paths(tree):
        for change in _changes(_at(tree, path)):
            changed = copy.deepcopy(tree)
            _put(changed, path, change)
            try:
                text = ast.unparse(ast.fix_missing_locations(changed))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # odd code is what is wanted
                    compile(text, "<mutant>", "exec")
            except (SyntaxError, ValueError):
                continue
            if text not in found and text != plain:
                found[text] = _described(tree, path, plain, text)
    return list(found.values())


Path = tuple[tuple[str, int | None], ...]


def _paths(node: ast.AST, path: Path = ()) -> Iterator[Path]:
    """Give the place of every node below `node`; none inside what a `raise` says."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.Raise) or name in ("annotation", "returns", "decorator_list"):
            continue
        if isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant):
            continue
        for index, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, ast.AST):
                here = (*path, (name, index))
                yield here
                yield from _paths(item, here)


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node = tree
    for name, index in path:
        value = getattr(node, name)
        node = value if index is None else value[index]
    return node


def _put(tree: ast.AST, path: Path, new: ast.AST | list[ast.stmt]) -> None:
    (name, index), parent = path[-1], _at(tree, path[:-1])
    if index is None:
        setattr(parent, name, new)
    elif isinstance(new, list):
        getattr(parent, name)[index : index + 1] = new
    else:
        getattr(parent, name)[index] = new


def _described(tree: ast.AST, path: Path, plain: str, text: str) -> Mutant:
    function = ""
    for depth in range(1, len(path)):
        node = _at(tree, path[:depth])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
    lines = list(difflib.unified_diff(plain.splitlines(), text.splitlines(), n=0))[3:]
    gone = [line[1:].strip() for line in lines if line.startswith("-")]
    come = [line[1:].strip() for line in lines if line.startswith("+")]
    return Mutant(text, function, " ; ".join(gone), " ; ".join(come) or "(dropped)")


def _changes(node: ast.AST) -> Iterator[ast.AST | list[ast.stmt]]:
    for kind, change in CHANGES.items():
        if isinstance(node, kind):
            yield from change(node)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from map(ast.Constant, (value + 1, value - 1, -value))
    elif isinstance(value, float):
        yield from map(ast.Constant, (2 * value, 0.0, -value))


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    if not isinstance(node.operand, ast.Constant):
        yield node.operand
    else:
        # A negative index is one number, whatever the syntax says.
        yield from (ast.Constant(-node.operand.value + by) for by in (1, -1))
        yield node.operand


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    yield node.left
    yield node.right
    if type(node.op) in ARITHMETIC:
        yield _with(node, op=ARITHMETIC[type(node.op)]())
    if not isinstance(node.op, ast.Mult | ast.BitAnd | ast.BitOr):  # those are the same both ways
        yield _with(node, left=node.right, right=node.left)


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    if type(node.op) in ARITHMETIC:
        yield _with(node, op=ARITHMETIC[type(node.op)]())
    yield ast.Assign([node.target], node.value)


def _comparison(node: ast.Compare) -> Iterator[ast.AST]:
    for index, operator in enumerate(node.ops):
        for other in COMPARISONS[type(operator)]:
            yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
    if len(node.ops) > 1:
        yield ast.Compare(node.left, node.ops[:-1], node.comparators[:-1])
        yield ast.Compare(node.comparators[0], node.ops[1:], node.comparators[1:])


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
    yield from node.values


def _call(node: ast.Call) -> Iterator[ast.AST]:
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    for index in range(len(node.args) - 1):
        if name in SYMMETRIC and index == len(node.args) - 2:
            continue
        args = list(node.args)
        args[index], args[index + 1] = args[index + 1], args[index]
        yield _with(node, args=args)
    for index in range(len(node.args)):
        yield _with(node, args=node.args[:index] + node.args[index + 1 :])
        if index == 0 and not isinstance(node.args[0], ast.Starred | ast.GeneratorExp):
            yield node.args[0]
    for index in range(len(node.keywords)):
        yield _with(node, keywords=node.keywords[:index] + node.keywords[index + 1 :])
    if isinstance(node.func, ast.Attribute):
        yield node.func.value  # a step of a chain left out
    if name in NAMES:
        field = "attr" if isinstance(node.func, ast.Attribute) else "id"
        yield _with(node, func=_with(node.func, **{field: NAMES[name]}))


def _tuple(node: ast.Tuple) -> Iterator[ast.AST]:
    for index in range(len(node.elts) - 1):
        items = list(node.elts)
        items[index], items[index + 1] = items[index + 1], items[index]
        yield _with(node, elts=items)


def _slice(node: ast.Slice) -> Iterator[ast.AST]:
    if node.lower is not None:
        yield _with(node, lower=None)
    if node.upper is not None:
        yield _with(node, upper=None)


def _choice(node: ast.IfExp) -> Iterator[ast.AST]:
    yield node.body
    yield node.orelse


def _statement(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) or _is_docstring(node):
        return
    yield [ast.Pass()]
    if isinstance(node, ast.If):
        yield node.body
        if node.orelse:
            yield node.orelse
    if isinstance(node, ast.For | ast.While):
        yield [copy.deepcopy(_with(node, body=[*node.body, ast.Break()]))]  # type: ignore[list-item]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


CHANGES: dict[type, Callable] = {
    ast.Constant: _constant,
    ast.UnaryOp: _unary,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.Compare: _comparison,
    ast.BoolOp: _boolean,
    ast.Call: _call,
    ast.Tuple: _tuple,
    ast.Slice: _slice,
    ast.IfExp: _choice,
    ast.stmt: _statement,
}
