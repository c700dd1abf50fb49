"""`nbgrader zip_collect`, first half: archives unpacked within bounds, whoever packed them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from nbgrader.plugins import ExtractorPlugin
from traitlets import Integer, List, Set

from nbjudge import trees
from nbjudge.ids import has_unseen, printable

_CHUNK = 1 << 20
MAX_NAME, MAX_DEPTH, MAX_SAME = 200, 12, 50
#: An archive within an archive is one learner's hand-in, and has a hand-in's bounds.
NESTED_BYTES, NESTED_FILES = 50_000_000, 1_000
_CLUTTER = {"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"}
_BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError),
    *(RuntimeError, OSError, ValueError, OverflowError),
)


class LeftOut(Exception):
    """What of an archive is not unpacked, with the reason as a sentence."""


class Full(LeftOut):
    """A bound of the whole archive that was reached."""


@dataclass
class _Budget:
    bytes: int
    files: int


class SafeExtractor(ExtractorPlugin):
    """As nbgrader's, but a name that climbs, a link, a bomb or no archive costs only itself.

    What cannot be unpacked is kept as it is, and everything that was left out is said.
    """

    zip_ext = List(
        [".zip", ".gz", ".tgz", ".tar"], help="Suffixes of files that are unpacked."
    ).tag(config=True)
    max_bytes = Integer(
        4_000_000_000, help="Of one archive's files together, unpacked, in bytes."
    ).tag(config=True)
    max_files = Integer(50_000, help="Of one archive's files, in number.").tag(config=True)
    max_file = Integer(100_000_000, help="Of one unpacked file, in bytes.").tag(config=True)
    left_out: List = List(help="Path under the archive folder and reason of all that was left out.")
    unpacked = Set(help="The folders that stand for an archive of the archive folder.")

    def extract(self, archive_path: str, extracted_path: str) -> None:
        """Unpack or copy everything in `archive_path`, in order."""
        self.left_out, self.unpacked = [], set()
        found = 0
        for folder, folders, names in trees.walk(archive_path):
            folders.sort()
            inside = os.path.relpath(folder, archive_path)
            for name in sorted(names):
                found += 1
                path = Path(folder, name)
                shown = os.path.normpath(os.path.join(inside, name))
                try:
                    target = Path(extracted_path, *_parts(shown))
                    self._one(path, target, shown)
                except (LeftOut, OSError) as error:
                    self._leave(shown, str(error))
        if not found:
            self.log.warning("No files found in directory: %s", archive_path)

    def _leave(self, what: str, why: str) -> None:
        self.left_out.append((what, why))
        self.log.error("Left out: %s, because %s.", printable(what), why)

    def _one(self, path: Path, target: Path, shown: str) -> None:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise LeftOut("it is a link or no file")
        if path.suffix.lower() in self.zip_ext:
            budget = _Budget(self.max_bytes, self.max_files)
            folder = _free(target.parent / _bare(target.name))
            if self._unpack(path, folder, shown, budget, nested=False):
                self.unpacked = {*self.unpacked, str(folder)}
                return
        target = _free(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source:
            _copy(source, target, self.max_bytes, _Budget(self.max_bytes, 1))

    def _unpack(self, path: Path, folder: Path, shown: str, budget: _Budget, nested: bool) -> bool:
        """Unpack an archive into a new folder, and return whether it is one."""
        largest = NESTED_BYTES if nested else self.max_file
        inner = []
        try:
            for name, kind, opened in _members(path):
                where = f"{shown}/{name}"
                # Counted before anything is refused: naming each of a million takes time, too.
                budget.files -= 1
                if budget.files < 0:
                    raise Full("it holds too many files")
                try:
                    parts = _parts(name)
                    if not parts or _CLUTTER.intersection(parts) or parts[-1].startswith("._"):
                        continue
                    if kind != "file":
                        raise LeftOut(f"it is a {kind}")
                    target = _free(folder.joinpath(*parts))
                    if target.name != parts[-1]:
                        self.log.warning(
                            "%s has the name of another file there; it is kept as %s.",
                            printable(where),
                            printable(target.name),
                        )
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with opened() as source:
                        _copy(source, target, largest, budget)
                except Full:
                    raise
                except (LeftOut, *_BROKEN) as error:
                    self._leave(where, str(error) or "it cannot be read")
                    continue
                if target.suffix.lower() in self.zip_ext and not nested:
                    inner.append((target, where))
        except Full as error:
            self._leave(shown, f"{error}; what was unpacked before is kept")
        except _BROKEN as error:
            self._leave(shown, f"it is no archive that can be read ({error})")
            return folder.is_dir()
        for target, where in inner:
            # Many small archives that unpack to much are a bomb together: the outer one's bounds.
            most = min(NESTED_BYTES, max(0, budget.bytes)), min(NESTED_FILES, max(0, budget.files))
            inside = _Budget(*most)
            if self._unpack(target, _free(target.parent / _bare(target.name)), where, inside, True):
                target.unlink()
            budget.bytes -= most[0] - inside.bytes
            budget.files -= most[1] - inside.files
        return True


def _members(path: Path) -> Iterator[tuple[str, str, Callable[[], IO[bytes]]]]:
    """Yield each member's name, what it is, and how its bytes are read; not the folders."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                mode = member.external_attr >> 16
                if member.is_dir():
                    continue
                kind = "link" if stat.S_ISLNK(mode) else "file"
                # Encrypted ones raise RuntimeError when they are opened.
                yield member.filename, kind, partial(archive.open, member)
        return
    # As a stream: the list of a compressed tar's members would be all of it, unpacked.
    with tarfile.open(path, "r|*") as tar:
        for entry in tar:
            if entry.isdir():
                continue
            kind = "file" if entry.isreg() else "link" if entry.issym() else "special file"
            kind = "hard link" if entry.islnk() else kind
            yield entry.name, kind, partial(_content, tar, entry)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    """Return the bytes of an entry; none where it is no file, which nobody asks for."""
    return tar.extractfile(entry) or io.BytesIO()


