"""The names that cells read, bind and import, found without running them."""

from __future__ import annotations

import ast
import builtins
import contextlib
import symtable
from collections.abc import Iterable


def parsed(source: str) -> ast.Module:
    """Return a cell's syntax tree, one without statements where it is no Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        pass
    try:
        return ast.parse(without_magics(source))
    except (SyntaxError, ImportError):
        return ast.Module([], [])


def names_read(source: str) -> tuple[set[str], set[str]]:
    """Return the global names that a cell reads, and those that its class bodies read."""
    read: set[str] = set()
    in_classes: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                read.add(symbol.get_name())
                if table.get_type() == "class":
                    in_classes.add(symbol.get_name())
        for child in table.get_children():
            walk(child)

    with contextlib.suppress(SyntaxError):
        walk(symtable.symtable(source, "<test>", "exec"))
    return read, in_classes


def names_used(source: str) -> set[str]:
    """Return all names and attributes that a cell uses, and the parts of what it imports."""
    found: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(node.module.split("."))
    return found


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


def bound_names(source: str) -> set[str]:
    """Return the names that a cell binds at its top level, read there or not."""
    try:
        table = symtable.symtable(without_magics(source), "<test>", "exec")
    except SyntaxError:  # it never ran
        return set()
    bound: set[str] = set()

    def walk(inner: symtable.SymbolTable) -> None:
        for symbol in inner.get_symbols():
            if (inner is table or symbol.is_declared_global()) and (
                symbol.is_assigned() or symbol.is_imported()
            ):
                bound.add(symbol.get_name())
        for child in inner.get_children():
            walk(child)

    walk(table)
    return bound


def definitions(source: str) -> list[ast.stmt]:
    """Return what a cell says once and for all: imports, helpers, and values that never change.

    A name that the cell also binds in another way is left out: which of them holds is not known.
    """
    try:
        body = ast.parse(without_magics(source)).body
    except SyntaxError:
        return []
    said = [statement for statement in body if _is_definition(statement)]
    others = [statement for statement in body if not _is_definition(statement)]
    unsure: set[str] = set()
    for statement in others:
        unsure |= bound_names(ast.unparse(statement))
    return [one for one in said if not bound_names(ast.unparse(one)) & unsure]


def _is_definition(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        found = statement.args
        return not (statement.decorator_list or found.defaults or any(found.kw_defaults))
    if isinstance(statement, ast.Assign):
        plain = all(isinstance(target, ast.Name) for target in statement.targets)
        return plain and _is_constant(statement.value)
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _is_constant(value: ast.expr) -> bool:
    if isinstance(value, ast.UnaryOp):
        return isinstance(value.operand, ast.Constant)
    if isinstance(value, ast.Tuple):
        return all(map(_is_constant, value.elts))
    return isinstance(value, ast.Constant)


#: Methods that change what they are called on.
_CHANGING = {
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse", "update", "add"),
    *("discard", "setdefault", "popitem", "appendleft", "popleft", "extendleft", "rotate"),
    *("difference_update", "intersection_update", "subtract", "move_to_end", "fill", "put"),
    *("drop", "fillna", "rename", "dropna", "sort_values", "reset_index", "set_index"),
}


def changes_in_place(source: str) -> bool:
    """Whether a cell may change something in place: by a method, or by an item of it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        try:
            tree = ast.parse(without_magics(source))
        except SyntaxError:
            return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            return True
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in _CHANGING:
            return True
        name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
        if name in ("shuffle", "heapify", "heappush", "heappop", "insort"):
            return True
    return False


def shared_names(sources: Iterable[str]) -> frozenset[str]:
    """Return the global names that the course's own cells, which are no tests, bind or read."""
    names: set[str] = set()
    for source in sources:
        try:
            table = symtable.symtable(source, "<cell>", "exec")
        except SyntaxError:  # a cell with IPython's magics
            continue
        names |= {s.get_name() for s in table.get_symbols()} | names_read(source)[0]
    return frozenset(names - set(vars(builtins)))


def rebound_names(sources: Iterable[str]) -> frozenset[str]:
    """Return the global names that functions of the sources bind, by `global`, or change."""
    names: set[str] = set()
    for source in sources:
        for function in ast.walk(parsed(source)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                names.update(*map(_changed_by, ast.walk(function)))
    return frozenset(names)


def _changed_by(node: ast.AST) -> list[str]:
    """Return the names that a part of a function binds elsewhere, or changes in place."""
    if isinstance(node, ast.Global):
        return node.names
    stored = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
    changed = isinstance(node, ast.Attribute) and node.attr in _CHANGING
    owner = getattr(node, "value", None) if stored or changed else None
    return [owner.id] if isinstance(owner, ast.Name) else []


def import_statements(sources: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Return each name that the sources import, with the statement that does."""
    for source in sources:
        for statement in parsed(source).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    yield (alias.asname or alias.name.partition(".")[0]), ast.unparse(statement)


def without_magics(source: str) -> str:
    """Return a cell as Python: IPython's magics become calls of `get_ipython()`."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)
