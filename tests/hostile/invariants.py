"""What holds of a class, whatever somebody in it hands in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from html.parser import HTMLParser
from pathlib import Path

from nbgrader.api import MissingEntry
from nbjudge import cli
from nbjudge.run.judge_client import resident_bytes
from nbjudge.server.forkserver import descendants

from tests.commands import run
from tests.hostile.classroom import LESSON, POINTS, Classroom
from tests.hostile.corpus import HONEST, Hand
from tests.hostile.generator import Mutation, spoil

SETTINGS = """
c.Execute.timeout = 4
c.JudgedExecute.call_timeout = 2.0
c.JudgedExecute.total_timeout = 12.0
"""
#: Bytes that one process may come to hold: a submission's two gigabytes, and the libraries.
MOST_MEMORY = 3 << 30
_URLS = {"href", "src", "action", "formaction", "xlink:href", "data"}


class Active(HTMLParser):
    """Collects whatever of a learner's a page would run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at an element."""
        self._script = tag == "script"
        for key, value in attrs:
            text = (value or "").strip().lower()
            if "owned" in text and (key.startswith("on") or key == "style"):
                self.found.append(f"{key}={value}")
            if key in _URLS and text.startswith(("javascript:", "data:text", "vbscript:")):
                self.found.append(f"{key}={value}")
        if tag in ("iframe", "object", "embed", "base", "svg", "math", "form"):
            self.found.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Leave an element."""
        self._script = self._script and tag != "script"

    def handle_data(self, data: str) -> None:
        """Look at text: is it a script?"""
        if self._script and "owned" in data:
            self.found.append(data)


def active(page: str) -> list[str]:
    """Return what a page would run of a learner's."""
    parser = Active()
    parser.feed(page)
    return parser.found


@contextlib.contextmanager
def watched_memory(most: int):
    """Fail where a process that is started in the block comes to hold more than `most` bytes."""
    over, peaks = threading.Event(), {}

    def look() -> None:
        while not over.wait(0.3):
            for pid in descendants(os.getpid()):
                peaks[pid] = max(peaks.get(pid, 0), resident_bytes(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert max(peaks.values(), default=0) < most, f"{max(peaks.values()):,} bytes in a process"


def _files(folder: Path) -> dict[str, str]:
    """Return what grading must leave as it is: names and contents in the course, and beside it."""
    ours = ("autograded", "feedback", "reports", ".nbjudge", "gradebook.db", "__pycache__")
    found = {str(path): "" for path in folder.parent.iterdir()}
    for path in sorted(folder.rglob("*")):
        if path.relative_to(folder).parts[0].startswith(ours):
            continue
        plain = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else ""
    return found


def check_class(room: Classroom, handed_in: list[list[Mutation]]) -> None:
    """Grade a class of these submissions and honest ones, and assert what must hold of it."""
    students = [f"s{number:03}" for number in range(len(handed_in))]
    for student in HONEST:
        room.hand_in(student)
    for student, mutations in zip(students, handed_in, strict=True):
        spoil(Hand(room, room.hand_in(student)), mutations)
    before = _files(room.folder)
    with watched_memory(MOST_MEMORY):
        printed = run(cli.main, room.folder, "grade", LESSON, "--workers", "2", code=None)
        pages = room.nbgrader("generate_feedback", LESSON, code=None)
    assert _files(room.folder) == before
    with room.gradebook() as gradebook:
        for student in students:
            try:
                score = gradebook.find_submission(LESSON, student).score
                assert 0 <= score <= sum(POINTS.values()), (student, score)
            except MissingEntry:
                said = f"{student} has neither a score nor a reason:\n{printed[-3000:]}"
                assert student in printed, said
        names = {student.id for student in gradebook.students}
        assert names <= {*students, *HONEST}
    for student in HONEST:
        assert room.scores(student) == POINTS, student
        assert room.flags(student) == set(), student
    for student in (*students, *HONEST):
        graded = room.folder / "autograded" / student / LESSON / f"{LESSON}.ipynb"
        if graded.is_file():
            page = room.folder / "feedback" / student / LESSON / f"{LESSON}.html"
            assert page.is_file(), f"{student} has no feedback:\n{pages}"
            assert page.stat().st_size < 40_000_000, student
            assert not (found := active(page.read_text(encoding="utf-8"))), (student, found[:3])
    report = room.folder / "reports" / f"{LESSON}.html"
    assert not active(report.read_text(encoding="utf-8"))
    assert not any(sign in printed for sign in ("\x1b]", "\x07", "Traceback (most recent"))
