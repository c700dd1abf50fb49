"""Grade the hostile corpus as one class, with honest learners before, between and behind it."""

import hashlib

import nbformat
import pytest

from tests.hostile import files, notebooks  # noqa: F401 - they register their cases
from tests.hostile.classroom import FULL, LESSON, POINTS, Classroom, cell_of
from tests.hostile.corpus import CASES, Hand

HONEST = ["-first", "m-in-between", "~last"]


class Graded:
    """The class after grading, and what was seen on the way."""

    def __init__(self, room, cases):
        self.room, self.after = room, {}
        room.hand_in(HONEST[0])
        for case in cases:
            hand = Hand(room, room.hand_in(case.student))
            before = hand.path.read_bytes()
            self.after[case.name] = case.spoil(hand)
            # A case that leaves the file alone has changed the notebook in memory.
            plain = hand.path.is_file() and not hand.path.is_symlink()
            if plain and hand.path.read_bytes() == before:
                hand.write()
        for student in HONEST[1:]:
            room.hand_in(student)
        self.before = self.course_files()
        self.printed = room.nbgrader("autograde", LESSON, code=None)
        room.nbgrader("generate_feedback", LESSON)

    def course_files(self):
        """Return a fingerprint of each file that grading must leave alone."""
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for folder in ("source", "release", "submitted/-first", "submitted/~last")
            for path in sorted((self.room.folder / folder).rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    return Graded(Classroom(tmp_path_factory.mktemp("hostile") / "course"), CASES.values())


@pytest.mark.parametrize("student", HONEST)
def test_every_other_submission_is_graded_and_untouched(graded, student):
    assert graded.room.scores(student) == POINTS
    assert graded.room.flags(student) == set()
    notebook = graded.room.autograded(student)
    for name in ("double", "total"):
        assert cell_of(notebook, name).source == cell_of(graded.room.solved(), name).source
    assert f"{FULL:g}" in graded.room.feedback(student)


def test_nobody_was_left_out(graded):
    assert "not graded" not in graded.printed
    assert "ERROR" not in graded.printed


def test_the_course_is_untouched(graded):
    assert graded.course_files() == graded.before
    with graded.room.gradebook() as gradebook:
        assert {s.id for s in gradebook.students} == set(HONEST) | {
            case.student for case in CASES.values()
        }
        recorded = {g.name: g.max_score for nb in gradebook.find_assignment(LESSON).notebooks
                    for g in nb.grade_cells}  # fmt: skip
        assert recorded == POINTS


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outcome(graded, case):
    room = graded.room
    assert room.scores(case.student) == {
        name: 0 if name in case.lost else points for name, points in POINTS.items()
    }
    assert room.flags(case.student) == case.flags
    page = room.feedback(case.student)
    assert case.says in page.replace("&#39;", "'")
    assert not any(line in page for line in _hidden(room))
    summary = graded.printed[graded.printed.rindex("Summary of") :]
    row = next(line for line in summary.splitlines() if case.student.strip("\x07") in line)
    assert all(code in row for code in case.flags)
    if graded.after[case.name]:
        graded.after[case.name](room, case.student)


def _hidden(room):
    """The lines of the hidden tests, as the page would show them and as they are."""
    source = nbformat.read(room.folder / "source" / LESSON / f"{LESSON}.ipynb", 4)
    for cell in source.cells:
        if "BEGIN HIDDEN" in cell.source:
            yield cell.source.split("BEGIN HIDDEN TESTS\n")[1].split("\n###")[0].split(",")[0]
