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
import inspect
import linecache
import re
import secrets
import sys
import traceback
import types
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import zmq

from nbjudge.wire import own, waiting
from nbjudge.wire.kept import Kept, bytes_of, is_held_elsewhere, is_small
from nbjudge.wire.limits import Limits, Malformed, Reference, TooLarge, natural, pack, unpack
from nbjudge.wire.values import (
    CLAIM,
    DRESSED,
    ERROR_CLASS,
    HELD,
    METHOD,
    NOTEBOOKS,
    YOURS,
    Decoder,
    Encoder,
    apply_content,
)

CALL, ANSWER, READY, END, STREAM = range(5)

#: The message on the kernel's shell channel that starts a session; its content has its name.
MESSAGE = "nbjudge_test"

#: Exceptions that travel as themselves.
EXCEPTIONS: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
}


#: Bytes of a message that are put together to be signed.
_SMALL = 1 << 20


class Channel:
    """Frames over one ZeroMQ socket, each message signed with the kernel's key."""

    def __init__(self, socket: zmq.Socket, key: bytes, route: list[bytes] | None = None):
        """`route` is the peer's identity, where the socket is a ROUTER."""
        self.socket, self.key, self.route = socket, key, route or []

    def _sign(self, frames: list[bytes]) -> bytes:
        parts = [part for f in frames for part in (len(f).to_bytes(8, "big"), f)]
        if sum(map(len, frames)) <= _SMALL:  # most are, and one call is a fifth of the time
            return hmac.digest(self.key, b"".join(parts), "sha256")
        digest = hmac.new(self.key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(part)
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


#: A function's `__get__`, which makes a method of it: not asked there.
BOUND = "__bound__"


class Proxy(Reference):
    """An object that the other side holds: its attributes are asked there.

    What else it can do (be called, have a length) is in `SPECIALS`, and in a class of its own.
    """

    __slots__ = ("_proxy_methods", "_proxy_name", "_proxy_number", "_proxy_peer")

    def __init__(self, peer: Peer, number: int, name: str):
        for slot, value in zip(
            ("_proxy_peer", "_proxy_number", "_proxy_name", "_proxy_methods"),
            (peer, number, name, {}),
            strict=True,
        ):
            object.__setattr__(self, slot, value)

    def __getattr__(self, name):
        # Special methods are looked for by libraries (`__array__`, `__torch_function__`): with
        # them, the other side would take part in the judge's own computations.
        if name == "__name__":
            return self._proxy_name
        if name.startswith("__") and name.endswith("__"):
            return self._proxy_peer.special_attribute(self, name)
        method = self._proxy_methods.get(name)
        if method is None:
            value = self._proxy_peer.call("get", self._proxy_number, name)
            if value is not METHOD_FOUND:
                return value
            method = self._proxy_methods[name] = Method(self, name)
        return method

    def __setattr__(self, name, value):
        self._proxy_methods.pop(name, None)
        self._proxy_peer.call("set", self._proxy_number, name, (value,))

    def __bool__(self):
        return True

    def __repr__(self):
        return f"<{self._proxy_name} of another process>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{object.__repr__(self)} cannot be copied")


def _call(self, *args, **kwargs):
    return self._proxy_peer.call("call", self._proxy_number, None, args, kwargs)


def _getitem(self, key):
    return self._proxy_peer.call("item", self._proxy_number, None, (key,))


def _setitem(self, key, value):
    self._proxy_peer.call("setitem", self._proxy_number, None, (key, value))


def _delitem(self, key):
    self._proxy_peer.call("delitem", self._proxy_number, None, (key,))


def _len(self):
    return self._proxy_peer.call("len", self._proxy_number)


def _iter(self):
    iterator = self._proxy_peer.call("iter", self._proxy_number)
    if not isinstance(iterator, Proxy):
        return iter(iterator)
    # Not every proxy of an iterator looks like one; what is its own iterator stays itself.
    return iterator if hasattr(type(iterator), "__next__") else _items(iterator)


def _next(self):
    return self._proxy_peer.call("next", self._proxy_number)


def _await(self):
    return self._proxy_peer.call("await", self._proxy_number)
    yield  # never reached: it makes this what `await` takes


def _aiter(self):
    return self._proxy_peer.call("aiter", self._proxy_number)


