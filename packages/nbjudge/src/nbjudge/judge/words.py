"""What a learner's words may not bring a test to do here.

A test hands on what their code gives: `yaml.load(settings(), yaml.Loader)`, `con.execute(query())`,
`subprocess.run(command())`, `open(path())`. In the learner's own process, in its sandbox, that is
nobody's harm. Here it would be done with the grader's rights, and what runs here says which tests
have passed. So such a test is `Unchecked` before it is done, and is run in the sandbox:

- a text or bytes of theirs is not unpickled, started as a program, or compiled as code; a YAML text
  makes no objects of Python, and a template of theirs is not filled in;
- a file outside the test's own folder is not opened by a path of theirs, and not written at all.
  A database of SQLite opens no other file.

Python itself says what is about to be done (`sys.addaudithook`), whichever library does it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from nbjudge.wire.limits import Unchecked

#: Characters of theirs that are remembered; of who says more, everything may be theirs.
MOST_REMEMBERED = 4_000_000
#: A shorter text is in too many others, and starts nothing.
_SHORTEST = 4
#: A shorter pickle makes nothing but plain data.
_SHORTEST_PICKLE = 20

#: What starts a program, loads one, or reaches the network: refused with a word of theirs in it.
_STARTS = frozenset(
    (
        *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"),
        *("ctypes.dlopen", "socket.connect", "socket.getaddrinfo"),
        *("urllib.Request", "http.client.connect"),
    )
)
#: What looks at a file or a folder, or changes one: paths among the arguments.
_READS = frozenset(("open", "os.listdir", "os.scandir", "os.chdir", "glob.glob", "sqlite3.connect"))
_WRITES = frozenset(
    (
        *("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink"),
        *("os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move"),
        *("shutil.copyfile", "shutil.copytree", "shutil.unpack_archive"),
    )
)
#: Of pickles: what makes plain data, arrays and tables.
_MADE_OF_DATA = re.compile(
    r"builtins\.(set|frozenset|complex|bytearray|range|slice|list|dict|tuple|str|int|float|bytes)"
    r"|collections\.(OrderedDict|defaultdict|Counter|deque)|copyreg\._reconstructor"
    r"|datetime\.\w+|decimal\.Decimal|fractions\.Fraction|uuid\.UUID|_codecs\.encode"
    r"|numpy\.(ndarray|dtype|\w+_)|numpy\._?core\.multiarray\.(_reconstruct|scalar)"
    r"|numpy\._?core\.numeric\._frombuffer"
    r"|torch\._utils\._rebuild_\w+|torch\.(\w+Storage|Size|device)|torch\.storage\.\w+"
    r"|pandas\.(DataFrame|Series)|pandas\.core\.(frame\.DataFrame|series\.Series)"
    r"|pandas\.core\.indexes\.\w+\.\w+|pandas\.core\.internals\.\w+\.\w+"
    r"|pandas\._libs\.internals\._unpickle_block|pandas\._libs\.arrays\.\w+"
)
#: Where a library compiles what is not run, and where the test itself stands.
_NOT_RUN = ("<unknown>", "<test>", "<imports>")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Devices, and what the system says of itself.
_SYSTEM = ("/dev", "/proc", "/sys")
#: Folders in which libraries keep what they have worked out.
_CACHES = frozenset(("__pycache__", ".cache", "matplotlib"))


class Words:
    """The texts and bytes that a learner's process has sent to one judge."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._size = 0

    def note(self, tree: Any, buffers: list[bytes]) -> None:
        """Remember the words in a message."""
        left = [tree]
        while left:
            value = left.pop()
            if type(value) is list:
                left += value
            elif type(value) in (str, bytes):
                self._remember(value)
        for data in buffers:  # an array of texts has four bytes for each character
            if len(data) % 4 == 0 and data[1:4] == b"\0\0\0":
                with contextlib.suppress(UnicodeDecodeError):
                    self._remember(data.decode("utf-32-le").replace("\0", ""))

    def _remember(self, value: str | bytes) -> None:
        if self._size <= MOST_REMEMBERED and (text := as_text(value)) not in self._said:
            self._said.add(text)
            self._size += len(text)

    def is_pickle(self) -> bool:
        """Whether what has been said can hold a pickle that makes more than plain data."""
        return self._size >= _SHORTEST_PICKLE

    def hold(self, value: Any) -> bool:
        """Whether a text or bytes is a part of what they have said."""
        text = as_text(value)
        return self._size > MOST_REMEMBERED or any(text in said for said in self._said)

    def are_in(self, value: Any) -> bool:
        """Whether a text or bytes has something that they have said, or is a part of it."""
        if self._size > MOST_REMEMBERED:
            return True
        text = as_text(value)
        if len(text) < _SHORTEST:
            return False
        return self.hold(text) or any(len(s) >= _SHORTEST and s in text for s in self._said)

    def lines_in(self, code: Any) -> bool:
        """Whether a line of theirs that is more than a name stands in some code."""
        if self._size > MOST_REMEMBERED:
            return True
        text = as_text(code)
        lines = (line.strip() for said in self._said for line in said.splitlines())
        return any(
            len(line) >= _SHORTEST and not line.isidentifier() and line in text for line in lines
        )

    def lead_to(self, path: str) -> bool:
        """Whether a path may be of their making: a part of it stands in what they have said."""
        if self._size > MOST_REMEMBERED:
            return True
        parts = {part for part in path.split(os.sep) if len(part) > 1}
        return any(not parts.isdisjoint(said.replace("\\", "/").split("/")) for said in self._said)


