"""The end of the judge's line in a learner's kernel: it runs the learner's functions on request.

Nothing here is trusted. A learner can replace every line of it and gains the right to send other
data to the judge, which must still be the right data.

What the judge holds numbers of (an object that an earlier test made) is kept from one test cell to
the next, in a `Memory` for each judge.
"""

from __future__ import annotations

import abc
import builtins
import collections
import contextlib
import copy
import dataclasses
import importlib
import inspect
import io
import operator
import os
import types
from collections.abc import Iterator
from typing import Any

from nbjudge.kernel import attempts, given, hearing
from nbjudge.wire import files, own, waiting
from nbjudge.wire.calls import (
    BOUND,
    CALL,
    END,
    MESSAGE,
    READY,
    STREAM,
    TOLD,
    Channel,
    Method,
    Peer,
    Proxy,
    describe_class,
    make_error,
    make_signature,
    signature_of,
)
from nbjudge.wire.kept import Kept, is_small
from nbjudge.wire.limits import Reference, TooLarge
from nbjudge.wire.values import (
    CHANGEABLE,
    CLAIM,
    CONTAINERS,
    ERROR_CLASS,
    NOTEBOOKS,
    SCALARS,
    refill,
)

#: How long an end waits for a judge that has gone without a word.
IDLE_SECONDS = 600
#: Characters that a learner's functions may print in one test, as the judge takes them.
MOST_PRINTED = 1_000_000
#: How many judges are remembered: the last one, and one that may have been restarted beside it.
_MOST_MEMORIES = 4

_BINARY = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift"),
    *("and", "or", "xor", "divmod"),
)


def _of_its_class(name: str) -> Any:
    return lambda target, *args: getattr(type(target), name)(target, *args)


_FUNCTIONS: dict[str, Any] = {
    **{f"__{name}__": getattr(operator, f"__{name}__", divmod) for name in _BINARY},
    **{f"__i{name}__": getattr(operator, f"__i{name}__") for name in _BINARY[:-1]},
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in ("lt", "le", "gt", "ge")},
    **{f"__{name}__": getattr(operator, f"__{name}__") for name in ("neg", "pos", "invert")},
    "__abs__": abs, "__float__": float, "__int__": int, "__complex__": complex,
    "__index__": operator.index, "__round__": round, "__hash__": hash, "__str__": str,
    "__repr__": repr, "__format__": format, "__reversed__": reversed, "__dir__": dir,
    "__copy__": copy.copy, "__deepcopy__": copy.deepcopy, "__bytes__": bytes,
    "__contains__": operator.contains, "__len__": len, "__delattr__": delattr,
    **{name: _of_its_class(name) for name in ("__get__", "__set__", "__delete__", "__set_name__")},
}  # fmt: skip
#: What a class may have of its own, and the judge is told of with an object of it.
_ABILITIES = (
    *("__call__", "__getitem__", "__setitem__", "__delitem__", "__len__", "__iter__", "__next__"),
    *("__await__", "__aiter__", "__anext__", "__aenter__", "__aexit__"),
    *("__enter__", "__exit__", "__float__", "__int__", "__complex__", "__index__", "__round__"),
    *("__abs__", "__neg__", "__pos__", "__invert__", "__contains__", "__reversed__", "__bytes__"),
    *(f"__{name}__" for name in _BINARY),
    *(f"__r{name}__" for name in _BINARY),
    *(f"__i{name}__" for name in _BINARY[:-1]),
    *("__lt__", "__le__", "__gt__", "__ge__"),
    *("__get__", "__set__", "__delete__", "__set_name__"),
)


class _Ended(BaseException):
    """The judge has what it wanted."""


class _Printed(io.TextIOBase):
    """Keeps what is printed until the judge is told."""

    def __init__(self, kept: list[tuple[int, str]], which: int):
        self._kept, self._which, self._left = kept, which, MOST_PRINTED

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._kept.append((self._which, text[: self._left]))
        self._left -= min(self._left, len(text))
        return len(text)

    def writable(self) -> bool:
        return True