async def _anext(self):
    return self._proxy_peer.call("anext", self._proxy_number)


def _bind(self, instance, owner=None):
    return self if instance is None else types.MethodType(self, instance)


#: What stands for a special method of the other side's object.
SPECIALS: dict[str, Any] = {
    BOUND: _bind,
    "__call__": _call,
    "__getitem__": _getitem,
    "__setitem__": _setitem,
    "__delitem__": _delitem,
    "__len__": _len,
    "__iter__": _iter,
    "__next__": _next,
    "__await__": _await,
    "__aiter__": _aiter,
    "__anext__": _anext,
}
_classes: dict[tuple, type[Proxy]] = {}


def proxy_class(base: type[Proxy], name: str, specials: tuple[str, ...]) -> type[Proxy]:
    """Return the class of proxies that has these special methods, of `base.specials`.

    Its name is the other side's: `type(value).__name__` is what messages tell the learner.
    """
    key = (base, name, specials)
    if key not in _classes:
        if len(_classes) > 5000:
            _classes.clear()
        known = base.specials  # type: ignore[attr-defined]
        names = {special: known[special] for special in specials if special in known}
        if BOUND in names:
            names["__get__"] = names.pop(BOUND)
        shown = name if name.isidentifier() else base.__name__
        _classes[key] = type(shown, (base,), {"__slots__": (), **base.dressing(names), **names})  # type: ignore[attr-defined]
    return _classes[key]


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

    def __getattr__(self, name):
        return self.owner._proxy_peer.special_attribute(self, name)

    @property
    def __name__(self):
        return self.name

    def __repr__(self):
        return f"<method {self.name} of {self.owner!r}>"


METHOD_FOUND = object()
#: Operations that use a special method of an object, and its name.
_SPECIAL_OF = {
    "call": "call", "len": "len", "item": "getitem", "iter": "iter", "next": "next",
}  # fmt: skip


class Plain(Proxy):
    """A proxy with those of `SPECIALS` that the object has."""

    __slots__ = ()
    specials = SPECIALS

    @staticmethod
    def dressing(names: dict[str, Any]) -> dict[str, Any]:
        """Return what else is in the class of a proxy that has the special methods `names`."""
        # A class has these of its own, and a decorator asks its function for them.
        asked = ("__doc__", "__module__") if "__call__" in names else ()
        return {name: _asked_property(name) for name in asked}


def _asked_property(name: str) -> property:
    return property(lambda self: self._proxy_peer.special_attribute(self, name))


