"""What grading found goes into the gradebook whole or not at all, by nbgrader's rules."""

import logging
import shutil
from datetime import datetime

import pytest
from nbgrader.api import Gradebook
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from nbjudge.classes import saving
from nbjudge.classes.saving import RunGradebook
from nbjudge.steps.findings import Findings

from tests.commands import new_gradebook

pytestmark = pytest.mark.slow

FOUND = Findings(scores={"t": 2.0, "why": None}, comments={"f": "No response.", "why": None})


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A gradebook with an assignment of two notebooks; nbgrader takes its time to make one."""
    path = new_gradebook(tmp_path_factory.mktemp("released") / "gradebook.db")
    with Gradebook(f"sqlite:///{path}") as gradebook:
        gradebook.add_assignment("ps", duedate="2026-01-02 00:00:00 UTC")
        for name in ("a", "b"):
            gradebook.add_notebook(name, "ps")
            for cell, kinds in {"t": "g", "f": "s", "why": "gs"}.items():
                gradebook.add_source_cell(cell, name, "ps", cell_type="code")
                if "g" in kinds:
                    gradebook.add_grade_cell(cell, name, "ps", max_score=2, cell_type="code")
                if "s" in kinds:
                    gradebook.add_solution_cell(cell, name, "ps")
    return path


@pytest.fixture
def url(released, tmp_path):
    return f"sqlite:///{shutil.copy(released, tmp_path)}"


class Half(LateSubmissionPlugin):
    """Takes off half of the points."""

    def late_submission_penalty(self, student_id, score, total_seconds_late):
        """Return it."""
        return score / 2


def save(url, found, when=None, missing=(), **late):
    gradebook = RunGradebook(url, "course")
    gradebook.update_or_create_student("ada")
    late = AssignLatePenalties(**late)
    try:
        saving.save(gradebook, "ps", "ada", when, found, set(missing), late)
    finally:
        gradebook.close()


def held(url, notebook="a"):
    """Return what the gradebook holds of a notebook."""
    with Gradebook(url) as gradebook:
        if not gradebook.assignment_submissions("ps"):
            return None
        found = gradebook.find_submission_notebook(notebook, "ps", "ada")
        grades = {g.name: (g.auto_score, g.needs_manual_grade) for g in found.grades}
        return grades, {c.name: c.auto_comment for c in found.comments}


def test_scores_and_comments_are_nbgraders(url):
    save(url, {"a": FOUND})
    grades, comments = held(url)
    assert grades == {"t": (2.0, False), "why": (None, True)}
    assert comments == {"f": "No response.", "why": None}


def test_a_notebook_that_was_not_handed_in_has_no_points_and_waits_for_nobody(url):
    save(url, {"a": FOUND}, missing={"b", "of another assignment"})
    assert held(url, "b")[0] == {"t": (0.0, False), "why": (0.0, False)}


def test_what_a_teacher_gave_stays_and_is_to_be_looked_at_again(url):
    save(url, {"a": FOUND})
    with Gradebook(url) as gradebook:
        for name, score in (("t", 1.5), ("why", 1)):
            grade = gradebook.find_grade(name, "a", "ps", "ada")
            grade.manual_score, grade.needs_manual_grade = score, False
        gradebook.find_comment("f", "a", "ps", "ada").manual_comment = "Well done"
        gradebook.db.commit()
    save(url, {"a": Findings(scores={"t": 0.0, "why": None}, comments={"f": None, "why": None})})
    with Gradebook(url) as gradebook:
        assert gradebook.find_submission("ps", "ada").score == 2.5
        assert gradebook.find_comment("f", "a", "ps", "ada").comment == "Well done"
    assert held(url)[0] == {"t": (0.0, True), "why": (None, True)}


def test_half_a_submission_is_none(url, monkeypatch):
    save(url, {"a": FOUND})
    before = held(url)
    wrong = Findings(scores={"t": 0.0}, comments={"f": "changed"})
    with pytest.raises(KeyError):
        save(url, {"a": wrong, "no such notebook": FOUND})
    with pytest.raises(KeyError):
        save(url, {"a": wrong, "b": Findings(scores={"no such cell": 1.0})})
    assert held(url) == before


def test_others_can_write_between_two_submissions(url):
    gradebook = RunGradebook(url, "course")
    late = AssignLatePenalties()
    for student in ("ada", "ben"):
        gradebook.update_or_create_student(student)
        saving.save(gradebook, "ps", student, None, {"a": FOUND}, set(), late)
        with Gradebook(f"{url}?timeout=1") as formgrader:
            formgrader.add_student(f"friend-of-{student}")
    gradebook.close()
    with Gradebook(url) as read:
        assert len(read.students) == 4 and len(read.assignment_submissions("ps")) == 2


def test_a_cell_that_was_released_later_gets_its_row(url):
    save(url, {"a": FOUND})
    with Gradebook(url) as gradebook:
        gradebook.add_source_cell("new", "a", "ps", cell_type="code")
        gradebook.add_grade_cell("new", "a", "ps", max_score=1, cell_type="code")
    save(url, {"a": Findings(scores={**FOUND.scores, "new": 1.0}, comments=FOUND.comments)})
    assert held(url)[0]["new"] == (1.0, False)


@pytest.mark.parametrize(("day", "penalty"), [(1, None), (3, 1.0)])
def test_a_late_submission_costs_what_the_plugin_says(url, caplog, day, penalty):
    caplog.set_level(logging.WARNING)
    when = datetime(2026, 1, day)
    for _ in range(2):  # a regrade does not add to it
        save(url, {"a": FOUND}, when, plugin_class=Half)
    with Gradebook(url) as gradebook:
        assert gradebook.find_submission("ps", "ada").timestamp == when
        found = gradebook.find_submission_notebook("a", "ps", "ada")
        assert found.late_submission_penalty == penalty and found.score == 2
    save(url, {"a": FOUND}, datetime(2026, 1, 1), plugin_class=Half)
    with Gradebook(url) as gradebook:
        late = gradebook.find_submission_notebook("a", "ps", "ada").late_submission_penalty
        assert late is None
