"""The judge in a process of its own, one for each submission.

What a learner's code answers may be anything that is data: a size for which a test makes an array,
a bound of its loop, more bytes than fit. The process has a clock and a memory of its own, and the
grader goes on when it is ended. It is forked from the warm fork server, outside the sandbox; where
there is none, the judge runs in the grader's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterable
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import nbformat

from nbjudge.judge.verdicts import Judge, Outcome, unfinished
from nbjudge.run.provisioner import can_fork
from nbjudge.server.forkserver import ForkServer

#: Bytes that the judge may take, beyond what it has when it starts.
MEMORY_BYTES = 2 << 30
#: Seconds for the test's own work, beyond those in which it may ask the student's kernel.
GRACE_SECONDS = 10.0
_MESSAGE = 64 << 20


class JudgeProcess:
    """A `Judge` elsewhere, with the same `run`."""

    def __init__(
        self,
        connection: dict[str, Any],
        imports: Iterable[str] = (),
        *,
        memory_bytes: int = MEMORY_BYTES,
        grace_seconds: float = GRACE_SECONDS,
        **bounds: Any,
    ):
        """Start the judge of the kernel at `connection`; see `Judge` for `imports` and `bounds`."""
        self._order = {
            "connection": {
                key: value.decode() if isinstance(value, bytes) else value
                for key, value in connection.items()
            },
            "imports": list(imports),
            # Paths and sets are no JSON.
            "bounds": {name: _as_json(value) for name, value in bounds.items()},
            "earlier": [],
            "memory": memory_bytes,
            "grace": grace_seconds,
        }
        self._seconds = bounds.get("cell_seconds", 60.0)
        self._line: Connection | None = None
        self._process, self._busy = -1, False
        self._start()

    def _start(self) -> None:
        channel, self._process = ForkServer.instance().launch_judge()
        self._line = Connection(channel.detach())
        self._line.send_bytes(json.dumps(self._order).encode())

    def run(self, source: str, seconds: float | None = None) -> Outcome:
        """Run a test cell as `Judge.run`."""
        seconds = self._seconds if seconds is None else seconds
        self._busy = True
        try:
            if self._line is None:
                self._start()
            self._order["earlier"].append(source)
            self._line.send_bytes(json.dumps({"source": source, "seconds": seconds}).encode())
            answer = json.loads(self._line.recv_bytes(_MESSAGE))
        except (EOFError, OSError):
            self._forget()
            return unfinished("test_stopped", seconds=seconds)
        finally:
            self._busy = False
        answer["outputs"] = [nbformat.from_dict(output) for output in answer["outputs"]]
        return Outcome(**answer)

    def close(self) -> None:
        """End the process, whatever it is at; a `run` in another thread returns."""
        if self._line is not None:
            with contextlib.suppress(ProcessLookupError, OSError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            if not self._busy:
                self._forget()

    def _forget(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            os.close(self._process)

    def __enter__(self) -> JudgeProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return os.fspath(value) if isinstance(value, os.PathLike) else sorted(value)


def open_judge(connection: dict[str, Any], imports: Iterable[str] = (), **bounds: Any) -> Any:
    """Return a judge for the kernel at `connection`: a process where there can be one."""
    kind = JudgeProcess if can_fork() else Judge
    return kind(connection, imports, **bounds)


def serve(channel: socket.socket) -> None:
    """Be the judge of one submission, in a fork of the fork server, until the grader is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The clock's signal is not caught: it ends the process in the middle of anything.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    line = Connection(channel.detach())
    order = json.loads(line.recv_bytes(_MESSAGE))
    _bound_memory(order["memory"])
    with (
        contextlib.suppress(EOFError, OSError),
        Judge(
            order["connection"],
            order["imports"],
            earlier=order["earlier"],
            own_process=True,
            **order["bounds"],
        ) as judge,
    ):
        while True:
            test = json.loads(line.recv_bytes(_MESSAGE))
            signal.setitimer(signal.ITIMER_REAL, test["seconds"] + order["grace"])
            outcome = judge.run(test["source"], test["seconds"])
            signal.setitimer(signal.ITIMER_REAL, 0)
            line.send_bytes(json.dumps(asdict(outcome)).encode())


def _bound_memory(extra: int) -> None:
    import resource  # not on every platform on which this module is imported

    with open("/proc/self/statm") as sizes:
        now = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
