"""The judge's end of the line, and what a test cell sees of a learner's objects.

What decides a verdict must be data. A function's answer is data, and so is what an operator, a
`str` or a length of a learner's class gives: the test compares it with what it expects. But where
the learner's word *is* the verdict (`__eq__`, `__bool__`, `__contains__`, an order against the
test's own value), a class that always says yes would pass anything. So

- `==` compares identity where the class leaves it to Python, the fields of a dataclass and the
  items of a container, as data, here; a class that compares in its own way is `Unchecked`;
- `bool` is the length, or true of what has no say in it; a `__bool__` of the learner's is
  `Unchecked`; `in` compares the items here;
- a difference, a quotient or a remainder of a learner's object and a value of the test's is
  `Unchecked` where it is data: of right work it is 0 or 1, whatever the values are;
- `<` between two of the learner's objects is asked there, as a function of two arguments is; an
  object against a value of the test's is `Unchecked`;
- `isinstance` and `type` go by the classes' ancestry, not by a word of the class;
- one object is one stand-in, so `is` holds.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import logging
import sys
import time
import types
import unittest.mock
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgpack

from nbjudge.judge.words import Words
from nbjudge.wire import arrays, course, own, tables
from nbjudge.wire.calls import (
    SPECIALS,
    TOLD,
    Channel,
    Method,
    Peer,
    Proxy,
    describe_error,
    make_error,
    make_signature,
    signature_of,
)
from nbjudge.wire.kept import is_small
from nbjudge.wire.limits import Limits, Malformed, TooLarge, Unchecked
from nbjudge.wire.values import CHANGEABLE, OPERATORS, SCALARS, Dressed, Encoder

#: The module name of what a test cell defines.
TEST_MODULE = "hidden_tests"
#: What the learner's code may call on a `torch.nn.Module` of the judge's: nothing that changes it.
MODULE_METHODS = {
    *("buffers", "children", "eval", "forward", "modules", "named_buffers", "named_children"),
    *("named_modules", "named_parameters", "parameters", "state_dict"),
}
_SECRETIVE = (
    types.ModuleType, types.FrameType, types.CodeType, types.TracebackType,
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
)  # fmt: skip
#: What runs on by steps: the learner's code may take them, and read nothing else of it.
_STEPPED: tuple[type, ...] = (
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, map, zip, filter, enumerate,
    reversed,
    *(type(iter(kind())) for kind in (list, tuple, set, str, bytes, bytearray)),
    type(iter({}.keys())), type(iter({}.values())), type(iter({}.items())),
    type(iter(range(0))), type(iter(range(1 << 80))), type(reversed([])), type(reversed({})),
)  # fmt: skip
#: Of a mock: its own ways to be set and asked. The rest is what the test lets the code call.
_OF_MOCKS = frozenset(dir(unittest.mock.MagicMock()))
#: Characters of the learner's prints that one test cell sees.
MOST_PRINTED = 2_000_000
#: Special attributes that are asked there as data.
_ATTRIBUTES = {
    *("__qualname__", "__doc__", "__module__", "__version__", "__defaults__", "__kwdefaults__"),
    *("__annotations__", "__dict__", "__slots__", "__mro__", "__bases__", "__members__"),
    *("__abstractmethods__", "__dataclass_fields__", "__wrapped__", "__closure__", "__file__"),
    *("__self__", "__func__", "__all__", "__init__", "__author__", "__match_args__"),
    *("__subclasses__", "__isabstractmethod__"),
}  # fmt: skip
#: Those that Python would find on the stand-in itself.
_HIDDEN = frozenset(
    ("__doc__", "__module__", "__init__", "__slots__", "__dict__", "__annotations__")
)
#: How often one test cell hears a warning or a log record of the learner's code.
MOST_HEARD = 1000


#: What brings a value that is the learner's own, and not made for the test.
_BORROWING = frozenset(("name", "get", "item"))
#: Kinds of what the other side tells besides prints (`kernel.hearing`).
_WARNING, _RECORD = 2, 3


class Unanswered(BaseException):
    """No usable answer. Not an `Exception`, so that a test's own `except` does not catch it."""

    def __init__(self, reason: str, **fields: Any):
        super().__init__(reason)
        self.reason, self.fields = reason, fields