class Peer:
    """One end of the line. A subclass says what the other side may ask for."""

    trusted = False  # does this side send importable objects by name (and the other not)?
    proxy_class: type[Proxy] = Plain

    def __init__(self, channel: Channel, limits: Limits | None = None):
        self.channel, self.limits = channel, limits or Limits()
        self.held: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}
        self._first = secrets.randbits(30)  # a number of an earlier session names nothing here
        self._proxies: dict[int, Proxy] = {}
        self.errors: dict[tuple, type[Exception]] = {}
        self.kept = Kept()

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

    def may_use(self, value: Any, special: str) -> bool:
        """Whether the other side may use the special method `special` of `value`."""
        return True

    def may_change(self) -> bool:
        """Whether the other side may set attributes and items."""
        return True

    def look_up(self, name: str) -> Any:
        """Return the object that the other side asks for by its name in a notebook."""
        raise NameError(f"name {name!r} is not defined")

    def special_attribute(self, proxy: Any, name: str) -> Any:
        """Return a special attribute of what the other side holds."""
        raise AttributeError(f"no {name} on an object of another process")

    def specials_of(self, value: Any) -> list:
        """Return what the other side is told of an object besides its name."""
        kind = type(value)
        found = {name for name in SPECIALS if hasattr(kind, name)}
        if "__getitem__" in found:
            found.add("__iter__")  # Python's older way
        if kind is types.FunctionType:
            found.add(BOUND)
        return [sorted(found)]

    def claim(self, module: Any, name: Any, held: Any) -> Any:
        """Return the object of this side that the other side names, or its stand-in `held`."""
        return held

    def dress(self, value: Any, stand_in: Any, operators: Any) -> Any:
        """Return a number or text with the other side's object behind it."""
        return value

    def note_passed(self, values: list) -> None:
        """Note which changeable values a call passes: its answer brings their contents."""

    def note_altered(self) -> None:
        """Note that the other side's code has changed a value that it got out of an object here."""

    def has_altered(self) -> bool:
        """Whether this side's code has changed a value that it got out of an object there."""
        return False

    def take_printed(self, body: Any) -> None:
        """Take what the other side's code printed."""

    def tell_printed(self) -> None:
        """Send what this side's code printed since."""

    # Asking ------------------------------------------------------------------------------------

    def call(
        self, op: str, number: int | None, name: str | None = None, args=(), kwargs=None
    ) -> Any:
        """Ask the other side for one operation and return its result, or raise what it raised."""
        # What the learner's code has kept goes by its number, and what a test changed of it along.
        if self.trusted:
            self.kept.keep_held()
        numbers = list(self.kept.values) if self.trusted else []
        table = [self.kept.values[n] for n in numbers]
        encoder = Encoder(self._hold_passed, self.limits, table, trusted=self.trusted)
        changed = [[at, encoder.content(at)] for at in self._changed_since(numbers)]
        first = len(encoder.table)
        parts = [encoder.encode(value) for value in args]
        named = [[str(key), encoder.encode(value)] for key, value in (kwargs or {}).items()]
        self.note_passed(encoder.table[first:])
        identifier = secrets.token_bytes(16)
        self.tell_printed()
        body = [op, number, name, parts, named, numbers, changed]
        self._send(CALL, identifier, body, encoder.buffers)
        while True:
            kind, answered, grad, body, buffers = self._next()
            if kind == CALL:
                self._serve(answered, grad, body, buffers)
            elif kind == STREAM:
                self.take_printed(body)
            elif kind == ANSWER and answered == identifier:
                return self._result(body, buffers, encoder.table, numbers)

    def _changed_since(self, numbers: list[int]) -> list[int]:
        """Return which of the kept values have changed since both sides agreed, and agree."""
        contents = self._kept_contents([self.kept.values[n] for n in numbers], self._hold_passed)
        changed = []
        for at, (number, content) in enumerate(zip(numbers, contents, strict=True)):
            if content is None:
                self.kept.forget(number)
            elif content != self.kept.contents[number]:
                self.kept.contents[number] = content
                changed.append(at)
        return changed

    def _result(
        self, body: Any, buffers: list[bytes], table: list, numbers: Sequence[int] = ()
    ) -> Any:
        decoder = Decoder(buffers, self.limits, self._stand_in, table, trusted=self.believes)
        try:
            good, value, changed, keeps, gone, altered = body
            pairs = [(number, content) for number, content in changed]
            fresh = [(natural(at), natural(number)) for at, number in keeps]
            gone = [natural(number) for number in gone]
        except (TypeError, ValueError):
            raise Malformed("not an answer") from None
        for number, content in pairs:
            apply_content(decoder, number, content)
        try:
            if good is True:
                return decoder.decode(value)
            raise self._made_error(value)
        finally:
            if altered is True:
                self.note_altered()
            self._keep_as_told(table, fresh, gone, bool(pairs))

    def _keep_as_told(
        self, table: list, fresh: list[tuple[int, int]], gone: list[int], changed: bool
    ) -> None:
        """Hold by number what the other side says that its code has of a call's values."""
        for number in gone:
            self.kept.forget(number)
        for at, number in fresh:
            if at < len(table) and is_small(table[at]) and self.kept.has_room_for(b""):
                self.kept.add(number, table[at], b"")
        if fresh or gone or changed:
            self._changed_since(list(self.kept.values))

    def _made_error(self, described: Any) -> Exception:
        """Return the exception that the other side describes, with what it holds of it."""
        held = described[8:9] if isinstance(described, list) else []
        error = make_error(described[:8] if held else described, self.limits, self.errors)
        if held and isinstance(error, _Said):
            error.itself = self._stand_in(held[0])
        return error

    def _described_error(self, error: BaseException) -> list:
        """Describe an exception for the other side; one of a notebook's own class is held."""
        described = describe_error(error, self.limits)
        if described[3] and not self.trusted:
            error.__traceback__ = None  # it holds all that the functions had
            described.append(self._hold_passed(error))
        return described

    def make_error_there(self, error: Any, there: Any, args: tuple, kwargs: dict) -> None:
        """Fill in an exception of the other side's class, which a test makes here."""
        made = self._made_error(self.call("error", there._proxy_number, None, args, kwargs))
        error.args, error.said = made.args, getattr(made, "said", "")
        error.__dict__.update(made.__dict__)

    # Serving -----------------------------------------------------------------------------------

    def _serve(self, identifier: bytes, grad: Any, body: Any, buffers: list[bytes]) -> None:
        # A call takes over the caller's `torch.no_grad()`, as it would in one process.
        torch = sys.modules.get("torch") if isinstance(grad, bool) else None
        with torch.set_grad_enabled(grad) if torch else contextlib.nullcontext():
            self._answer(identifier, body, buffers)

    def _answer(self, identifier: bytes, body: Any, buffers: list[bytes]) -> None:
        table: list[Any] = []
        before: list[bytes] = []
        numbers: list[int] = []
        value: Any = None
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        encoder = Encoder(self._hold_asked, self.limits, table, trusted=self.trusted)
        try:
            op, number, name, parts, named, said, given = body
            table += [self.kept.values[n] for n in said]
            numbers = said
            if not self.trusted:
                self.kept.keep_only(numbers)
            decoder = Decoder(buffers, self.limits, self._stand_in, table, trusted=self.believes)
            for at, content in given:
                apply_content(decoder, at, content)
            args = [decoder.decode(part) for part in parts]
            kwargs = {str(key): decoder.decode(part) for key, part in named}
            if given:
                self._changed_since(numbers)
            if numbers or op not in self.unchanging:
                # What the learner's cells have changed since both sides agreed is news, too.
                before = [self.kept.contents[n] for n in numbers]
                before += self._contents(table, len(numbers))
            encoder.numbers = {id(each): at for at, each in enumerate(table)}
            value = self._perform(op, number, name, args, kwargs)
            changed = self._changes(encoder, before, numbers)
            answer = [True, [METHOD] if value is METHOD_FOUND else encoder.encode(value), changed]
        except BaseException as error:
            if self.must_stop(error):
                raise
            del table[len(before) :]
            encoder = Encoder(self._hold_asked, self.limits, table, trusted=self.trusted)
            described = self._described_error(error)
            error.__traceback__ = None  # its frames have the arguments
            answer = [False, described]
        try:
            if len(answer) == 2:
                answer.append(self._changes(encoder, before, numbers))
            self.tell_printed()
            altered = self.has_altered()
            del args, kwargs, value
            fresh, gone = self._keep(table, numbers)
            self._send(ANSWER, identifier, [*answer, fresh, gone, altered], encoder.buffers)
        except TooLarge as error:
            failure = [False, describe_error(error, self.limits), [], [], [], False]
            self._send(ANSWER, identifier, failure, [])

    def _changes(self, encoder: Encoder, before: list[bytes], numbers: list[int]) -> list:
        """Return what a call has changed of the values that it was passed, and of those kept."""
        table, known = encoder.table[: len(before)], len(numbers)
        after = self._kept_contents(table[:known], self._hold_asked)
        for number, content in zip(numbers, after, strict=False):
            if content is None:
                self.kept.forget(number)
            elif number in self.kept.values:
                self.kept.contents[number] = content
        after += self._contents(table, known)
        return [
            [at, encoder.content(at)]
            for at, (old, new) in enumerate(zip(before, after, strict=True))
            if old != new and new is not None
        ]

    def _kept_contents(self, values: list, hold: Callable) -> list[bytes | None]:
        """Return what values hold; None for one that has become too large to follow."""
        found: list[bytes | None] = []
        encoder = Encoder(hold, self.limits, list(values), trusted=self.trusted)
        for at, value in enumerate(values):
            encoder.buffers, encoder.size, encoder.items = [], 0, 0
            try:
                content = bytes_of(value) if is_small(value) else None
                if content is None and is_small(value):
                    content = self._packed(encoder, at)
                found.append(content)
            except (TooLarge, TypeError):
                found.append(None)
        return found

    def _keep(self, table: list, numbers: list[int]) -> tuple[list, list]:
        """Find what this side's code has of the values of a call, and what it has no longer."""
        fresh: list[list[int]] = []
        gone: list[int] = []
        if self.trusted:  # the judge keeps nothing that is not a test's own
            return fresh, gone
        for at in range(len(table)):
            number = numbers[at] if at < len(numbers) else None
            content = None if number is None else self.kept.contents.get(number)
            if number is not None:
                self.kept.forget(number)
            held = is_held_elsewhere(table, at)
            if number is not None and held and content is not None:
                self.kept.add(number, table[at], content)
            elif number is not None:
                gone.append(number)
            elif held and is_small(table[at]):
                number = self.kept.new_number()
                self.kept.add(number, table[at], b"")
                fresh.append([at, number])
        if fresh or gone:
            self._agree(fresh)
        return fresh, gone

    def _agree(self, fresh: list[list[int]]) -> None:
        """Note what the kept values hold now; new ones for which there is no room are left out."""
        values = self.kept.values
        contents = self._kept_contents(list(values.values()), self._hold_asked)
        found = dict(zip(list(values), contents, strict=True))
        new = {number: [at, number] for at, number in fresh}
        for number, content in found.items():
            if content is not None and (number not in new or self.kept.has_room_for(content)):
                self.kept.contents[number] = content
            elif number in new:
                self.kept.forget(number)
                fresh.remove(new[number])

    #: Whether importable objects are accepted by name from the other side.
    believes = False
    #: Operations that change nothing of what they are passed: that need not be looked at twice.
    unchanging: frozenset[str] = frozenset()

    def must_stop(self, error: BaseException) -> bool:
        """Whether an error ends the serving, instead of being the answer."""
        return not isinstance(error, Exception)

    def _contents(self, table: list, first: int = 0) -> list[bytes]:
        encoder, found = Encoder(self._hold_asked, self.limits, list(table)), []
        for at in range(first, len(table)):
            encoder.buffers = []
            found.append(self._packed(encoder, at))
        return found

    @staticmethod
    def _packed(encoder: Encoder, at: int) -> bytes:
        tree = msgpack.packb(encoder.content(at), unicode_errors="surrogatepass")
        return tree + b"".join(encoder.buffers)

    def _perform(self, op: str, number: Any, name: Any, args: list, kwargs: dict) -> Any:
        if op == "name":
            return self.look_up(name)
        target = self._held(number)
        special = f"__{_SPECIAL_OF.get(op, '')}__"
        if op in _SPECIAL_OF and not self.may_use(target, special):
            raise AttributeError(f"{special} of a {type(target).__name__} cannot be used from here")
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
        if op == "await":
            return waiting.wait_for(target)
        if op == "aiter":
            return aiter(target)
        if op == "anext":
            return waiting.next_of(target)
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
        name = name if isinstance(name, str) else kind
        return [HELD, number, kind[:80], name[:80], *self.specials_of(value)]

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
        if tree[0] == CLAIM:
            _, module, name, held = tree
            return self.claim(module, name, self._stand_in(held))
        if tree[0] == DRESSED:
            _, value, held, operators = tree
            return self.dress(value, self._stand_in(held), operators)
        if tree[0] == ERROR_CLASS:
            own_names, kinds, library, held = tree[1:]
            there = self._stand_in(held)
            return error_class(self.errors, own_names, kinds, library, there)
        if tree[0] != HELD:
            raise Malformed("no such kind of value")
        _, number, kind, name, *more = tree
        if type(number) is not int or not isinstance(kind, str) or not isinstance(name, str):
            raise Malformed("not an object's number")
        if number not in self._proxies:
            specials = more[0] if more else list(SPECIALS)
            if not isinstance(specials, list) or len(specials) > 100:
                raise Malformed("not an object's abilities")
            specials = tuple(sorted(s for s in specials if isinstance(s, str)))
            made = proxy_class(self.proxy_class, kind[:80], specials)
            self._proxies[number] = made(self, number, name[:80])
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


