"""What libraries do in a test cell with what is the learner's, and so is in another process.

While a test runs, some functions of Python's libraries are replaced here: they ask the learner's
process where they are given a stand-in, and do what they always do with anything else. A test may
keep one of them for later cells, so each is good for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import doctest
import inspect
import logging
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nbjudge.judge import words
from nbjudge.judge.peer import StandIn, is_cut_off
from nbjudge.wire.calls import Method
from nbjudge.wire.limits import Unchecked

# Random numbers -------------------------------------------------------------------------------


class _Seeded:
    """Which generators the test has set since the learner's code last ran: it draws from them.

    A state that is read counts, too: the test may put it back, and expect the same numbers.
    """

    def __init__(self) -> None:
        self.anew: set[str] = set()


seeded = _Seeded()
#: What sets or reads a generator's state: (module, part of it, function).
_STATEFUL_CALLS = (
    *(("random", "", name) for name in ("seed", "getstate", "setstate")),
    *(("numpy", "random", name) for name in ("seed", "get_state", "set_state")),
    *(("torch", "", name) for name in ("manual_seed", "get_rng_state", "set_rng_state")),
)


def state_of(which: str) -> Any:
    """Return the state of a generator here, as it travels."""
    if which == "random":
        return list(random.getstate())
    if which == "numpy":
        return list(sys.modules["numpy"].random.get_state())
    return sys.modules["torch"].get_rng_state()


# Texts that are run as code ---------------------------------------------------------------------


class _OwnTexts:
    """The texts of a notebook's tests. No other is run as code: it may be a learner's."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def forget(self) -> None:
        """Begin with a notebook: what stands in another one's tests a learner may have written."""
        self.known.clear()

    def checked(self, text: Any) -> Any:
        """Return a text that stands in a test; `Unchecked` for another one, or for code."""
        if isinstance(text, str) and text in self.known:
            return text
        raise Unchecked("the test runs a text as code that does not stand in it")

    def checked_if_text(self, value: Any) -> Any:
        """Return a value; `Unchecked` for a text that does not stand in a test."""
        return self.checked(value) if isinstance(value, str) else value

    def refuse(self, *args: Any, **kwargs: Any) -> Any:
        """Take the place of what runs texts, where what it is given cannot be seen."""
        raise Unchecked("the test hands on a function that runs texts as code")


own_texts = _OwnTexts()
_DOCTESTS_PARSE = doctest.DocTestParser.parse


def _parse_examples(self: doctest.DocTestParser, text: str, name: str = "<string>") -> list:
    """Read the examples in a text, which `doctest` then runs."""
    return _DOCTESTS_PARSE(self, own_texts.checked(text) if ">>>" in text else text, name)


# Warnings and log records -----------------------------------------------------------------------


class _Listened:
    """Whether the running test listens to warnings or to loggers: the learner's code is heard."""

    def __init__(self) -> None:
        self.loggers: set[logging.Logger] = set()
        self._filters: tuple[Sequence[Any], list[Any]] = [], []

    def begin(self) -> None:
        """Begin with a test cell: what stands now is nothing that the test has asked for."""
        self.loggers = {logger for logger in self.loggers if logger.handlers}
        self._filters = warnings.filters, list(warnings.filters[:1])

    def levels(self) -> list[list[Any]] | None:
        """Return [logger's name, level] of those that are listened to; None where nothing is."""
        whole, first = self._filters
        if not self.loggers and warnings.filters is whole and warnings.filters[:1] == first:
            return None
        return sorted([logger.name, logger.getEffectiveLevel()] for logger in self.loggers)


listened = _Listened()


@contextlib.contextmanager
def pythons_filters() -> Iterator[None]:
    """Have Python's own filters of warnings, whatever the process began with."""
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", kind)
    yield


def _listening(function: Callable) -> Callable:
    def listen(self: logging.Logger, *args: Any, **kwargs: Any) -> Any:
        listened.loggers.add(self)
        return function(self, *args, **kwargs)

    return listen


