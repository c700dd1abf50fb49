"""`llm-memory grade` with something going wrong at a named step.

The first argument is a step, at which the process ends itself with SIGKILL, or the name of
another trouble: `locked`, `full-disk`, `worker-dies`, or `nothing`.
"""

import errno
import os
import signal
import sys

from course_tools import cli
from nbgrader.converters.base import BaseConverter
from nbgrader.preprocessors import SaveAutoGrades
from nbjudge.classes import class_run
from nbjudge.classes.class_run import ClassRun
from nbjudge.classes.converter import ClassAutograde
from nbjudge.classes.record import Record
from nbjudge.intake import folder as intake
from nbjudge.steps.flags import SaveFlags


def die(*_):
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


def around(owner, name, before=None, after=None, when=lambda *_: True):
    """Let something happen before or after a method, the first time that `when` says so."""
    original = getattr(owner, name)

    def changed(*args, **kwargs):
        if before and when(*args):
            before(*args)
        result = original(*args, **kwargs)
        if after and when(*args):
            after(*args)
        return result

    setattr(owner, name, changed)


def second_pass(converter, *_):
    """Tell whether the converter is past sanitizing."""
    return not converter._sanitizing


#: The steps of one submission's way, in order, and how to stop there.
STEPS = {
    "taken in": lambda: around(intake, "take_in", after=die),
    "folder made": lambda: around(ClassAutograde, "init_assignment", after=die),
    "sanitized": lambda: around(ClassRun, "_begin", after=die),
    "job sent": lambda: around(ClassRun, "_send", after=die),
    "executed": lambda: around(ClassRun, "_save", before=die),
    "first grade saved": lambda: around(SaveAutoGrades, "_add_score", after=die),
    "grades saved": lambda: around(SaveAutoGrades, "preprocess", after=die),
    "flags saved": lambda: around(SaveFlags, "preprocess", after=die),
    "notebook half written": lambda: around(
        BaseConverter, "write_single_notebook", before=half_written, when=second_pass
    ),
    "notebook written": lambda: around(
        BaseConverter, "write_single_notebook", after=die, when=second_pass
    ),
    "recorded": lambda: around(Record, "finish", after=die),
}


def half_written(converter, output, resources):
    """Leave half of the graded notebook on the disk, and end."""
    where = resources["nbgrader"]
    folder = converter._format_dest(where["assignment"], where["student"])
    with open(os.path.join(folder, f"{where['notebook']}.ipynb"), "w", encoding="utf-8") as file:
        file.write(output[: len(output) // 2])
    die()


def locked():
    """Wait for the gradebook as long as a test can."""
    class_run.LOCK_SECONDS = 0.2


def full_disk():
    """Find the disk full when the first graded notebook is written."""

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    around(BaseConverter, "write_single_notebook", before=fail, when=second_pass)


def worker_dies():
    """Kill the worker processes once, after the first job was sent."""
    done = []

    def kill(run, executor, submission):
        if not done:
            done.append(True)
            for pid in list(executor._processes):
                os.kill(pid, signal.SIGKILL)

    around(ClassRun, "_send", after=kill)


TROUBLES = {"locked": locked, "full-disk": full_disk, "worker-dies": worker_dies}


def grade() -> None:
    """Run the command whose arguments follow the trouble's name."""
    {**STEPS, **TROUBLES, "nothing": lambda: None}[sys.argv[1]]()
    sys.exit(cli.main(["grade", *sys.argv[2:]]))