# What a function says of itself ---------------------------------------------------------------

#: Special attributes of a test's own function that the learner's code is told.
TOLD = ("__doc__", "__module__", "__qualname__", "__annotations__", "__signature__")


def signature_of(function: Any) -> list:
    """Return a function's signature as data: its parameters, and what it says that it returns."""
    found = inspect.signature(function)
    parts = []
    for part in found.parameters.values():
        empty = part.default is inspect.Parameter.empty
        note = None if part.annotation is inspect.Parameter.empty else part.annotation
        parts.append([part.name, int(part.kind), [] if empty else [part.default], note])
    back = found.return_annotation
    return [parts, None if back is inspect.Signature.empty else back]


def make_signature(data: Any) -> inspect.Signature:
    """Return the signature that `signature_of` described."""
    empty = inspect.Parameter.empty
    parts, back = data
    found = [
        inspect.Parameter(
            name,
            inspect._ParameterKind(kind),
            default=default[0] if default else empty,
            annotation=empty if note is None else note,
        )
        for name, kind, default, note in parts
    ]
    return inspect.Signature(found, return_annotation=empty if back is None else back)


# Exceptions -----------------------------------------------------------------------------------


def describe_class(kind: type) -> list:
    """Return an exception's class as names: a notebook's own, the built-in, a library's."""
    own_names = [base.__name__[:80] for base in kind.__mro__ if base.__module__ in NOTEBOOKS]
    kinds = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"]
    library = next((base for base in kind.__mro__ if base.__module__ not in NOTEBOOKS), kind)
    return [own_names[:10], kinds[:10], [str(library.__module__), library.__qualname__]]