def _parts(name: str) -> list[str]:
    """Return the folders and the name of a member; `LeftOut` where it is not a plain path."""
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or (parts and len(parts[0]) == 2 and parts[0][1] == ":"):
        raise LeftOut("its name is an absolute path")
    if ".." in parts:
        raise LeftOut("its name climbs out of the archive")
    if len(parts) > MAX_DEPTH:
        raise LeftOut(f"it lies deeper than {MAX_DEPTH} folders")
    for part in parts:
        if has_unseen(part):
            raise LeftOut("its name holds characters that are not shown")
        if len(part.encode("utf-8", "surrogateescape")) > MAX_NAME:
            raise LeftOut(f"its name is longer than {MAX_NAME} bytes")
    return parts


def _bare(name: str) -> str:
    stem, suffix = os.path.splitext(name)
    return stem.removesuffix(".tar") if suffix == ".gz" else stem


def _free(path: Path) -> Path:
    """Return `path`, or the next name that is free ("a (2).ipynb") where a file has it."""
    number, new = 1, path
    while os.path.lexists(new):
        number += 1
        if number > MAX_SAME:
            raise LeftOut(f"more than {MAX_SAME} files there have its name")
        new = path.with_name(f"{path.stem} ({number}){path.suffix}")
    return new


def _copy(source: IO[bytes], target: Path, largest: int, budget: _Budget) -> None:
    """Write what `source` really holds, whatever it says of its size; nothing where too large."""
    size = 0
    try:
        with target.open("xb") as file:
            while data := source.read(_CHUNK):
                size += len(data)
                # A bomb of many files that are each too large has its time bounded, too.
                budget.bytes -= len(data)
                if budget.bytes < 0:
                    raise Full("unpacked, it is larger than is accepted")
                if size > largest:
                    raise LeftOut(f"it is larger than {largest / 1_000_000:g} MB")
                file.write(data)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
