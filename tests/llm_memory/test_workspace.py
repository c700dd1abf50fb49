"""Laying lessons out for a learner: nothing of theirs is ever overwritten."""

import pytest

from llm_memory.workspace import lay_out


@pytest.fixture
def places(tmp_path):
    release, work = tmp_path / "release", tmp_path / "work"
    (release / "attention").mkdir(parents=True)
    (release / "attention" / "attention.ipynb").write_text("first")
    return release, work


def test_a_lesson_is_laid_out_once(places):
    release, work = places
    lay_out(release, work)
    assert (work / "attention" / "attention.ipynb").read_text() == "first"
    assert lay_out(release, work) == []


def test_a_learners_work_stays(places):
    release, work = places
    lay_out(release, work)
    mine = work / "attention" / "attention.ipynb"
    mine.write_text("my answer")
    lay_out(release, work)
    assert [path.name for path in mine.parent.iterdir()] == ["attention.ipynb"]
    assert mine.read_text() == "my answer"


def test_a_newer_release_arrives_beside(places):
    release, work = places
    lay_out(release, work)
    mine = work / "attention" / "attention.ipynb"
    mine.write_text("my answer")
    (release / "attention" / "attention.ipynb").write_text("second")
    assert "newer release" in lay_out(release, work)[0]
    assert lay_out(release, work) == []
    assert mine.read_text() == "my answer"
    [beside] = mine.parent.glob("attention (new release *).ipynb")
    assert beside.read_text() == "second"


def test_a_broken_record_loses_nothing(places):
    release, work = places
    lay_out(release, work)
    (work / ".released.json").write_text("[broken")
    (work / "attention" / "attention.ipynb").write_text("my answer")
    lay_out(release, work)
    assert (work / "attention" / "attention.ipynb").read_text() == "my answer"


def test_nothing_released_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make build"):
        lay_out(tmp_path / "release", tmp_path / "work")
