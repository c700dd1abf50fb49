"""Which of the files that a learner handed in is the lesson's notebook: by content, then by name.

Learners hand in `attention (1).ipynb`, a folder, a zip, a `.ipynb.txt` that a browser or a mail
program made, an untouched original beside their work, a scratch file. So every file that begins as
a notebook or as an archive is looked into, whatever its name ends in: whose cells they are, and how
many exercises in it are begun.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import IO, Any

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

#: What follows the notebook's own name: as it is saved, and as browsers, mail programs and learners
#: rename it.
_SUFFIX = re.compile(
    r"(\.ipynb([\W_].*)?|\.(json|txt|html?|zip|tgz|tar(\.\w+)?|gz|bz2|xz))$", re.IGNORECASE
)
_COPY = re.compile(r"(?:[-_ ]*copy[-_ ]*(?:\d+)?|\s*\((\d+)\)|[-_ ]+v?(\d+))$", re.IGNORECASE)
#: Of files that are looked into, and of their bytes together.
MAX_LOOKED, MAX_BYTES, MAX_DEPTH = 60, 256_000_000, 8
#: Of files whose beginning is read, and its bytes; of members of an archive; of archives in one.
MAX_FILES, HEAD, MAX_MEMBERS, MAX_NESTED = 1_000, 8_192, 1_000, 1
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError),
    *(NotImplementedError, RuntimeError, OSError, ValueError, OverflowError),
)
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_MARKS = (b'"cells"', b'"nbformat"', b'"worksheets"', b'"metadata"')


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
        return _SUFFIX.sub("", self.name)

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
    """Return what may be a notebook in a hand-in, in sorted order, and the answers in archives."""
    patterns = (*ignore, ".*")
    return _candidates(submitted, _files(submitted, "", patterns), patterns)


def hidden(submitted: Path, ignore: Iterable[str]) -> list[Candidate]:
    """Return what may be a notebook among files and in folders whose names begin with a dot.

    Jupyter's checkpoints are there: older than the notebook, and sometimes all that is left of it.
    """
    patterns = tuple(pattern for pattern in ignore if not pattern.startswith("."))
    seen = set(_files(submitted, "", (*patterns, ".*")))
    paths = [path for path in _files(submitted, "", patterns) if path not in seen]
    return _candidates(submitted, paths, patterns)[0]


def _candidates(
    submitted: Path, paths: list[str], patterns: tuple[str, ...]
) -> tuple[list[Candidate], dict[str, bytes]]:
    found: list[Candidate] = []
    answers: dict[str, bytes] = {}
    room = MAX_BYTES
    for relative in paths[:MAX_FILES]:
        if len(found) >= MAX_LOOKED or room <= 0:
            break
        one = Candidate(relative, b"")
        try:
            kind = begins_as(_head(submitted / relative))
            if kind == "archive":
                data = read_bytes(submitted / relative, MAX_NOTEBOOK)
                inside, more, used = _in_archive(data, relative, patterns, room)
                found += (inside or [one])[: MAX_LOOKED - len(found)]
                answers.update(more)
                room -= len(data) + used
            elif kind == "notebook" or one.as_saved:
                data, slimmed = slim(submitted / relative)
                found.append(_looked_into(Candidate(relative, data, slimmed)))
                room -= len(data)
        except Unreadable:
            found.append(one)
    return [one for one in found if one.readable or one.as_saved], answers


def begins_as(head: bytes) -> str:
    """Return what a file may be by its first bytes: "archive", "notebook", or "" for neither."""
    if head.startswith((b"PK\x03\x04", *_COMPRESSED)) or head[257:262] == b"ustar":
        return "archive"
    # Zeros are in UTF-16 and UTF-32, behind their marks.
    plain = head.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf").lstrip(b"\xff\xfe \t\r\n")
    return "notebook" if plain.startswith(b"{") and any(m in plain for m in _MARKS) else ""


def _head(path: Path) -> bytes:
    """Return the first bytes of a file; `Unreadable` where it is none."""
    return read_bytes(path, HEAD, cut=True)


def _files(root: Path, folder: str, ignore: tuple[str, ...]) -> list[str]:
    """Return the relative paths that may be notebooks, those nearest to the top first."""
    found, deeper = [], []
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        relative = os.path.join(folder, entry.name)
        if _passed_over(entry.name, ignore):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name.endswith(".ipynb"):
                found.append(relative)  # which wants to be a notebook, and is none
            elif relative.count(os.sep) < MAX_DEPTH and entry.name.isprintable():
                deeper.append(relative)
        elif entry.name.isprintable() and not is_answers(entry.name):
            found.append(relative)
    for relative in deeper:
        found += _files(root, relative, ignore)
    return found


def _passed_over(name: str, ignore: tuple[str, ...]) -> bool:
    return name == "__MACOSX" or any(fnmatch(name, p) for p in ignore)


def _in_archive(
    data: bytes, path: str, ignore: tuple[str, ...], room: int, nested: int = 0
) -> tuple[list[Candidate], dict[str, bytes], int]:
    """Return the notebooks and the answers in an archive, and the bytes that were unpacked."""
    found: list[Candidate] = []
    answers: dict[str, bytes] = {}
    used = 0
    # What is no archive holds no notebook; the file itself is named among the others.
    with contextlib.suppress(*_BROKEN):
        for name, opened in _members(data, path, min(MAX_NOTEBOOK, room)):
            inside = name.split("/")
            if (
                len(found) >= MAX_LOOKED
                or not name.isprintable()
                or any(_passed_over(part, ignore) for part in inside if part not in (".", ".."))
            ):
                continue
            most = min(MAX_NOTEBOOK, room - used)
            with contextlib.suppress(*_BROKEN), opened() as file:
                content = file.read(HEAD)
                kind = begins_as(content)
                if not kind and not is_answers(inside[-1]):
                    continue
                content += file.read(max(0, most - len(content)) + 1)
                used += len(content)
                place = f"{path}!{name}"
                if len(content) > most:
                    continue
                if is_answers(inside[-1]):
                    answers[place] = content
                elif kind == "notebook":
                    found.append(_looked_into(Candidate(place, content)))
                elif nested < MAX_NESTED:
                    within = _in_archive(content, place, ignore, room - used, nested + 1)
                    found += within[0][: MAX_LOOKED - len(found)]
                    answers.update(within[1])
                    used += within[2]
    return found, answers, used


def _members(data: bytes, path: str, most: int) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Yield name and content of the files in an archive, of at most `most` bytes where packed."""
    for begin, unpack in _COMPRESSED.items():
        if data.startswith(begin):
            # All of it at once and bounded: a stream would unpack what it only passes over.
            with unpack(io.BytesIO(data)) as file:
                content = file.read(most + 1)
            if content[257:262] == b"ustar":
                yield from _members(content, path, most)
            elif len(content) <= most:
                name = re.split(r"[/!]", path)[-1].rpartition(".")[0]
                yield name or "notebook", partial(io.BytesIO, content)
            return
    if data[257:262] == b"ustar":
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            for count, entry in enumerate(tar):
                if count == MAX_MEMBERS:
                    return
                if entry.isreg():
                    yield entry.name, partial(_content, tar, entry)
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist()[:MAX_MEMBERS]:
            if not member.is_dir():
                name = member.filename.replace("\\", "/")
                yield name, partial(archive.open, member)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    return tar.extractfile(entry) or io.BytesIO()


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
