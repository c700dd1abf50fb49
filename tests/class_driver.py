"""`llm-memory grade` with something going wrong at a named step.

The first argument is a step, at which the process ends itself with SIGKILL, or the name of
another trouble: `locked`, `full-disk`, `worker-dies`, or `nothing`.
"""

import errno
import multiprocessing
import os
import signal
import sys

from course_tools import cli
from nbjudge.classes import converter, saving
from nbjudge.classes.grading import Grading
from nbjudge.classes.many import ManyAtOnce
from nbjudge.classes.record import Record
from nbjudge.intake import folder as intake


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


def a_graded_notebook(path, target):
    """Tell whether a graded notebook is about to be put in its place."""
    return str(target).endswith(".ipynb")


#: The steps of one submission's way, in order, and how to stop there.
STEPS = {
    "taken in": lambda: around(intake, "take_in", after=die),
    "said to be graded now": lambda: around(Record, "begin", after=die),
    "rebuilt": lambda: around(Grading, "take", after=die),
    "job sent": lambda: around(ManyAtOnce, "_send", after=die),
    "executed": lambda: around(Grading, "save", before=die),
    "first rows sent": lambda: around(saving, "_save_rows", after=die),
    "all rows sent": lambda: around(saving.RunGradebook, "commit", before=die),
    "grades saved": lambda: around(saving, "save", after=die),
    "files laid out": lambda: around(os, "replace", before=die, when=a_graded_notebook),
    "notebook written": lambda: around(Grading, "_write_files", after=die),
    "recorded": lambda: around(Record, "finish", after=die),
}


def locked():
    """Wait for the gradebook as long as a test can."""
    converter.LOCK_SECONDS = 0.2


def full_disk():
    """Find the disk full when the first graded notebook is written."""

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    around(os, "replace", before=fail, when=a_graded_notebook)


def worker_dies():
    """Kill the worker processes once, after the first job was sent."""
    done = []

    def kill(*_):
        if not done:
            done.append(True)
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)

    around(ManyAtOnce, "_send", after=kill)


TROUBLES = {"locked": locked, "full-disk": full_disk, "worker-dies": worker_dies}


def grade() -> None:
    """Run the command whose arguments follow the trouble's name."""
    {**STEPS, **TROUBLES, "nothing": lambda: None}[sys.argv[1]]()
    sys.exit(cli.main(["grade", *sys.argv[2:]]))
