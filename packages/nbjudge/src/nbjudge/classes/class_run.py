"""A whole class at once: many workers execute, one process owns the gradebook and the files.

The same converter as `nbgrader autograde`, with its execution in the middle handed to workers:
this process takes each submission in and rebuilds it, a worker executes and judges it, and this
process saves the grades. So SQLite never locks, and scores and comments are the same.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures import ProcessPoolExecutor as Pool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.preprocessors import ExecutePreprocessor
from nbgrader.converters.base import BaseConverter, NbGraderException
from nbgrader.utils import rmtree, setenv
from sqlalchemy.exc import OperationalError
from traitlets import Any as AnyTrait
from traitlets import Integer, Unicode

from nbjudge.classes import job
from nbjudge.classes.converter import ClassAutograde
from nbjudge.run.execution import WRITTEN
from nbjudge.run.provisioner import can_fork, say_missing
from nbjudge.server.forkserver import ForkServer
from nbjudge.wire import course

LOCK_SECONDS = 60  # how long to wait for Formgrader to let go of the gradebook
GRADEBOOK_TROUBLE = (
    "The gradebook could not be used ({}). If Formgrader or another run has it open, close that; "
    "if nbgrader was upgraded, run `nbgrader db upgrade`. Then run the same command again to go on."
)
TRIES = 2  # a job whose worker died is given to another one, once


@dataclass
class Submission:
    """One submission in flight: its sanitized notebooks, and their jobs."""

    student: str
    assignment: str
    staged: str
    notebooks: list[str]
    open: dict[Future, tuple[str, job.Job]] = field(default_factory=dict)
    executed: dict[str, str] = field(default_factory=dict)
    written: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tries: int = 1


class ClassRun(ClassAutograde):
    """Grades all submissions that are new or changed, many at a time."""

    workers = Integer(os.cpu_count() or 1, help="Processes that execute.").tag(config=True)
    scheduler = Unicode(
        "", help="Address of a Dask scheduler whose workers execute; '' for this machine's own."
    ).tag(config=True)
    on_progress = AnyTrait(help="Called with (done, total, student) after each submission.")

    def start(self) -> None:
        """Grade the class; `NbGraderException` where that cannot be or somebody was left out."""
        self._execute = next(
            str(name) for name in self.autograde_preprocessors if str(name).endswith("Execute")
        )
        self._settings = job.settings_of(self._execute, self.config)
        url = self.coursedir.db_url
        if url.startswith("sqlite:") and "?" not in url:
            self.coursedir.db_url = f"{url}?timeout={LOCK_SECONDS}"
        try:
            super().start()
        except OperationalError as error:
            raise NbGraderException(GRADEBOOK_TROUBLE.format(error.orig)) from error

    def warm_up(self) -> None:
        """As Autograde, unless a cluster executes: then nothing is executed here."""
        if not self.scheduler:
            super().warm_up()

    def convert_all(self) -> None:
        """Grade every submission, then raise if one could not be graded."""
        self._errors: list[str] = []
        self._course_bytes = _bytes_in(self.course_files) if self.course_files else {}
        self._stopping = False
        todo = sorted(self.assignments)
        self._total, self._done = len(self.students), len(self.students) - len(todo)
        in_flight: list[Submission] = []
        with self._workers() as executor, self._finish_on_interrupt():
            try:
                while (todo or in_flight) and not (self._stopping and not in_flight):
                    # Twice as many as workers: each has the next one waiting, and no more is held.
                    while todo and not self._stopping and len(in_flight) < 2 * self._capacity:
                        submission = self._guarded(self._begin, todo.pop(0))
                        if submission is not None:
                            in_flight.append(submission)
                            self._send(executor(), submission)
                    self._collect(executor, in_flight)
            except BaseException:
                for submission in in_flight:
                    for future in submission.open:
                        future.cancel()
                    self._drop(submission.student, submission.assignment)
                raise
        if self._stopping:
            raise NbGraderException(
                f"Stopped: {self._done} of {self._total} submissions are done, "
                f"{self._total - self._done} are left. Run the same command again to go on."
            )
        if self._errors:
            names = ", ".join(self._errors)
            raise NbGraderException(f"Not graded: {names}. See the log above; run again to retry.")

    # Taking in, and saving: in this process, which owns the gradebook and the files.

    def _begin(self, staged: str) -> Submission:
        """Take a submission in and rebuild it."""
        student, assignment = self._names(staged)
        self.notebooks = sorted(self.assignments[staged])
        self.init_destination(assignment, student)
        self.run_pre_convert_hook()
        self.init_assignment(assignment, student)
        sanitized = []
        for notebook in self.notebooks:
            self._sanitizing = True
            self._init_preprocessors()
            BaseConverter.convert_single_notebook(self, notebook)
            sanitized.append(os.path.join(self.writer.build_directory, os.path.basename(notebook)))
        return Submission(student, assignment, staged, sanitized)

    def _save(self, submission: Submission) -> None:
        """Score what the workers executed, and write it down."""
        self.notebooks = submission.notebooks
        for notebook in submission.notebooks:
            self._executed = submission.executed[notebook]
            self._written = submission.written[notebook]
            self._sanitizing = False
            self._init_preprocessors()
            try:
                with setenv(NBGRADER_EXECUTION="autograde"):
                    BaseConverter.convert_single_notebook(self, notebook)
            finally:
                self._sanitizing, self._executed = True, ""
        self.set_permissions(submission.assignment, submission.student)
        self.run_post_convert_hook()

    def _init_preprocessors(self) -> None:
        super()._init_preprocessors()
        if not self._sanitizing:
            executed = nbformat.reads(self._executed, as_version=4)
            files = {WRITTEN: self._written}
            self.exporter._preprocessors = [
                (lambda _, resources: (executed, {**resources, **files}))
                if isinstance(step, ExecutePreprocessor)
                else step
                for step in self.exporter._preprocessors
            ]

    def _names(self, staged: str) -> tuple[str, str]:
        student, assignment = os.path.relpath(staged, self.staging).split(os.sep)[:2]
        return student, assignment

    def _guarded(self, step: Callable, item: Any) -> Any:
        """Run one step of a submission; what goes wrong with it must not stop the class."""
        student, assignment = (
            self._names(item) if isinstance(item, str) else (item.student, item.assignment)
        )
        staged = item if isinstance(item, str) else item.staged
        try:
            return step(item)
        except KeyboardInterrupt:
            raise
        except OperationalError as error:
            self._drop(student, assignment)
            raise NbGraderException(GRADEBOOK_TROUBLE.format(error.orig)) from error
        except OSError as error:
            self._drop(student, assignment)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NbGraderException(
                    f"The disk is full: {self._done} of {self._total} submissions are done. Make "
                    "room, then run the same command again to go on."
                ) from error
            self._failed(student, staged)
        except Exception:
            self._drop(student, assignment)
            self._failed(student, staged)
        return None

    def _failed(self, student: str, staged: str) -> None:
        self.log.error("Could not grade %s:\n%s", student, traceback.format_exc())
        self._errors.append(student)
        self._finished(student, staged)

    def _drop(self, student: str, assignment: str) -> None:
        """Remove what is half done, so that the next run grades it again."""
        graded = os.path.normpath(self._format_dest(assignment, student))
        with contextlib.suppress(OSError):
            rmtree(graded)

    def _finished(self, student: str, staged: str) -> None:
        with contextlib.suppress(OSError):
            rmtree(staged)  # so that a class needs no more room than what is in flight
        self._done += 1
        if self.on_progress:
            self.on_progress(self._done, self._total, student)

    # Executing: in the workers.

    def _send(self, executor: Executor, submission: Submission) -> None:
        for notebook in submission.notebooks:
            if notebook not in submission.executed:
                work = self._job(submission, notebook)
                submission.open[executor.submit(job.run, work)] = (notebook, work)

    def _job(self, submission: Submission, notebook: str) -> job.Job:
        folder = Path(notebook).parent
        files = _bytes_in(folder)
        where = {
            "student": submission.student,
            "assignment": submission.assignment,
            "notebook": Path(notebook).stem,
        }
        text = Path(notebook).read_text(encoding="utf-8")
        return job.Job(text, files, where, self._execute, self._settings, self._course_bytes)

    def _collect(self, executor: Callable[[], Executor], in_flight: list[Submission]) -> None:
        """Wait for one job or more, and save each submission that is complete."""
        futures = [future for submission in in_flight for future in submission.open]
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            submission = next(item for item in in_flight if future in item.open)
            notebook, _ = submission.open.pop(future)
            try:
                submission.executed[notebook], missing, files = future.result()
                submission.written[notebook] = files
            except Exception as error:
                self._trouble(executor, submission, in_flight, error)
                continue
            say_missing(missing, self.log)
            if not submission.open:
                in_flight.remove(submission)
                self._guarded(self._save_and_finish, submission)

    def _save_and_finish(self, submission: Submission) -> None:
        self._save(submission)
        self._finished(submission.student, submission.staged)

    def _trouble(
        self,
        executor: Callable[[], Executor],
        submission: Submission,
        in_flight: list[Submission],
        error: Exception,
    ) -> None:
        """Give the submission to another worker, or up."""
        for future in submission.open:
            future.cancel()
        submission.open.clear()
        submission.tries += 1
        if submission.tries <= TRIES or isinstance(error, BrokenExecutor):
            self.log.warning("A worker failed on %s, trying another one.", submission.student)
            if submission.tries <= 2 * TRIES:
                self._send(executor(), submission)
                return
        in_flight.remove(submission)
        self.log.error("Could not grade %s: %r", submission.student, error)
        self._errors.append(submission.student)
        self._drop(submission.student, submission.assignment)
        self._finished(submission.student, submission.staged)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[Callable[[], Executor]]:
        """Yield what gives the executor that is to be used: a new one where the last one broke."""
        if self.scheduler:
            with _cluster(self.scheduler) as client:
                self._capacity = max(1, sum(client.ncores().values()))
                executor = client.get_executor(pure=False)
                yield lambda: executor
            return
        self._capacity = max(1, self.workers)
        pools: list[Pool] = []

        def current() -> Pool:
            # A broken pool says so only when it is used.
            if not pools or pools[-1]._broken:
                pools.append(_new_pool(self._capacity))
            return pools[-1]

        try:
            yield current
        finally:
            for pool in pools:
                pool.shutdown(wait=True, cancel_futures=True)

    @contextlib.contextmanager
    def _finish_on_interrupt(self) -> Iterator[None]:
        """Let the first Ctrl-C finish what is in flight; a second one stops at once."""

        def stop(number: int, frame: Any) -> None:
            if self._stopping:
                raise KeyboardInterrupt
            self._stopping = True
            self.log.warning("Stopping: finishing what is in flight (Ctrl-C again to stop at once)")

        before = signal.signal(signal.SIGINT, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _bytes_in(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder that are no notebooks, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".ipynb"
    }


def _new_pool(workers: int) -> Pool:
    """Return a pool whose workers share this process's fork server."""
    lent = (course.here().to_json(), *((ForkServer.instance().lend(),) if can_fork() else ()))
    # Forking a process with threads is not safe, and the socket of multiprocessing's own fork
    # server is one that a submission might reach.
    return Pool(workers, get_context("spawn"), job.start_worker, lent)


def _cluster(address: str) -> Any:
    """Return a Dask client; `NbGraderException` where there is none to be had."""
    try:
        from distributed import Client
    except ImportError as error:
        raise NbGraderException("--scheduler needs Dask: pip install 'nbjudge[cluster]'") from error
    try:
        client = Client(address, timeout=30)
    except (OSError, ValueError) as error:
        raise NbGraderException(f"No Dask scheduler answers at {address}: {error}") from error
    if not client.ncores():
        client.close()
        raise NbGraderException(f"The Dask scheduler at {address} has no workers")
    return client
