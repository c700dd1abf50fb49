"""The names that cells read, bind and import, found without running them."""

from __future__ import annotations

import ast
import builtins
import contextlib
import symtable
from collections.abc import Iterable


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


def import_statements(sources: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Return each name that the sources import, with the statement that does."""
    for source in sources:
        try:
            statements = ast.parse(source).body
        except SyntaxError:
            try:
                statements = ast.parse(without_magics(source)).body
            except (SyntaxError, ImportError):
                continue
        for statement in statements:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    yield (alias.asname or alias.name.partition(".")[0]), ast.unparse(statement)


def without_magics(source: str) -> str:
    """Return a cell as Python: IPython's magics become calls of `get_ipython()`."""
    from IPython.core.inputtransformer2 import TransformerManager

    return TransformerManager().transform_cell(source)
