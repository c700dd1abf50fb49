"""Settings of a whole process, as the course gives them, while a test calls the learner's code.

An honest `np.seterr(all="raise")` in a cell of one's own would cost a right softmax its points.
So a judge's calls run under the settings that the kernel began with, except those that the
course's own cells make; behind them the learner's own stand again.
"""

from __future__ import annotations

import contextlib
import decimal
import locale
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """How one setting is read and set, where `module` is loaded.

    better: which of the course's and the learner's stands, where more can only help.
    fresh: what it is in a library that is fresh, for one that is not there from the start.
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]
    module: str = "sys"
    better: Callable[[Any, Any], Any] | None = None
    fresh: Callable[[], Any] | None = None


def _numpy() -> Any:
    return sys.modules["numpy"]


def _torch() -> Any:
    return sys.modules["torch"]


def _set_filters(filters: list) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _decimals() -> tuple:
    context = decimal.getcontext()
    traps = [signal for signal, on in context.traps.items() if on]
    return context.prec, context.rounding, context.Emin, context.Emax, context.clamp, traps


def _set_decimals(parts: tuple) -> None:
    precision, rounding, least, most, clamp, traps = parts
    decimal.setcontext(
        decimal.Context(precision, rounding, least, most, clamp=clamp, flags=[], traps=traps)
    )


#: NumPy's defaults, from the documentation of `numpy.set_printoptions`.
_PRINTING: dict[str, Any] = {
    **{"precision": 8, "threshold": 1000, "edgeitems": 3, "linewidth": 75, "suppress": False},
    **{"nanstr": "nan", "infstr": "inf", "formatter": None, "sign": "-", "floatmode": "maxprec"},
    "legacy": False,
}
#: The names are those of `wire.given`.
SETTINGS = {
    "folder": Setting(os.getcwd, os.chdir),
    "recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit, better=max),
    "digits of an int": Setting(
        sys.get_int_max_str_digits,
        sys.set_int_max_str_digits,
        better=lambda a, b: 0 if 0 in (a, b) else max(a, b),  # 0: as many as there are
    ),
    "warnings": Setting(lambda: list(warnings.filters), _set_filters),
    "locale": Setting(
        lambda: locale.setlocale(locale.LC_ALL),
        lambda name: locale.setlocale(locale.LC_ALL, name),
    ),
    "decimals": Setting(_decimals, _set_decimals),
    "NumPy's errors": Setting(
        lambda: _numpy().geterr(),
        lambda kinds: _numpy().seterr(**kinds),
        "numpy",
        fresh=lambda: {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    ),
    "NumPy's printing": Setting(
        lambda: _numpy().get_printoptions(),
        lambda options: _numpy().set_printoptions(**options),
        "numpy",
        fresh=lambda: dict(_PRINTING),
    ),
    "torch's dtype": Setting(
        lambda: _torch().get_default_dtype(),
        lambda dtype: _torch().set_default_dtype(dtype),
        "torch",
        fresh=lambda: _torch().float32,
    ),
    "torch's device": Setting(
        lambda: _torch().get_default_device(),
        # `None` takes it away again: with "cpu" every call of PyTorch would be looked at.
        lambda device: _torch().set_default_device(None if device.type == "cpu" else device),
        "torch",
        fresh=lambda: _torch().device("cpu"),
    ),
    "torch's algorithms": Setting(
        lambda: _torch().are_deterministic_algorithms_enabled(),
        lambda on: _torch().use_deterministic_algorithms(on),
        "torch",
        fresh=bool,
    ),
    "torch's anomalies": Setting(
        lambda: _torch().is_anomaly_enabled(),
        lambda on: _torch().autograd.set_detect_anomaly(on),
        "torch",
        fresh=bool,
    ),
    "torch's gradients": Setting(
        lambda: _torch().is_grad_enabled(),
        lambda on: _torch().set_grad_enabled(on),
        "torch",
        fresh=lambda: True,
    ),
    "torch's precision": Setting(
        lambda: _torch().get_float32_matmul_precision(),
        lambda precision: _torch().set_float32_matmul_precision(precision),
        "torch",
        fresh=lambda: "highest",
    ),
}
_at_first: dict[str, Any] = {}


def _values() -> dict[str, Any]:
    found = {}
    for name, setting in SETTINGS.items():
        if setting.module in sys.modules:
            # Whatever a learner's code has made of a library: a setting less is no test less.
            with contextlib.suppress(Exception):
                found[name] = setting.read()
    return found


def remember() -> None:
    """Take the settings of this process for those that the course gives."""
    _at_first.clear()
    _at_first.update(_values())


@contextlib.contextmanager
def as_given(own: Collection[str]) -> Iterator[None]:
    """Let the settings be as remembered, for a while; own: those that the course's cells make."""
    now, wanted = _values(), {}
    for name, setting in SETTINGS.items():
        if name not in _at_first and name in now and setting.fresh is not None:
            _at_first[name] = setting.fresh()
    for name, value in _at_first.items():
        if name not in own and _stands_aside(name, value, now):
            wanted[name] = value
    _write(wanted, wanted)
    try:
        yield
    finally:
        _write((name for name in wanted if name in now), now)


def _stands_aside(name: str, value: Any, now: dict[str, Any]) -> bool:
    """Whether the course's value is to take the place of what a setting is now."""
    if name not in now:  # it cannot even be read: a folder that is gone, say
        return True
    better = SETTINGS[name].better
    return now[name] != (value if better is None else better(value, now[name]))


def _write(names: Iterable[str], values: dict[str, Any]) -> None:
    for name in names:
        with contextlib.suppress(Exception):
            SETTINGS[name].write(values[name])
