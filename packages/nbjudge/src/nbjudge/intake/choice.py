"""Which of the files that a learner handed in is the lesson's notebook: by content, then by name.

Learners hand in `attention (1).ipynb`, a folder, a zip, a `.ipynb.txt` that a browser or a mail
program made, an untouched original beside their work, a scratch file. So every notebook that can be
found is looked into: whose cells they are, and how many exercises in it are begun.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from nbjudge.codes import shown
from nbjudge.intake.given import plain
from nbjudge.intake.notebook import (
    MAX_CELLS,
    MAX_NOTEBOOK,
    MAX_SOURCE,
    Unreadable,
    joined,
    load,
    raw_cells,
    read_bytes,
    slim,
)
from nbjudge.intake.recorded import is_answers

#: A notebook's names: as it is saved, and as browsers, mail programs and learners rename it.
_NAMES = re.compile(r"\.(ipynb|ipynb\.txt|ipynb\.json|json|ipynb\.zip|zip)$", re.IGNORECASE)
_COPY = re.compile(r"(?:[-_ ]*copy[-_ ]*(?:\d+)?|\s*\((\d+)\)|[-_ ]+v?(\d+))$", re.IGNORECASE)
#: Of files that are looked into, and of their bytes together.
MAX_LOOKED, MAX_BYTES, MAX_DEPTH = 60, 256_000_000, 8
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, OverflowError),
)


@dataclass(frozen=True)
class Content:
    """What a lesson's notebook is known by.

    cells: the names of its cells. stubs: of each exercise, by name, the sources that learners were
    given. defined: the functions and classes of its exercises → the exercise.
    """

    cells: frozenset[str] = frozenset()
    stubs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defined: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Candidate:
    """A file that may be a notebook. path: relative to the hand-in; in a zip, its path and `!`."""

    path: str
    data: bytes
    slimmed: bool = False
    cells: frozenset[str] = frozenset()
    sources: dict[str, list[str]] = field(default_factory=dict)
    readable: bool = False

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return re.split(r"[/!]", self.path)[-1]

    @property
    def stem(self) -> str:
        """The name without what follows the notebook's."""
        return _NAMES.sub("", self.name)

    @property
    def as_saved(self) -> bool:
        """Whether its name ends as a notebook's, so that it is one or wants to be one."""
        return re.search(r"\.ipynb(\.txt|\.json)?$", self.name, re.IGNORECASE) is not None

    def fits(self, content: Content) -> int:
        """Return how many of a lesson's cells it has."""
        return len({content.defined.get(name, name) for name in self.cells} & content.cells)

    def begun(self, content: Content) -> int:
        """Return how many exercises of a lesson are no longer as they were given."""
        written: set[str] = set()
        for name, sources in self.sources.items():
            exercise = name if name in content.stubs else content.defined.get(name, "")
            stubs = content.stubs.get(exercise)
            if stubs is not None and any(one and one not in stubs for one in sources):
                written.add(exercise)
        return len(written)


@dataclass
class Choice:
    """The file that counts for one notebook of the lesson, and why, where there were others."""

    taken: Candidate
    why: str = ""


def candidates(submitted: Path, ignore: Iterable[str]) -> tuple[list[Candidate], dict[str, bytes]]:
    """Return what may be a notebook in a hand-in, in sorted order, and the answers in its zips."""
    found: list[Candidate] = []
    answers: dict[str, bytes] = {}
    room = MAX_BYTES
    patterns = tuple(ignore)
    for relative in _files(submitted, "", patterns):
        if len(found) >= MAX_LOOKED or room <= 0:
            break
        try:
            if relative.lower().endswith(".zip"):
                inside, more, used = _in_zip(submitted, relative, patterns, room)
                found += inside[: MAX_LOOKED - len(found)]
                answers.update(more)
            else:
                data, slimmed = slim(submitted / relative)
                used = len(data)
                found.append(_looked_into(Candidate(relative, data, slimmed)))
            room -= used
        except Unreadable:
            found.append(Candidate(relative, b""))
    return [one for one in found if one.readable or one.as_saved], answers


def _files(root: Path, folder: str, ignore: tuple[str, ...]) -> list[str]:
    """Return the relative paths that may be notebooks, those nearest to the top first."""
    found, deeper = [], []
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        relative = os.path.join(folder, entry.name)
        if (
            any(fnmatch(entry.name, pattern) for pattern in ignore)
            or entry.name.startswith(".")
            or entry.name == "__MACOSX"
        ):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name.endswith(".ipynb"):
                found.append(relative)  # which wants to be a notebook, and is none
            elif relative.count(os.sep) < MAX_DEPTH and entry.name.isprintable():
                deeper.append(relative)
        elif _NAMES.search(entry.name) and entry.name.isprintable() and not is_answers(entry.name):
            found.append(relative)
    for relative in deeper:
        found += _files(root, relative, ignore)
    return found