def presentable_later(text: str) -> str:
    """Return a short text of the other side's for a reason's sentence."""
    return "".join(c if c.isprintable() else " " for c in text)[:200]


def _asked_there(name: str) -> Callable[..., Any]:
    def ask(self: Any, *args: Any) -> Any:
        return self._proxy_peer.call("special", self._proxy_number, name, args)

    return ask


def _operated(name: str) -> Callable[..., Any]:
    """Return an operator that is asked there; one that tells two values apart may not decide.

    `f(2) - 4` is 0 of right work: a class that gives 0 for every difference would pass.
    """
    apart = name.strip("_").removeprefix("r").removeprefix("i") in _TELLS_APART

    def ask(self: Any, *args: Any) -> Any:
        value = self._proxy_peer.call("special", self._proxy_number, name, args)
        mine = args and not isinstance(args[0], StandIn) and not isinstance(value, StandIn)
        if apart and mine and value is not NotImplemented:
            raise Unchecked(f"what {name} of a {type(self).__name__} gives is for its class to say")
        return value

    return ask


def _ordered(name: str) -> Callable[..., Any]:
    def compare(self: Any, other: Any) -> Any:
        if not isinstance(other, StandIn):
            kind, *data = self._proxy_peer.call("comparison", self._proxy_number)
            if kind == "data":
                return getattr(data[0], name)(other)
            raise Unchecked(f"the order of a {type(self).__name__} is for its own class to say")
        return self._proxy_peer.call("special", self._proxy_number, name, (other,))

    return compare


def _exit(self: Any, kind: Any, error: Any, trace: Any) -> bool:
    if error is not None and not isinstance(error, Exception):
        return False
    described = None if error is None else describe_error(error, self._proxy_peer.limits)
    return self._proxy_peer.call("exit", self._proxy_number, None, (described,)) is True


async def _enter_async(self: Any) -> Any:
    return self._proxy_peer.call("aenter", self._proxy_number)


async def _exit_async(self: Any, kind: Any, error: Any, trace: Any) -> bool:
    if error is not None and not isinstance(error, Exception):
        return False
    described = None if error is None else describe_error(error, self._proxy_peer.limits)
    return self._proxy_peer.call("aexit", self._proxy_number, None, (described,)) is True


def _contains(self: Any, item: Any) -> bool:
    kind, *data = self._proxy_peer.call("contents", self._proxy_number)
    if kind == "own":
        raise Unchecked(f"what is in a {type(self).__name__} is for its own class to say")
    items = data[0] if kind == "data" else self
    return any(one is item or one == item for one in items)


_BINARY = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift"),
    *("and", "or", "xor", "divmod"),
)

#: Of equal values the result is the same, whatever they are: 0, 1.
_TELLS_APART = frozenset(("sub", "truediv", "floordiv", "mod", "xor", "divmod"))


