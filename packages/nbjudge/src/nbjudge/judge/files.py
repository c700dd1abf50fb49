"""Files that a test shares with the learner's code, though each has a folder of its own.

A test writes `t.txt` and calls `count("t.txt")`; or it calls `save("out.csv")` and reads that. So

- what a test has in its folder goes to the learner's where the test names it to their code: by an
  argument that is its path, or that of a folder it is in. A file that it only compares with stays;
- what their code writes comes back, if the test looks at files: as data, and so small text files
  with a suffix that says so. Nothing that Python, or a library, would take for more than that.
  Never over one of the course's own files, nor over one of the test's that it has not named;
- as soon as something of theirs lies here, what could run it (pickle, a program that is started) is
  for the learner's own process: `Unchecked`.

A test that has failed is not judged where something of theirs could not be brought here.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from nbjudge.judge.peer import presentable_later
from nbjudge.wire import files
from nbjudge.wire.limits import Unchecked
from nbjudge.wire.plain import OthersPath

#: Suffixes of what is text and data, whoever reads it.
_DATA = frozenset(
    (
        *(".txt", ".text", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".md", ".rst", ".html"),
        *(".htm", ".xml", ".svg", ".log", ".dat", ".data", ".out", ".tex", ".bib"),
        *(".fasta", ".fa", ".pdb", ".ppm", ".pgm", ".pbm", ".obj", ".srt", ".ics", ".wkt"),
    )
)
#: Names that a test has in it if it looks at files, or has a library do so.
_LOOKS = re.compile(
    r"open|fopen|read\w*|load\w*|exists|isfile|isdir|is_file|is_dir|Path|PurePath|os|glob|rglob"
    r"|listdir|scandir|iterdir|walk|stat|getsize|filecmp|pathlib|shutil|genfromtxt|fromfile|parse"
)
#: Bytes and number of the learner's files that lie here in all.
MOST_BYTES, MOST_FILES = 10_000_000, 200
#: Texts among a call's arguments that may be paths.
_MOST_PATHS, _LONGEST_PATH = 200, 400
_PART = re.compile(r"[^\x00-\x1f\x7f/\\.][^\x00-\x1f\x7f/\\]{0,199}")
#: What runs what a file says.
_RUNS = frozenset(
    (
        *("pickle.find_class", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"),
        *("os.fork", "os.forkpty", "pty.spawn", "marshal.load"),
    )
)


class Files:
    """What goes between the judge's folder and the learner's."""

    def __init__(
        self,
        folder: str,
        ask: Callable[..., Any],
        refuse: Callable[[str], None],
        modules: frozenset[str] = frozenset(),
    ):
        """`ask` calls the learner's side; `refuse` notes why a test that fails is not judged.

        `modules` are those of the course in the folder: what a test asks them they may look up.
        """
        self.folder, self._ask, self._refuse = folder, ask, refuse
        #: The course's own: never written to from there.
        self._known: dict[str, files.Stamp | None] = dict(files.stamps(folder))
        self._own = frozenset(self._known)
        self._modules = modules
        self._theirs: dict[str, int] = {}  # by name: bytes
        self._named: set[str] = set()  # paths and folders that tests have told their code of
        self._looking = False
        self._there: str | None = None  # the learner's folder
        self._hooked = False
        self._running = False  # whether a test is

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Have a test run here for a while; what `tempfile` makes then can be lent, too."""
        before, tempfile.tempdir = tempfile.tempdir, self.folder
        self._running = True
        try:
            yield
        finally:
            self._running = False
            tempfile.tempdir = before

    def begin(self, names: frozenset[str]) -> None:
        """Begin with a test cell of these names; it sees what the learner's cells have written."""
        # A helper that an earlier test defined may do the looking.
        looks = any(map(_LOOKS.fullmatch, names)) or not self._modules.isdisjoint(names)
        self._looking |= looks
        self.fetch()

    # To the learner's folder ------------------------------------------------------------------

    def lend(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Send what a call's arguments name; return them with paths as they are there."""
        for text in _texts((args, kwargs)):
            name = self._inside(text)
            if name is not None and len(self._named) < _MOST_PATHS:
                self._named.add(name)
        if self._named:
            self._send()
        return tuple(map(self._as_there, args)), {k: self._as_there(v) for k, v in kwargs.items()}

    def _inside(self, text: str) -> str | None:
        """Return the relative path of what a text names in the folder; None if it is no such."""
        path = os.path.normpath(os.path.join(self.folder, text))
        if path == self.folder:
            return "."
        if not path.startswith(self.folder + os.sep):
            return None
        name = os.path.relpath(path, self.folder)
        if os.path.lexists(path):
            return name
        # It may be written later, by either side.
        return name if re.search(r"[./]", text) and os.path.isdir(os.path.dirname(path)) else None

    def _send(self) -> None:
        changed: list[list[Any]] = []
        left = files.MOST_BYTES
        for name in sorted(self._below_named()):
            path = os.path.join(self.folder, name)
            now = files.stamp(path)
            if now == self._known.get(name):
                continue
            data = None
            if now is not None:
                data = files.read(path, left)
                if data is None:
                    raise Unchecked(f"the test hands more than {files.MOST_BYTES:,} bytes of files")
                left -= len(data)
            self._known[name] = now
            changed.append([name, data])
        folders = [made for made in map(self._folder_of, sorted(self._named)) if made]
        if changed or folders:
            self._ask("write_files", None, None, (changed, folders))

    def _folder_of(self, name: str) -> str | None:
        """Return the folder that a named path is, or is in, once: the learner's side needs it."""
        made = name if os.path.isdir(os.path.join(self.folder, name)) else os.path.dirname(name)
        if made in ("", ".") or made + "/" in self._known:
            return None
        self._known[made + "/"] = None
        return made

    def _below_named(self) -> Iterator[str]:
        for name in self._named:
            path = os.path.join(self.folder, name)
            if os.path.isdir(path):
                for below in files.stamps(path):
                    if "__pycache__" not in below:
                        yield os.path.normpath(os.path.join(name, below))
            else:
                yield name

    def _as_there(self, value: Any) -> Any:
        """Return a path below this folder as one below the learner's."""
        if isinstance(value, pathlib.Path) and not isinstance(value, OthersPath):
            moved = self._moved(str(value))
            return value if moved == str(value) else type(value)(moved)
        return self._moved(value) if type(value) is str else value

    def _moved(self, text: str) -> str:
        if text != self.folder and not text.startswith(self.folder + os.sep):
            return text
        if self._there is None:
            there = self._ask("folder", None)
            self._there = there if isinstance(there, str) and os.path.isabs(there) else self.folder
        return self._there + text[len(self.folder) :]

    def as_here(self, value: Any) -> Any:
        """Return a path below the learner's folder as one below this one."""
        if self._there is None or not isinstance(value, str | OthersPath):
            return value
        text = str(value)
        if text != self._there and not text.startswith(self._there + os.sep):
            return value
        moved = self.folder + text[len(self._there) :]
        if isinstance(value, str):
            return moved
        # A path is a way to a file only where that is theirs.
        return pathlib.Path(moved) if self._is_theirs(moved) else value

    # From the learner's folder ----------------------------------------------------------------

    def fetch(self) -> None:
        """Bring what their code has written or removed, if a test looks at files."""
        if not self._looking:
            return
        for name, data in _answer(self._ask("read_files", None)):
            if (data is None or isinstance(data, bytes)) and self._is_acceptable(name, data):
                self._take(name, data)
            else:
                self._refuse(f"their file {presentable_later(name)} stays in their process")

    def _take(self, name: str, data: bytes | None) -> None:
        path = os.path.join(self.folder, name)
        held = sum(self._theirs.values()) - self._theirs.get(name, 0)
        if data is not None:
            self._watch()
            if held + len(data) > MOST_BYTES or len(self._theirs) >= MOST_FILES:
                self._refuse("their code writes more files than the grader takes")
                return
        try:
            files.write(path, data)
        except OSError:
            self._refuse("a file of theirs could not be written where the test looks")
            return
        self._known[name] = files.stamp(path)
        if data is None:
            self._theirs.pop(name, None)
        else:
            self._theirs[name] = len(data)

    def _is_acceptable(self, name: str, data: bytes | None) -> bool:
        parts = name.split("/")
        if not all(map(_PART.fullmatch, parts)) or len(parts) > files.MOST_DEPTH + 1:
            return False
        if os.path.splitext(name)[1].lower() not in _DATA or name in self._own:
            return False
        if any(part.lower().endswith((".dist-info", ".egg-info")) for part in parts):
            return False
        path, inside = self.folder, True
        for part in parts[:-1]:  # no folder of the test's leads elsewhere
            path = os.path.join(path, part)
            inside = inside and not os.path.islink(path)
        if not inside:
            return False
        if os.path.lexists(os.path.join(self.folder, name)) and name not in self._theirs:
            return self._is_named(name) and files.stamp(os.path.join(self.folder, name)) is not None
        return data is None or _is_text(data)

    def _is_named(self, name: str) -> bool:
        return any(named in (".", name) or name.startswith(named + "/") for named in self._named)

    def _watch(self) -> None:
        """From now on, have nothing run what a file says while a test runs."""
        if self._hooked:
            return
        self._hooked = True

        def hook(event: str, args: tuple) -> None:
            if not self._running:
                return
            if event in _RUNS:
                raise Unchecked(f"the test may run what a file of theirs says ({event})")
            if event == "compile" and self._is_theirs(args[1]):
                raise Unchecked("the test runs a file of theirs")

        sys.addaudithook(hook)

    def _is_theirs(self, path: Any) -> bool:
        try:
            real = os.path.realpath(os.path.join(self.folder, os.fsdecode(path)))
        except (TypeError, ValueError, OSError):
            return False
        return os.path.relpath(real, self.folder) in self._theirs


def _answer(found: Any) -> Iterator[tuple[str, Any]]:
    """Return what the other side says of its files: names, and what is to be the contents."""
    for each in found if isinstance(found, list) else ():
        if isinstance(each, list) and len(each) == 2 and isinstance(each[0], str):
            yield each[0], each[1]


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Return the texts and paths in a call's arguments."""
    if isinstance(value, pathlib.PurePath):
        value = str(value)
    if isinstance(value, str):
        if 0 < len(value) <= _LONGEST_PATH and "\0" not in value and "\n" not in value:
            yield value
    elif type(value) in (list, tuple, dict) and depth < 4 and len(value) <= _MOST_PATHS:
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item, depth + 1)
