"""Calls between two processes that go both ways: the judge calls the learner's function, which
may call a model that the judge holds, which may call the learner's cache.

Each side holds objects that the other knows by number, as a `Proxy`. A call goes out with an
identifier, and until its answer is there the caller serves the calls that come back; so the two
sides' stacks interleave as in one process. Whatever does not carry the identifier that is waited
for is dropped: an answer to a call that was given up is never taken for that of the next.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import hmac
import linecache
import secrets
import sys
import traceback
from typing import Any

import msgpack
import zmq

from nbjudge.wire.values import (
    HELD,
    METHOD,
    YOURS,
    Decoder,
    Encoder,
    Limits,
    Malformed,
    Reference,
    TooLarge,
    apply_content,
    pack,
    unpack,
)

CALL, ANSWER, READY, END = range(4)

#: Exceptions that travel as themselves.
EXCEPTIONS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
}


class Channel:
    """Frames over one ZeroMQ socket, each message signed with the kernel's key."""

    def __init__(self, socket: zmq.Socket, key: bytes, route: list[bytes] | None = None):
        """`route` is the peer's identity, where the socket is a ROUTER."""
        self.socket, self.key, self.route = socket, key, route or []

    def _sign(self, frames: list[bytes]) -> bytes:
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for frame in frames:
            digest.update(len(frame).to_bytes(8, "big"))
            digest.update(frame)
        return digest.digest()

    def send(self, frames: list[bytes]) -> None:
        """Send one message, and never wait for a peer that does not read."""
        self.socket.send_multipart([*self.route, self._sign(frames), *frames], zmq.NOBLOCK)

    def receive(self, milliseconds: float) -> list[bytes] | None:
        """Return the next message that is signed and from the peer, or None."""
        if not self.socket.poll(max(1, int(milliseconds))):
            return None
        frames = self.socket.recv_multipart(zmq.NOBLOCK)
        route, rest = frames[: len(self.route)], frames[len(self.route) :]
        if route != self.route or len(rest) < 2:
            return None
        return rest[1:] if hmac.compare_digest(self._sign(rest[1:]), rest[0]) else None


class Proxy(Reference):
    """An object that the other side holds: calls, attributes, items, length go to it.

    No operator and no comparison goes there: what a test concludes from must be plain data.
    """

    __slots__ = ("_proxy_methods", "_proxy_name", "_proxy_number", "_proxy_peer")

    def __init__(self, peer: Peer, number: int, name: str):
        for slot, value in zip(
            ("_proxy_peer", "_proxy_number", "_proxy_name", "_proxy_methods"),
            (peer, number, name, {}),
            strict=True,
        ):
            object.__setattr__(self, slot, value)

    def __call__(self, *args, **kwargs):
        return self._proxy_peer.call("call", self._proxy_number, None, args, kwargs)

    def __getattr__(self, name):
        # Special methods are looked for by libraries (`__array__`, `__torch_function__`): with
        # them, the other side would take part in the judge's own computations.
        if name == "__name__":
            return self._proxy_name
        if name.startswith("__"):
            raise AttributeError(f"no {name} on an object of another process")
        method = self._proxy_methods.get(name)
        if method is None:
            value = self._proxy_peer.call("get", self._proxy_number, name)
            if value is not METHOD_FOUND:
                return value
            method = self._proxy_methods[name] = Method(self, name)
        return method

    def __setattr__(self, name, value):
        self._proxy_peer.call("set", self._proxy_number, name, (value,))

    def __getitem__(self, key):
        return self._proxy_peer.call("item", self._proxy_number, None, (key,))

    def __setitem__(self, key, value):
        self._proxy_peer.call("setitem", self._proxy_number, None, (key, value))

    def __delitem__(self, key):
        self._proxy_peer.call("delitem", self._proxy_number, None, (key,))

    def __len__(self):
        return self._proxy_peer.call("len", self._proxy_number)

    def __iter__(self):
        iterator = self._proxy_peer.call("iter", self._proxy_number)
        return iter(iterator) if not isinstance(iterator, Proxy) else _items(iterator)

    def __next__(self):
        return self._proxy_peer.call("next", self._proxy_number)

    def __bool__(self):
        return True

    def __repr__(self):
        return f"<{self._proxy_name} of another process>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{self!r} cannot be copied")


def _items(iterator: Proxy):
    while True:
        try:
            item = iterator._proxy_peer.call("next", iterator._proxy_number)
        except StopIteration:
            return
        yield item