class SharedFiles:
    """The folder in which the learner's cells run, and what of it a judge knows."""

    def __init__(self) -> None:
        self.folder = ""
        self._known: dict[str, files.Stamp] = {}

    def remember(self) -> None:
        """Take the current folder for the learner's: what it holds now they did not write."""
        self.folder = os.getcwd()
        self._known = files.stamps(self.folder)

    def know(self, name: str) -> None:
        """Note that the judge knows what a file holds."""
        found = files.stamp(os.path.join(self.folder, name))
        if found is None:
            self._known.pop(name, None)
        else:
            self._known[name] = found

    def changed(self) -> list[list[Any]]:
        """Return [name, contents] of what was written since; None: removed; False: too large."""
        if not self.folder:
            return []
        now = files.stamps(self.folder)
        found: list[list[Any]] = [[name, None] for name in self._known.keys() - now.keys()]
        left = files.MOST_BYTES
        for name, stamp in sorted(now.items()):
            if self._known.get(name) == stamp or "__pycache__" in name:
                continue
            data = files.read(os.path.join(self.folder, name), left)
            found.append([name, False if data is None else data])
            left -= len(data or b"")
        self._known = now
        return found


#: The one of this process.
shared_files = SharedFiles()


class Memory:
    """What one judge has numbers of, and how the names stood when its last test ended."""

    def __init__(self) -> None:
        self.held: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.proxies: dict[int, Proxy] = {}
        self.errors: dict[tuple, type[Exception]] = {}
        self.kept = Kept()
        self.first: int | None = None
        self.before: dict[str, Any] = {}
        self.open = False  # whether a test runs now


_memories: collections.OrderedDict[bytes, Memory] = collections.OrderedDict()
_replaced: dict[str, Any] = {}
_NOTHING = object()


def _memory(channel: Channel) -> Memory:
    key = b"".join(channel.route)
    memory = _memories.setdefault(key, Memory())
    _memories.move_to_end(key)
    while len(_memories) > _MOST_MEMORIES:
        _memories.popitem(last=False)
    return memory