def describe_error(error: BaseException, limits: Limits, *, depth: int = 0) -> list:
    """Return an exception as data: class names, most special first, message, place in a cell.

    depth: how many exceptions this one stands behind.
    """
    own_names, kinds, library = describe_class(type(error))
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
    names = [type(error).__name__[:80], *kinds]
    args = [arg for arg in error.args[:10] if _is_short(arg, limits)]
    fields = [*getattr(error, "__dict__", {}).items()][:20]
    if isinstance(error, OSError):
        fields += [("filename", error.filename)]
    held = [[k, v] for k, v in fields if _is_short(v, limits) and k not in _NO_FIELDS]
    whole = args if len(args) == len(error.args) else None
    notes = [n[: limits.text] for n in getattr(error, "__notes__", [])[:10] if isinstance(n, str)]
    about: list[Any] = [notes, None, None, bool(error.__suppress_context__), None]
    if depth < _MOST_CAUSES:
        if isinstance(error, BaseExceptionGroup):
            parts = error.exceptions[:_MOST_PARTS]
            found = [describe_error(part, limits, depth=depth + 1) for part in parts]
            about[4] = [str(error.message)[: limits.text], found]
        for at, other in ((1, error.__cause__), (2, error.__context__)):
            if isinstance(other, Exception):
                about[at] = describe_error(other, limits, depth=depth + 1)
    texts = message[: limits.text], place[: limits.text]
    return [names, *texts, own_names, library, whole, held, about]


