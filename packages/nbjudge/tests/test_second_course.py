"""A course that is not this project's own, graded with the engine by nbgrader's own command.

What a submission should earn is computed by running its cells in one plain namespace, in their
order: what nbgrader does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbgrader.api import Gradebook, MissingEntry

from packages.nbjudge.tests.test_second_course_itself import course as second
from packages.nbjudge.tests.test_second_course_itself import scores
from tests.commands import nbgrader

pytestmark = pytest.mark.slow

HONEST = ("solved", "unsolved", "partly", "wrong")


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """Release all assignments, hand in every kind of submission, and grade."""
    folder = tmp_path_factory.mktemp("second") / "course"
    folder.mkdir()
    shutil.copy(Path(second.__file__).with_name("nbgrader_config.py"), folder)
    for assignment in second.COURSE:
        second.write(folder / "source" / assignment, assignment)
        for kind in second.KINDS:
            second.write(folder / "submitted" / kind / assignment, assignment, kind)
        nbgrader(folder, "generate_assignment", assignment)
        nbgrader(folder, "autograde", assignment)
    return folder


def grades(folder: Path, assignment: str, kind: str) -> dict[str, float | None]:
    """Return what a submission has by cell; None for a cell that waits for a teacher."""
    with Gradebook(f"sqlite:///{folder / 'gradebook.db'}") as gradebook:
        try:
            submission = gradebook.find_submission(assignment, kind)
        except MissingEntry:
            return {}
        return {
            grade.name: None if grade.needs_manual_grade else grade.auto_score
            for notebook in submission.notebooks
            for grade in notebook.grades
        }


@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("assignment", second.COURSE)
def test_honest_work_gets_what_stock_nbgrader_gives(
    graded, assignment, kind, tmp_path, monkeypatch
):
    second.write(tmp_path, assignment, kind)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    expected: dict[str, int] = {}
    for cells in second.COURSE[assignment].values():
        expected |= scores(cells, kind)
    assert grades(graded, assignment, kind) == expected


@pytest.mark.parametrize("assignment", second.COURSE)
def test_a_hostile_submission_has_a_score_or_waits_and_gains_nothing(graded, assignment):
    found = grades(graded, assignment, "hostile")
    solved = grades(graded, assignment, "solved")
    assert found.keys() == solved.keys()
    assert all(score is None or score <= solved[name] for name, score in found.items())
