"""A full disk: a command says so in one sentence, and what was there before is as it was."""

import errno
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from nbgrader.api import InvalidEntry
from nbjudge import disk, graders

from packages.nbjudge.tests.semester import Semester


def no_room(path=None):
    raise OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is always full")
def test_a_command_says_it_in_one_sentence(tmp_path):
    course = Semester(tmp_path / "course")
    command = [sys.executable, "-m", "nbgrader", "export", "--to", "/dev/full"]
    done = subprocess.run(command, cwd=course.folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == disk.said()
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_written_whole_is_as_it_was(tmp_path):
    grades = tmp_path / "grades.csv"
    grades.write_text("before")
    with pytest.raises(OSError, match="No space"), graders.replaced(grades) as new:
        new.write_text("half")
        no_room()
    assert grades.read_text() == "before"
    with graders.replaced(grades) as new:
        new.write_text("after")
    assert grades.read_text() == "after"
    assert [path.name for path in tmp_path.iterdir()] == ["grades.csv"]


def test_it_is_known_behind_what_nbgrader_makes_of_it():
    try:
        try:
            raise RuntimeError("(sqlite3.OperationalError) database or disk is full")
        except RuntimeError as error:
            raise InvalidEntry(*error.args) from None
    except InvalidEntry as error:
        assert disk.is_full(error)
    try:
        try:
            no_room()
        except OSError:
            raise ValueError("something else") from None
    except ValueError as error:
        assert disk.is_full(error)
    assert not disk.is_full(OSError(errno.EACCES, "Permission denied"))


def test_a_converter_logs_the_sentence_for_the_traceback(caplog):
    log = logging.getLogger("a converter")
    log.addFilter(disk.shorten)
    text = "Traceback (most recent call last):\n  …\nOSError: [Errno 28] No space left on device\n"
    log.error(text)
    log.error("Traceback (most recent call last):\n  …\nValueError: of another kind")
    said, other = (record.getMessage() for record in caplog.records)
    assert said == disk.said("Nothing was written")
    assert "of another kind" in other
