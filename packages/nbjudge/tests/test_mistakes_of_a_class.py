"""The mistakes that a course's check names: counted by learners, in the summary of a class."""

from nbjudge.classes.record import Graded
from nbjudge.classes.summary import Summary, _read_record


def graded(*mistakes: str) -> Graded:
    """Return what the record keeps of a notebook whose cells showed these mistakes."""
    return Graded("hand-in", "lesson", mistakes=list(mistakes))


def test_a_mistake_counts_learners_and_not_the_cells_that_show_it():
    summary = Summary("heads", 10)
    _read_record(summary, "ada", "a", graded("tiled", "tiled", "unscaled"))
    _read_record(summary, "ada", "b", graded("tiled"))
    _read_record(summary, "bo", "a", graded("tiled"))
    assert summary.mistakes.most_common() == [("tiled", 2), ("unscaled", 1)]
