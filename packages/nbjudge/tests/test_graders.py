"""Several graders on one course folder: separate system users, a group, a strict umask."""

import os
import stat
import subprocess
import sys

import pytest

from packages.nbjudge.tests.semester import Semester
from tests.people import SECONDS, needs_people, people_called

pytestmark = [pytest.mark.slow, needs_people]


people = people_called(["anna", "ben", "eve"], {"graders": ["anna", "ben"]})


@pytest.fixture
def semester(people):
    """Return a course of anna's that she shares with a group, as the documentation says."""
    place = people.folder / "courses"
    place.mkdir()
    found = Semester(place / "course")
    people.give(found.folder, "anna", "graders", 0o2770)
    return found


def test_two_graders_share_a_course(people, semester):
    def run(who, *arguments, module="nbgrader", **options):
        command = [sys.executable, "-m", module, *arguments]
        return people.run(who, semester.folder, *command, **options)

    run("anna", "generate_assignment", "small")
    work = semester.solved(double="x + x", square="x * x")
    semester.hand_in("ada", work)
    people.give(semester.folder / "submitted", "anna", "graders", 0o2770)
    run("anna", "grade", "small", "--workers", "1", module="nbjudge")
    run("anna", "generate_feedback", "small")

    # Whatever anna made, ben makes anew, with a umask that takes the group's rights off.
    semester.hand_in("ada", semester.solved(double="x + x"))
    assert "1/1" in run("ben", "grade", "small", "--workers", "1", module="nbjudge")
    assert semester.scores() == {"ada": {"test_double": 2, "test_square": 0}}
    run("ben", "generate_feedback", "small", "--force")
    run("ben", "generate_assignment", "small", "--force")
    made = [path for path in semester.folder.rglob("*") if path.stat().st_uid == people.ids["ben"]]
    assert {"reports", "feedback"} <= {path.parts[len(semester.folder.parts)] for path in made}
    closed = [p for p in semester.folder.rglob("*") if not p.stat().st_mode & stat.S_IWGRP]
    assert [path for path in closed if path.is_dir()] == []

    semester.hand_in("ada", work)
    # Both at once, whatever ben made: one waits for the other.
    command = [sys.executable, "-m", "nbgrader", "autograde", "small", "--force"]
    both = [
        subprocess.Popen(
            people.command(who, *command, umask=0o077),
            cwd=semester.folder,
            env=people.env(who),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for who in ("anna", "ben")
    ]
    printed = [one.communicate(timeout=SECONDS)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    assert semester.scores()["ada"] == {"test_double": 2, "test_square": 2}


def test_who_may_not_write_a_course_is_told_what_to_do(people, semester):
    command = [sys.executable, "-m", "nbgrader"]
    people.run("anna", semester.folder, *command, "generate_assignment", "small")
    semester.hand_in("ada", semester.solved(double="x + x"))
    os.chmod(semester.folder, 0o755)
    people.give(semester.folder / "submitted", "anna", "graders", 0o755)
    for path in (semester.folder / "gradebook.db", *semester.folder.glob("*.py")):
        path.chmod(0o644)
    for path in (semester.folder / "source").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (semester.folder / "source").chmod(0o755)
    for arguments in (["autograde", "small"], ["generate_assignment", "small", "--force"]):
        printed = people.run("eve", semester.folder, *command, *arguments, code=1)
        assert "which belongs to anna" in printed and "chmod -R g+rwX" in printed, printed
