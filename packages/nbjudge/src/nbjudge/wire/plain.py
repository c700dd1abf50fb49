"""Values of the standard library that are data, though no container or number: dates, fractions.

Each kind is written as its name and parts that are plain, and built from checked parts: no text
of the other side is parsed as code, and no class is looked up by its word.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import operator
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

from nbjudge.wire.limits import Malformed, Unchecked

Parts = list[Any]


def _zone(value: datetime.tzinfo | None) -> Any:
    if value is None:
        return None
    if isinstance(value, zoneinfo.ZoneInfo) and isinstance(value.key, str):
        return value.key
    if isinstance(value, datetime.timezone):
        return value.utcoffset(None) / datetime.timedelta(seconds=1)
    raise LookupError("a time zone of another kind")


def _make_zone(part: Any) -> datetime.tzinfo | None:
    if part is None:
        return None
    if isinstance(part, str):
        return zoneinfo.ZoneInfo(part)
    if not part:
        return datetime.UTC
    return datetime.timezone(datetime.timedelta(seconds=part))


def _datetime(value: datetime.datetime) -> Parts:
    date = [value.year, value.month, value.day]
    time = [value.hour, value.minute, value.second, value.microsecond]
    return [*date, *time, _zone(value.tzinfo), value.fold]


def _time(value: datetime.time) -> Parts:
    time = [value.hour, value.minute, value.second, value.microsecond]
    return [*time, _zone(value.tzinfo), value.fold]


def _decimal(value: decimal.Decimal) -> Parts:
    sign, digits, exponent = decimal.Decimal.as_tuple(value)
    return [sign, "".join(map(str, digits)), exponent]


def _make_decimal(sign: int, digits: str, exponent: Any) -> decimal.Decimal:
    return decimal.Decimal((sign, tuple(map(int, digits)), exponent))


class OthersPath(type(pathlib.Path())):  # type: ignore[misc]
    """A path in the learner's process: a name here, and no way to the file of that name."""

    __slots__ = ()


