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

# The contract of every exercise: 1e-5 relative, so that softmax in float32 and back is right. A
# number near 0 among large ones is a difference of large ones: it is as exact as those are.
RELATIVE, ABSOLUTE = 1e-5, 2e-6
HALF = {"float16": 2e-3, "bfloat16": 1.6e-2}  # two steps of such a number
DIGITS = 8
#: No exercise asks for more numbers in one array, or for a deeper list.
MOST_NUMBERS, DEEPEST = 10**6, 20
#: A message shows so many characters of a value.
SHOWN = 60


def _number(x: float) -> float | str:
    if not math.isfinite(x):
        return str(float(x))
    # A whole number is kept whole: it is compared exactly.
    return float(x) if x.is_integer() and abs(x) < 2**53 else float(f"{x:.{DIGITS}g}")


def encode(value: Any, depth: int = 0) -> Any:
    """Return `value` as JSON data.

    Arrays and tensors keep shape, dtype and kind; floats are rounded to `DIGITS` significant
    digits, so that a file does not change with the machine that wrote it. What is no plain data,
    or more than any exercise asks for, is only named: `{"object": what it is}`.
    """
    if depth > DEEPEST:
        return {"object": f"{type(value).__name__} (nested without end)"}
    if isinstance(value, np.integer):  # no `int` to Python, though it reads like one
        return {"integer": int(value), "dtype": str(value.dtype)}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": _number(value)}
    if isinstance(value, np.ndarray | torch.Tensor) and _is_odd(value):
        shape = tuple(value.shape)
        return {"object": f"{type(value).__name__} (shape {shape}, dtype {value.dtype})"}
    if isinstance(value, np.ndarray):
        return {"numpy": _flat(value), "shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta":
            return {"object": "torch tensor without numbers (device meta)"}
        if value.device.type != "cpu":
            return {"object": f"torch tensor on device {value.device} (the inputs are on the CPU)"}
        array = value.detach()
        dtype = str(array.dtype).removeprefix("torch.")
        known = not array.is_floating_point() or dtype in ("float16", "float32", "float64")
        numbers = (array if known else array.float()).numpy()
        return {"torch": _flat(numbers), "shape": list(array.shape), "dtype": dtype}
    if isinstance(value, tuple):
        return {"tuple": [encode(item, depth + 1) for item in value]}
    if isinstance(value, list):
        return [encode(item, depth + 1) for item in value]
    if isinstance(value, dict):
        deep = depth + 1
        return {"dict": [[encode(key, deep), encode(item, deep)] for key, item in value.items()]}
    return {"object": type(value).__name__}


def _is_odd(array: np.ndarray | torch.Tensor) -> bool:
    """Tell whether an array's numbers cannot be read one by one, or are far too many."""
    if isinstance(array, torch.Tensor):
        special = array.layout != torch.strided or array.is_quantized
        return special or array.is_complex() or array.numel() > MOST_NUMBERS
    return isinstance(array, np.ma.MaskedArray) or array.size > MOST_NUMBERS


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
    if "integer" in data:
        return np.dtype(data["dtype"]).type(data["integer"])
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
        if "integer" in data:
            return f"{data['integer']} (a NumPy {data['dtype']}, not an int)"
        if data.get("object") in ("generator", "async_generator"):
            return "a generator (is there a `yield` where a `return` is meant?)"
        if data.get("object") == "coroutine":
            return "a coroutine (is there an `async def` where a `def` is meant?)"
        if "object" in data:
            return f"an object of type {data['object']}"
        if "given" in data:
            return data["given"]
    if isinstance(data, list):
        text = f"[{', '.join(map(describe, data))}]"
        return text if len(text) <= SHOWN else f"a list of {len(data)}"
    text = repr(data)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text):,} characters)"


