"""A whole class: the same results as `nbgrader autograde`, whatever is interrupted or missing."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from logging import getLogger

import pytest
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbjudge.classes import job
from nbjudge.classes.many import InFlight, ManyAtOnce
from nbjudge.classes.record import Record
from traitlets.config import Config

from tests import class_driver
from tests.commands import run
from tests.hostile.classroom import FULL, LESSON, POINTS, WRONG, Classroom, cell_of

pytestmark = [pytest.mark.slow, pytest.mark.takes_long]


@pytest.fixture
def classroom(tmp_path):
    return Classroom(tmp_path / "course")


def mixed_class(classroom, copies=1):
    """Hand in all kinds of work, and return the students' names."""
    for number in range(copies):
        classroom.hand_in(f"all-{number}")
        classroom.hand_in(f"none-{number}", classroom.released, choice=None)
        partly = classroom.solved()
        cell_of(partly, "total").source = "def total(rows):\n    return sum(rows[0])"
        classroom.hand_in(f"partly-{number}", partly, choice=WRONG)
        dying = classroom.solved()
        cell_of(dying, "double").source = "import os\nos._exit(1)"
        classroom.hand_in(f"dying-{number}", dying)
    return sorted(path.name for path in (classroom.folder / "submitted").iterdir())


def grade(classroom, *arguments, trouble="nothing", code=0):
    """Run `llm-memory grade`, with trouble if any, and return what it printed."""
    arguments = (trouble, LESSON, "--workers=1", *arguments)
    env = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return run(class_driver.grade, classroom.folder, *arguments, code=code, **env)


def finished(classroom):
    """Return when each notebook that was graded to the end was written, by student."""
    config = Config(CourseDirectory={"root": str(classroom.folder)})
    record = Record(CourseDirectory(config=config), LESSON, getLogger())
    found = {}
    for path in (classroom.folder / "autograded").glob(f"*/{LESSON}/{LESSON}.ipynb"):
        student = path.parts[-3]
        if record.of(student, LESSON):
            assert json.loads(path.read_text())["metadata"]["nbjudge"]["graded"]
            found[student] = path.stat().st_mtime_ns
    return found


def results(classroom, students):
    return {
        name: (
            classroom.scores(name),
            [classroom.comment(name, exercise) for exercise in ("double", "total")],
        )
        for name in students
    }


def test_after_trouble_the_same_scores_and_comments_as_nbgrader_autograde(tmp_path):
    """A locked gradebook, a full disk and a dead worker, one after the other: nothing is lost."""
    one, other = Classroom(tmp_path / "one"), Classroom(tmp_path / "other")
    students = mixed_class(one)
    mixed_class(other)
    one.nbgrader("autograde", LESSON)

    lock = sqlite3.connect(other.folder / "gradebook.db")
    lock.execute("BEGIN EXCLUSIVE")
    printed = grade(other, trouble="locked", code=1)
    lock.close()
    assert "gradebook" in printed and "Formgrader" in printed
    assert "Traceback" not in printed

    printed = grade(other, trouble="full-disk", code=1)
    assert "The disk is full. 0 of 4 submissions are done" in printed
    assert finished(other) == {}

    printed = grade(other, trouble="worker-dies")
    assert "trying another one" in printed and "4 graded" in printed and "kernel_died" in printed
    assert sorted(finished(other)) == students
    assert results(one, students) == results(other, students)
    assert other.scores("all-0") == POINTS
    page = (other.folder / "reports" / f"{LESSON}.html").read_text()
    assert "kernel_died" in page
    # The page's own, which sorts the table of learners; its policy lets no other run.
    assert page.count("<script") == 1 and "script-src 'sha256-" in page


def test_a_killed_run_goes_on_where_it_stopped(classroom):
    for number in range(4):
        classroom.hand_in(f"s{number}")
    # The last step first: it leaves somebody graded, who must stay so.
    for step in reversed(class_driver.STEPS):
        before = finished(classroom)
        grade(classroom, trouble=step, code=-signal.SIGKILL)
        after = finished(classroom)
        assert after, "nobody is graded yet: what follows would prove nothing"
        assert {name: after.get(name) for name in before} == before, f"graded twice at {step!r}"
    grade(classroom)
    students = sorted(path.name for path in (classroom.folder / "submitted").iterdir())
    assert sorted(finished(classroom)) == students
    with classroom.gradebook() as gradebook:
        found = {s.student.id: s.score for s in gradebook.assignment_submissions(LESSON)}
    assert found == dict.fromkeys(students, FULL)