class Method(Reference):
    """A method of a proxied object, looked up anew at each call, in the same message."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Proxy, name: str):
        self.owner, self.name = owner, name

    def __call__(self, *args, **kwargs):
        owner = self.owner
        return owner._proxy_peer.call("method", owner._proxy_number, self.name, args, kwargs)

    @property
    def __name__(self):
        return self.name

    def __repr__(self):
        return f"<method {self.name} of {self.owner!r}>"


METHOD_FOUND = object()


class Peer:
    """One end of the line. A subclass says what the other side may ask for."""

    trusted = False  # does this side send importable objects by name (and the other not)?
    proxy_class: type[Proxy] = Proxy

    def __init__(self, channel: Channel, limits: Limits | None = None):
        self.channel, self.limits = channel, limits or Limits()
        self.held: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._first = secrets.randbits(30)  # a number of an earlier session names nothing here
        self._proxies: dict[int, Proxy] = {}

    # What a subclass decides -------------------------------------------------------------------

    def wait(self) -> list[bytes] | None:
        """Return the next message; raise where waiting is to end."""
        raise NotImplementedError

    def may_hold(self, value: Any) -> bool:
        """Whether the other side may get a number for an object that it asked for."""
        return True

    def may_read(self, value: Any, name: str) -> bool:
        """Whether the other side may read the attribute `name` of `value`."""
        return True

    def may_change(self) -> bool:
        """Whether the other side may set attributes and items."""
        return True

    def look_up(self, name: str) -> Any:
        """Return the object that the other side asks for by its name in a notebook."""
        raise NameError(f"name {name!r} is not defined")

    # Asking ------------------------------------------------------------------------------------

    def call(
        self, op: str, number: int | None, name: str | None = None, args=(), kwargs=None
    ) -> Any:
        """Ask the other side for one operation and return its result, or raise what it raised."""
        encoder = Encoder(self._hold_passed, self.limits, trusted=self.trusted)
        parts = [encoder.encode(value) for value in args]
        named = [[str(key), encoder.encode(value)] for key, value in (kwargs or {}).items()]
        identifier = secrets.token_bytes(16)
        self._send(CALL, identifier, [op, number, name, parts, named], encoder.buffers)
        while True:
            kind, answered, grad, body, buffers = self._next()
            if kind == CALL:
                self._serve(answered, grad, body, buffers)
            elif kind == ANSWER and answered == identifier:
                return self._result(body, buffers, encoder.table)

    def _result(self, body: Any, buffers: list[bytes], table: list) -> Any:
        decoder = Decoder(buffers, self.limits, self._stand_in, table, trusted=self.believes)
        try:
            good, value, changed = body
            pairs = [(number, content) for number, content in changed]
        except (TypeError, ValueError):
            raise Malformed("not an answer") from None
        for number, content in pairs:
            apply_content(decoder, number, content)
        if good is True:
            return decoder.decode(value)
        raise make_error(value, self.limits)

    # Serving -----------------------------------------------------------------------------------

    def _serve(self, identifier: bytes, grad: Any, body: Any, buffers: list[bytes]) -> None:
        # A call takes over the caller's `torch.no_grad()`, as it would in one process.
        torch = sys.modules.get("torch") if isinstance(grad, bool) else None
        with torch.set_grad_enabled(grad) if torch else contextlib.nullcontext():
            self._answer(identifier, body, buffers)

    def _answer(self, identifier: bytes, body: Any, buffers: list[bytes]) -> None:
        table: list[Any] = []
        before: list[bytes] = []
        encoder = Encoder(self._hold_asked, self.limits, table, trusted=self.trusted)
        try:
            op, number, name, parts, named = body
            decoder = Decoder(buffers, self.limits, self._stand_in, table, trusted=self.believes)
            args = [decoder.decode(part) for part in parts]
            kwargs = {str(key): decoder.decode(part) for key, part in named}
            before = self._contents(table)
            passed = len(table)
            encoder.numbers = {id(value): at for at, value in enumerate(table)}
            value = self._perform(op, number, name, args, kwargs)
            answer = [True, [METHOD] if value is METHOD_FOUND else encoder.encode(value)]
        except BaseException as error:
            if self.must_stop(error):
                raise
            passed, encoder.buffers = len(before), []
            answer = [False, describe_error(error, self.limits)]
        try:
            after = self._contents(table[:passed])
            changed = [
                [at, encoder.content(at)]
                for at, (old, new) in enumerate(zip(before, after, strict=True))
                if old != new
            ]
            self._send(ANSWER, identifier, [*answer, changed], encoder.buffers)
        except TooLarge as error:
            failure = [False, describe_error(error, self.limits), []]
            self._send(ANSWER, identifier, failure, [])

    #: Whether importable objects are accepted by name from the other side.
    believes = False

    def must_stop(self, error: BaseException) -> bool:
        """Whether an error ends the serving, instead of being the answer."""
        return not isinstance(error, Exception)

    def _contents(self, table: list) -> list[bytes]:
        encoder, found = Encoder(self._hold_asked, self.limits, list(table)), []
        for at in range(len(table)):
            encoder.buffers = []
            tree = msgpack.packb(encoder.content(at), unicode_errors="surrogatepass")
            found.append(tree + b"".join(encoder.buffers))
        return found

    def _perform(self, op: str, number: Any, name: Any, args: list, kwargs: dict) -> Any:
        if op == "name":
            return self.look_up(name)
        target = self._held(number)
        if op == "call":
            return target(*args, **kwargs)
        if op in ("get", "method", "set"):
            if not isinstance(name, str) or not self.may_read(target, name):
                raise AttributeError(f"{type(target).__name__!r} object has no attribute {name!r}")
            if op != "set":
                value = getattr(target, name)
                own = callable(value) and getattr(value, "__self__", None) is target
                if op == "get":
                    return METHOD_FOUND if own else value
                if not own and not self.may_hold(value):
                    raise AttributeError(f"{name!r} cannot be called from here")
                return value(*args, **kwargs)
        if op == "len":
            return len(target)
        if op == "item":
            return target[args[0]]
        if op == "iter":
            return iter(target)
        if op == "next":
            return next(target)
        if not self.may_change():
            raise AttributeError(f"{type(target).__name__!r} object cannot be changed from here")
        if op == "set":
            return setattr(target, name, args[0])
        if op == "setitem":
            return target.__setitem__(*args)
        if op == "delitem":
            return target.__delitem__(*args)
        raise Malformed(f"no operation {op!r}")

    # Objects by number -------------------------------------------------------------------------

    def _held(self, number: Any) -> Any:
        try:
            return self.held[number]
        except (KeyError, TypeError):
            raise Malformed("no such object") from None

    def _hold_passed(self, value: Any) -> list:
        if isinstance(value, Method) and value.owner._proxy_peer is self:
            return [YOURS, value.owner._proxy_number, value.name]
        if isinstance(value, Proxy):
            if value._proxy_peer is not self:
                raise TypeError("an object of another test cell")
            return [YOURS, value._proxy_number, None]
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = self._first + len(self.held)
            self.held[number] = value
        name = getattr(value, "__name__", None)
        kind = type(value).__name__
        return [HELD, number, kind[:80], name[:80] if isinstance(name, str) else kind[:80]]

    def _hold_asked(self, value: Any) -> list:
        known = isinstance(value, Reference) or id(value) in self._numbers
        if not known and not self.may_hold(value):
            raise AttributeError(f"a {type(value).__name__} cannot be had from here")
        return self._hold_passed(value)

    def _stand_in(self, tree: list) -> Any:
        if tree[0] == METHOD:
            return METHOD_FOUND
        if tree[0] == YOURS:
            _, number, name = tree
            value = self._held(number)
            if name is None:
                return value
            if not isinstance(name, str) or not self.may_read(value, name):
                raise Malformed("no such method")
            return getattr(value, name)
        if tree[0] != HELD:
            raise Malformed("no such kind of value")
        _, number, kind, name = tree
        if type(number) is not int or not isinstance(kind, str) or not isinstance(name, str):
            raise Malformed("not an object's number")
        if number not in self._proxies:
            proxy_class = _named_class(self.proxy_class, kind[:80])
            self._proxies[number] = proxy_class(self, number, name[:80])
        return self._proxies[number]

    # Messages ----------------------------------------------------------------------------------

    def _send(self, kind: int, identifier: bytes, body: Any, buffers: list[bytes]) -> None:
        torch = sys.modules.get("torch")
        grad = None if torch is None else torch.is_grad_enabled()
        head = pack([kind, identifier, grad, body], self.limits)
        self.channel.send([head, *buffers])

    def _next(self) -> tuple[int, bytes, Any, Any, list[bytes]]:
        while True:
            frames = self.wait()
            if frames is None:
                continue
            message = unpack(frames[0], self.limits)
            if not isinstance(message, list) or len(message) != 4:
                raise Malformed("not a message")
            return *message, frames[1:]


def _named_class(base: type[Proxy], name: str) -> type[Proxy]:
    # `type(value).__name__` is what messages tell the learner.
    return type(name, (base,), {"__slots__": ()}) if name.isidentifier() else base


def describe_error(error: BaseException, limits: Limits) -> list:
    """Return an exception as data: class names, most special first, message, place in a cell."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        message = str(error)
    except Exception:
        message = ""
    if isinstance(error, KeyError) and error.args:
        message = str(error.args[0])
    place = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if "ipykernel" in frame.filename or frame.filename.startswith("<ipython-input"):
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
            place = f"{frame.name}, line {frame.lineno}: {line}"
    names = [type(error).__name__[:80], *kinds[:10]]
    return [names, message[: limits.text], place[: limits.text]]


def make_error(data: Any, limits: Limits) -> Exception:
    """Return the exception that `describe_error` described: a built-in one, or a RuntimeError.

    `place` on it says where in the other side's code it was raised, if known.
    """
    try:
        names, message, place = data
        good = all(isinstance(text, str) for text in [*names, message, place]) and names
    except (TypeError, ValueError):
        good = False
    if not good:
        raise Malformed("not an exception")
    message = message[: limits.text]
    kind = next((EXCEPTIONS[name] for name in names[1:] if name in EXCEPTIONS), RuntimeError)
    if kind.__name__ != names[0]:
        message = f"{names[0][:80]}: {message}"
    try:
        error = kind(message)
    except TypeError:  # UnicodeDecodeError and its like take more than a message
        error = RuntimeError(f"{names[0][:80]}: {message}")
    error.place = place[: limits.text]
    return error