@contextlib.contextmanager
def watched_libraries() -> Iterator[None]:
    """While a test runs: notice seeds, and let inspect see the learner's objects."""
    with contextlib.ExitStack() as stack:
        seeded.anew.clear()
        listened.begin()
        stack.enter_context(_instead(doctest.DocTestParser, "parse", _parse_examples))
        for name in ("addHandler", "setLevel"):
            function = getattr(logging.Logger, name)
            stack.enter_context(_instead(logging.Logger, name, _listening(function)))
        for module, part, name in _STATEFUL_CALLS:
            library = sys.modules.get(module)
            if library is not None:
                owner = getattr(library, part) if part else library
                stack.enter_context(_instead(owner, name, _noting(getattr(owner, name), module)))
        for name in _QUESTIONS:
            stack.enter_context(_instead(inspect, name, _asking(name)))
        stack.enter_context(_instead(asyncio, "create_task", _create_task))
        _refuse_texts_that_act(stack)
        for name, function in _INSTEAD.items():
            stack.enter_context(_instead(dataclasses, name, function))
        numpy = sys.modules.get("numpy")
        for name in ("shares_memory", "may_share_memory") if numpy is not None else ():
            stack.enter_context(_instead(numpy, name, _told_apart(getattr(numpy, name))))
        stack.enter_context(_instead(inspect, "getsource", _source))
        stack.enter_context(_instead(inspect, "getsourcelines", _source_lines))
        yield


#: What makes objects of Python of a YAML text, and by which of its methods all the others do.
_YAML = ("yaml.constructor", "ruamel.yaml.constructor")
_LOOK_UP = ("find_python_name", "find_python_module", "make_python_instance")


def _refuse_texts_that_act(stack: contextlib.ExitStack) -> None:
    """Have libraries say of a text that would do more than be data, which Python does not see."""
    for name in _YAML:
        module = sys.modules.get(name)
        for kind in ("FullConstructor", "Constructor"):
            for method in _LOOK_UP if module is not None else ():
                owner = getattr(module, kind, None)
                if owner is not None and method in vars(owner):
                    stack.enter_context(_instead(owner, method, words.refuse_objects))
    templates = sys.modules.get("jinja2")
    if templates is not None:
        parse = templates.Environment._parse

        def look_and_parse(self: Any, source: str, *args: Any) -> Any:
            words.check_template(source)
            return parse(self, source, *args)

        stack.enter_context(_instead(templates.Environment, "_parse", look_and_parse))

    for name in ("sqlite3", "sqlite3.dbapi2"):
        if name in sys.modules:
            connect = _shutting(sys.modules[name].connect)
            stack.enter_context(_instead(sys.modules[name], "connect", connect))


def _shutting(connect: Callable) -> Callable:
    def connect_and_shut(*args: Any, **kwargs: Any) -> Any:
        connection = connect(*args, **kwargs)
        words.shut_database(connection)
        return connection

    return connect_and_shut


_QUESTIONS = (
    *("isfunction", "isclass", "ismethod", "isgenerator", "isgeneratorfunction", "ismodule"),
    *("isroutine", "isabstract", "iscoroutinefunction", "isbuiltin"),
)
_INSPECT = {name: getattr(inspect, name) for name in (*_QUESTIONS, "getsource", "getsourcelines")}


@contextlib.contextmanager
def _instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _noting(function: Callable, which: str) -> Callable:
    def seed(*args: Any, **kwargs: Any) -> Any:
        seeded.anew.add(which)
        return function(*args, **kwargs)

    return seed


def _asking(question: str) -> Callable[[Any], bool]:
    def ask(thing: Any) -> bool:
        if isinstance(thing, StandIn):
            return question in thing._proxy_peer.call("kind", thing._proxy_number)
        if isinstance(thing, Method):
            return question in ("ismethod", "isroutine")
        return _INSPECT[question](thing)

    return ask


def _told_apart(function: Callable) -> Callable:
    def ask(one: Any, other: Any, *args: Any, **kwargs: Any) -> bool:
        shared = function(one, other, *args, **kwargs)
        # Two large arrays of one memory come here as two.
        if not shared and (is_cut_off(one) or is_cut_off(other)):
            raise Unchecked("whether two arrays share their memory is known in their process only")
        return shared

    return ask


