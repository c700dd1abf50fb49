"""The end of the judge's line in a student's kernel: it runs the learner's functions on request.

Nothing here is trusted. A learner can replace every line of it and gains the right to send other
data to the judge, which must still be the right data.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from nbjudge.kernel import attempts
from nbjudge.wire.calls import CALL, END, READY, Channel, Peer

#: The message on the kernel's shell channel that starts a session; its content has its name.
MESSAGE = "llm_memory_test"
#: How long an end waits for a judge that has gone without a word.
IDLE_SECONDS = 600


class _Ended(BaseException):
    """The judge has what it wanted."""


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


class Answerer(Peer):
    """Serves the names of a notebook, and asks the judge for what the judge holds."""

    believes = True

    def __init__(self, channel: Channel, session: bytes, names: dict[str, Any]):
        super().__init__(channel)
        self.session, self.names, self.interrupted = session, names, False

    def look_up(self, name: str) -> Any:
        if name not in self.names:
            raise NameError(f"name {name!r} is not defined")
        return self.names[name]

    def _perform(self, op: str, number: Any, name: Any, args: list, kwargs: dict) -> Any:
        value = super()._perform(op, number, name, args, kwargs)
        if attempts.watcher is not None:
            attempts.watcher.look_at_answer(value)
        return value

    def must_stop(self, error: BaseException) -> bool:
        self.interrupted |= isinstance(error, KeyboardInterrupt)
        return isinstance(error, _Ended)

    def wait(self) -> list[bytes] | None:
        for _ in range(IDLE_SECONDS):
            frames = self.channel.receive(1000)
            if frames is not None:
                return frames
        raise _Ended

    def _next(self) -> tuple[int, bytes, Any, Any, list[bytes]]:
        message = super()._next()
        if message[0] == END and message[1] == self.session:
            raise _Ended
        return message

    def serve(self) -> None:
        """Serve one test cell, to its end."""
        with contextlib.suppress(_Ended):
            while not self.interrupted:
                kind, identifier, grad, body, buffers = self._next()
                # The judge speaks first: a ROUTER drops what it sends to whom it has not heard of.
                if kind == READY and identifier == self.session:
                    self._send(READY, self.session, None, [])
                if kind == CALL:
                    self._serve(identifier, grad, body, buffers)


def install() -> None:
    """Make the running IPython kernel answer the judge's `MESSAGE` on its shell channel."""
    from ipykernel.kernelapp import IPKernelApp

    kernel = IPKernelApp.instance().kernel

    def handle(stream: Any, identities: list[bytes], message: dict) -> None:
        session = bytes.fromhex(message["content"]["session"])
        channel = Channel(kernel.stdin_socket, kernel.session.key, identities[:1])
        nowhere = _Nowhere()
        if attempts.watcher is not None:
            attempts.watcher.look()
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            Answerer(channel, session, kernel.shell.user_ns).serve()

    kernel.shell_handlers[MESSAGE] = handle