class Answerer(Peer):
    """Serves the names of a notebook, and asks the judge for what the judge holds."""

    believes = True

    def __init__(self, channel: Channel, session: bytes, names: dict[str, Any]):
        super().__init__(channel)
        self.session, self.names, self.interrupted = session, names, False
        self.memory = memory = _memory(channel)
        if memory.first is None:
            memory.first = self._first
        self._first, self.held, self._numbers = memory.first, memory.held, memory.numbers
        self._proxies, self.errors, self.kept = memory.proxies, memory.errors, memory.kept
        for proxy in self._proxies.values():  # of an earlier test cell, and asked for in this one
            object.__setattr__(proxy, "_proxy_peer", self)
        self._lent_by_judge: list[tuple[Any, list[bytes]]] = []
        self.lent: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.printed: list[tuple[int, str]] = []
        self.listening: list | None = None
        self.heard: list[list[Any]] = []
        self._out, self._err = (_Printed(self.printed, which) for which in (0, 1))

    def look_up(self, name: str) -> Any:
        if name not in self.names:
            raise NameError(f"name {name!r} is not defined")
        return self.names[name]

    def special_attribute(self, proxy: Any, name: str) -> Any:
        if name in TOLD and not isinstance(proxy, Method):
            value = self.call("about", proxy._proxy_number, name)
            return make_signature(value) if name == "__signature__" else value
        return super().special_attribute(proxy, name)

    # What the judge is told of an object --------------------------------------------------------

    def specials_of(self, value: Any) -> list:
        """Return the special methods that the object's class has: whether it can be called, …"""
        kind = type(value)
        bases = kind.__mro__[:-1]  # without `object`, whose comparisons say nothing
        found = {name for base in bases for name in vars(base) if name in _ABILITIES_SET}
        if "__getitem__" in found and "__iter__" not in found:
            found.add("__iter__")  # Python's older way
        if kind is types.FunctionType:
            found = (found - {"__get__"}) | {BOUND}
        if isinstance(value, type):
            found |= {n for n in ("__iter__", "__getitem__", "__len__") if hasattr(kind, n)}
            if hasattr(value, "__class_getitem__"):
                found.add("__getitem__")
        return [sorted(found)]

    def _hold_asked(self, value: Any) -> list:
        own_error = isinstance(value, type) and issubclass(value, BaseException)
        if own_error and value.__module__ != "builtins":
            return [ERROR_CLASS, *describe_class(value), self._hold_passed(value)]
        name = None if isinstance(value, Proxy) else own.name_of(value)
        held = super()._hold_asked(value)
        return held if name is None else [CLAIM, *name, held]

    # What the judge may ask for ------------------------------------------------------------------

    def _perform(self, op: str, number: Any, name: Any, args: list, kwargs: dict) -> Any:
        ask = getattr(self, f"_ask_{op}", None)
        with (
            contextlib.redirect_stdout(self._out),
            contextlib.redirect_stderr(self._err),
            self._listened(),
        ):
            if ask is not None:
                value = (
                    ask(*args) if number is None else ask(self._held(number), name, *args, **kwargs)
                )
            else:
                value = super()._perform(op, number, name, args, kwargs)
        if attempts.watcher is not None:
            attempts.watcher.look_at_answer(value)
        return value

    @contextlib.contextmanager
    def _listened(self) -> Iterator[None]:
        if self.listening is None:
            yield
            return
        kept: list[list[Any]] = []
        try:
            with hearing.heard(self.listening, self.limits) as kept:
                yield
        finally:
            self.heard += kept

    def _ask_listen(self, levels: list | None) -> None:
        """Tell of warnings and log records from now on, or (None) no more."""
        self.listening = levels

    def _ask_fill_name(self, name: str, value: Any) -> None:
        """Give what a name holds the contents to which a test has changed it."""
        refill(self.names[name], value)

    def _ask_fill(self, target: Any, name: Any, value: Any) -> None:
        refill(getattr(target, name), value)

    def _ask_fill_item(self, target: Any, name: Any, key: Any, value: Any) -> None:
        refill(target[key], value)

    def _ask_names(self) -> list[str]:
        return [name for name in self.names if isinstance(name, str) and name[:1] != "_"]

    def _ask_has(self, name: str) -> bool:
        return name in self.names

    def _ask_rebound(self, names: list[str]) -> list[str]:
        """Which of the names the learner's cells have given another object since the last test."""
        missing, before = object(), self.memory.before
        return [
            name for name in names
            if self.names.get(name, missing) is not before.get(name, missing)
        ]  # fmt: skip

    #: Its values are the judge's, and none of the learner's functions runs.
    unchanging = frozenset(("give",))

    def _ask_give(self, names: tuple[str, ...], *values: Any) -> None:
        """Bind names to what a test has bound them to."""
        for name, value in zip(names, values, strict=True):
            # What only the judge can answer for goes when the test does.
            if isinstance(value, Reference):
                self.lent.setdefault(name, self.names.get(name, _NOTHING))
            else:
                self.lent.pop(name, None)
            self.names[name] = value
            self.given[name] = value, self._content_of(value)

    def _ask_regained(self, names: list[str]) -> list[str]:
        """Which names the learner's code has bound or changed since the judge gave them a value."""
        return [name for name in names if name in self.given and self._is_other(name)]

    def _is_other(self, name: str) -> bool:
        value, content = self.given[name]
        return self.names.get(name) is not value or self._content_of(value) != content

    def _content_of(self, value: Any) -> list[bytes]:
        return self._contents([value]) if isinstance(value, CHANGEABLE) else []

    def _take_back(self) -> None:
        """Put back what the test's own objects stood in the place of."""
        for name, before in self.lent.items():
            if isinstance(self.names.get(name), Reference):
                if before is _NOTHING:
                    del self.names[name]
                else:
                    self.names[name] = before
        self.lent.clear()

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Ask the judge, which listens only while a test runs: raises RuntimeError after that."""
        if not self.memory.open:
            raise RuntimeError("this is an object of a test, and the test has ended")
        value = super().call(*args, **kwargs)
        if args[0] in ("get", "item") and isinstance(value, CHANGEABLE) and is_small(value):
            with contextlib.suppress(TooLarge):
                self._lent_by_judge.append((value, self._contents([value])))
        return value

    def has_altered(self) -> bool:
        for value, before in self._lent_by_judge[:100]:
            with contextlib.suppress(TooLarge):
                if self._contents([value]) != before:
                    return True
        return False

    def _ask_agree(self) -> None:
        """Take what the test has changed, which came with this."""

    # Files, for a test that has a folder of its own

    def _ask_folder(self) -> str:
        return shared_files.folder

    def _ask_write_files(self, changed: list, folders: list) -> None:
        """Have the folder hold what the test has in its own: names, contents (None: removed)."""
        for name in folders:
            os.makedirs(os.path.join(shared_files.folder, name), exist_ok=True)
        for name, data in changed:
            files.write(os.path.join(shared_files.folder, name), data)
            shared_files.know(name)

    def _ask_read_files(self) -> list:
        return shared_files.changed()

    def _ask_import(self, name: str, module: str, part: str) -> None:
        """Import here, too, what a test has imported, unless the name is in use."""
        if name not in self.names:
            with contextlib.suppress(Exception):  # the cell that needs it then says so
                self.names[name] = own.find(module, part)

    def _ask_take(self, name: str) -> None:
        self.names.pop(name, None)

    def _ask_module(self, name: str) -> Any:
        return importlib.import_module(name)

    def _ask_replace(self, name: str, value: Any) -> None:
        """Put the judge's `input` or `print` in the place of Python's, or Python's own back."""
        _replaced.setdefault(name, getattr(builtins, name))
        setattr(builtins, name, _replaced[name] if value is None else value)

    def _ask_seed(self, which: str, state: Any) -> None:
        if which == "random":
            import random

            random.setstate((state[0], tuple(state[1]), state[2]))
        elif which == "numpy":
            importlib.import_module("numpy").random.set_state(tuple(state))
        elif which == "torch":
            importlib.import_module("torch").set_rng_state(state)

    def _ask_special(self, target: Any, name: str, *args: Any) -> Any:
        if name in ("__enter__", "__exit__"):
            return getattr(type(target), name)(target, *args)
        if name[:3] == "__r" and f"__{name[3:]}" in _FUNCTIONS and name not in _FUNCTIONS:
            return _FUNCTIONS[f"__{name[3:]}"](args[0], target)
        return _FUNCTIONS[name](target, *args)

    def _ask_exit(self, target: Any, name: Any, error: Any) -> Any:
        """Leave a context; `error` describes what was raised in it, or is None."""
        if error is None:
            return type(target).__exit__(target, None, None, None)
        raised = make_error(error, self.limits, self.errors)
        return bool(type(target).__exit__(target, type(raised), raised, None))

    def _ask_aenter(self, target: Any, name: Any) -> Any:
        return waiting.wait_for(type(target).__aenter__(target))

    def _ask_aexit(self, target: Any, name: Any, error: Any) -> Any:
        raised = None if error is None else make_error(error, self.limits, self.errors)
        kind = None if raised is None else type(raised)
        return bool(waiting.wait_for(type(target).__aexit__(target, kind, raised, None)))

    def _ask_type(self, target: Any, name: Any) -> Any:
        return type(target)

    def _ask_error(self, target: Any, name: Any, *args: Any, **kwargs: Any) -> list:
        """Make an exception of a learner's class, and describe it."""
        return self._described_error(target(*args, **kwargs))

    def _ask_ancestry(self, target: Any, name: Any) -> list:
        """Return the classes of an object, or those above a class."""
        return list((target if name == "class" else type(target)).__mro__)

    def _ask_checks_itself(self, target: Any, name: Any) -> bool:
        """Whether a class says in a way of its own what belongs to it: a protocol, a register."""
        if not isinstance(target, type):
            return True
        base = next(kind for kind in type.mro(type(target)) if "__instancecheck__" in vars(kind))
        if base not in (type, abc.ABCMeta):
            return base.__module__ in NOTEBOOKS or getattr(target, "_is_protocol", False)
        hook = getattr(target.__subclasshook__, "__func__", None)
        registered = base is abc.ABCMeta and bool(abc._get_dump(target)[0])  # type: ignore[attr-defined]
        return hook is not None or registered

    def _ask_comparison(self, target: Any, name: Any) -> list:
        """Return how an object is compared: by identity, as data with that data, or its own way."""
        kind = type(target)
        for base in kind.__mro__:
            if "__eq__" in vars(base):
                break
        if base in (object, *_WITHOUT_VALUE):
            return ["identity"]
        fields = getattr(kind, "__dataclass_fields__", None)
        generated = _is_generated(vars(base)["__eq__"])
        if fields is not None and "__dataclass_params__" in vars(base) and generated:
            names = [field.name for field in dataclasses.fields(target) if field.compare]
            return ["fields", base, {field: getattr(target, field) for field in names}]
        if base in _VIEWS:
            return ["data", set(target)]
        for plain in CONTAINERS:
            if base is plain:
                return ["data", plain(target)]
        if base in SCALARS:
            return ["data", SCALARS[base](target)]
        return ["own"]

    def _ask_hashing(self, target: Any, name: Any) -> list:
        """Return how an object is hashed: by identity, as data with that data, or its own way."""
        if type(target).__hash__ is None:
            hash(target)  # as it says itself: a TypeError
        kind, *data = self._ask_comparison(target, name)
        if kind == "identity":
            return ["identity"]
        if kind == "data" or (kind == "fields" and _is_generated(type(target).__hash__)):
            return ["data", *data]
        return ["own"]

    def _ask_dataclass_fields(self, target: Any, name: Any) -> list | None:
        """Return the fields of a dataclass or of an object of one; None for another thing."""
        if not dataclasses.is_dataclass(target):
            return None
        missing = dataclasses.MISSING
        flags = ("init", "repr", "hash", "compare", "kw_only")
        return [
            [
                field.name,
                field.type,
                [] if field.default is missing else [field.default],
                [] if field.default_factory is missing else [field.default_factory],
                {flag: getattr(field, flag) for flag in flags},
            ]
            for field in dataclasses.fields(target)
        ]

    def _ask_dataclass_replace(self, target: Any, name: Any, changes: dict) -> Any:
        return dataclasses.replace(target, **changes)

    def _ask_truth(self, target: Any, name: Any) -> Any:
        """Return how an object is true or false: by its length, always, or its own way."""
        for base in type(target).__mro__:
            if "__bool__" in vars(base):
                trusted = base.__module__ not in NOTEBOOKS
                return ["always" if bool(target) else "never"] if trusted else ["own"]
            if "__len__" in vars(base):
                return ["length", len(target)]
        return ["always"]

    def _ask_contents(self, target: Any, name: Any) -> list:
        """Return how membership is decided: over the items that it gives, or in its own way."""
        for base in type(target).__mro__:
            if "__contains__" in vars(base):
                return ["own"] if base.__module__ in NOTEBOOKS else ["data", list(target)]
        return ["items"]

    def _ask_attribute(self, target: Any, name: str) -> Any:
        """Return a special attribute, a class's or module's dictionary as a plain one."""
        value = getattr(target, name)
        return dict(value) if isinstance(value, types.MappingProxyType) else value

    def _ask_signature(self, target: Any, name: Any) -> list:
        return signature_of(target if name is None else getattr(target, name))

    def _ask_importable(self, target: Any, name: Any) -> list[str] | None:
        """Return under which name an object stands in a module, or None."""
        found = own.name_of(target)
        return None if found is None else list(found)

    def _ask_has_special(self, target: Any, name: str) -> bool:
        return hasattr(target, name)

    def _ask_source(self, target: Any, name: Any) -> str:
        return inspect.getsource(target if name is None else getattr(target, name))

    def _ask_code(self, target: Any, name: Any) -> dict:
        code = (target if name is None else getattr(target, name)).__code__
        names = [n for n in dir(code) if n.startswith("co_") and n not in ("co_lines", "co_code")]
        values = {n: getattr(code, n) for n in names if not callable(getattr(code, n))}
        return {n: value for n, value in values.items() if n != "co_consts"} | {
            "co_consts": tuple(c for c in code.co_consts if not isinstance(c, types.CodeType))
        }

    def _ask_kind(self, target: Any, name: Any) -> list[str]:
        """Return which of inspect's questions have the answer yes."""
        questions = ("isfunction", "isclass", "ismethod", "isgenerator", "isgeneratorfunction")
        more = ("ismodule", "isroutine", "isabstract", "iscoroutinefunction", "isbuiltin")
        return [q for q in (*questions, *more) if getattr(inspect, q)(target)]

    # Serving ------------------------------------------------------------------------------------

    def tell_printed(self) -> None:
        kept, self.printed[:] = list(self.printed), []
        said, self.heard[:] = list(self.heard), []
        if said:
            self._send(STREAM, self.session, said, [])
        if kept:
            merged: list[list[Any]] = []
            for which, text in kept:
                if merged and merged[-1][0] == which:
                    merged[-1][1].append(text)
                else:
                    merged.append([which, [text]])
            body = [[which, "".join(texts)] for which, texts in merged]
            self._send(STREAM, self.session, body, [])

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
        self.memory.open = True
        try:
            with contextlib.suppress(_Ended):
                while not self.interrupted:
                    kind, identifier, grad, body, buffers = self._next()
                    # The judge speaks first: a ROUTER drops what it sends to whom it has not
                    # heard of.
                    if kind == READY and identifier == self.session:
                        self._send(READY, self.session, None, [])
                    if kind == CALL:
                        self._serve(identifier, grad, body, buffers)
        finally:
            for name, value in _replaced.items():
                setattr(builtins, name, value)
            _replaced.clear()
            self._take_back()
            self.memory.before = dict(self.names)
            self.memory.open = False


def _is_generated(method: Any) -> bool:
    """Whether a special method is one that `dataclass` writes."""
    return getattr(getattr(method, "__code__", None), "co_filename", "") == "<string>"


_ABILITIES_SET = frozenset(_ABILITIES)
#: Of a dictionary: they compare as sets.
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.items()))
#: Classes whose objects are themselves and nothing else, though Python compares them its own way.
_WITHOUT_VALUE = (types.FunctionType, types.ModuleType, type)


def install() -> None:
    """Make the running IPython kernel answer the judge's `MESSAGE` on its shell channel."""
    from ipykernel.kernelapp import IPKernelApp

    kernel = IPKernelApp.instance().kernel

    def handle(stream: Any, identities: list[bytes], message: dict) -> None:
        session = bytes.fromhex(message["content"]["session"])
        channel = Channel(kernel.stdin_socket, kernel.session.key, identities[:1])
        if attempts.watcher is not None:
            attempts.watcher.look()
        with given.as_given(message["content"].get("set_by_course", ())):
            Answerer(channel, session, kernel.shell.user_ns).serve()

    kernel.shell_handlers[MESSAGE] = handle
