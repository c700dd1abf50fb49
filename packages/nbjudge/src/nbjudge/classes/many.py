"""Many submissions at a time: workers execute, one process owns the gradebook and the files.

So SQLite never locks, and scores and comments are those of a run that grades one by one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from concurrent.futures import ProcessPoolExecutor as Pool
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing import get_context
from typing import Any

from nbgrader.converters.base import NbGraderException

from nbjudge.classes import job
from nbjudge.classes.class_run import ClassRun
from nbjudge.classes.grading import Grading, Submission
from nbjudge.run.provisioner import can_fork, say_missing
from nbjudge.server.forkserver import ForkServer
from nbjudge.wire import course

ENGINE = "nbjudge"  # the distribution's name
TRIES = 2  # a job whose worker died is given to another one, once


@dataclass
class InFlight:
    """A submission whose notebooks are executed, and the jobs that are not done."""

    submission: Submission
    open: dict[Future, str] = field(default_factory=dict)
    tries: int = 1


class ManyAtOnce(Grading):
    """Hands the notebooks of a `ClassRun` to workers, and saves what comes back."""

    run: ClassRun
    #: Asks each worker of a cluster for its version of the engine.
    _engines: Callable[[], dict[str, Any]] | None = None

    def warm_up(self) -> None:
        """As for one by one, unless a cluster executes: then nothing is executed here."""
        if not self.run.scheduler:
            super().warm_up()

    def grade_all(self) -> None:
        """Grade every submission; `NbGraderException` where it was stopped before the last."""
        self._stopping = False
        run, todo = self.run, list(self.run.todo)
        in_flight: list[InFlight] = []
        with self._workers() as executor, self._finish_on_interrupt():
            try:
                while (todo or in_flight) and not (self._stopping and not in_flight):
                    # Twice as many as workers: each has the next one waiting, and no more is held.
                    while todo and not self._stopping and len(in_flight) < 2 * self._capacity:
                        self._begin(executor, in_flight, todo.pop(0))
                    self._collect(executor, in_flight)
            except BaseException:
                for item in in_flight:
                    for future in item.open:
                        future.cancel()
                raise
        if self._stopping:
            raise NbGraderException(
                f"Stopped: {run.settled} of {len(run.students)} submissions are done, "
                f"{len(run.students) - run.settled} are left. Run the same command again to go on."
            )

    def _begin(
        self, executor: Callable[[], Executor], in_flight: list[InFlight], student: str
    ) -> None:
        """Take a submission in and hand it to the workers."""
        with self.guarded(student):
            item = InFlight(self.take(student))
            in_flight.append(item)
            self._send(executor(), item)
            return
        self._tell(student)

    def _tell(self, student: str) -> None:
        if self.run.on_progress:
            self.run.on_progress(self.run.settled, len(self.run.students), student)

    # Executing: in the workers.

    def _send(self, executor: Executor, item: InFlight) -> None:
        submission = item.submission
        for name in submission.rebuilt.keys() - submission.done.keys():
            future = executor.submit(job.run_as, version(ENGINE), self.job(submission, name))
            item.open[future] = name

    def _collect(self, executor: Callable[[], Executor], in_flight: list[InFlight]) -> None:
        """Wait for one job or more, and save each submission that is complete."""
        futures = [future for item in in_flight for future in item.open]
        if not futures:
            return
        for future in wait(futures, return_when=FIRST_COMPLETED).done:
            item = next((item for item in in_flight if future in item.open), None)
            if item is None:  # another job of the submission failed, and it was given up
                continue
            name, submission = item.open.pop(future), item.submission
            try:
                done = submission.done[name] = future.result()
            except Exception as error:
                self._trouble(executor, item, in_flight, error)
                continue
            say_missing(done.missing, self.log)
            if not item.open:
                in_flight.remove(item)
                with self.guarded(submission.student):
                    self.save(submission)
                self._tell(submission.student)

    def _trouble(
        self,
        executor: Callable[[], Executor],
        item: InFlight,
        in_flight: list[InFlight],
        error: Exception,
    ) -> None:
        """Give the submission to another worker, or up.

        `NbGraderException` where a worker with another engine has joined a cluster.
        """
        if self._engines and (problem := _other_engines(self._engines(), _LATE)):
            raise NbGraderException(problem)
        for future in item.open:
            future.cancel()
        item.open.clear()
        item.tries += 1
        student = item.submission.student
        if item.tries <= TRIES or isinstance(error, BrokenExecutor):
            self.log.warning("A worker failed on %s, trying another one.", student)
            if item.tries <= 2 * TRIES:
                self._send(executor(), item)
                return
        in_flight.remove(item)
        with self.guarded(student):
            raise error
        self._tell(student)

    @contextlib.contextmanager
    def _workers(self) -> Iterator[Callable[[], Executor]]:
        """Yield a function that gives the executor: a new one if the last one broke."""
        if self.run.scheduler:
            with _cluster(self.run.scheduler) as client:
                self._capacity = max(1, sum(client.ncores().values()))
                executor = client.get_executor(pure=False)
                self._engines = functools.partial(client.run, version, ENGINE, on_error="return")
                yield lambda: executor
            return
        # No more than there is work for.
        self._capacity = max(1, min(self.run.workers, len(self.run.todo) * len(self.lessons)))
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


def _new_pool(workers: int) -> Pool:
    """Return a pool whose workers share this process's fork server.

    Its workers are forks of this process, which has imported all that they need, as long as it has
    one thread: forking one with more is not safe. (A pool that takes the place of a broken one
    finds that one's threads.) No database is open, since an engine holds no connection.
    """
    lent = (course.here().to_json(), *((ForkServer.instance().lend(),) if can_fork() else ()))
    # The socket of multiprocessing's own fork server is one that a submission might reach.
    method = "fork" if can_fork() and len(os.listdir("/proc/self/task")) == 1 else "spawn"
    return Pool(workers, get_context(method), job.start_worker, lent)


def _cluster(address: str) -> Any:
    """Return a Dask client; `NbGraderException` if none can be reached."""
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
    if problem := _other_engines(client.run(version, ENGINE, on_error="return")):
        client.close()
        raise NbGraderException(problem)
    return client


#: What became of the class where a worker with another engine joined while it was graded.
_LATE = "stopped, and what is graded is kept"


def _other_engines(found: dict[str, Any], so: str = "nothing was graded") -> str | None:
    """Return what to do about workers with another engine than this one's; None if there is none.

    found: each worker's version of the engine by its address, or the exception that it raised.
    so: what became of the class.
    """
    here = version(ENGINE)
    others = [
        f"{worker} has {there if isinstance(there, str) else 'none'}"
        for worker, there in sorted(found.items())
        if there != here
    ]
    if not others:
        return None
    return (
        f"The grader has {ENGINE} {here}, and the Dask worker {', the worker '.join(others)}: "
        f"{so}. Install the same on each (pip install '{ENGINE}=={here}') and start "
        "the workers again."
    )