_ASYNCIOS_CREATE_TASK = asyncio.create_task


def _create_task(coroutine: Any, **kwargs: Any) -> asyncio.Task:
    async def answer() -> Any:
        return await coroutine

    made = answer() if isinstance(coroutine, StandIn) else coroutine
    return _ASYNCIOS_CREATE_TASK(made, **kwargs)


def _source(thing: Any) -> str:
    if isinstance(thing, StandIn):
        return thing._proxy_peer.call("source", thing._proxy_number)
    if isinstance(thing, Method):
        owner = thing.owner
        return owner._proxy_peer.call("source", owner._proxy_number, thing.name)
    return _INSPECT["getsource"](thing)


def _source_lines(thing: Any) -> tuple[list[str], int]:
    if isinstance(thing, StandIn | Method):
        return _source(thing).splitlines(keepends=True), 1
    return _INSPECT["getsourcelines"](thing)


# Dataclasses ----------------------------------------------------------------------------------

_DATACLASSES = {
    name: getattr(dataclasses, name)
    for name in ("fields", "is_dataclass", "asdict", "astuple", "replace")
}


def _fields_there(thing: Any) -> list[dataclasses.Field] | None:
    """Return the fields of a learner's dataclass, or of an object of one; None for another."""
    found = thing._proxy_peer.call("dataclass_fields", thing._proxy_number)
    if found is None:
        return None
    fields = []
    for name, kind, default, factory, flags in found:
        field: Any = dataclasses.field(
            **({"default": default[0]} if default else {}),
            **({"default_factory": factory[0]} if factory else {}),
            **flags,
        )
        field.name, field.type = name, kind
        fields.append(field)
    return fields


def _fields(thing: Any) -> tuple[dataclasses.Field, ...]:
    found = _fields_there(thing) if isinstance(thing, StandIn) else None
    # Of what is no dataclass the library says so.
    return _DATACLASSES["fields"](thing) if found is None else tuple(found)


def _is_dataclass(thing: Any) -> bool:
    if isinstance(thing, StandIn):
        return _fields_there(thing) is not None
    return _DATACLASSES["is_dataclass"](thing)


def _asdict(thing: Any, *, dict_factory: Any = dict) -> Any:
    return _taken_apart(thing, "asdict", dict_factory)


def _astuple(thing: Any, *, tuple_factory: Any = tuple) -> Any:
    return _taken_apart(thing, "astuple", tuple_factory)


def _taken_apart(thing: Any, name: str, factory: Any) -> Any:
    keyword = {"asdict": "dict_factory", "astuple": "tuple_factory"}[name]
    if not isinstance(thing, StandIn) or not _is_object(thing):
        return _DATACLASSES[name](thing, **{keyword: factory})

    def part(value: Any) -> Any:
        if isinstance(value, StandIn) and _is_object(value):
            found = [(f.name, part(getattr(value, f.name))) for f in _fields_there(value) or ()]
            return factory(found if name == "asdict" else [item for _, item in found])
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(part, value))
        if isinstance(value, list | tuple):
            return type(value)(map(part, value))
        if isinstance(value, dict):
            return type(value)((part(k), part(v)) for k, v in value.items())
        return copy.deepcopy(value)

    return part(thing)


def _is_object(thing: StandIn) -> bool:
    """Whether it is an object of a dataclass, and not the class."""
    return _fields_there(thing) is not None and "isclass" not in thing._proxy_peer.call(
        "kind", thing._proxy_number
    )


def _replace(thing: Any, /, **changes: Any) -> Any:
    if isinstance(thing, StandIn):
        return thing._proxy_peer.call("dataclass_replace", thing._proxy_number, None, (changes,))
    return _DATACLASSES["replace"](thing, **changes)


_INSTEAD = {
    "fields": _fields,
    "is_dataclass": _is_dataclass,
    "asdict": _asdict,
    "astuple": _astuple,
    "replace": _replace,
}