def spell(data: Any) -> str:
    """Return an encoded value as Python that makes it again, with `np`, `torch`, `MODELS`, `make`.

    `make` is `llm_memory.check.given.make`, and `MODELS` those of `llm_memory.shapes`.
    """
    if isinstance(data, list):
        return f"[{', '.join(map(spell, data))}]"
    if not isinstance(data, dict):
        return repr(data)
    if "float" in data:
        text = repr(float(data["float"]))
        return f"math.{text.lstrip('-')}" if text.strip("-") in ("inf", "nan") else text
    if "given" in data:
        return f"make({data['given']!r})"
    if "tuple" in data:
        return f"({', '.join(map(spell, data['tuple']))}{',' if len(data['tuple']) == 1 else ''})"
    if "dict" in data:
        return _spell_dict(data)
    kind = "numpy" if "numpy" in data else "torch"
    nested = _nested([_literal(item, kind) for item in data[kind]], data["shape"])
    if 0 in data["shape"]:
        made = (
            f"np.zeros({tuple(data['shape'])}"
            if kind == "numpy"
            else f"torch.zeros({data['shape']}"
        )
        plain = "float64" if kind == "numpy" else "float32"
    else:
        made = f"np.array({nested}" if kind == "numpy" else f"torch.tensor({nested}"
        plain = "float64" if kind == "numpy" else "float32"
    if data["dtype"] in (plain, "bool") or (data["dtype"] == "int64" and data[kind]):
        return f"{made})"
    return f"{made}, dtype={'np' if kind == 'numpy' else 'torch'}.{data['dtype']})"


def _spell_dict(data: dict) -> str:
    from llm_memory.shapes import MODELS

    plain = decode(data)
    for name, known in MODELS.items():
        shape: dict[str, Any] = {**known}
        model = f'MODELS["{name}"]'
        if plain == shape:
            return model
        gone = [key for key in shape if key not in plain]
        if len(gone) == 1 and all(shape.get(key) == plain[key] for key in plain):
            return f"{{key: n for key, n in {model}.items() if key != {gone[0]!r}}}"
        new = {key: plain[key] for key in plain if key not in shape or shape[key] != plain[key]}
        if not gone and len(new) <= 2:
            return f"{{**{model}, {', '.join(f'{key!r}: {n!r}' for key, n in new.items())}}}"
    items = ", ".join(f"{spell(key)}: {spell(value)}" for key, value in data["dict"])
    return f"{{{items}}}"


def _literal(item: Any, kind: str) -> str:
    text = repr(float(item)) if isinstance(item, str) else repr(item)
    where = "np" if kind == "numpy" else "torch"
    return text.replace("inf", f"{where}.inf").replace("nan", f"{where}.nan")


