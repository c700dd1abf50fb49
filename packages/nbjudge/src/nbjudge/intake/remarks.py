"""What keeps a learner's code from being run here at all, found by reading it.

Code that is right where the learner wrote it can fail here for a reason that no test names: syntax
of a newer Python, or a package that is not installed. Such a cell loses its points, and says why.
"""

from __future__ import annotations

import ast
import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from nbformat import NotebookNode

from nbjudge.codes import Flag, shown
from nbjudge.names import without_magics
from nbjudge.wire import course

MAX_NAMES = 5


def on_code(cells: list[NotebookNode], folder: Path, written_with: str) -> list[Flag]:
    """Return a flag for each cell that this Python cannot read, and for what it lacks.

    cells: code of the learner's. folder: the hand-in's files, which may be imported.
    written_with: the version of Python that the notebook names, or "".
    """
    found = []
    for cell in cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        try:
            tree = _parsed(cell.source)
        except SyntaxError as error:
            found.append(Flag("syntax", name, _syntax(error, written_with)))
            continue
        except (ValueError, RecursionError, MemoryError, ImportError):
            continue
        if cell.source.isascii() and "import" not in cell.source:
            continue  # in other letters Python reads the same name
        lacking = sorted({module for module in _imported(tree) if not _is_there(module, folder)})
        if lacking:
            found.append(Flag("not_installed", name, ", ".join(map(shown, lacking[:MAX_NAMES]))))
    return found


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        plain = without_magics(source)
        if plain == source:
            raise error
        return ast.parse(plain)


def _syntax(error: SyntaxError, written_with: str) -> str:
    here = platform.python_version_tuple()[:2]
    said = f"Python {'.'.join(here)} stops in line {error.lineno or 1}: {shown(error.msg or '')}"
    version = tuple(int(part) for part in written_with.split(".")[:2] if part.isdecimal())
    if len(version) == 2 and version > tuple(map(int, here)):
        said += f"; it was written with Python {written_with}"
    return said


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top-level names of what code imports, unless it says what to do without."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and (module := _called_for(node)):
            yield module
        elif not (isinstance(node, ast.Try) and node.handlers):
            yield from _imported(node)


def _called_for(call: ast.Call) -> str:
    """Return the top-level name that `import_module("x.y")` or `__import__("x")` asks for."""
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    first = call.args[0] if call.args else None
    if name not in ("__import__", "import_module") or not isinstance(first, ast.Constant):
        return ""
    return first.value.partition(".")[0] if isinstance(first.value, str) else ""


def _is_there(module: str, folder: Path) -> bool:
    if module in sys.stdlib_module_names or module in course.here().shared:
        return True
    if (folder / f"{module}.py").is_file() or (folder / module).is_dir():
        return True
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return True  # nothing that can be said
