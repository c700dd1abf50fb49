"""Read what a learner handed in. Every byte of it is hostile until this module has looked at it.

Only plain, bounded data leaves here: cells of known types with text as their source, a grade_id
and an id if they are strings, and quiz records of the expected form.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from llm_memory.grading.flags import Flag, shown
from llm_memory.quiz.record import Answers, answers_in_notebook

#: Bytes of a notebook; one with every picture of a lesson in it has about a tenth of this.
MAX_NOTEBOOK = 32_000_000
MAX_CELLS, MAX_SOURCE, MAX_NAME = 2_000, 200_000, 200


class Unreadable(Exception):
    """A file cannot be used; the message says why, in words for the learner."""


@dataclass
class Submission:
    """The usable part of a notebook: its cells, its quiz records and what stood out."""

    cells: list[NotebookNode] = field(default_factory=list)
    answers: Answers = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    No symbolic link is followed and no pipe or device waited for: those, and files that are
    larger or cannot be opened, raise `Unreadable`.
    """
    if os.path.islink(path):
        raise Unreadable("it is a link to another file")
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise Unreadable("it cannot be opened") from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise Unreadable("it is not a file")
    with os.fdopen(handle, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"it is larger than {limit // 1000:,} kB")
    return data


def read_json(path: str | Path, limit: int) -> Any:
    """Return the JSON value in a file, read as by `read_bytes`; `Unreadable` if it is none."""
    data = read_bytes(path, limit)
    if not data.strip():
        raise Unreadable("it is empty")
    try:
        return json.loads(data)
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error
    except (ValueError, MemoryError) as error:
        raise Unreadable("it is not JSON") from error


def read_notebook(path: str | Path) -> Submission:
    """Return the usable part of a notebook file of format 3 or 4; `Unreadable` if it is none."""
    return parse_notebook(read_json(path, MAX_NOTEBOOK))


def parse_notebook(content: Any) -> Submission:
    """Return the usable part of a notebook as it is in JSON; `Unreadable` if it is none."""
    if not isinstance(content, dict):
        raise Unreadable("it is JSON, but not a notebook")
    answers, problems = answers_in_notebook(content)
    found = Submission(answers=answers, flags=answer_flags(problems))
    for count, raw in enumerate(_raw_cells(content)):
        if count == MAX_CELLS:
            found.flags.append(Flag("too-large", detail=f"{MAX_CELLS:,} cells"))
            break
        if isinstance(raw, dict):
            _read_cell(raw, found)
    return found


def answer_flags(problems: list[str]) -> list[Flag]:
    """Return the flag for what was wrong with recorded answers, if anything was."""
    return [Flag("answers", detail=shown(problems[0], 200))] if problems else []


def _raw_cells(content: dict[str, Any]) -> Iterator[Any]:
    if isinstance(content.get("cells"), list):
        yield from content["cells"]
    elif isinstance(content.get("worksheets"), list):  # format 3
        for sheet in content["worksheets"]:
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list):
                yield from sheet["cells"]
    else:
        raise Unreadable("it is JSON, but not a notebook")


def _read_cell(raw: dict[str, Any], found: Submission) -> None:
    source = text(raw.get("source", raw.get("input", "")))
    if len(source) > MAX_SOURCE:
        found.flags.append(Flag("too-large", detail=f"{MAX_SOURCE // 1000} kB"))
        source = ""
    kind = raw.get("cell_type")
    cell = NotebookNode(
        cell_type="code" if kind == "code" else "markdown",
        source=source,
        metadata=NotebookNode(),
    )
    if isinstance(raw.get("id"), str) and re.fullmatch(r"[\w-]{1,64}", raw["id"], re.ASCII):
        cell.id = raw["id"]
    metadata = raw.get("metadata")
    nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if isinstance(nbgrader, dict) and isinstance(nbgrader.get("grade_id"), str):
        kept = {"grade_id": nbgrader["grade_id"][:MAX_NAME]}
        for key in ("grade", "solution", "locked", "task", "points"):
            if isinstance(nbgrader.get(key), bool | int | float):
                kept[key] = nbgrader[key]
        cell.metadata.nbgrader = NotebookNode(kept)
    found.cells.append(cell)


def text(value: Any) -> str:
    """Return a source as text that UTF-8 and a compiler take; not text counts as none."""
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return ""
    # Lone surrogates cannot be written to a file, and NUL is in no program.
    return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
