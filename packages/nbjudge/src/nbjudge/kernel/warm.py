"""The IPython kernel that runs in a forked child of the fork server.

An ordinary ipykernel, except that it takes its connection from memory instead of a file and its
sockets as descriptors (in its sandbox there is no folder in which it could make them), keeps
no history, and stops sending output past a bound. The bound in here is a convenience, which
saves an honest learner's cell from its own prints; the grader counts for itself (`execute`).
"""

import os
import subprocess
import sys
from collections.abc import Iterable
from typing import Any

import zmq
from ipykernel import zmqshell
from ipykernel.heartbeat import Heartbeat
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session
from traitlets.config import Config

from nbjudge.kernel import answering, attempts, given
from nbjudge.wire import course

_PORTS = {"shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"}
_BOUNDED = {"stream", "display_data", "update_display_data", "execute_result"}


class BoundedSession(Session):
    """A session that sends at most `most_bytes` of output for each request."""

    most_bytes = 8 << 20
    _request: str | None = None
    _sent = 0

    def send(self, stream: Any, msg_or_type: Any, content: Any = None, *args: Any, **kw: Any):
        """Send as usual; output beyond the bound is cut or dropped."""
        msg = msg_or_type if isinstance(msg_or_type, dict) else None
        kind = msg["header"]["msg_type"] if msg else msg_or_type
        if kind in _BOUNDED:
            held = msg["content"] if msg else content
            parent = msg["parent_header"] if msg else kw.get("parent") or (args or [None])[0] or {}
            held = self._within_bound(held, (parent.get("header") or parent).get("msg_id"))
            if held is None:
                return None
            if msg:
                msg["content"] = held
            else:
                content = held
        return super().send(stream, msg_or_type, content, *args, **kw)

    def _within_bound(self, content: dict[str, Any], request: str | None) -> dict[str, Any] | None:
        if request != self._request:
            self._request, self._sent = request, 0
        left = self.most_bytes - self._sent
        if left <= 0:
            return None
        if "text" in content:
            # One byte too many is sent on purpose: that is how the grader sees the cut.
            content = {**content, "text": content["text"][: left + 1]}
            self._sent += len(content["text"])
        else:
            size = sum(len(v) for v in content["data"].values() if isinstance(v, str))
            if size > left:
                content = {
                    **content,
                    "data": {"text/plain": "[left out: too large]".ljust(left + 1)},
                }
            self._sent += size
        return content


class _Heartbeat(Heartbeat):
    def _try_bind_socket(self) -> None:
        _listen(self.socket, self.ip, self.port)


def _listen(socket: zmq.Socket, ip: str, port: int) -> None:
    ports = {port: name for name, port in WarmKernelApp.connection.items() if name in _PORTS}
    socket.setsockopt(zmq.USE_FD, WarmKernelApp.listening[ports[port]])
    socket.bind(f"ipc://{ip}-{port}")


class WarmKernelApp(IPKernelApp):
    """The application around the kernel; `connection` is the content of a connection file.

    listening: the descriptors of its sockets, by the names that ports have in `connection`.
    """

    connection: Any = {}  # noqa: RUF012 (set once per process, before `instance`)
    listening: dict[str, int] = {}  # noqa: RUF012 (likewise)

    def _session_default(self) -> Session:
        return BoundedSession(parent=self)

    def init_connection_file(self) -> None:
        """Take the connection from memory."""
        self.load_connection_info(self.connection)

    def _try_bind_socket(self, s: zmq.Socket, port: int) -> int:
        """Listen at the descriptor that stands for `port`."""
        # The grader keeps few messages at its end: what waits is held, and bounded, here.
        s.setsockopt(zmq.SNDHWM, 20_000)
        _listen(s, self.ip, port)
        return port

    def init_heartbeat(self) -> None:
        """Start the heartbeat; it has a context of its own, as ipykernel's."""
        self.heartbeat = _Heartbeat(zmq.Context(), (self.transport, self.ip, self.hb_port))
        self.heartbeat.start()

    def write_connection_file(self, **kwargs: Any) -> None:
        """Write nothing: whoever may talk to this kernel knows the connection."""

    def _ip_default(self) -> str:
        """Return the address; ipykernel's own default looks at this machine's network."""
        return self.connection["ip"]

    def init_gui_pylab(self) -> None:
        """Have Matplotlib draw into the notebook: the backend needs the shell of this process.

        ipykernel leaves word of it for a Matplotlib that is imported later. One that was imported
        before the fork has to be told.
        """
        super().init_gui_pylab()
        if self.shell is not None and "matplotlib" in sys.modules:
            self.shell.enable_matplotlib("inline")


def _keep_streams(shell: Any) -> None:
    """Give the kernel back after a cell what it needs to answer: its streams, and some depth.

    ipykernel flushes them before it answers: without them it answers nothing ever again, and an
    honest `sys.stdout = None` would cost more than its own cell.
    """
    streams = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    depth = sys.getrecursionlimit()

    def restore(result: Any = None) -> None:
        for name, stream in streams.items():
            try:
                getattr(sys, name).flush()
            except Exception:
                setattr(sys, name, stream)
        # What the kernel does between two cells goes deeper than one may have left it room for.
        sys.setrecursionlimit(max(depth, sys.getrecursionlimit()))

    shell.events.register("post_run_cell", restore)


def _system(command: str) -> int:
    """Run a line that begins with `!`: its output is printed, and its exit code returned.

    ipykernel's own runs it in a terminal of its own. A sandbox has none to give, and a line that
    only lists files would end its cell.
    """
    with subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdout is not None
        while data := os.read(process.stdout.fileno(), 1 << 16):
            print(data.decode(errors="replace"), end="", flush=True)
    return process.returncode


def run_kernel(
    connection: dict[str, Any],
    listening: dict[str, int],
    notes: int,
    space: str,
    readable: Iterable[str],
) -> None:
    """Run a kernel in this process until it is told to shut down.

    listening: the descriptors of its sockets, by the names that ports have in `connection`.
    notes, space, readable: where it writes what the learner's code tries; see `attempts`.
    """
    WarmKernelApp.connection, WarmKernelApp.listening = connection, listening
    config = Config()
    config.HistoryManager.enabled = False
    config.IPKernelApp.capture_fd_output = False
    config.ProfileDir.location = os.path.join(os.environ["HOME"], ".ipython")
    os.makedirs(config.ProfileDir.location, exist_ok=True)
    # The submission's files come into view when the kernel is complete, not while it starts.
    config.IPKernelApp.ignore_cwd = True
    app = WarmKernelApp.instance(config=config)
    app.initialize([])
    zmqshell.system = _system  # type: ignore[assignment]  # which is a method, bound
    sys.path.insert(0, "")
    _keep_streams(app.shell)
    given.remember()
    answering.shared_files.remember()
    if course.here().watch:
        attempts.watch(notes, space, readable, app.shell)
    app.start()