def _nested(items: list[str], shape: list[int]) -> str:
    if not shape:
        return items[0] if items else "[]"
    step = math.prod(shape[1:])
    parts = [_nested(items[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
    return f"[{', '.join(parts)}]"


def _close(a: float, b: float, relative: float, absolute: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or math.isclose(a, b, rel_tol=relative, abs_tol=absolute)


def _is_int(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool)


def _plain_int(item: Any) -> Any:
    return item["integer"] if isinstance(item, dict) and "integer" in item else item


def _as_float(item: Any) -> float | None:
    if isinstance(item, dict) and "float" in item:
        item = item["float"]
    elif isinstance(item, bool) or not isinstance(item, int | float):
        return None
    return float(item)


def difference(
    want: Any, came: Any, place: str = "", terms: list | None = None, dtype: bool = False
) -> str | None:
    """Return a sentence on the first place where two encoded values differ, or None.

    `terms` are a learner's words for the parts of the value, one (name, names of the last axes) a
    part. With `dtype`, arrays of floats must have the same dtype, too, and ints must be ints.
    """
    where = f"{place}: " if place else ""
    if not dtype:
        want, came = _plain_int(want), _plain_int(came)
    elif _is_int(want) and not _is_int(came):
        return f"{where}expected the int {want}, came {describe(came)}"
    if _is_int(want) and _is_int(came):  # beyond 2^53 a float would round them
        return None if want == came else f"{where}expected {want}, came {came}{_by_one(want, came)}"
    a, b = _as_float(want), _as_float(came)
    if a is not None and b is not None:
        same = a == b if _is_int(want) else _close(a, b, RELATIVE, ABSOLUTE * abs(a))
        return None if same else f"{where}expected {_show(a, want)}, came {_show(b, came)}"
    for kind in ("numpy", "torch"):
        if isinstance(want, dict) and kind in want:
            name, axes = terms[0] if terms and len(terms) == 1 else ("", [])
            where = f"{name}: " if name and not place else where
            return _array_difference(want, came, kind, where, axes, dtype)
    if isinstance(want, list) or (isinstance(want, dict) and "tuple" in want):
        # A list where a tuple is meant is no mistake that a lesson is about.
        items = came.get("tuple") if isinstance(came, dict) else came
        wanted = want["tuple"] if isinstance(want, dict) else want
        return _items_difference(wanted, items, place, describe(came), terms, dtype)
    return None if want == came else f"{where}expected {describe(want)}, came {describe(came)}"


def _by_one(want: int, came: int) -> str:
    return f", {'one too many' if came > want else 'one too few'}" if abs(came - want) == 1 else ""


def _show(number: float, stored: Any) -> str:
    return str(int(number)) if _is_int(stored) else f"{number:.6g}"


def _items_difference(
    want: list, came: Any, place: str, what: str, terms: list | None, dtype: bool
) -> str | None:
    where = f"{place}: " if place else ""
    if not isinstance(came, list):
        return f"{where}expected {len(want)} values, came {what}"
    if len(came) != len(want):
        return f"{where}expected {len(want)} values, came {what}, which has {len(came)}"
    for index, (a, b) in enumerate(zip(want, came, strict=True)):
        term = terms[index] if terms and len(terms) == len(want) and len(want) > 1 else None
        at = f"{place}[{index}]" if place else (term[0] if term else f"value {index}")
        found = difference(a, b, at, [term] if term else None, dtype)
        if found:
            return found
    return None


def tolerances(want: dict, kind: str) -> tuple[float, float]:
    """Return the (relative, absolute) tolerance for an encoded array of floats."""
    finite = [abs(float(x)) for x in want[kind] if math.isfinite(float(x))]
    coarse = HALF.get(want["dtype"], 0.0)
    return max(RELATIVE, coarse), max(ABSOLUTE, coarse) * max(finite, default=0.0)


def _array_difference(
    want: dict, came: Any, kind: str, where: str, axes: list, dtype: bool
) -> str | None:
    if not isinstance(came, dict) or kind not in came:
        # A short list is written as a short array is: its kind is what is wrong.
        got = f"a list of {len(came)}" if isinstance(came, list) else describe(came)
        return f"{where}expected {describe(want)}, came {got}"
    if want["shape"] != came["shape"]:
        return f"{where}expected shape {tuple(want['shape'])}, came {tuple(came['shape'])}"
    kinds = [_kind(data["dtype"]) for data in (want, came)]
    whole = kind == "torch" and kinds[0] == "int"
    if kinds[0] != kinds[1] or ((whole or dtype) and want["dtype"] != came["dtype"]):
        return f"{where}expected dtype {want['dtype']}, came {came['dtype']}"
    tolerance = tolerances(want, kind) if kinds[0] == "float" else (0.0, 0.0)
    for index, (a, b) in enumerate(zip(want[kind], came[kind], strict=True)):
        if not _close(float(a), float(b), *tolerance):
            at = place_of(index, want["shape"], axes)
            if kinds[0] == "float":
                a, b = (f"{float(x):.6g}" for x in (a, b))
            return f"{where}at {at} expected {a}, came {b}"
    return None


def place_of(index: int, shape: list[int], axes: list) -> str:
    """Return where the flat `index` lies in an array, in the words of `axes` for its last axes."""
    at = [int(i) for i in np.unravel_index(index, shape)] if shape else []
    names = list(axes)[-len(at) :] if at else []
    if not names or len(names) < len(at):
        front, at = at[: len(at) - len(names)], at[len(at) - len(names) :]
        head = str(front) if front else ""
    else:
        head = ""
    words = ", ".join(f"{name} {i}" for name, i in zip(names, at, strict=True))
    return ", ".join(filter(None, (head, words))) or "[]"


def _kind(dtype: str) -> str:
    return "bool" if dtype == "bool" else "int" if "int" in dtype else "float"