def as_text(value: Any) -> str:
    """Return a text, path or bytes as a text; "" for anything else."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else ""


def _texts(value: Any) -> Iterator[Any]:
    if isinstance(value, str | bytes | bytearray | os.PathLike):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        yield from _texts(list(value.items()))


class Guard:
    """Refuses what a learner's words would do in this process, while a test runs."""

    def __init__(self, words: Words, folder: str | None, is_own: Callable[[str], bool]):
        """`folder` is the test's own, in a process of the judge's; None where it has neither.

        is_own: whether a text stands in a test.
        """
        self.words = words
        self._folder = None if folder is None else os.path.realpath(folder)
        self._is_own = is_own

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Refuse in this thread, for a while."""
        _hook_once()
        before, _here.guard = getattr(_here, "guard", None), self
        try:
            yield
        finally:
            _here.guard = before

    def look(self, event: str, args: tuple) -> None:
        """Look at what Python is about to do; `Unchecked` where it may not be done here."""
        words = self.words
        if event == "pickle.find_class":
            if words.is_pickle() and not _MADE_OF_DATA.fullmatch(f"{args[0]}.{args[1]}"):
                raise Unchecked("the test may unpickle what their code gives")
        elif event == "compile":
            if _is_run(args[1]) and words.lines_in(args[0]):
                raise Unchecked("the test may run what their code gives as code")
        elif event == "marshal.loads":  # as an import does with what is installed
            if words.hold(args[0]):
                raise Unchecked("the test may run what their code gives as code")
        elif event in _STARTS:
            if any(map(words.are_in, _texts(args))):
                raise Unchecked(f"the test may start or load what their code names ({event})")
        elif event in _READS or event in _WRITES:
            self._look_at_paths(event, args)

    def _look_at_paths(self, event: str, args: tuple) -> None:
        if self._folder is None or (event == "sqlite3.connect" and args[0] in (":memory:", "")):
            return
        writes = event in _WRITES or (event == "open" and _is_for_writing(args))
        for given in _texts(args[:2] if event in _WRITES else args[:1]):
            text = as_text(given)
            path = os.path.realpath(os.path.join(self._folder, text))
            if _is_below(path, [self._folder, *_SYSTEM]) or self._is_own(text):
                continue
            if writes:
                if _CACHES.isdisjoint(path.split(os.sep)):
                    raise Unchecked("the test may change a file elsewhere")
            elif not _is_below(path, _installed()) and self.words.lead_to(path):
                raise Unchecked("the test may read a file elsewhere")

    def template(self, source: Any) -> None:
        """Look at a template that is about to be read."""
        if isinstance(source, str) and re.search(r"\{[{%#]", source) and self.words.are_in(source):
            raise Unchecked("the test may fill in a template of theirs")

    def formula(self, text: Any) -> Any:
        """Return what a library reads as a formula (`table.query(text)`), if it is not theirs."""
        if isinstance(text, str) and self.words.are_in(text):
            raise Unchecked("the test may have a formula of theirs worked out")
        return text


def _is_run(filename: Any) -> bool:
    name = as_text(filename)
    return name.startswith("<") and name not in _NOT_RUN


def _is_for_writing(args: tuple) -> bool:
    mode, flags = args[1], args[2]
    return any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool(flags & _WRITING)


@functools.cache
def _installed() -> list[str]:
    """Return the folders of what is installed: nothing in them is anybody's."""
    found = [sys.prefix, sys.base_prefix, "/usr/lib", "/usr/share", "/usr/local/lib", *sys.path]
    return [os.path.realpath(folder) for folder in found if os.path.isabs(folder)]


def _is_below(path: str, folders: list[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


class _Here(threading.local):
    guard: Guard | None = None


_here = _Here()
_hooked: list[bool] = []


def _hook_once() -> None:
    if _hooked:
        return
    _hooked.append(True)

    def hook(event: str, args: tuple) -> None:
        guard = _here.guard
        if guard is not None:
            # What the guard itself looks up is not looked at.
            _here.guard = None
            try:
                guard.look(event, args)
            finally:
                _here.guard = guard

    sys.addaudithook(hook)


def shut_database(connection: Any) -> None:
    """Have a database of a test's open no other file: a query of theirs could name any."""
    attaches, fine, refused = 24, 0, 1  # SQLITE_ATTACH, SQLITE_OK, SQLITE_DENY

    def look(action: int, *about: Any) -> int:
        if action != attaches or _here.guard is None:
            return fine
        Unchecked("a query may open another file")  # noted: here it would be an error of SQLite's
        return refused

    connection.set_authorizer(look)


def check_template(source: Any) -> None:
    """Look at a template that a library is about to read; `Unchecked` for one of theirs."""
    if _here.guard is not None:
        _here.guard.template(source)


def refuse_objects(*args: Any, **kwargs: Any) -> Any:
    """Take the place of what makes objects of Python of a YAML text."""
    raise Unchecked("the test makes objects of Python of a YAML text")