def test_ctrl_c_finishes_what_is_in_flight_and_says_what_is_left(classroom):
    """The next run grades the others; once more is graded who is named."""
    for number in range(6):
        classroom.hand_in(f"s{number}")
    process = subprocess.Popen(
        [sys.executable, "-m", "course_tools.cli", "grade", LESSON, "--workers=1"],
        cwd=classroom.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not finished(classroom):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    before = finished(classroom)
    done = len(before)
    assert 0 < done < 6
    assert f"{done} of 6 submissions are done, {6 - done} are left" in printed.replace("\n", " ")
    grade(classroom)
    after = finished(classroom)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    grade(classroom, "--force", "--student=s0")
    again = finished(classroom)
    assert again.pop("s0") > after.pop("s0") and again == after


@pytest.mark.parametrize(
    ("assignment", "says"),
    [(LESSON, "nothing to grade"), ("nowhere", "There is no assignment 'nowhere'")],
    ids=["all is graded", "no such name"],
)
def test_nothing_to_grade_says_what_to_do(classroom, assignment, says):
    done = subprocess.run(
        [sys.executable, "-m", "course_tools.cli", "grade", assignment],
        cwd=classroom.folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert says in (done.stdout + done.stderr).replace("\n", " ")
    assert "Traceback" not in done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def dask(*arguments, **environment):
    process = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",  # a worker shares no folder with the course
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_dask_cluster_grades_everyone_once_though_a_worker_is_killed(classroom):
    students = mixed_class(classroom, copies=2)
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = ("scheduler", "--host=127.0.0.1", f"--port={port}", "--no-dashboard")
    worker = ("worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard")
    with dask(*scheduler), dask(*worker) as first, dask(*worker):
        _wait_for_workers(address, 2)
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "course_tools.cli",
                "grade",
                LESSON,
                f"--scheduler={address}",
            ],
            cwd=classroom.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while len(finished(classroom)) < 2:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        os.killpg(first.pid, signal.SIGKILL)
        printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert sorted(finished(classroom)) == students
    with classroom.gradebook() as gradebook:
        assert len(gradebook.assignment_submissions(LESSON)) == len(students)
    assert sum(classroom.scores("all-1").values()) == FULL


def test_a_dask_worker_with_another_engine_is_named_and_nothing_is_graded(classroom, tmp_path):
    classroom.hand_in("alice")
    about = tmp_path / "nbjudge-0.0.1.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: nbjudge\nVersion: 0.0.1\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    address = f"tcp://127.0.0.1:{free_port()}"
    scheduler = ("scheduler", f"--host={address}", "--no-dashboard")
    worker = ("worker", address, "--nthreads=1", "--no-nanny", "--no-dashboard")
    with dask(*scheduler), dask(*worker, PYTHONPATH=path):
        _wait_for_workers(address, 1)
        printed = grade(classroom, f"--scheduler={address}", code=1)
    assert "has 0.0.1" in printed and "pip install 'nbjudge==" in printed
    assert not finished(classroom)


def test_a_dask_worker_with_another_engine_that_joins_late_grades_nothing(monkeypatch):
    with pytest.raises(job.OtherEngine, match=r"the grader 0\.0\.1"):
        job.run_as("0.0.1", None)
    many = ManyAtOnce.__new__(ManyAtOnce)
    monkeypatch.setattr(many, "_engines", lambda: {"tcp://late": "0.0.1"}, raising=False)
    with pytest.raises(NbGraderException, match=r"tcp://late has 0\.0\.1: stopped"):
        many._trouble(None, InFlight(None), [], job.OtherEngine())


def _wait_for_workers(address, count):
    from distributed import Client

    with Client(address, timeout=120) as client:
        client.wait_for_workers(count, timeout=120)


def test_an_address_where_no_scheduler_answers_is_named(classroom):
    classroom.hand_in("alice")
    # Dask waits for a scheduler that is still starting; a test need not.
    printed = grade(classroom, "--scheduler=nonsense://127.0.0.1:1", code=1)
    assert "No Dask scheduler answers at nonsense://127.0.0.1:1" in printed
