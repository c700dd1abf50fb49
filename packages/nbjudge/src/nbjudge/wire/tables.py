"""Data frames, series and indexes of pandas, column by column; pandas has to be on both sides."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from nbjudge.wire.limits import Malformed, TooLarge

_EXTENSION = re.compile(r"U?Int(8|16|32|64)|Float(32|64)|boolean|string|str")
_FREQUENCY = re.compile(r"-?\d{0,6}[A-Za-z]{1,5}(-[A-Z]{3})?")
_UNITS = ("s", "ms", "us", "ns")
#: More columns than a lesson has; each costs far more here than in the message.
MOST_COLUMNS = 10_000


def _pandas() -> Any:
    return importlib.import_module("pandas")


def _numpy() -> Any:
    return importlib.import_module("numpy")


def is_table(value: Any) -> bool:
    """Whether `value` is a data frame, a series, an index or one of pandas' own values."""
    pd = sys.modules.get("pandas")
    return pd is not None and isinstance(
        value,
        pd.DataFrame
        | pd.Series
        | pd.Index
        | pd.Timestamp
        | pd.Timedelta
        | pd.Categorical
        | pd.Interval
        | pd.Period,
    )


def is_missing(value: Any) -> str | None:
    """Return the name of pandas' mark for a missing value, or None."""
    pd = sys.modules.get("pandas")
    if pd is None:
        return None
    return "NA" if value is pd.NA else "NaT" if value is pd.NaT else None


def can_change(value: Any) -> bool:
    """Whether `value` is a table that a call may change."""
    pd = sys.modules.get("pandas")
    return pd is not None and isinstance(value, pd.DataFrame | pd.Series)


def parts_of(value: Any) -> list[Any] | None:
    """Return a table as plain values: the kind first; None where a column is no data."""
    pd = _pandas()
    try:
        if isinstance(value, pd.DataFrame):
            if value.shape[1] > MOST_COLUMNS:
                raise TooLarge(f"more than {MOST_COLUMNS:,} columns")
            columns = [_column(value.iloc[:, at].array) for at in range(value.shape[1])]
            return ["frame", _index(value.index), _index(value.columns), columns]
        if isinstance(value, pd.Series):
            return ["series", _index(value.index), _column(value.array), value.name]
        if isinstance(value, pd.Index):
            return ["index", _index(value)]
        if isinstance(value, pd.Categorical):
            return ["column", _column(value)]
        if isinstance(value, pd.Timestamp):
            zone = None if value.tzinfo is None else str(value.tzinfo)
            return ["time", int(value.asm8.view("i8")), value.unit, zone]
        if isinstance(value, pd.Interval):
            return ["between", value.left, value.right, value.closed]
        if isinstance(value, pd.Period):
            return ["period", int(value.ordinal), value.freqstr]
        return ["span", int(value.asm8.view("i8")), value.unit]
    except LookupError:
        return None


def _column(array: Any) -> list[Any]:
    pd = _pandas()
    if isinstance(array, pd.arrays.NumpyExtensionArray):
        array = array.to_numpy()  # its own dtype is pandas' name for NumPy's
    dtype = array.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return ["categories", _index(dtype.categories), array.codes, bool(dtype.ordered)]
    if isinstance(dtype, pd.DatetimeTZDtype):
        return ["zoned", array.asi8, dtype.unit, str(dtype.tz)]
    if isinstance(dtype, pd.PeriodDtype):
        return ["periods", array.asi8, array.freqstr]
    if isinstance(dtype, pd.IntervalDtype):
        return ["intervals", _column(array.left.array), _column(array.right.array), array.closed]
    kind = getattr(dtype, "kind", "O")
    if type(dtype).__module__.startswith("numpy") and kind in "biufcmM":
        return ["numbers", _numpy().asarray(array)]
    if kind == "O" and type(dtype).__module__.startswith("numpy"):
        return ["objects", list(array)]
    if _EXTENSION.fullmatch(str(dtype)):
        return ["extension", str(dtype), list(array)]
    raise LookupError(f"a column of {dtype}")


def _index(index: Any) -> list[Any]:
    pd = _pandas()
    if isinstance(index, pd.MultiIndex):
        levels = [_column(index.get_level_values(at).array) for at in range(index.nlevels)]
        return ["multi", list(index.names), levels]
    if isinstance(index, pd.RangeIndex):
        return ["range", index.name, index.start, index.stop, index.step]
    frequency = None if isinstance(index, pd.PeriodIndex) else getattr(index, "freqstr", None)
    return ["plain", index.name, _column(index.array), frequency]