class StandIn(Proxy):
    """A learner's object, as a test cell sees it."""

    __slots__ = ()
    __array_ufunc__ = None  # NumPy leaves an operator to this side

    specials: dict[str, Any] = {  # noqa: RUF012 (read only)
        **SPECIALS,
        **{f"__{prefix}{name}__": _operated(f"__{prefix}{name}__")
           for prefix in ("", "r", "i") for name in _BINARY},
        **{name: _asked_there(name) for name in (
            *("__enter__", "__float__", "__int__", "__complex__", "__index__", "__round__"),
            *("__abs__", "__neg__", "__pos__", "__invert__", "__reversed__", "__bytes__"),
            *("__get__", "__set__", "__delete__", "__set_name__"),
        )},
        **{name: _ordered(name) for name in ("__lt__", "__le__", "__gt__", "__ge__")},
        "__exit__": _exit,
        "__aenter__": _enter_async,
        "__aexit__": _exit_async,
        "__contains__": _contains,
    }  # fmt: skip

    @staticmethod
    def dressing(names: dict[str, Any]) -> dict[str, Any]:
        """Return what else is in the class of a stand-in."""
        return {}

    def __mro_entries__(self, bases):
        raise Unchecked(f"the test makes a subclass of {self._proxy_name}")

    def __getattribute__(self, name):
        if name in _HIDDEN:
            peer = object.__getattribute__(self, "_proxy_peer")
            return peer.special_attribute(self, name)
        return object.__getattribute__(self, name)

    def __bool__(self):
        kind, *data = self._proxy_peer.call("truth", self._proxy_number)
        if kind == "own":
            raise Unchecked(f"whether a {type(self).__name__} is true is for its own class to say")
        return bool(data[0]) if kind == "length" else kind == "always"

    def __eq__(self, other):
        if other is self:
            return True
        kind, *data = self._proxy_peer.call("comparison", self._proxy_number)
        if isinstance(other, StandIn):
            kind_there, *data_there = other._proxy_peer.call("comparison", other._proxy_number)
        else:
            kind_there, data_there = "plain", [other]
        if kind_there == "plain":
            _refuse_if_it_may_be(self, other)
        if "own" in (kind, kind_there):
            raise Unchecked(f"what a {type(self).__name__} equals is for its own class to say")
        if kind == "data" and kind_there in ("data", "plain"):
            return data[0] == data_there[0]
        if kind == kind_there == "fields":
            return data[0] is data_there[0] and data[1] == data_there[1]
        return NotImplemented if kind_there == "plain" else False

    def __ne__(self, other):
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __hash__(self):
        return self._proxy_peer.hash_of(self)

    def __str__(self):
        return self._text("__str__")

    def __repr__(self):
        return self._text("__repr__")

    def __format__(self, spec):
        return self._text("__format__", spec)

    def _text(self, name, *args):
        text = self._proxy_peer.call("special", self._proxy_number, name, args)
        if not isinstance(text, str):
            raise TypeError(f"{name} returned no text")
        return text

    def __dir__(self):
        return self._proxy_peer.call("special", self._proxy_number, "__dir__")

    def __delattr__(self, name):
        self._proxy_methods.pop(name, None)
        self._proxy_peer.call("special", self._proxy_number, "__delattr__", (name,))

    def __copy__(self):
        return self._proxy_peer.call("special", self._proxy_number, "__copy__")

    def __deepcopy__(self, memo):
        return self._proxy_peer.call("special", self._proxy_number, "__deepcopy__")

    def __array__(self, *args, **kwargs):
        raise Unchecked(f"a {type(self).__name__} as an array is for its own class to say")

    def __instancecheck__(self, value):
        return is_instance(value, self)

    def __subclasscheck__(self, kind):
        return is_subclass(kind, self)


def _asked_behind(name: str) -> Callable[..., Any]:
    return lambda self, *args: getattr(self._proxy_stand_in, name)(*args)


class _Dressed(Dressed):
    """What is asked of a learner's own number or text, besides its value."""

    __str__ = _asked_behind("__str__")
    __repr__ = _asked_behind("__repr__")
    __format__ = _asked_behind("__format__")

    def __getattr__(self, name):
        if (name.startswith("__") and name.endswith("__")) or name == "_proxy_stand_in":
            raise AttributeError(name)
        return getattr(self._proxy_stand_in, name)

    def __setattr__(self, name, value):
        setattr(self._proxy_stand_in, name, value)


def _behind(operator: str) -> Callable[..., Any]:
    ask = StandIn.specials[operator]
    return lambda self, *args: ask(self._proxy_stand_in, *args)


@functools.lru_cache(maxsize=1000)
def _dressed_class(name: str, operators: frozenset[str]) -> type:
    """Return the class of numbers or texts that ask for their attributes and these operators."""
    asked = {operator: _behind(operator) for operator in operators & set(StandIn.specials)}
    kind = next(kind for kind in SCALARS if kind.__name__ == name)
    return type(name, (_Dressed, kind), asked)


