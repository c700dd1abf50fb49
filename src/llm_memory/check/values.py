"""Values as JSON data and back, and the first place where two of them differ.

Fingerprints are data, not code: inputs, right outputs and the outputs of known
mistakes are stored in the form that this module reads and writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

# Two implementations of one formula differ in the last bits, and another CPU rounds differently.
RELATIVE, ABSOLUTE = 1e-4, 1e-6
DIGITS = 8


def _number(x: float) -> float | str:
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else str(float(x))


def encode(value: Any) -> Any:
    """Return `value` as JSON data.

    Arrays and tensors keep shape, dtype and kind; floats are rounded to `DIGITS` significant
    digits, so that a file does not change with the machine that wrote it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": _number(value)}
    if isinstance(value, np.ndarray):
        return {"numpy": _flat(value), "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, torch.Tensor):
        array = value.detach().cpu()
        dtype = str(array.dtype).removeprefix("torch.")
        array = array.float().numpy() if dtype == "bfloat16" else array.numpy()
        return {"torch": _flat(array), "shape": list(array.shape), "dtype": dtype}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(item)] for key, item in value.items()]}
    return {"object": type(value).__name__}


def _flat(array: np.ndarray) -> list:
    if array.dtype.kind in "OSUVMmc":
        return [str(item) for item in array.ravel()[:1000]]
    items = array.ravel().tolist()
    return [_number(x) for x in items] if array.dtype.kind == "f" else items


def decode(data: Any, given: Callable[[str], Any] | None = None) -> Any:
    """Return the value that `encode` wrote; `given` makes the objects that are only named."""
    if isinstance(data, list):
        return [decode(item, given) for item in data]
    if not isinstance(data, dict):
        return data
    if "float" in data:
        return float(data["float"])
    if "numpy" in data:
        items = [float(x) if isinstance(x, str) else x for x in data["numpy"]]
        return np.array(items, dtype=data["dtype"]).reshape(data["shape"])
    if "torch" in data:
        items = [float(x) if isinstance(x, str) else x for x in data["torch"]]
        return torch.tensor(items, dtype=getattr(torch, data["dtype"])).reshape(data["shape"])
    if "tuple" in data:
        return tuple(decode(item, given) for item in data["tuple"])
    if "dict" in data:
        return {decode(key, given): decode(item, given) for key, item in data["dict"]}
    if "given" in data:
        if given is None:
            raise ValueError(f"nothing makes the object {data['given']!r} here")
        return given(data["given"])
    raise ValueError(f"not a stored value: {data!r}")


def describe(data: Any) -> str:
    """Return what an encoded value is, in a few words: its kind, shape and dtype."""
    if data is None:
        return "None"
    if isinstance(data, dict):
        if "numpy" in data or "torch" in data:
            kind = "NumPy array" if "numpy" in data else "torch tensor"
            return f"a {kind} of shape {tuple(data['shape'])} and dtype {data['dtype']}"
        if "tuple" in data:
            return f"a tuple of {len(data['tuple'])}"
        if "dict" in data:
            return f"a dict of {len(data['dict'])}"
        if "float" in data:
            return f"{float(data['float']):.6g}"
        if "object" in data:
            return f"an object of type {data['object']}"
        if "given" in data:
            return data["given"]
    if isinstance(data, list):
        return f"a list of {len(data)}"
    return repr(data)


def _close(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or math.isclose(a, b, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _as_float(item: Any) -> float | None:
    if isinstance(item, dict) and "float" in item:
        item = item["float"]
    elif isinstance(item, bool) or not isinstance(item, int | float):
        return None
    return float(item)


def difference(want: Any, came: Any, place: str = "") -> str | None:
    """Return a sentence on the first place where two encoded values differ, or None."""
    where = f"{place}: " if place else ""
    a, b = _as_float(want), _as_float(came)
    if a is not None and b is not None:
        return None if _close(a, b) else f"{where}expected {a:.6g}, came {b:.6g}"
    for kind in ("numpy", "torch"):
        if isinstance(want, dict) and kind in want:
            return _array_difference(want, came, kind, where)
    if isinstance(want, dict) and "tuple" in want:
        # A list where a tuple is meant is no mistake that a lesson is about.
        items = came.get("tuple") if isinstance(came, dict) else came
        return _items_difference(want["tuple"], items, place, describe(came))
    if isinstance(want, list):
        items = came.get("tuple") if isinstance(came, dict) else came
        return _items_difference(want, items, place, describe(came))
    return None if want == came else f"{where}expected {describe(want)}, came {describe(came)}"


def _items_difference(want: list, came: Any, place: str, what: str) -> str | None:
    if not isinstance(came, list) or len(came) != len(want):
        where = f"{place}: " if place else ""
        return f"{where}expected {len(want)} values, came {what}"
    for index, (a, b) in enumerate(zip(want, came, strict=True)):
        found = difference(a, b, f"{place}[{index}]" if place else f"value {index}")
        if found:
            return found
    return None


def _array_difference(want: dict, came: Any, kind: str, where: str) -> str | None:
    if not isinstance(came, dict) or kind not in came:
        return f"{where}expected {describe(want)}, came {describe(came)}"
    if want["shape"] != came["shape"]:
        return f"{where}expected shape {tuple(want['shape'])}, came {tuple(came['shape'])}"
    if (want["dtype"] == "bool") != (came["dtype"] == "bool"):
        return f"{where}expected dtype {want['dtype']}, came {came['dtype']}"
    for index, (a, b) in enumerate(zip(want[kind], came[kind], strict=True)):
        if not _close(float(a), float(b)):
            at = [int(i) for i in np.unravel_index(index, want["shape"])] if want["shape"] else []
            a, b = (x if want["dtype"] == "bool" else f"{float(x):.6g}" for x in (a, b))
            return f"{where}at {at} expected {a}, came {b}"
    return None
