"""Folders for submissions: private, removed, and swept after a run that was killed."""

import os
import signal
import stat
import subprocess
import sys
import tempfile

import pytest
from nbjudge.classes.temporary import folder_for_submissions

pytestmark = pytest.mark.skipif(os.name != "posix", reason="no locks, and nothing is swept")

HOLD = """
import time
from nbjudge.classes.temporary import folder_for_submissions
with folder_for_submissions() as folder:
    (folder / "submission").write_text("a learner's work")
    print(folder, flush=True)
    time.sleep(300)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def other_run(temporary):
    """A process that holds such a folder, and the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()


def test_a_folder_is_private_and_removed(temporary):
    with folder_for_submissions() as folder:
        assert temporary in folder.parents
        for part in (folder, folder.parent):
            assert stat.S_IMODE(part.stat().st_mode) == 0o700
    assert not folder.exists()


def test_what_a_killed_run_left_is_removed_by_the_next(other_run):
    process, left = other_run
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.listdir(left) == ["submission"]
    with folder_for_submissions():
        assert not os.path.exists(left)


def test_the_folder_of_a_run_that_goes_on_stays(other_run):
    _, used = other_run
    with folder_for_submissions() as first, folder_for_submissions() as second:
        assert first.is_dir() and second.is_dir()
        assert os.listdir(used) == ["submission"]


@pytest.mark.parametrize("taken", ["by a file", "by a link", "for everybody"])
def test_a_place_that_is_not_ours_alone_is_left_alone(temporary, taken):
    elsewhere = temporary / "elsewhere"
    (elsewhere / "kept").mkdir(parents=True)
    place = temporary / f"nbjudge-{os.getuid()}"
    if taken == "by a file":
        place.touch()
    elif taken == "by a link":
        elsewhere.chmod(0o700)
        place.symlink_to(elsewhere)
    else:
        elsewhere = place
        (place / "kept").mkdir(parents=True)
        place.chmod(0o777)
    with folder_for_submissions() as folder:
        assert folder.parent == temporary
    assert not folder.exists() and (elsewhere / "kept").is_dir()
