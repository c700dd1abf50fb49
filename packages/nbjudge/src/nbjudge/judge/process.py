"""The process of a judge, one for each submission, forked from the fork server outside the sandbox.

Its clock and its memory are its own; what asks it is `nbjudge.run.judge_client`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
from dataclasses import asdict
from multiprocessing.connection import Connection

from nbjudge.judge.namespace import Prepared
from nbjudge.judge.verdicts import Judge

#: The most bytes that go between a judge and the grader at once.
MESSAGE = 64 << 20


def serve(channel: socket.socket) -> None:
    """Be the judge of one submission, in a fork of the fork server, until the grader is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The clock's signal is not caught: it ends the process in the middle of anything.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    line = Connection(channel.detach())
    order = json.loads(line.recv_bytes(MESSAGE))
    os.environ.update(order["environment"])
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
            test = json.loads(line.recv_bytes(MESSAGE))
            signal.setitimer(signal.ITIMER_REAL, test["seconds"] + order["grace"])
            packed = test["prepared"]
            prepared = None if packed is None else Prepared.unpacked(base64.b64decode(packed))
            outcome = judge.run(test["source"], test["seconds"], prepared)
            signal.setitimer(signal.ITIMER_REAL, 0)
            line.send_bytes(json.dumps(asdict(outcome)).encode())


def _bound_memory(extra: int) -> None:
    import resource  # not on every platform on which this module is imported

    with open("/proc/self/statm", encoding="utf-8") as sizes:
        now = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