#: What an exception's `__dict__` holds that is told in another way, or not at all.
_NO_FIELDS = ("place", "__notes__")
#: How many exceptions behind an exception are told of.
_MOST_CAUSES = 3
#: How many exceptions of a group are told of.
_MOST_PARTS = 50


def _is_short(value: Any, limits: Limits) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return (
        value is None
        or type(value) in (bool, float)
        or (type(value) in (str, bytes) and len(value) <= limits.text)
    )


class _Said:
    """What an exception of another process says: its class may have had a word of its own."""

    said = ""
    #: The class in the other process, where a test may make exceptions of it.
    there: Any = None
    #: The exception in the other process.
    itself: Any = None

    def __init__(self, *args: Any, **kwargs: Any):
        there = vars(type(self)).get("there")
        if there is not None:
            there._proxy_peer.make_error_there(self, there, args, kwargs)

    def __str__(self) -> str:
        return self.said

    def __getattr__(self, name: str) -> Any:
        # What its class adds, and what is no short value.
        if self.itself is None or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.itself, name)


_ERROR_NAME = re.compile(r"[^\W\d]\w{0,79}")


def error_class(
    known: dict[tuple, type[Exception]],
    own_names: Any,
    kinds: Any,
    library: Any,
    there: Any = None,
) -> type[Exception]:
    """Return the class of exceptions of these names, always the same one in `known`.

    The classes of a notebook are made here, by their names alone; a library's is its own.
    there: the stand-in of the class itself, where a test may make exceptions of it.
    """
    names = [*own_names, *kinds, *library]
    if len(own_names) > 10 or not all(isinstance(name, str) for name in names):
        raise Malformed("not an exception's class")
    kind: type[Exception] = next((EXCEPTIONS[k] for k in kinds if k in EXCEPTIONS), None) or (
        Exception if own_names else RuntimeError
    )
    if "Exception" not in kinds:
        kind = RuntimeError  # SystemExit and its like end nothing here
    module, name = library
    if module != "builtins" and module.partition(".")[0] in sys.modules:
        with contextlib.suppress(Exception):
            found = own.find(module, name, loaded=True)
            top = module.partition(".")[0]
            trusted = top in sys.stdlib_module_names or top in own.DATA_LIBRARIES
            if trusted and isinstance(found, type) and issubclass(found, kind):
                kind = found
    for at in reversed(range(len(own_names))):
        key = (*own_names[at:], kind.__module__, kind.__name__)
        if not _ERROR_NAME.fullmatch(own_names[at]) or len(known) > 1000:
            raise Malformed("not an exception's class")
        if key not in known:
            bases = (kind,) if issubclass(kind, _Said) else (_Said, kind)
            known[key] = type(own_names[at], bases, {"__module__": "__main__"})
            # By its whole ancestry: the next class down has this one in its key.
        kind = known[key]
    if there is not None and own_names:
        kind.there = there  # type: ignore[attr-defined]
    return kind