def type_of(value: Any) -> Any:
    """Return the class of a value: a learner's object has a learner's class."""
    if isinstance(value, Dressed):
        value = value._proxy_stand_in
    if isinstance(value, StandIn):
        return value._proxy_peer.class_of(value)
    return types.MethodType if isinstance(value, Method) else type(value)


def name_of(value: Any) -> Any:
    """Return the `__name__` of a value: a learner's object may go by another name than its own."""
    if isinstance(value, StandIn):
        return value._proxy_peer.call("attribute", value._proxy_number, "__name__")
    return value.__name__


def is_instance(value: Any, kind: Any) -> bool:
    """Answer `isinstance` with a learner's object or class, by the ancestry of classes."""
    if isinstance(kind, tuple):
        return any(is_instance(value, one) for one in kind)
    if isinstance(kind, types.UnionType):
        return any(is_instance(value, one) for one in kind.__args__)
    if isinstance(value, Dressed):
        if not isinstance(kind, StandIn) and builtins.isinstance(value, kind):
            return True
        value = value._proxy_stand_in
    if isinstance(value, StandIn):
        if not isinstance(kind, StandIn) and builtins.isinstance(value, kind):
            return True
        found = _descends(value._proxy_peer.ancestry(value, False), kind)
        return _found_out(kind, found) if isinstance(kind, StandIn) else found
    if not isinstance(kind, StandIn):
        if isinstance(value, Method) and kind in (types.MethodType, types.FunctionType):
            return kind is types.MethodType
        return builtins.isinstance(value, kind)
    above = kind._proxy_peer.ancestry(kind, True)
    if all(one is object or isinstance(one, StandIn) for one in above):
        return False
    raise Unchecked(f"data may have been made by {kind._proxy_name}, or not")


def _found_out(kind: StandIn, found: bool) -> bool:
    """Return whether an object is of a learner's class, unless the class has a word in it."""
    if not found and kind._proxy_peer.call("checks_itself", kind._proxy_number) is True:
        raise Unchecked(f"what is a {kind._proxy_name} is for that class to say")
    return found


def is_same(one: Any, other: Any) -> bool:
    """Answer `is`; `Unchecked` where a learner's name may stand for something of a library."""
    if one is other:
        return True
    for value, thing in ((one, other), (other, one)):
        if isinstance(value, StandIn) and not isinstance(thing, StandIn):
            _refuse_if_it_may_be(value, thing)
    return False


def _refuse_if_it_may_be(value: StandIn, thing: Any) -> None:
    """Raise `Unchecked` if a learner's object is what a library calls so (`f = sorted`)."""
    if not (callable(thing) or isinstance(thing, types.ModuleType)):
        return
    named = own.name_of(thing)
    if named is None:
        return
    if value._proxy_peer.call("importable", value._proxy_number) == list(named):
        raise Unchecked(f"whether {value._proxy_name} is {named[1] or named[0]} cannot be told")


#: Arrays that came from the learner's process: their numbers did, not how they lay in memory.
_from_there: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
#: What an array is asked that tells how it lies in memory.
OF_MEMORY = frozenset(("flags", "strides", "base", "__array_interface__"))


def memory_of(value: Any, name: str) -> Any:
    """Return an attribute that may tell how an array lies in memory: of one of theirs nothing."""
    if _from_there.get(id(value)) is value and value is not None:
        raise Unchecked(f"the test asks for the {name} of an array: how it lies in their memory")
    return getattr(value, name)


def is_cut_off(value: Any) -> bool:
    """Whether an array came from the learner's process without what else lies in its memory."""
    return _from_there.get(id(value)) is value and not is_small(value)


def is_subclass(kind: Any, above: Any) -> bool:
    """Answer `issubclass` with a learner's class, by the ancestry of classes."""
    if isinstance(above, tuple):
        return any(is_subclass(kind, one) for one in above)
    if isinstance(kind, StandIn):
        found = _descends(kind._proxy_peer.ancestry(kind, True), above)
        return _found_out(above, found) if isinstance(above, StandIn) else found
    return False if isinstance(above, StandIn) else builtins.issubclass(kind, above)