def _no_file(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise Unchecked(f"the test looks at a file of the learner's ({name} of a path)")

    return refuse


for _name in (
    *("__fspath__", "exists", "glob", "is_dir", "is_file", "iterdir", "mkdir", "open"),
    *("read_bytes", "read_text", "rename", "resolve", "rglob", "rmdir", "stat", "touch"),
    *("unlink", "write_bytes", "write_text"),
):
    setattr(OthersPath, _name, _no_file(_name))


def _make_path(kind: str, text: str) -> pathlib.PurePath:
    kinds: dict[str, type[pathlib.PurePath]] = {
        "PurePosixPath": pathlib.PurePosixPath,
        "PureWindowsPath": pathlib.PureWindowsPath,
        "Path": OthersPath,
    }
    return kinds[kind](text)


def _path(value: pathlib.PurePath) -> Parts:
    if isinstance(value, pathlib.Path):
        return ["Path", str(value)]
    windows = isinstance(value, pathlib.PureWindowsPath)
    return ["PureWindowsPath" if windows else "PurePosixPath", str(value)]


#: kind: (class, its parts, what makes it of them). More special classes come first.
_KINDS: dict[str, tuple[type, Callable[[Any], Parts], Callable[..., Any]]] = {
    "datetime": (
        datetime.datetime,
        _datetime,
        lambda *p: datetime.datetime(*p[:7]).replace(tzinfo=_make_zone(p[7]), fold=p[8]),
    ),
    "date": (datetime.date, lambda v: [v.year, v.month, v.day], datetime.date),
    "time": (
        datetime.time,
        _time,
        lambda *p: datetime.time(*p[:4]).replace(tzinfo=_make_zone(p[4]), fold=p[5]),
    ),
    "timedelta": (
        datetime.timedelta,
        lambda v: [v.days, v.seconds, v.microseconds],
        datetime.timedelta,
    ),
    "timezone": (datetime.timezone, lambda v: [_zone(v)], _make_zone),
    "fraction": (
        fractions.Fraction,
        lambda v: [v.numerator, v.denominator],
        fractions.Fraction,
    ),
    "decimal": (decimal.Decimal, _decimal, _make_decimal),
    "uuid": (uuid.UUID, lambda v: [v.bytes], lambda data: uuid.UUID(bytes=data)),
    "path": (pathlib.PurePath, _path, _make_path),
}


def parts_of(value: Any) -> tuple[str, Parts] | None:
    """Return the kind and the parts of a value of the standard library, or None for another."""
    for name, (kind, parts, _) in _KINDS.items():
        if isinstance(value, kind):
            # Of a subclass that is not the library's own, only the library's part would arrive.
            if type(value).__module__.partition(".")[0] not in _LIBRARY:
                return None
            try:
                return name, parts(value)
            except LookupError:
                return None
    return None


_LIBRARY = {"datetime", "fractions", "decimal", "uuid", "pathlib", "nbjudge", "_decimal"}


def make(kind: Any, parts: Parts, trusted: bool = False) -> Any:
    """Return the value of a kind and its decoded parts; `Malformed` where there is none.

    A path from a `trusted` side names a file for this one, another does not.
    """
    if not isinstance(kind, str) or kind not in _KINDS:
        raise Malformed("no such kind of value")
    for part in parts:
        if not isinstance(part, int | float | str | bytes | None):
            raise Malformed("not a part of a value")
    if kind == "path" and trusted and parts[0] == "Path":
        return pathlib.Path(parts[1])
    return _KINDS[kind][2](*parts)


# Named tuples --------------------------------------------------------------------------------

_NAME = re.compile(r"[^\W\d]\w{0,79}")
_classes: dict[tuple[str, ...], type] = {}
#: What `collections.namedtuple` and `typing.NamedTuple` put into a class: no behaviour in it.
_GENERATED = {
    *("__doc__", "__slots__", "_fields", "_field_defaults", "__new__", "_make", "_replace"),
    *("__repr__", "_asdict", "__getnewargs__", "__match_args__", "__module__", "__orig_bases__"),
    *("__annotations__", "_field_types", "__replace__", "__annotate__", "__annotate_func__"),
    *("__annotations_cache__", "__static_attributes__", "__firstlineno__"),
}


def named_fields(kind: type) -> list[str] | None:
    """Return the fields of a named tuple's class that is nothing but that, or None."""
    fields = vars(kind).get("_fields")
    if not issubclass(kind, tuple) or not isinstance(fields, tuple) or kind.__bases__ != (tuple,):
        return None
    if set(vars(kind)) - _GENERATED - set(fields):
        return None
    return list(fields)


def named_class(name: Any, fields: Any) -> type:
    """Return the named tuple's class of that name and those fields, always the same one.

    `collections.namedtuple` would do, if it did not make source text of the names.
    """
    names = [name, *fields]
    if len(names) > 200 or not all(isinstance(n, str) and _NAME.fullmatch(n) for n in names):
        raise Malformed("not a named tuple")
    key = tuple(names)
    if key not in _classes:
        if len(_classes) > 1000:
            raise Malformed("too many classes")
        _classes[key] = _make_class(name, tuple(fields))
    return _classes[key]


def _make_class(name: str, fields: tuple[str, ...]) -> type:
    def new(cls: type, *args: Any, **kwargs: Any) -> Any:
        values = dict(zip(fields, args, strict=False))
        if len(args) > len(fields) or set(kwargs) & set(values):
            raise TypeError(f"{name} takes {len(fields)} values")
        values.update(kwargs)
        if set(values) != set(fields):
            raise TypeError(f"{name} takes the values {', '.join(fields)}")
        return tuple.__new__(cls, [values[field] for field in fields])

    def as_dict(self: Any) -> dict:
        return dict(zip(fields, self, strict=True))

    def replace(self: Any, /, **kwargs: Any) -> Any:
        return type(self)(**{**as_dict(self), **kwargs})

    def text(self: Any) -> str:
        pairs = (f"{field}={value!r}" for field, value in as_dict(self).items())
        return f"{type(self).__name__}({', '.join(pairs)})"

    names: dict[str, Any] = {
        "__slots__": (),
        "__new__": new,
        "__repr__": text,
        "__module__": "__main__",
        "__match_args__": fields,
        "_fields": fields,
        "_field_defaults": {},
        "_asdict": as_dict,
        "_replace": replace,
        "_make": classmethod(lambda cls, values: cls(*values)),
    }
    # A field may not take the place of what makes the class work.
    names |= {
        field: property(operator.itemgetter(at))
        for at, field in enumerate(fields)
        if not field.startswith("_")
    }
    return type(name, (tuple,), names)
