"""What must not be in anything that learners get: lines of solutions and of hidden tests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from course_tools.build import course
from course_tools.build.lesson import read

SHORTEST = 12  # characters; shorter lines (`return x`) stand everywhere


def normalise(line: str) -> str:
    """Return a line of code without white space and comment, as it is compared."""
    return re.sub(r"\s+", "", line.split("  #")[0])


def _blocks(source: str, kind: str) -> Iterator[str]:
    pattern = rf"### BEGIN {kind}\n(.*?)### END {kind}"
    for block in re.findall(pattern, source, re.DOTALL):
        for line in block.splitlines():
            if not line.strip().startswith("#"):
                yield normalise(line)


def secrets(folder: Path) -> dict[str, str]:
    """Return every normalised line that learners must not get, with what it is.

    A line that a lesson also shows openly (an import, a step that the text explains) is none.
    """
    found: dict[str, str] = {}
    open_lines = set()
    for name in course.LESSONS:
        path = folder / "notebooks" / f"{name}.md"
        if not path.is_file():
            continue
        for cell in read(path, folder).cells:
            for kind, what in (("SOLUTION", "solution"), ("HIDDEN TESTS", "hidden test")):
                found |= dict.fromkeys(_blocks(cell.source, kind), what)
                cell.source = re.sub(
                    rf"### BEGIN {kind}\n.*?### END {kind}", "", cell.source, flags=re.DOTALL
                )
            open_lines |= {normalise(line) for line in cell.source.splitlines()}
    return {
        line: what
        for line, what in found.items()
        if len(line) >= SHORTEST
        and line not in open_lines
        and not line.startswith(("import", "from", "raiseNotImpl", "raiseValueError", "except"))
    }


def given_to_learners(folder: Path) -> dict[str, str]:
    """Return the text of each file that learners get, by its path: releases and the package."""
    package = folder / "src" / "llm_memory"
    paths = sorted((folder / "release").rglob("*.ipynb"))
    for path in sorted(package.rglob("*")):
        if path.suffix in {".py", ".json", ".md", ".toml", ".txt"}:
            paths.append(path)
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def _texts(data: object) -> Iterator[str]:
    """Yield every string in JSON data, keys left out: sources, outputs and metadata alike."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        if all(isinstance(item, str) for item in data):
            yield "".join(data)
        for item in data:
            yield from _texts(item)


def find_leaks(files: dict[str, str], secret: dict[str, str]) -> list[str]:
    """Return a sentence for each secret line in `files` (path to text), and for widget state."""
    leaks = []
    for path, text in files.items():
        data = json.loads(text) if path.endswith((".ipynb", ".json")) else text
        if isinstance(data, dict) and "widgets" in data.get("metadata", {}):
            leaks.append(f"{path}: widget state, which may hold a solved picture")
        for part in _texts(data):
            for line in part.splitlines():
                what = secret.get(normalise(line))
                if what:
                    leaks.append(f"{path}: a line of a {what}: {line.strip()}")
    return leaks
