"""Pairs of hand-ins that are the same but for names and layout: a hint to read both, never points.

Of each exercise the shape of the code is taken: its syntax tree with names in the order in which
they come first, without texts that only explain. Small exercises have few right shapes, which many
learners share; so only a shape that few have speaks for a pair, and only exercises that were
changed count.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import combinations
from logging import Logger
from pathlib import Path
from typing import Any

from nbgrader.coursedir import CourseDirectory

from nbjudge import graders
from nbjudge.codes import OWN_FOLDER
from nbjudge.plugins.folders import of_students

#: Nodes of a syntax tree below which a shape says nothing.
SMALLEST = 25


@dataclass(frozen=True)
class Pair:
    """Two learners, and the exercises that they share a rare shape in."""

    one: str
    other: str
    exercises: tuple[str, ...] = field(default=())


def shape(source: str) -> str:
    """Return a digest of code that is the same for other names, comments and layout.

    "" where it is too small to say anything, or cannot be read.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    names: dict[str, int] = {}
    parts: list[str] = []
    for node in _nodes(tree):
        part = type(node).__name__
        if isinstance(node, ast.Constant):
            part += repr(node.value) if not isinstance(node.value, str) else ""
        for key in ("id", "arg", "name"):
            value = getattr(node, key, None)
            if isinstance(value, str):
                part += f":{names.setdefault(value, len(names))}"
        if isinstance(node, ast.Attribute):
            part += f".{node.attr}"
        parts.append(part)
    if len(parts) < SMALLEST:
        return ""
    return hashlib.sha256(" ".join(parts).encode("utf-8", "replace")).hexdigest()


def _nodes(tree: ast.AST) -> Iterable[ast.AST]:
    """Yield the nodes of a tree in the order of the text, without texts that only explain."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [
            child
            for child in reversed(list(ast.iter_child_nodes(node)))
            if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            and not isinstance(child, ast.expr_context)
        ]


def pairs(shapes: Mapping[str, Mapping[str, str]], few: int | None = None) -> list[Pair]:
    """Return the pairs that share rare shapes, most exercises first.

    shapes: learner → exercise → shape. few: how many learners may have a shape that still speaks
    for a pair; by default a tenth of the class, and at least two.
    """
    few = max(2, len(shapes) // 10) if few is None else few
    who: dict[tuple[str, str], list[str]] = defaultdict(list)
    for student, exercises in sorted(shapes.items()):
        for exercise, found in exercises.items():
            if found:
                who[exercise, found].append(student)
    shared: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (exercise, _), students in sorted(who.items()):
        if 2 <= len(students) <= few:
            for pair in combinations(students, 2):
                shared[pair].append(exercise)
    found_pairs = [Pair(one, other, tuple(names)) for (one, other), names in shared.items()]
    return sorted(found_pairs, key=lambda pair: (-len(pair.exercises), pair.one, pair.other))


#: Of a folder's notebooks by their digest: the shape of each exercise.
Shapes = dict[str, dict[str, str]]


def look(
    course: CourseDirectory, assignment: str, log: Logger, known: Shapes | None = None
) -> list[Pair]:
    """Return the pairs among the graded hand-ins of an assignment.

    known: shapes of notebooks that were looked at before; it holds afterwards those that are there
    now, and no other.
    """
    known = {} if known is None else known
    given = _shapes(Path(course.format_path(course.release_directory, ".", assignment)), {})[1]
    course.assignment_id, course.student_id = assignment, "*"
    shapes, there = {}, set()
    for student, folder in of_students(course, course.autograded_directory, log, graded=True):
        digest, found = _shapes(folder, known)
        known[digest] = found
        there.add(digest)
        shapes[student] = {n: it for n, it in found.items() if n not in given or given[n] != it}
    for gone in known.keys() - there:
        del known[gone]
    return pairs(shapes)


def _shapes(folder: Path, known: Shapes) -> tuple[str, dict[str, str]]:
    """Return the digest of a folder's notebooks, and the shapes of their exercises."""
    texts = []
    for path in sorted(folder.glob("*.ipynb")) if folder.is_dir() else []:
        with contextlib.suppress(OSError):
            texts.append(path.read_bytes())
    digest = hashlib.sha256(b"".join(b"%d:" % len(text) + text for text in texts)).hexdigest()
    if digest not in known:
        cells = [cell for text in texts for cell in _cells(text)]
        return digest, {name: shape(source) for name, source in cells}
    return digest, known[digest]


def last(course: CourseDirectory, assignment: str, log: Logger, *, anew: bool) -> list[Pair]:
    """Return the pairs as they were last looked for; anew: look again, and keep what is found.

    Looking reads every graded notebook, which a run that graded nothing has no time for.
    """
    path = Path(course.root, OWN_FOLDER, "reported", f"{assignment}-similar.json")
    known: Shapes = {}
    try:
        kept = json.loads(path.read_text("utf-8"))
        if kept["shaped_by"] == _shaped_by():
            known = {digest: dict(shapes) for digest, shapes in kept["shapes"].items()}
        if not anew:
            return [Pair(one, other, tuple(names)) for one, other, names in kept["pairs"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    found = look(course, assignment, log, known)
    try:
        graders.folder(course.root, OWN_FOLDER, "reported")
        entries = [[pair.one, pair.other, list(pair.exercises)] for pair in found]
        kept = {"pairs": entries, "shaped_by": _shaped_by(), "shapes": known}
        graders.write(path, json.dumps(kept), course.root)
    except OSError as error:
        log.warning("%s cannot be written (%s).", path, error.strerror)
    return found


def _shaped_by() -> list[str]:
    """Return what decides about a shape besides the code that has it."""
    return [version("nbjudge"), platform.python_version()]


def _cells(text: bytes) -> list[tuple[str, str]]:
    """Return name and code of each solution cell of a notebook."""
    try:
        cells: list[dict[str, Any]] = json.loads(text)["cells"]
    except (ValueError, KeyError, TypeError):
        return []
    found = []
    for cell in cells:
        about = cell.get("metadata", {}).get("nbgrader", {})
        if about.get("solution") and cell.get("cell_type") == "code":
            source = cell["source"]
            code = source if isinstance(source, str) else "".join(source)
            found.append((about["grade_id"], code))
    return found
