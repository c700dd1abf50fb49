"""Finished functions in an exercise that asks to write them: a flag with the name, never points.

A course says by `c.NbJudge.forbidden` which names an exercise must not use. They are looked for in
the syntax tree, so a comment or a text is no use, and a new name for an import or for a function is
followed. A name that is only made while the code runs is not found.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping, Sequence

from nbformat import NotebookNode

from nbjudge.codes import Flag
from nbjudge.names import bound_names, names_read, parsed

MAX_NAMES = 5
#: Characters of a cell beyond which what was found in it is not kept for the next notebook.
_MOST_KEPT = 10_000
#: What begins the dotted name of something that is not known, such as what a call returned.
_UNKNOWN = "?"


def on_exercises(
    cells: Sequence[NotebookNode],
    theirs: Sequence[NotebookNode],
    rules: Mapping[str, Sequence[str]],
) -> list[Flag]:
    """Return a flag for each exercise that uses what it forbids.

    cells: a notebook's, whose imports count. theirs: those of them that the learner wrote.
    rules: exercise → names: `torch.softmax`, all below `llm_memory.rope.*`, a part of anything by
    `*.softmax`, or the name of the notebook's own `torch_softmax`.
    """
    solved = [(cell, name) for cell in theirs if (name := _grade_id(cell)) in rules]
    if not solved:
        return []
    imported: dict[str, str] = {}
    for cell in cells:
        if cell.cell_type == "code":
            imported.update(_imports_of(cell.source))
    helpers = _Helpers([cell for cell in theirs if not _grade_id(cell)])
    found = []
    for cell, name in solved:
        try:
            used = {
                one
                for source in helpers.with_theirs(cell)
                for one in _used(parsed(source.source), imported)
            }
        except RecursionError:
            found.append(Flag("forbidden", name, "code that is nested too deep to be looked into"))
            continue
        bad = sorted({one for one in used for rule in rules[name] if _is_meant(one, rule)})
        if bad:
            shown = ", ".join(one.removeprefix(f"{_UNKNOWN}.") for one in bad[:MAX_NAMES])
            found.append(Flag("forbidden", name, shown))
    return found


def _grade_id(cell: NotebookNode) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


class _Helpers:
    """The learner's cells that are no exercise; each is looked into once."""

    def __init__(self, cells: Sequence[NotebookNode]):
        self._binding: dict[str, list[NotebookNode]] = {}
        for cell in cells:
            for name in bound_names(cell.source):
                self._binding.setdefault(name, []).append(cell)
        self._read: dict[int, set[str]] = {}

    def with_theirs(self, cell: NotebookNode) -> list[NotebookNode]:
        """Return a cell and the other cells that bind what it reads, and what these read."""
        taken, seen = [cell], {id(cell)}
        asked: set[str] = set()
        for one in taken:  # which grows on the way
            for name in self._names(one) - asked:
                asked.add(name)
                for helper in self._binding.get(name, ()):
                    if id(helper) not in seen:
                        seen.add(id(helper))
                        taken.append(helper)
        return taken

    def _names(self, cell: NotebookNode) -> set[str]:
        if id(cell) not in self._read:
            self._read[id(cell)] = names_read(cell.source)[0]
        return self._read[id(cell)]


def _imports_of(source: str) -> tuple[tuple[str, str], ...]:
    """Return what `_imported` finds in a cell; most cells are the course's own in every notebook.

    The syntax has no way to import without the word.
    """
    if "import" not in source:
        return ()
    if len(source) > _MOST_KEPT:
        return tuple(_imported(parsed(source)))
    return _kept_imports(source)


@functools.lru_cache(maxsize=500)
def _kept_imports(source: str) -> tuple[tuple[str, str], ...]:
    return tuple(_imported(parsed(source)))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that imports bind, with the dotted name of each."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or whole, whole
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _used(tree: ast.Module, imported: Mapping[str, str]) -> Iterator[str]:
    """Yield the dotted names that the definitions of a cell use.

    What a cell only tries out, an assertion or a printed line, is no part of the solution.
    """
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    for statement in _parts(tree.body):
        for node in ast.walk(statement):
            name = _dotted(node, imported)
            if name and name not in own:
                yield name


def _parts(statements: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in statements:
        inner = [
            *getattr(statement, "body", []),
            *getattr(statement, "orelse", []),
            *getattr(statement, "finalbody", []),
        ]
        if isinstance(statement, ast.If | ast.For | ast.While | ast.With | ast.Try):
            yield from _parts(inner)
            for handler in getattr(statement, "handlers", []):
                yield from _parts(handler.body)
        elif not isinstance(statement, ast.Expr | ast.Assert):
            yield statement


def _dotted(node: ast.AST, imported: Mapping[str, str]) -> str:
    """Return the dotted name that an expression stands for, "" for none."""
    if isinstance(node, ast.Name):
        return imported.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, imported) or _UNKNOWN}.{node.attr}"
    if isinstance(node, ast.Call):
        called = _dotted(node.func, imported).rpartition(".")[2]
        first, second = [*node.args[:2], None, None][:2]
        if called in ("__import__", "import_module") and first is not None:
            return _text(first)
        if called in ("getattr", "__getattribute__", "attrgetter"):
            # attrgetter("softmax")(torch): of what is not known there.
            part = _text(second if called == "getattr" else first)
            base = _dotted(first, imported) if called == "getattr" and first is not None else ""
            return f"{base or _UNKNOWN}.{part}" if part else ""
    if isinstance(node, ast.Subscript) and (part := _text(node.slice)):
        if isinstance(node.value, ast.Call) and _dotted(node.value.func, imported) == "vars":
            held = [_dotted(one, imported) for one in node.value.args[:1]]
            return f"{(held or [''])[0] or _UNKNOWN}.{part}"
        base = _dotted(node.value, imported)
        if base == "sys.modules":
            return part
        if base.endswith(".__dict__"):
            return f"{base.removesuffix('.__dict__')}.{part}"
    return ""


def _text(node: ast.AST | None) -> str:
    """Return the text that a constant, or a sum of constants, is; "" for anything else."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return left + right if left and right else ""
    if isinstance(node, ast.JoinedStr) and all(isinstance(v, ast.Constant) for v in node.values):
        return "".join(_text(value) for value in node.values)
    return ""


def _is_meant(name: str, rule: str) -> bool:
    if rule.startswith("*."):
        return "." in name and name.rpartition(".")[2] == rule[2:]
    if rule.endswith(".*"):
        return name.startswith(rule[:-1])
    return name == rule
