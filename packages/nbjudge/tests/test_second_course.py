"""A course that is not this project's own, graded with the engine by nbgrader's own command.

What a submission should earn is computed by running its cells in one plain namespace, in their
order: what nbgrader does. `make peers` compares with stock nbgrader's own run, too.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from nbgrader.api import Gradebook, MissingEntry

from packages.nbjudge.tests.test_second_course_itself import course as second
from packages.nbjudge.tests.test_second_course_itself import scores
from tests.commands import nbgrader

pytestmark = pytest.mark.slow

HONEST = ("solved", "unsolved", "partly", "wrong")


def make(folder: Path, kinds: tuple[str, ...], config: str | None = None) -> Path:
    """Release all assignments in a course, hand in these kinds of submissions, and grade."""
    folder.mkdir()
    beside = Path(second.__file__).parent
    shutil.copy(beside / "autotests.yml", folder)
    text = (beside / "nbgrader_config.py").read_text() if config is None else config
    (folder / "nbgrader_config.py").write_text(text)
    for assignment in second.COURSE:
        second.write(folder / "source" / assignment, assignment)
        for kind in kinds:
            second.write(folder / "submitted" / kind / assignment, assignment, kind)
        # Stock nbgrader looks for `alembic` there.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        nbgrader(folder, "generate_assignment", assignment, PATH=path)
        nbgrader(folder, "autograde", assignment, PATH=path)
    return folder


@pytest.fixture(scope="module")
def graded(tmp_path_factory) -> Path:
    """The course with the engine."""
    return make(tmp_path_factory.mktemp("second") / "course", second.KINDS)


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Path:
    """The same with stock nbgrader, which nothing hostile is given to."""
    config = 'c = get_config()\nc.CourseDirectory.course_id = "second"\n'
    return make(tmp_path_factory.mktemp("stock") / "course", HONEST, config)


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


def attacked(assignment: str) -> set[str]:
    """The tests that come after an answer which is hostile, before the next answer."""
    names, hostile = set(), False
    for cells in second.COURSE[assignment].values():
        for cell in cells:
            if cell.answers:
                hostile = cell.answers["hostile"] != cell.answers["solved"]
            elif cell.points is not None and hostile:
                names.add(cell.name)
    return names


@pytest.mark.parametrize("assignment", second.COURSE)
def test_a_hostile_submission_gains_nothing_with_a_test_that_it_attacks(graded, assignment):
    found = grades(graded, assignment, "hostile")
    solved = grades(graded, assignment, "solved")
    assert found.keys() == solved.keys() >= attacked(assignment)
    assert not {name: found[name] for name in attacked(assignment) if found[name]}
    assert all(score is None or score <= solved[name] for name, score in found.items())


@pytest.mark.peers
@pytest.mark.parametrize("kind", HONEST)
@pytest.mark.parametrize("assignment", second.COURSE)
def test_stock_nbgrader_gives_the_same(graded, stock, assignment, kind):
    assert grades(stock, assignment, kind) == grades(graded, assignment, kind)
