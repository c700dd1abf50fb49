"""A student's end of the judge's line without a kernel: a thread that answers from a dict."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any

import zmq
from nbjudge.kernel.answering import MESSAGE, Answerer
from nbjudge.wire.calls import Channel

KEY = "a key for tests"


class Loopback(contextlib.AbstractContextManager):
    """Answers the judge from `names`; `connection` is what the judge connects to."""

    def __init__(self, folder: Path, answerer: type[Answerer] = Answerer):
        """Listen at sockets in `folder`, whose path must be short."""
        self.names: dict[str, Any] = {}
        self._context, self._answerer = zmq.Context(), answerer
        ports = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}
        self.connection = {f"{name}_port": port for name, port in ports.items()} | {
            "transport": "ipc",
            "ip": str(folder / "k"),
            "key": KEY,
            "signature_scheme": "hmac-sha256",
        }
        self._sockets = []
        for name in ("shell", "stdin"):
            socket = self._context.socket(zmq.ROUTER)
            socket.linger = 0
            socket.bind(f"ipc://{folder / 'k'}-{ports[name]}")
            self._sockets.append(socket)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        shell, stdin = self._sockets
        while not self._ends.is_set():
            if not shell.poll(50):
                continue
            identity, _, _, header, _, _, content, *_ = shell.recv_multipart()
            if json.loads(header)["msg_type"] != MESSAGE:
                continue
            session = bytes.fromhex(json.loads(content)["session"])
            self._answerer(Channel(stdin, KEY.encode(), [identity]), session, self.names).serve()

    def __exit__(self, *error: object) -> None:
        self._ends.set()
        self._thread.join(10)
        self._context.destroy(linger=0)
