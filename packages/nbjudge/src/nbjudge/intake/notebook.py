"""Read what a learner handed in. Every byte of it is hostile until this module has looked at it.

Only plain, bounded data leaves here: cells of known types with text as their source, a grade_id
and an id if they are strings, and quiz records of the expected form.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from nbjudge.codes import KEY, Flag, shown
from nbjudge.intake.recorded import recorder

#: Bytes of a notebook; one with every picture of a lesson in it has about a tenth of this.
MAX_NOTEBOOK = 32_000_000
#: Bytes of a notebook's file: all but `MAX_NOTEBOOK` of them have to be outputs, pictures in texts
#: or the state of sliders. And bytes of a cell's outputs that are kept all the same (recorded
#: answers are in one).
MAX_WITH_OUTPUTS, MAX_KEPT_OUTPUT = 200_000_000, 100_000
MAX_CELLS, MAX_SOURCE, MAX_NAME = 2_000, 200_000, 200
#: Characters of all sources together; the lessons' own have a twentieth of this.
MAX_SOURCES = 2_000_000
#: Values in a file of JSON: each takes up to sixty times its length when it is read. A notebook of
#: a lesson has a few thousand.
MAX_VALUES = 1_000_000
#: Texts and lists in a file whose outputs are left out: looking at one takes a microsecond.
MAX_PARTS = 8_000_000
#: Characters of all outputs together beyond which they are remarked on.
MANY_OUTPUTS = 10_000_000

_CELL_TYPES = {"code", "markdown", "raw", "heading", "html"}  # the last two in format 3
#: Control characters, halves of characters, and what turns the direction of text ("Trojan
#: Source", Boucher and Anderson 2021). Tab, ends of lines and form feed may be in a program.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SCRIPT = re.compile(r"<script|javascript:", re.IGNORECASE)


class Unreadable(Exception):
    """A file cannot be used; the message says why, in words for the learner."""


@dataclass
class Submission:
    """The usable part of a notebook: its cells, its quiz records and what stood out."""

    cells: list[NotebookNode] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    flags: list[Flag] = field(default_factory=list)
    #: The version of Python that it was last run with, as it says itself; "" if it does not.
    python: str = ""


def read_bytes(path: str | Path, limit: int, *, cut: bool = False) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes; cut: the first of them.

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
    if len(data) > limit and not cut:
        raise Unreadable(f"it is larger than {limit // 1000:,} kB")
    return data[:limit]


def read_json(path: str | Path, limit: int) -> Any:
    """Return the JSON value in a file, read as by `read_bytes`; `Unreadable` if it is none."""
    return load(read_bytes(path, limit))[0]


def load(data: bytes) -> tuple[Any, str]:
    """Return the JSON value in some bytes, and what had to be mended to read it ("" if nothing).

    One byte of another encoding than UTF-8 is read as Windows' Western one. Raises `Unreadable`.
    """
    if not data.strip():
        raise Unreadable("it is empty")
    if _has_many_values(data):
        raise Unreadable(f"it holds more than {MAX_VALUES:,} values")
    text, mended = _as_text(data)
    try:
        # A disk or an editor that failed leaves zeros behind a file, or an old end mark.
        return json.loads(text.rstrip("\0\x1a \t\r\n")), mended
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error
    except (ValueError, MemoryError) as error:
        raise Unreadable(_what_it_is(data, text, error)) from error


#: How files of other kinds begin, which are handed in under a notebook's name.
_OTHERS = {
    b"Rar!": "it is a RAR archive, which grading does not unpack",
    b"7z\xbc\xaf": "it is a 7z archive, which grading does not unpack",
    b"PK\x03\x04": "it is a zip archive that cannot be unpacked",
    b"%PDF": "it is a PDF",
    b"\x89PNG": "it is a picture",
    b"\xff\xd8\xff": "it is a picture",
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file itself",
    b"<": "it is a web page",
}
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)


def _what_it_is(data: bytes, text: str, error: Exception) -> str:
    """Return why some bytes are no JSON, in words for whoever has to hand in again."""
    begin = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind in _OTHERS.items():
        if begin.startswith(start):
            return kind
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        return f"it is not JSON: a conflict of versions is marked in line {line}"
    if not isinstance(error, json.JSONDecodeError):
        return "it is not JSON"
    if begin.startswith(b"{") and not text[error.pos :].strip("\0\x1a \t\r\n"):
        return "it is not JSON: it breaks off at its end"
    if error.msg.startswith("Unterminated string"):
        return f"it is not JSON: it breaks off in line {error.lineno}"
    return f"it is not JSON: something is wrong in line {error.lineno}"


_BEGINS_A_VALUE = b",[{"
_NO_MARKS = bytes(set(range(256)) - set(b'",[{'))


def _has_many_values(data: bytes) -> bool:
    """Whether JSON holds more values than are read; what stands in its texts does not count."""
    many = _marks(data)
    if many <= MAX_VALUES or _parts(data) > MAX_PARTS:
        return many > MAX_VALUES
    # Without escaped quotes the others tell what is in a text, however little else is left.
    plain = data.replace(b"\0", b"").replace(b"\\\\", b"").replace(b'\\"', b"")
    left = plain.translate(None, _NO_MARKS).replace(b'""', b"")
    inside = sum(len(text[0]) - 2 for text in re.finditer(rb'"[^"]*"', left))
    return many - inside > MAX_VALUES


def _marks(data: bytes) -> int:
    return sum(data.count(mark) for mark in _BEGINS_A_VALUE)


def _parts(data: bytes) -> int:
    return data.count(b"[") + data.count(b"{") + data.count(b'"')


def _as_text(data: bytes) -> tuple[str, str]:
    try:
        return data.decode(json.detect_encoding(data)), ""
    except UnicodeDecodeError:
        text = data.decode("utf-8", "surrogateescape")
    strange = re.compile("[\udc80-\udcff]")
    first = strange.search(text)
    if first is None:  # zeros made it look like UTF-16, which it is not
        return text, ""
    place = first.start()
    line = text.count("\n", 0, place) + 1
    where = f"byte {ord(text[place]) - 0xDC00:#04x} in line {line}"

    def western(match: re.Match[str]) -> str:
        return bytes([ord(match[0]) - 0xDC00]).decode("cp1252", "replace")

    return strange.sub(western, text), where


def slim(path: str | Path) -> tuple[bytes, bool]:
    """Return a notebook's bytes, and whether large outputs were left out to keep the bound.

    Raises `Unreadable` as `read_bytes`, and where it is too large without outputs, too.
    """
    data = read_bytes(path, MAX_WITH_OUTPUTS)
    if len(data) <= MAX_NOTEBOOK and not _has_many_values(data):
        return data, False
    if _parts(data) > MAX_PARTS:
        raise Unreadable(f"it holds more than {MAX_PARTS:,} texts and lists")
    data = _without_outputs(data)
    if len(data) > MAX_NOTEBOOK:
        raise Unreadable(f"it is larger than {MAX_NOTEBOOK // 1000:,} kB, even without outputs")
    if _has_many_values(data):
        raise Unreadable(f"it holds more than {MAX_VALUES:,} values, even without outputs")
    return data, True


_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


#: What else grading does not read, by its key, and how deep it lies: in format 4, and before.
_UNUSED = {b'"attachments"': (3, 5), b'"widgets"': (2,)}


def _without_outputs(data: bytes) -> bytes:
    """Return a notebook's JSON without what is large in its outputs, and without `_UNUSED`.

    It is not taken apart for that.
    """
    kept: list[bytes] = []
    done = depth = 0
    outputs_at = start = 0  # the depth within a list of outputs, and where one of them begins
    left_out_at = 0  # the depth within something that is left out whole
    room, total = 0, MAX_NOTEBOOK // 2
    key = b""
    for token in _TOKEN.finditer(data):
        what = token[0]
        if what in b"[{":
            depth += 1
            if what == b"[" and key == b'"outputs"':
                outputs_at, room, first = depth, MAX_KEPT_OUTPUT, True
                kept.append(data[done : token.end()])
            elif what == b"{" and key in _UNUSED:
                left_out_at = depth
                kept.append(data[done : token.end()])
            elif outputs_at and depth == outputs_at + 1:
                start = token.start()
        elif what in b"]}":
            if outputs_at and depth == outputs_at + 1:
                size = token.end() - start
                if size <= min(room, total):
                    kept.append((b"" if first else b",") + data[start : token.end()])
                    first, room, total = False, room - size, total - size
            elif depth in (outputs_at, left_out_at):
                outputs_at = left_out_at = 0
                done = token.start()
            depth -= 1
        # Cells lie in one list in format 4, and in a list of sheets before.
        within = outputs_at or left_out_at
        wanted = (3, 5) if what == b'"outputs"' else _UNUSED.get(what, ())
        key = what if depth in wanted and not within else b""
    return b"".join([*kept, b"" if outputs_at or left_out_at else data[done:]])


def language_of(metadata: Mapping[str, Any]) -> str:
    """Return the language that a notebook's metadata name, in small letters; "" if none.

    Python is "python" in whatever version it is named.
    """
    for key, name in (("kernelspec", "language"), ("language_info", "name")):
        about = metadata.get(key)
        language = about.get(name) if isinstance(about, Mapping) else None
        if isinstance(language, str) and language:
            return language_named(language)
    return ""


def language_named(name: str) -> str:
    """Return a language's name in small letters, without Python's versions."""
    found = re.fullmatch(r"i?(python)\s*[\d.]*", name, re.IGNORECASE)
    return (found[1] if found else name).lower()


def read_notebook(path: str | Path, language: str = "python") -> Submission:
    """Return the usable part of a notebook file of format 3 or 4; `Unreadable` if it is none."""
    content, mended = load(read_bytes(path, MAX_NOTEBOOK))
    found = parse_notebook(content, language)
    if mended:
        found.flags.append(Flag("encoding", detail=mended))
    return found


def parse_notebook(content: Any, language: str = "python") -> Submission:
    """Return the usable part of a notebook as it is in JSON; `Unreadable` if it is none.

    language: the lesson's, as `language_of` gives it; another one is remarked on.
    """
    if not isinstance(content, dict):
        raise Unreadable("it is JSON, but not a notebook")
    answers, problems = recorder().in_notebook(content)
    found = Submission(answers=answers, flags=answer_flags(problems))
    found.python = _python_of(content.get("metadata"))
    remarks = _Remarks(language)
    remarks.on_notebook(content)
    room = MAX_SOURCES
    for count, raw in enumerate(raw_cells(content)):
        if count == MAX_CELLS:
            found.flags.append(Flag("too_large", detail=f"{MAX_CELLS:,} cells"))
            break
        if isinstance(raw, dict):
            room -= _read_cell(raw, found, room)
            remarks.on_cell(raw)
        else:
            remarks.add("unknown_cells", type(raw).__name__)
    found.flags += remarks.flags()
    return found


class _Remarks:
    """What is odd in a notebook without being in the way of grading it."""

    def __init__(self, language: str):
        self._language = language
        self._details: dict[str, list[str]] = {}
        self._output = 0

    def add(self, code: str, detail: str) -> None:
        details = self._details.setdefault(code, [])
        if detail not in details:
            details.append(detail)

    def flags(self) -> list[Flag]:
        """Return a flag for each kind of remark, with its first details."""
        if self._output > MANY_OUTPUTS:
            self.add("large_outputs", f"{MANY_OUTPUTS // 1_000_000} MB")
        return [
            Flag(code, detail=", ".join(details[:5]) + (", …" if len(details) > 5 else ""))
            for code, details in self._details.items()
        ]

    def on_notebook(self, content: dict[str, Any]) -> None:
        """Look at what is no cell."""
        version = content.get("nbformat")
        if isinstance(version, int) and version < 4:
            self.add("old_format", str(version)[:20])
        metadata = content.get("metadata")
        if not isinstance(metadata, dict):
            return
        if KEY in metadata:
            self.add("forged", "in the data about the notebook")
        language = language_of(metadata)
        if language not in ("", self._language):
            self.add("language", shown(language))

    def on_cell(self, raw: dict[str, Any]) -> None:
        """Look at a cell."""
        kind = raw.get("cell_type")
        if not isinstance(kind, str) or kind not in _CELL_TYPES:
            self.add("unknown_cells", shown(kind) if isinstance(kind, str) else "none")
        source = joined(raw.get("source", raw.get("input", "")))[:MAX_SOURCE]
        for character in sorted(set(_UNSEEN.findall(source))):
            self.add("control_characters", f"U+{ord(character):04X}")
        if kind != "code" and _SCRIPT.search(source):
            self.add("script_in_text", "")
        metadata = raw.get("metadata")
        nbgrader = metadata.get("nbgrader") if isinstance(metadata, dict) else None
        graded = isinstance(nbgrader, dict) and nbgrader.get("grade") is True
        outputs = raw.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if not isinstance(output, dict):
                continue
            data = output.get("data")
            texts = [output.get("text"), *(data.values() if isinstance(data, dict) else ())]
            self._output += sum(len(joined(text)) for text in texts)
            # A number as the result of a test cell is what nbgrader takes for its points.
            if graded and output.get("output_type") == "execute_result":
                result = joined(data.get("text/plain")) if isinstance(data, dict) else ""
                if re.fullmatch(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*", result[:MAX_NAME]):
                    self.add("forged", "points saved as the result of a test")


def _python_of(metadata: Any) -> str:
    about = metadata.get("language_info") if isinstance(metadata, dict) else None
    version = about.get("version") if isinstance(about, dict) else None
    known = isinstance(version, str) and re.fullmatch(r"\d{1,2}(\.\d{1,3}){1,2}", version)
    return version if known and isinstance(version, str) else ""


def answer_flags(problems: list[str]) -> list[Flag]:
    """Return the flag for what was wrong with recorded answers, if anything was."""
    return [Flag("answers", detail=shown(problems[0], 200))] if problems else []


def raw_cells(content: dict[str, Any]) -> Iterator[Any]:
    """Yield the cells of a notebook as they are in JSON; `Unreadable` where it is none."""
    if isinstance(content.get("cells"), list):
        yield from content["cells"]
    elif isinstance(content.get("worksheets"), list):  # format 3
        for sheet in content["worksheets"]:
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list):
                yield from sheet["cells"]
    else:
        raise Unreadable("it is JSON, but not a notebook")


def _read_cell(raw: dict[str, Any], found: Submission, room: int) -> int:
    """Add a cell to what was found; return the characters of its source, at most `room`."""
    source = text(raw.get("source", raw.get("input", "")))
    if len(source) > MAX_SOURCE:
        _add_once(found.flags, Flag("too_large", detail=f"{MAX_SOURCE // 1000} kB"))
        source = ""
    elif len(source) > room:
        what = f"what is left of {MAX_SOURCES // 1000:,} kB for all cells"
        _add_once(found.flags, Flag("too_large", detail=what))
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
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    if isinstance(tags, list):
        cell.metadata.tags = [tag[:MAX_NAME] for tag in tags[:100] if isinstance(tag, str)]
    found.cells.append(cell)
    return len(source)


def _add_once(flags: list[Flag], flag: Flag) -> None:
    if flag not in flags:
        flags.append(flag)


def joined(value: Any) -> str:
    """Return the text of a string or a list of them; anything else counts as none."""
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return value if isinstance(value, str) else ""


def text(value: Any) -> str:
    """Return a source as text that UTF-8 and a compiler take; not text counts as none."""
    value = joined(value)
    # Lone surrogates cannot be written to a file, and NUL is in no program.
    return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