def _descends(ancestry: list, kind: Any) -> bool:
    for one in ancestry:
        if one is kind:
            return True
        if isinstance(kind, StandIn):
            continue
        if isinstance(one, type):
            if builtins.issubclass(one, kind):
                return True
        elif isinstance(one, StandIn) and isinstance(kind, type) and not _is_plain(kind):
            named = (one.__module__, one.__qualname__)
            if named == (kind.__module__, kind.__qualname__):
                return True
    return False


def _is_plain(kind: type) -> bool:
    """Whether a class is a built-in one whose values are data here, and never a stand-in."""
    return kind.__module__ == "builtins" and kind not in (property, classmethod, staticmethod, type)


class SharesFiles(Protocol):
    """What a test's files and the learner's have to do with each other (`judge.files`)."""

    def lend(self, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Send what a call names, and return its arguments as they are to be there."""

    def fetch(self) -> None:
        """Bring what their code has written."""

    def as_here(self, value: Any) -> Any:
        """Return a path of theirs as it is here."""


class JudgePeer(Peer):
    """The judge's end: believes nothing, and shows only what a test passes."""

    trusted = True
    proxy_class = StandIn

    def __init__(self, channel: Channel, limits: Limits, call_seconds: float, seconds: float):
        super().__init__(channel, limits)
        self.course: frozenset[str] = frozenset()
        self.words = Words()
        self.before_call: Callable[[], None] = lambda: None
        self.files: SharesFiles | None = None
        self.after_call: Callable[[], None] = lambda: None
        self.asked: str | None = None
        self.failed: Unanswered | None = None
        self._kinds: dict[int, Any] = {}
        self._dressed: dict[int, Any] = {}
        self._unique: set[int] = set()  # objects that nothing else is equal to
        self._above: dict[tuple[int, bool], list] = {}
        self.begin(call_seconds, seconds)

    def begin(self, call_seconds: float, seconds: float) -> None:
        """Begin with a test cell, which has `seconds`."""
        self.call_seconds, self.seconds = call_seconds, seconds
        self.cell_deadline = self.deadline = time.monotonic() + seconds
        self.allowed = call_seconds  # seconds for the call that is waited for
        self.calls, self.printed, self.failed = 0, 0, None
        self.refused: str | None = None
        self.passed: dict[int, Any] = {}
        self.lending = False  # whether the test changes things in place
        self._borrowed: dict[tuple, tuple[Any, bytes, tuple]] = {}
        self._said: list[Warning] = []
        self.heard = 0
        self._quiet = False

    #: Operations that run none of the learner's functions.
    _LOOKING = frozenset((
        *("name", "names", "has", "rebound", "give", "take", "module", "replace", "seed", "listen"),
        *("fill", "fill_name", "fill_item", "regained", "agree", "folder", "read_files"),
        *("write_files", "import"),
    ))  # fmt: skip

    def call(
        self, op: str, number: int | None, name: str | None = None, args=(), kwargs=None
    ) -> Any:
        looking = op in self._LOOKING
        if not looking and not self._quiet:
            self._quiet = True
            try:
                self.before_call()
                if self.files is not None:
                    args, kwargs = self.files.lend(tuple(args), kwargs or {})
            finally:
                self._quiet = False
            self.calls += 1
        outer, now = self.deadline, time.monotonic()
        self.deadline = min(self.cell_deadline, now + self.call_seconds)
        self.allowed = self.call_seconds
        quiet, self._quiet = self._quiet, False  # a test's callback may call in turn
        try:
            value = super().call(op, number, name, args, kwargs)
        except Unanswered as error:
            self.failed = self.failed or error
            raise
        except Exception:
            if not looking and self.files is not None:
                self.files.fetch()
            raise
        finally:
            self.deadline, self._quiet = outer, quiet
            if self._said:
                self._warn()
            if not looking and self.failed is None:
                self.after_call()
        if not looking and self.files is not None:
            self.files.fetch()
            value = self.files.as_here(value)
        if self.lending and op in _BORROWING:
            self._note_borrowed(op, value, number, name, args)
        return value

    def _warn(self) -> None:
        """Warn here as the learner's code did: the test's own filters say what comes of it."""
        said, self._said = self._said, []
        for warning in said:
            warnings.warn_explicit(warning, type(warning), "<their code>", 1)  # type: ignore[call-overload]

    def _note_borrowed(
        self, op: str, value: Any, number: int | None, name: str | None, args: Any
    ) -> None:
        """Note a value that is the learner's own, which the test may change in place."""
        if not (
            isinstance(value, CHANGEABLE) or arrays.is_array(value) or tables.can_change(value)
        ):
            return
        with contextlib.suppress(TooLarge, TypeError):
            which = (op, number, name, repr(args))
            self._borrowed[which] = value, self._content(value), (number, name, args)

    def _content(self, value: Any) -> bytes:
        encoder = Encoder(self._hold_passed, self.limits, [value], trusted=True)
        tree = msgpack.packb(encoder.content(0), unicode_errors="surrogatepass")
        return tree + b"".join(encoder.buffers)

    def give_back(self) -> None:
        """Tell the learner's process what the test has changed of its values, in place."""
        for which, (value, before, (number, name, key)) in list(self._borrowed.items()):
            after = self._content(value)
            if after == before:
                continue
            self._borrowed[which] = value, after, (number, name, key)
            if which[0] == "name":
                self.call("fill_name", None, None, (name, value))
            elif which[0] == "get":
                self.call("fill", number, name, (value,))
            else:
                self.call("fill_item", number, None, (key[0], value))
            # Their code has it under the name, and may change it again: it was no argument.
            self.passed.pop(id(value), None)

    def name(self, name: str) -> Any:
        """Return the learner's object of a name; `NameError` where there is none."""
        self.asked = name
        try:
            value = self.call("name", None, name)
        finally:
            self.asked = None
        if isinstance(value, StandIn):
            # The name by which a check knows it is the test's, not the learner's word.
            object.__setattr__(value, "_proxy_name", name)
        return value

    def class_of(self, value: StandIn) -> Any:
        """Return the class of a learner's object."""
        number = value._proxy_number
        if number not in self._kinds:
            self._kinds[number] = self.call("type", number)
        return self._kinds[number]

    def hash_of(self, value: StandIn) -> int:
        """Return the hash of a learner's object: by identity, or of its fields as data."""
        number = value._proxy_number
        if number in self._unique:
            return number
        kind, *data = self.call("hashing", number)
        if kind == "own":
            raise Unchecked(f"the hash of a {type(value).__name__} is for its own class to say")
        if kind == "identity":
            self._unique.add(number)
            return number
        parts = [tuple(part.items()) if isinstance(part, dict) else part for part in data]
        return hash(tuple(parts))

    def ancestry(self, value: StandIn, is_class: bool) -> list:
        """Return the classes from which a learner's object, or class, descends."""
        key = (value._proxy_number, is_class)
        if key not in self._above:
            found = self.call("ancestry", key[0], "class" if is_class else None)
            self._above[key] = list(found) if isinstance(found, list) else []
        return self._above[key]

    def special_attribute(self, proxy: Any, name: str) -> Any:
        owner, part = (proxy.owner, proxy.name) if isinstance(proxy, Method) else (proxy, None)
        number = owner._proxy_number
        if name == "__signature__":
            return make_signature(self.call("signature", number, part))
        if name == "__code__":
            found = self.call("code", number, part)
            return types.SimpleNamespace(**found)
        if part is not None:
            if name in _ATTRIBUTES:
                target = self.call("attribute", number, part)
                return getattr(target, name)
        elif name in _ATTRIBUTES:
            return self.call("attribute", number, name)
        elif self.call("has_special", number, name) is True:
            raise Unchecked(f"the test asks a {type(owner).__name__} for {name}")
        raise AttributeError(f"no {name} on an object of another process")

    def _perform(self, op: str, number: Any, name: Any, args: list, kwargs: dict) -> Any:
        if op != "about":
            return super()._perform(op, number, name, args, kwargs)
        # What a decorator reads of the function that a test hands to it.
        target = self._held(number)
        if name not in TOLD or not (_is_ours(target) and callable(target)):
            raise AttributeError(f"no {name} on an object of another process")
        if name == "__signature__":
            return signature_of(target)
        return "__main__" if name == "__module__" else getattr(target, name)

    def claim(self, module: Any, name: Any, held: Any) -> Any:
        found = own.claimed(module, name, self.asked, self.course)
        return held if found is None else found

    def dress(self, value: Any, stand_in: Any, operators: Any) -> Any:
        if type(value) not in SCALARS or not isinstance(stand_in, StandIn):
            raise Malformed("no value of a learner's own")
        number = stand_in._proxy_number
        kind: Any = _dressed_class(type(value).__name__, OPERATORS.intersection(operators))
        known = self._dressed.get(number)
        if known is None or type(known) is not kind or known != value:
            known = self._dressed[number] = kind(value)
            vars(known)["_proxy_stand_in"] = stand_in
        return known

    def note_passed(self, values: list) -> None:
        self.passed.update((id(value), value) for value in values)

    def _keep_as_told(
        self, table: list, fresh: list[tuple[int, int]], gone: list[int], changed: bool
    ) -> None:
        super()._keep_as_told(table, fresh, gone, changed)
        for _, number in fresh:  # asked for by a name it is the same one, and as it is now
            self.passed.pop(id(self.kept.values.get(number)), None)

    def note_altered(self) -> None:
        self.refuse("their code changes what an object holds that the test made")

    def tell_changed(self) -> None:
        """Tell the learner's process what the test has changed of its values since."""
        if self._changed_since(list(self.kept.values)):
            # Not agreed yet: the call tells of it.
            self.kept.contents = dict.fromkeys(self.kept.contents, b"")
            self.call("agree", None)

    def take_printed(self, body: Any) -> None:
        try:
            parts = [(which, text) for which, text in body]
        except (TypeError, ValueError):
            raise Malformed("not a text") from None
        for which, text in parts:
            if which in (_WARNING, _RECORD):
                self._hear(which, text)
                continue
            if not isinstance(text, str):
                raise Malformed("not a text")
            text = text[: max(0, MOST_PRINTED - self.printed)]
            self.printed += len(text)
            (sys.stderr if which == 1 else sys.stdout).write(text)

    def _hear(self, which: int, said: Any) -> None:
        """Take a warning, for when the call is over, or log a record where the test listens."""
        self.heard += 1
        if self.heard > MOST_HEARD:
            return
        if which == _WARNING:
            warning = make_error(said, self.limits, self.errors)
            if isinstance(warning, Warning):
                self._said.append(warning)
            return
        name, level, text = said
        if not (isinstance(name, str) and type(level) is int and isinstance(text, str)):
            raise Malformed("not a log record")
        logger = logging.getLogger(name if name != "root" else None)
        if logger.isEnabledFor(level):
            record = {"name": name, "levelno": level, "msg": text, "args": None}
            logger.handle(
                logging.makeLogRecord({**record, "levelname": logging.getLevelName(level)})
            )

    def wait(self) -> list[bytes] | None:
        now = time.monotonic()
        if now >= self.cell_deadline:
            raise Unanswered("test_stopped", seconds=self.seconds)
        left = self.deadline - now
        if left <= 0:
            raise Unanswered("late_answer", seconds=self.allowed)
        frames = self.channel.receive(left * 1000)
        if frames and sum(map(len, frames)) > self.limits.tree + self.limits.buffers:
            raise Unanswered("answer_too_large", what="too many bytes")
        return frames

    def _next(self) -> tuple[int, bytes, Any, Any, list[bytes]]:
        try:
            message = super()._next()
        except TooLarge as error:
            raise Unanswered("answer_too_large", what=str(error)) from None
        except Malformed as error:
            raise Unanswered("malformed_answer", what=presentable_later(str(error))) from None
        self.words.note(message[3], message[4])
        return message

    def _result(
        self, body: Any, buffers: list[bytes], table: list, numbers: Sequence[int] = ()
    ) -> Any:
        try:
            if body[0] is False and body[1][0][0] == TooLarge.__name__:
                raise Unanswered("answer_too_large", what=presentable_later(str(body[1][1])))
            known = len(table)
            try:
                return super()._result(body, buffers, table, numbers)
            finally:
                for value in filter(arrays.is_array, table[known:]):
                    _from_there[id(value)] = value
        except (Malformed, TypeError, IndexError, KeyError) as error:
            if isinstance(error, Malformed) or not hasattr(error, "place"):
                what = presentable_later(str(error))
                raise Unanswered("malformed_answer", what=what) from None
            raise

    def must_stop(self, error: BaseException) -> bool:
        # A callback that cannot be judged ends the test: the learner's code hears nothing of it.
        return isinstance(error, Unchecked | Unanswered) or super().must_stop(error)

    def may_change(self) -> bool:
        self.refuse("their code changes an object that the test made")
        return False

    def may_hold(self, value: Any) -> bool:
        if self._may_hold(value):
            return True
        self.refuse(f"their code asks for a {type(value).__name__} that the test made")
        return False

    def _may_hold(self, value: Any) -> bool:
        if isinstance(value, types.MethodType):
            return self._may_read(value.__self__, value.__name__)
        if isinstance(value, (*_STEPPED, unittest.mock.NonCallableMock)):
            return True
        return _is_module(value) or _is_ours(value if callable(value) else type(value))

    def may_read(self, value: Any, name: str) -> bool:
        if self._may_read(value, name):
            return True
        if hasattr(value, name):
            self.refuse(f"their code uses {name} of a {type(value).__name__} that the test made")
        return False

    def may_use(self, value: Any, special: str) -> bool:
        parts = _named_parts(value)
        if parts is None or special in parts:
            return True
        self.refuse(f"their code uses {special} of a {type(value).__name__} that the test made")
        return False

    def refuse(self, what: str) -> None:
        """Note what nbgrader lets the learner's code do: a test that then fails is unchecked."""
        self.refused = self.refused or what

    def _may_read(self, value: Any, name: str) -> bool:
        if name.startswith("_") or isinstance(value, _SECRETIVE):
            return False
        if isinstance(value, unittest.mock.NonCallableMock):
            return name not in _OF_MOCKS
        parts = _named_parts(value)
        if parts is not None:
            return name in parts
        if name in getattr(value, "__dict__", {}):
            return True
        for kind in type(value).__mro__:
            if name in vars(kind):
                return (
                    _is_ours(kind)
                    or (_is_module(value) and name in MODULE_METHODS)
                    or (
                        (kind.__module__, kind.__name__) in _GENERATORS
                        and callable(vars(kind)[name])
                    )
                )
        if _is_module(value):
            return any(name in vars(value)[f"_{part}"] for part in _MODULE_PARTS)
        return any("__getattr__" in vars(kind) and _is_ours(kind) for kind in type(value).__mro__)


#: Of random numbers: a test hands one to the learner's function, which draws from it.
_GENERATORS = {
    ("random", "Random"),
    ("_random", "Random"),
    ("numpy.random._generator", "Generator"),
    ("numpy.random.mtrand", "RandomState"),
}
_MODULE_PARTS = ("parameters", "buffers", "modules")


def _named_parts(value: Any) -> frozenset[str] | None:
    """Return the parts of an object that the course has named for learners; None if it has not."""
    handles = course.here().handles
    for kind in type(value).__mro__ if handles else ():
        parts = handles.get(f"{kind.__module__}:{kind.__qualname__}")
        if parts is not None:
            return frozenset(parts)
    return None


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_ours(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    if not isinstance(module, str):
        return False
    return module.partition(".")[0] == TEST_MODULE or course.is_shared(module)