def make(parts: list[Any]) -> Any:
    """Return the table of decoded parts; `Malformed` where they are none."""
    try:
        pd = _pandas()
    except ImportError:
        raise Malformed("a table, and there is no pandas here") from None
    kind, *rest = parts
    if kind == "frame":
        index, names, columns = rest
        if len(columns) > MOST_COLUMNS:
            raise Malformed("too many columns")
        index, names = _make_index(pd, index), _make_index(pd, names)
        data = {at: pd.Series(_make_column(pd, c), index=index) for at, c in enumerate(columns)}
        frame = pd.DataFrame(data, index=index)
        frame.columns = names
        return frame
    if kind == "series":
        index, column, name = rest
        return pd.Series(_make_column(pd, column), index=_make_index(pd, index), name=name)
    if kind == "index":
        return _make_index(pd, *rest)
    if kind == "column":
        return _make_column(pd, *rest)
    if kind == "time":
        count, unit, zone = rest
        stamp = pd.Timestamp(_moment("datetime64", count, unit))
        return stamp if zone is None else stamp.tz_localize("UTC").tz_convert(_zone(zone))
    if kind == "span":
        return pd.Timedelta(_moment("timedelta64", *rest))
    if kind == "between":
        left, right, closed = rest
        return pd.Interval(left, right, _closed(closed))
    if kind == "period":
        return pd.Period(ordinal=int(rest[0]), freq=_frequency(rest[1]))
    raise Malformed("no such table")


def _moment(kind: str, count: Any, unit: Any) -> Any:
    if type(count) is not int or unit not in _UNITS:
        raise Malformed("not a moment")
    return getattr(_numpy(), kind)(count, unit)


def _zone(name: Any) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[\w/+:-]{1,40}", name):
        raise Malformed("not a time zone")
    return name


def _closed(side: Any) -> Any:
    if side not in ("left", "right", "both", "neither"):
        raise Malformed("not a side of an interval")
    return side


def _frequency(name: Any) -> str:
    if not isinstance(name, str) or not _FREQUENCY.fullmatch(name):
        raise Malformed("not a frequency")
    return name


def _make_column(pd: Any, parts: list[Any]) -> Any:
    kind, *rest = parts
    if kind == "numbers":
        return pd.Series(rest[0]).array
    if kind == "objects":
        array = _numpy().empty(len(rest[0]), dtype=object)
        for at, item in enumerate(rest[0]):
            array[at] = item
        return pd.Series(array, dtype=object).array
    if kind == "extension" and isinstance(rest[0], str) and _EXTENSION.fullmatch(rest[0]):
        return pd.array(rest[1], dtype=rest[0])
    if kind == "categories":
        categories, codes, ordered = rest
        dtype = pd.CategoricalDtype(_make_index(pd, categories), ordered is True)
        return pd.Categorical.from_codes(codes, dtype=dtype)
    if kind == "zoned" and rest[1] in _UNITS:
        naive = pd.DatetimeIndex(rest[0].view(f"M8[{rest[1]}]"))
        return naive.tz_localize("UTC").tz_convert(_zone(rest[2])).array
    if kind == "periods":
        dtype = pd.PeriodDtype(_frequency(rest[1]))
        return pd.arrays.PeriodArray(rest[0].astype("i8"), dtype=dtype)
    if kind == "intervals":
        sides = [_make_column(pd, column) for column in rest[:2]]
        return pd.arrays.IntervalArray.from_arrays(*sides, closed=_closed(rest[2]))
    raise Malformed("no such column")


def _make_index(pd: Any, parts: list[Any]) -> Any:
    kind, *rest = parts
    if kind == "range":
        name, start, stop, step = rest
        return pd.RangeIndex(start, stop, step, name=name)
    if kind == "multi":
        names, levels = rest
        return pd.MultiIndex.from_arrays([_make_column(pd, c) for c in levels], names=names)
    if kind != "plain":
        raise Malformed("no such index")
    name, column, frequency = rest
    index = pd.Index(_make_column(pd, column), name=name)
    if frequency is not None and isinstance(frequency, str) and _FREQUENCY.fullmatch(frequency):
        index.freq = frequency
    return index


def replace(value: Any, new: Any) -> None:
    """Give a frame or series the contents of another, in place."""
    if type(value) is not type(new):
        raise Malformed("contents of another kind of value")
    value._update_inplace(new)
