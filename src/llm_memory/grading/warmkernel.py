"""The IPython kernel that runs in a forked child of the fork server.

An ordinary ipykernel, except that it takes its connection from memory instead of a file, keeps
no history, and stops sending output past a bound. The bound in here is a convenience, which
saves an honest learner's cell from its own prints; the grader counts for itself (`execute`).
"""

import os
from typing import Any

from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session
from traitlets.config import Config

_BOUNDED = {"stream", "display_data", "update_display_data", "execute_result"}


class BoundedSession(Session):
    """A session that sends at most `most_bytes` of output for each request."""

    most_bytes = 8 << 20
    _request: str | None = None
    _sent = 0

    def send(self, stream: Any, msg_or_type: Any, content: Any = None, *args: Any, **kw: Any):
        """Send as usual, cut or drop output beyond the bound."""
        if msg_or_type in _BOUNDED and content:
            parent = kw.get("parent") or (args[0] if args else None) or {}
            request = (parent.get("header") or parent).get("msg_id")
            if request != self._request:
                self._request, self._sent = request, 0
            left = self.most_bytes - self._sent
            if left <= 0:
                return None
            if msg_or_type == "stream":
                # One byte too many is sent on purpose: that is how the grader sees the cut.
                content = {**content, "text": content["text"][: left + 1]}
                self._sent += len(content["text"])
            else:
                self._sent += sum(len(v) for v in content["data"].values() if isinstance(v, str))
        return super().send(stream, msg_or_type, content, *args, **kw)


class WarmKernelApp(IPKernelApp):
    """The application around the kernel; `connection` is the content of a connection file."""

    connection: dict[str, Any] = {}  # noqa: RUF012 (set once per process, before `instance`)

    def _session_default(self) -> Session:
        return BoundedSession(parent=self)

    def init_connection_file(self) -> None:
        """Take the connection from memory."""
        self.load_connection_info(self.connection)

    def write_connection_file(self, **kwargs: Any) -> None:
        """Write nothing: whoever may talk to this kernel knows the connection."""

    def init_gui_pylab(self) -> None:
        """Have Matplotlib draw into the notebook: the backend needs the shell of this process."""
        super().init_gui_pylab()
        self.shell.enable_matplotlib("inline")


def run_kernel(connection: dict[str, Any]) -> None:
    """Run a kernel in this process until it is told to shut down."""
    WarmKernelApp.connection = connection
    config = Config()
    config.HistoryManager.enabled = False
    config.IPKernelApp.capture_fd_output = False
    config.ProfileDir.location = os.path.join(os.environ["HOME"], ".ipython")
    os.makedirs(config.ProfileDir.location, exist_ok=True)
    app = WarmKernelApp.instance(config=config)
    app.initialize([])
    app.start()
