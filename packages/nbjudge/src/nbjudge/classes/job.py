"""One notebook to execute, as plain data: what a worker gets and what comes back.

A worker needs neither the gradebook nor a shared folder: the job carries the sanitized notebook
(with its hidden tests, for the judge) and the files that were handed in with it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import nbformat
from nbgrader.utils import setenv
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from nbjudge.classes.temporary import folder_for_submissions
from nbjudge.run.execution import WRITTEN
from nbjudge.run.judged import COURSE_FOLDER
from nbjudge.run.provisioner import SandboxProvisioner
from nbjudge.server.forkserver import ForkServer
from nbjudge.settings import NbJudge
from nbjudge.steps.findings import FINDINGS, Findings
from nbjudge.wire import course


@dataclass(frozen=True)
class Job:
    """A sanitized notebook and what its execution needs.

    `steps` names the preprocessors that it goes through, and `settings` are their traits as
    configured. `where` has nbgrader's resources of it (student, assignment, notebook, gradebook).
    `files` has the bytes of the submission's other files by relative path. `course_files` has those
    of the course's own files, which are for the judge.
    """

    notebook: str
    files: dict[str, bytes]
    where: dict[str, str]
    steps: tuple[str, ...]
    settings: dict[str, dict[str, Any]]
    course_files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What came of a job.

    notebook: the graded one, as the text of its file. found: what goes into the gradebook.
    missing: the names of the protections that are missing where it ran (`sandbox.MISSING`).
    files: what its code wrote, which is hostile.
    """

    notebook: str
    found: Findings
    missing: list[str]
    files: dict[str, bytes]


class OtherEngine(Exception):
    """A worker has another version of the engine than the grader."""


def run_as(engine: str, job: Job) -> Done:
    """`run`, where this process has that version of the engine; `OtherEngine` where it has not.

    Workers of a cluster may join at any time.
    """
    here = version("nbjudge")
    if here != engine:
        raise OtherEngine(f"this worker has nbjudge {here}, the grader {engine}")
    return run(job)


def run(job: Job) -> Done:
    """Execute the notebook in a folder of its own.

    What a learner's code does wrong is in the notebook; what is raised is the grader's trouble.
    """
    notebook = nbformat.from_dict(json.loads(job.notebook))
    with folder_for_submissions() as folder, folder_for_submissions() as course_folder:
        for place, files in ((folder, job.files), (course_folder, job.course_files)):
            for name, data in files.items():
                path = place / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        name = job.where["notebook"]
        # As nbconvert's exporter gives it: the notebook stands in the folder that it runs in.
        (folder / f"{name}.ipynb").write_text(job.notebook, encoding="utf-8")
        resources: dict[str, Any] = {
            "unique_key": name,
            "nbgrader": dict(job.where),
            "metadata": {"name": name, "path": str(folder)},
            COURSE_FOLDER: str(course_folder),
        }
        config = Config(job.settings)
        with setenv(NBGRADER_EXECUTION="autograde"):
            for step in job.steps:
                notebook, resources = import_item(step)(config=config)(notebook, resources)
    missing = sorted(SandboxProvisioner.missing_here)
    text = nbformat.writes(notebook) + "\n"
    return Done(text, resources[FINDINGS], missing, resources.get(WRITTEN, {}))


def settings_of(steps: Iterable[str], config: Config) -> dict[str, dict[str, Any]]:
    """Return the part of an nbgrader configuration that steps and their kernels read."""
    kinds = [kind for step in steps for kind in import_item(step).__mro__]
    kinds += [*SandboxProvisioner.__mro__, NbJudge]
    names = dict.fromkeys(kind.__name__ for kind in kinds)
    return {name: dict(config[name]) for name in names if name in config}


def start_worker(settings: str = "{}", line: socket.socket | None = None) -> None:
    """Leave Ctrl-C to the process that owns the gradebook, and end when that one is gone.

    settings: the course, as its `to_json`.
    line: that process's line to its fork server, for this one to use.
    """
    course.use(course.Course(**json.loads(settings)))
    if line is not None:
        ForkServer.borrow(line)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_owner, daemon=True).start()


def _end_with_owner() -> None:
    # A pool's workers hold both ends of their queue, so they never learn that its owner was killed.
    owner = multiprocessing.parent_process()
    if owner is not None:
        owner.join()
    os._exit(1)
