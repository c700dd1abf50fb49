"""What tests share: a course of their own in a temporary folder, and nbgrader's commands in it."""

import shutil
from pathlib import Path

import pytest
from course_tools.build import course as clone
from nbjudge import settings
from nbjudge.codes import OWN_FOLDER

from tests.commands import nbgrader
from tests.settings import COURSE

# A failure in what tests share shows its values, too.
pytest.register_assert_rewrite("tests.hostile", "tests.browser.lab")

ROOT = clone.root()


def pytest_addoption(parser):
    """Add what `make test LESSON=…` gives."""
    parser.addoption("--lesson", choices=clone.LESSONS, help="only what this lesson can break")


def can_break(lesson: str, item: pytest.Item) -> bool:
    """Tell whether a test is about the lesson: by its id, its file, or a mark `lesson`."""
    _, _, of = item.name.partition("[")
    marked = [name for mark in item.iter_markers("lesson") for name in mark.args]
    return of.removesuffix("]").split("-")[0] == lesson or lesson in (item.path.stem, *marked)


def pytest_collection_modifyitems(config, items):
    """Keep the tests of one lesson if it was named, and let the longest files start first.

    Else one process works on when the others are done.
    """
    if lesson := config.getoption("lesson"):
        kept = [item for item in items if can_break(lesson, item)]
        config.hook.pytest_deselected(items=[item for item in items if not can_break(lesson, item)])
        items[:] = kept
    items.sort(key=lambda item: item.get_closest_marker("takes_long") is None)


@pytest.fixture(autouse=True)
def _this_course():
    """Grade for this course: a run for another one, in this process, leaves its settings behind."""
    settings.apply(COURSE)


class Course:
    """A copy of the course, with a gradebook and an exchange of its own."""

    def __init__(self, folder: Path):
        self.folder = folder

    def nbgrader(self, *arguments: str, code: int | None = 0, **env: str) -> str:
        """Run an nbgrader command as an instructor would, and return what it printed."""
        return nbgrader(self.folder, *arguments, code=code, **env)


@pytest.fixture
def course(tmp_path, monkeypatch, tmp_path_factory):
    """Return a copy of the course in which every nbgrader command works.

    What one test's course has found out about the lessons' test cells is the next one's, too:
    it is kept by content.
    """
    folder = tmp_path / "course"
    folder.mkdir()
    for name in ("nbgrader_config.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "source", folder / "source")
    # What nbgrader keeps for a user stays out of the home folder.
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    kept = tmp_path_factory.getbasetemp() / "calibrated"
    if kept.is_dir():
        shutil.copytree(kept, folder / OWN_FOLDER)
    yield Course(folder)
    if (folder / OWN_FOLDER).is_dir():
        shutil.copytree(folder / OWN_FOLDER, kept, dirs_exist_ok=True)
