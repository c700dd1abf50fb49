"""A judge in a process of its own, one for each submission, seen from the grader.

What a learner's code answers may be anything that is data: a size for which a test makes an array,
a bound of its loop, more bytes than fit. The process has a clock and a memory of its own, and the
grader goes on when it is ended. It is forked from the warm fork server, outside the sandbox; where
there is none, the judge runs in the grader's process.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import mmap
import os
import signal
from collections.abc import Iterable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import nbformat

from nbjudge.judge.namespace import prepare
from nbjudge.judge.process import MESSAGE
from nbjudge.judge.verdicts import Judge, Outcome, unfinished
from nbjudge.run.provisioner import can_fork
from nbjudge.server.forkserver import ForkServer
from nbjudge.wire.limits import Unchecked

#: What nbgrader puts into the environment of what it autogrades.
ENVIRONMENT = {"NBGRADER_EXECUTION": "autograde"}
#: Bytes that the judge may take, beyond what it has when it starts.
MEMORY_BYTES = 2 << 30
#: Seconds for the test's own work, beyond those in which it may ask the learner's kernel.
GRACE_SECONDS = 10.0


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
        self._order: dict[str, Any] = {
            "connection": {
                key: value.decode() if isinstance(value, bytes) else value
                for key, value in connection.items()
            },
            "imports": list(imports),
            # Paths and sets are no JSON.
            "bounds": {name: _as_json(value) for name, value in bounds.items()},
            "earlier": [],
            # The fork server may be older than the command that says so, as nbgrader does.
            "environment": ENVIRONMENT,
            "memory": memory_bytes,
            "grace": grace_seconds,
        }
        self._seconds = bounds.get("cell_seconds", 60.0)
        self._line: Connection | None = None
        self._process, self._pid, self._busy = -1, -1, False
        self._resident = 0
        self._start()

    def _start(self) -> Connection:
        channel, self._process = ForkServer.instance().launch_judge()
        self._pid = _pid_of(self._process)
        self._resident = resident_bytes(self._pid)
        self._line = Connection(channel.detach())
        self._line.send_bytes(json.dumps(self._order).encode())
        return self._line

    def run(self, source: str, seconds: float | None = None) -> Outcome:
        """Run a test cell as `Judge.run`."""
        seconds = self._seconds if seconds is None else seconds
        self._busy = True
        try:
            line = self._line or self._start()
            self._order["earlier"].append(source)
            test = {"source": source, "seconds": seconds, "prepared": _prepared(source)}
            line.send_bytes(json.dumps(test).encode())
            answer = json.loads(line.recv_bytes(MESSAGE))
        except (EOFError, OSError):
            self._forget()
            return unfinished("test_stopped", seconds=seconds)
        finally:
            self._busy = False
        answer["outputs"] = [nbformat.from_dict(output) for output in answer["outputs"]]
        return Outcome(**answer)

    def memory(self) -> int:
        """Return the bytes that the process has taken up since it began; 0 if it has ended."""
        return max(0, resident_bytes(self._pid) - self._resident) if self._line else 0

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


@functools.lru_cache(maxsize=256)
def _prepared(source: str) -> str | None:
    """Return a test cell as compiled for all judges; None where that is for the judge to say."""
    try:
        return base64.b64encode(prepare(source).packed()).decode()
    except (Exception, Unchecked):
        return None


def _pid_of(process: int) -> int:
    """Return the process id behind a descriptor of a process; -1 where it cannot be told."""
    with (
        contextlib.suppress(OSError, StopIteration, ValueError),
        open(f"/proc/self/fdinfo/{process}", encoding="utf-8") as about,
    ):
        return next(int(line.split()[1]) for line in about if line.startswith("Pid:"))
    return -1


def resident_bytes(pid: int) -> int:
    """Return the bytes of memory that a process has; 0 where that cannot be told."""
    with (
        contextlib.suppress(OSError, IndexError, ValueError),
        open(f"/proc/{pid}/statm", encoding="utf-8") as sizes,
    ):
        return int(sizes.read().split()[1]) * mmap.PAGESIZE
    return 0


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return list(value) if isinstance(value, list) else sorted(value)


def open_judge(
    connection: Mapping[str, Any], imports: Iterable[str] = (), **bounds: Any
) -> JudgeProcess | Judge:
    """Return a judge for the kernel at `connection`: a process where there can be one."""
    kind = JudgeProcess if can_fork() else Judge
    return kind(dict(connection), imports, **bounds)