def _in_zip(
    submitted: Path, relative: str, ignore: tuple[str, ...], room: int
) -> tuple[list[Candidate], dict[str, bytes], int]:
    found: list[Candidate] = []
    answers: dict[str, bytes] = {}
    used = 0
    data = read_bytes(submitted / relative, MAX_NOTEBOOK)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member in archive.infolist()[:1000]:
                name = member.filename.replace("\\", "/")
                last = name.rpartition("/")[2]
                inside = name.split("/")
                if (
                    member.is_dir()
                    or last.startswith(".")
                    or any(fnmatch(part, pattern) for part in inside for pattern in ignore)
                    or "__MACOSX" in inside
                    or not name.isprintable()
                    or len(found) >= MAX_LOOKED
                ):
                    continue
                if is_answers(last) or (_NAMES.search(last) and not last.lower().endswith(".zip")):
                    most = min(MAX_NOTEBOOK, room - used)
                    with archive.open(member) as file:
                        content = file.read(max(0, most) + 1)
                    used += len(content)
                    if len(content) > most:
                        continue
                    if is_answers(last):
                        answers[f"{relative}!{name}"] = content
                    else:
                        found.append(_looked_into(Candidate(f"{relative}!{name}", content)))
    except _BROKEN:
        pass  # what is no archive holds no notebook; the file itself is named among the others
    return found, answers, used + len(data)


def _looked_into(candidate: Candidate) -> Candidate:
    """Fill in what a candidate holds; one that is no notebook holds nothing."""
    try:
        content = load(candidate.data)[0]
        cells = list(raw_cells(content))[:MAX_CELLS] if isinstance(content, dict) else None
    except Unreadable:
        cells = None
    if cells is None:
        return candidate
    names = set()
    for cell in cells:
        if not isinstance(cell, dict):
            continue
        source = plain(joined(cell.get("source", cell.get("input", "")))[:MAX_SOURCE])
        for name in _names_of(cell, source):
            names.add(name)
            candidate.sources.setdefault(name, []).append(source)
    candidate.cells, candidate.readable = frozenset(names), True
    return candidate


def _names_of(cell: dict[str, Any], source: str) -> set[str]:
    """Return what a cell may be called: its grade_id, or what it defines where it has none."""
    metadata = cell.get("metadata")
    about = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = about.get("grade_id") if isinstance(about, dict) else None
    if isinstance(name, str):
        return {name}
    if cell.get("cell_type") != "code":
        return set()
    return set(re.findall(r"^(?:async +def|def|class)\s+(\w+)", source, re.MULTILINE))


def choose(found: list[Candidate], lesson: Mapping[str, Content]) -> dict[str, Choice | None]:
    """Return the file that counts for each notebook of a lesson.

    What has the lesson's cells comes before what has not, what is more solved before what is less,
    and then the name decides: the lesson's own, then the highest number behind it.
    """
    belongs: dict[str, list[Candidate]] = {name: [] for name in lesson}
    for candidate in found:
        name = _notebook_of(candidate, lesson, alone=len(found) == len(lesson) == 1)
        if name is not None:
            belongs[name].append(candidate)
    chosen: dict[str, Choice | None] = {}
    for name, content in lesson.items():
        if not belongs[name]:
            chosen[name] = None
            continue
        taken = max(belongs[name], key=lambda one: _rank(one, name, content))
        # A reason can be given only for what was looked into.
        others = [one for one in belongs[name] if one is not taken and one.fits(content)]
        why = _why(taken, others, content) if others else ""
        chosen[name] = Choice(taken, why)
    return chosen


def _notebook_of(candidate: Candidate, lesson: Mapping[str, Content], *, alone: bool) -> str | None:
    """Return the notebook of the lesson that a file is, or wants to be."""
    fits = {name: candidate.fits(content) for name, content in lesson.items()}
    best = max(fits.values(), default=0)
    by_name = [name for name in lesson if is_variant(candidate.stem, name)]
    named = max(by_name, key=len, default=None)  # "extra" is no variant of a longer name
    if best:
        equal = [name for name, count in fits.items() if count == best]
        return named if named in equal else equal[0]
    if named is not None and candidate.as_saved:
        return named
    return next(iter(lesson)) if alone and candidate.as_saved else None


def is_variant(stem: str, name: str) -> bool:
    """Whether a name is a notebook's with something behind it, or before it, or in other case."""
    behind = re.escape(name) + r"([\W_].*|copy.*|\d+)?"
    before = r"(.*[\W_])?" + re.escape(name) + r"(\s*\(\d+\)|[-_ ]?copy\d*)*"
    return any(
        re.fullmatch(pattern, stem, re.IGNORECASE | re.DOTALL) for pattern in (behind, before)
    )


def _rank(candidate: Candidate, name: str, content: Content) -> tuple:
    numbers = [int(number[:9]) for number in re.findall(r"\d+", candidate.stem[-40:])]
    return (
        candidate.fits(content) > 0,
        candidate.begun(content),
        candidate.name == f"{name}.ipynb",
        candidate.stem.lower() == name.lower(),
        is_variant(candidate.stem, name),
        -candidate.path.count("/") - candidate.path.count(os.sep),
        numbers[-1] if _COPY.search(candidate.stem) and numbers else 0,
        candidate.path,
    )


def _why(taken: Candidate, others: list[Candidate], content: Content) -> str:
    seen = ", ".join(f"{shown(one.path)} with {one.begun(content)}" for one in others[:4])
    begun, total = taken.begun(content), len(content.stubs)
    return f"{shown(taken.path)}, with {begun} of {total} exercises begun; not {seen}"
