"""What kind of mistake an unknown one is, as far as the numbers tell."""

from __future__ import annotations

import math
from typing import Any

from llm_memory.check.values import tolerances

#: A result this near is the right computation with too few digits.
ROUGH = 1e-2
NEAR = "It is near, but too far away for rounding in float32: look where digits are lost."


def kind(want: Any, came: Any, masked: bool = False) -> str | None:
    """Return a sentence on what sort of difference it is between two encoded values, or None.

    Looks at the first part that differs, where they are tuples. `masked`: the call has a mask.
    """
    if isinstance(want, dict) and "tuple" in want:
        items = came.get("tuple") if isinstance(came, dict) else came
        if not isinstance(items, list) or len(items) != len(want["tuple"]):
            return None
        said = (kind(a, b, masked) for a, b in zip(want["tuple"], items, strict=True) if a != b)
        return next((text for text in said if text), None)
    if isinstance(want, list) and isinstance(came, list):
        return _of_lists(want, came)
    for name in ("numpy", "torch"):
        if isinstance(want, dict) and name in want and isinstance(came, dict):
            if name not in came:
                return "NumPy arrays and PyTorch tensors are mixed up." if _is_array(came) else None
            return _of_arrays(want, came, name, masked)
    return None


def _is_array(data: dict) -> bool:
    return "numpy" in data or "torch" in data


def _of_lists(want: list, came: list) -> str | None:
    if any(isinstance(item, dict) and "torch" in item for item in came):
        return "The items are tensors where plain numbers are asked for."
    if any(isinstance(item, dict) and "integer" in item for item in came):
        return "The items are NumPy's integers where Python's are asked for."
    if not all(isinstance(item, int) for item in [*want, *came]):
        return None
    if sorted(want) == sorted(came) and want != came:
        return "The items are the right ones in another order."
    if len(came) == len(want) + 1 and (came[1:] == want or came[:-1] == want):
        return "It is off by one: there is one item too many at an end."
    if len(came) == len(want) - 1 and came in (want[1:], want[:-1]):
        return "It is off by one: an item is missing at an end."
    return None


def _of_arrays(want: dict, came: dict, name: str, masked: bool) -> str | None:
    a, b = want[name], came[name]
    if want["shape"] != came["shape"]:
        return _of_shapes(want, came, name)
    if "bool" in (want["dtype"], came["dtype"]):
        return _of_masks(a, b) if want["dtype"] == came["dtype"] else "The dtype is another one."
    x, y = ([float(item) for item in items] for items in (a, b))
    if any(map(math.isnan, y)) and not any(map(math.isnan, x)):
        return "There are nan in it: look for 0 / 0, inf − inf or a row without any entry left."
    if not all(map(math.isfinite, [*x, *y])):
        return None
    relative, absolute = tolerances(want, name)
    largest = max(map(abs, x), default=0.0)

    def near(c: float, d: float, loose: float = 1.0) -> bool:
        return math.isclose(c, d, rel_tol=loose * relative, abs_tol=loose * absolute + 1e-12)

    if all(map(near, x, y)):
        same = want["dtype"] == came["dtype"]
        return None if same else "The numbers are right, the dtype is another one."
    if len(x) > 1 and all(map(near, sorted(x), sorted(y))):
        axes = sum(length > 1 for length in want["shape"])
        where = "look at the order of the axes." if axes > 1 else "look at their order."
        return f"The numbers are right, but stand at other places: {where}"
    top = max(range(len(x)), key=lambda i: abs(x[i]), default=None)
    factor = y[top] / x[top] if top is not None and x[top] else 0.0
    if len(x) > 1 and factor and all(near(c, d / factor) for c, d in zip(x, y, strict=True)):
        return f"It is a matter of scale: every number is {factor:.4g} times what it should be."
    if len(x) > 2 and (all(map(near, x[1:], y[:-1])) or all(map(near, x[:-1], y[1:]))):
        return "It is off by one: the same numbers, one place further."
    if all(abs(c - d) <= ROUGH * max(abs(c), 1e-3 * largest) for c, d in zip(x, y, strict=True)):
        return NEAR
    if masked and any(c == 0 and d != 0 for c, d in zip(x, y, strict=True)) and 0.0 in x:
        return "It is a matter of the mask: there is something where nothing should be."
    return None


def _of_shapes(want: dict, came: dict, name: str) -> str:
    if want["shape"] != came["shape"] and sorted(want["shape"]) == sorted(came["shape"]):
        return "The axes stand in another order."
    if math.prod(want["shape"]) == math.prod(came["shape"]):
        return "There are as many numbers as there should be, on other axes."
    return "The shape differs: write the shape beside each line of your code."


def _of_masks(want: list, came: list) -> str | None:
    shut = sum(a and not b for a, b in zip(want, came, strict=True))
    opened = sum(b and not a for a, b in zip(want, came, strict=True))
    if shut + opened == len(want):
        return "The mask is the wrong way round everywhere."
    if not shut:
        return "The mask lets through what should be shut."
    if not opened:
        return "The mask shuts what should be open."
    return (
        "The mask has as many places open as it should, but other ones." if shut == opened else None
    )