def make_error(
    data: Any, limits: Limits, known: dict[tuple, type[Exception]] | None = None
) -> Exception:
    """Return the exception that `describe_error` described.

    One of a notebook's class is of a class of that name, one that is no `Exception` a RuntimeError
    that names it. `place` on it says where in the other side's code it was raised, if known.
    """
    known = {} if known is None else known
    try:
        names, message, place, *more = data
        own_names, library, args, fields, about = more or [[], ["builtins", ""], None, [], None]
        good = all(isinstance(text, str) for text in [*names, message, place]) and names
        fields = {key: value for key, value in fields if isinstance(key, str)}
        notes, cause, context, suppressed, group = about or [[], None, None, False, None]
        kind = error_class(known, own_names, names[1:], library)
        good = good and all(isinstance(note, str) for note in notes)
    except (TypeError, ValueError):
        good = False
    if not good:
        raise Malformed("not an exception")
    message = message[: limits.text]
    plain = isinstance(args, list) and all(_is_short(arg, limits) for arg in args)
    if names[0] == "SystemExit" and not own_names:
        # It ends the test that does not expect it, as it would there, and nothing else.
        return _ended(tuple(args) if plain else (message,), place[: limits.text])
    if kind.__name__ != names[0]:
        message = f"{names[0][:80]}: {message}"
    error: Any
    try:
        if issubclass(kind, ExceptionGroup):
            said, parts = group or ("", [])  # told of only so deep: then it is none of these
            error = kind.__new__(kind, said, [make_error(part, limits, known) for part in parts])
        elif issubclass(kind, _Said):
            error = kind.__new__(kind)
        elif plain and kind.__name__ == names[0] and kind.__module__ == "builtins":
            error = kind(*args)
        else:
            error = kind(message)
    except (TypeError, ValueError):  # a library's that takes more than a message
        error = RuntimeError(f"{names[0][:80]}: {message}")
    fields = {
        key: value
        for key, value in fields.items()
        if _ERROR_NAME.fullmatch(key) and not key.startswith("_") and _is_short(value, limits)
    }
    if issubclass(kind, _Said):
        error.args = tuple(args) if plain else (message,)
        error.__dict__.update(fields)
        error.said = message
    elif isinstance(error, OSError) and fields.get("filename") is not None:
        error.filename = fields["filename"]
    for note in notes[:10]:
        error.add_note(note[: limits.text])
    for name, other in (("__context__", context), ("__cause__", cause)):
        if other is not None:
            setattr(error, name, make_error(other, limits, known))
    error.__suppress_context__ = suppressed is True
    error.place = place[: limits.text]  # type: ignore[attr-defined]
    return error


def _ended(args: tuple, place: str) -> Any:
    error = SystemExit(*args)
    error.place = place  # type: ignore[attr-defined]
    return error
