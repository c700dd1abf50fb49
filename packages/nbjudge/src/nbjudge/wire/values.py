"""Plain data over the line between the judge and a student's kernel: msgpack, never pickle.

What is plain: None, booleans, numbers, strings, bytes, the built-in containers, dtypes, NumPy
arrays and torch tensors. A subclass of one of them arrives as its base, so a value cannot bring
behaviour (an `__eq__` that always says yes) along. Anything else is left to `hold`, which gives it
a number under which the other side may ask for it.

A value is written as a tree of msgpack arrays, each led by a tag; the numbers of arrays travel
beside the tree as buffers, so a small limit on the tree holds however large the arrays are.

Containers and arrays can be changed by the call that they are passed to. Both sides number them
in the order in which they are met (`Encoder.table`, `Decoder.table`): the answer brings their
contents after the call, and a value that *is* an argument comes back as that argument.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

__all__ = [
    "Decoder",
    "Encoder",
    "Limits",
    "Malformed",
    "Reference",
    "TooLarge",
    "apply_content",
    "pack",
    "unpack",
]


class Malformed(Exception):
    """Bytes that `Encoder` does not write."""


class TooLarge(Exception):
    """A value beyond the `Limits`."""


class Reference:
    """Base of what stands for an object of the other side: never plain, whatever it looks like."""

    __slots__ = ()


@dataclass(frozen=True)
class Limits:
    """What one message may hold."""

    tree: int = 2_000_000  # bytes of structure: about 200,000 numbers in lists
    buffers: int = 64_000_000  # bytes of all arrays together
    items: int = 400_000
    depth: int = 40
    text: int = 500  # characters of an exception's message


(
    BIG, LIST, TUPLE, SET, FROZENSET, DICT, COMPLEX, SLICE, ELLIPSIS, RANGE, ARRAY, SCALAR, TENSOR,
    DTYPE, DEVICE, REF, HELD, YOURS, METHOD, GLOBAL, RECORD, NAMESPACE,
) = range(22)  # fmt: skip

NUMPY_DTYPE = re.compile(r"[<>|=]?[biufcSUmM]\d{1,4}(\[\w{1,4}\])?")
TORCH_DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
#: Where functions, classes and modules may come from that the judge sends by their names.
IMPORTABLE = {"builtins", "collections", "functools", "math", "numpy", "operator", "torch"}
PACKAGE = "llm_memory"
#: Modules of classes that a notebook or a test cell defines.
NOTEBOOKS = {"__main__", "hidden_tests"}
CONTAINERS = (list, tuple, dict, set, frozenset)


def pack(tree: Any, limits: Limits) -> bytes:
    """Return the bytes of a tree; `TooLarge` beyond the limit."""
    data = msgpack.packb(tree, unicode_errors="surrogatepass")
    if len(data) > limits.tree:
        raise TooLarge(f"{len(data):,} bytes of structure, {limits.tree:,} are accepted")
    return data


def unpack(data: bytes, limits: Limits) -> Any:
    """Return the tree of untrusted bytes; `Malformed` or `TooLarge`."""
    if len(data) > limits.tree:
        raise TooLarge(f"{len(data):,} bytes of structure, {limits.tree:,} are accepted")
    try:
        return msgpack.unpackb(
            data,
            unicode_errors="surrogatepass",
            max_map_len=0,
            max_ext_len=0,
            ext_hook=lambda code, data: 1 / 0,
        )
    except Exception as error:  # msgpack has many ways to say so, RecursionError among them
        raise Malformed(f"not a message: {type(error).__name__}") from None


class Encoder:
    """Writes values as trees; `buffers` collects the arrays' bytes, `table` what can change."""

    def __init__(
        self,
        hold: Callable[[Any], list],
        limits: Limits,
        table: list | None = None,
        *,
        trusted: bool = False,
    ):
        """`hold` writes what is not plain; `trusted` senders also name importable objects."""
        self.hold, self.limits, self.trusted = hold, limits, trusted
        self.table: list[Any] = [] if table is None else table
        self.numbers = {id(value): number for number, value in enumerate(self.table)}
        self.buffers: list[bytes] = []
        self.size = self.items = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return the tree of `value`; `TooLarge` where it is too deep or too much."""
        self.items += 1
        if depth > self.limits.depth:
            raise TooLarge(f"nested deeper than {self.limits.depth} levels")
        if self.items > self.limits.items:
            raise TooLarge(f"more than {self.limits.items:,} values")
        if value is None or value is True or value is False:
            return value
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSUmM":
            return [SCALAR, value.dtype.str, value.tobytes()]
        if isinstance(value, int):
            number = int.__int__(value)
            return number if -(2**63) <= number < 2**63 else [BIG, self._text(hex(number))]
        if isinstance(value, float):
            return float.__float__(value)
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bytes):
            return self._text(bytes(value))
        if isinstance(value, complex):
            return [COMPLEX, value.real, value.imag]
        return self._encode_object(value, depth + 1)

    def content(self, number: int) -> Any:
        """Return what the changeable value `number` holds now, without its place in the table."""
        value = self.table[number]
        if isinstance(value, list):
            return [LIST, *(self.encode(item, 1) for item in list.__iter__(value))]
        if isinstance(value, set):
            return [SET, *(self.encode(item, 1) for item in set.__iter__(value))]
        if isinstance(value, dict):
            return self._encode_dict(value, 1)
        return self._encode_array(value)

    def _encode_object(self, value: Any, depth: int) -> Any:
        if isinstance(value, Reference):
            return self.hold(value)
        torch = sys.modules.get("torch")
        array = isinstance(value, np.ndarray) and value.dtype.kind in "biufcSUmM"
        tensor = torch is not None and isinstance(value, torch.Tensor) and _is_dense(value)
        if array or tensor or (isinstance(value, list | dict | set) and self._is_plain(value)):
            if id(value) in self.numbers:
                return [REF, self.numbers[id(value)]]
            self.numbers[id(value)] = len(self.table)
            self.table.append(value)
            if array or tensor:
                return self._encode_array(value)
            if isinstance(value, dict):
                return self._encode_dict(value, depth)
            tag = LIST if isinstance(value, list) else SET
            items = list.__iter__(value) if tag == LIST else set.__iter__(value)
            return [tag, *(self.encode(item, depth) for item in items)]
        if self.trusted and type(value).__module__.partition(".")[0] == PACKAGE:
            fields = _record_fields(value)
            if fields is not None:
                kind = type(value)
                items = (self.encode(item, depth) for item in fields)
                return [RECORD, kind.__module__, kind.__qualname__, *items]
        if isinstance(value, tuple):  # a named one, too
            return [TUPLE, *(self.encode(item, depth) for item in tuple.__iter__(value))]
        if isinstance(value, frozenset) and self._is_plain(value):
            return [FROZENSET, *(self.encode(item, depth) for item in frozenset.__iter__(value))]
        if isinstance(value, slice):
            parts = (value.start, value.stop, value.step)
            return [SLICE, *(self.encode(part, depth) for part in parts)]
        if isinstance(value, range):
            return [RANGE, *(self.encode(part) for part in (value.start, value.stop, value.step))]
        if value is Ellipsis:
            return [ELLIPSIS]
        if isinstance(value, np.dtype) and value.kind in "biufcSUmM":
            return [DTYPE, "numpy", value.str]
        if torch is not None and isinstance(value, torch.dtype):
            name = str(value).removeprefix("torch.")
            if name in TORCH_DTYPES:
                return [DTYPE, "torch", name]
        if torch is not None and isinstance(value, torch.device):
            return [DEVICE, str(value)]
        if self.trusted:
            found = _global_name(value)
            if found is not None:
                return [GLOBAL, *found]
            if type(value) is types.SimpleNamespace:
                return [NAMESPACE, self._encode_dict(vars(value), depth)]
        return self.hold(value)

    @staticmethod
    def _is_plain(value: Any) -> bool:
        # A learner's cache may well be a class made from dict: it is an object, not its items.
        kind = type(value)
        return kind in CONTAINERS or kind.__module__ not in NOTEBOOKS

    def _encode_dict(self, value: dict, depth: int) -> list:
        tree: list[Any] = [DICT]
        for key, item in dict.items(value):
            tree += [self.encode(key, depth), self.encode(item, depth)]
        return tree

    def _encode_array(self, value: Any) -> list:
        if isinstance(value, np.ndarray):
            base = np.asarray(value)
            steps = [s / base.itemsize if base.itemsize else 0 for s in base.strides]
            layout = _layout(base.shape, steps) if self.trusted else None
            once = _without_repeats(base, layout)
            self._count(once.nbytes)  # before it is copied: a broadcast array is small
            data = np.ascontiguousarray(once).tobytes()
            return [ARRAY, base.dtype.str, list(base.shape), self._buffer(data), layout]
        torch = sys.modules["torch"]
        base = value.detach().cpu().resolve_conj().resolve_neg()
        layout = _layout(base.shape, base.stride()) if self.trusted else None
        once = _without_repeats(base, layout)
        self._count(once.numel() * once.element_size())
        data = once.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        name, shape = str(base.dtype).removeprefix("torch."), list(base.shape)
        return [TENSOR, name, shape, self._buffer(data), layout, bool(value.requires_grad)]

    def _text(self, data: Any) -> Any:
        self._count(len(data))
        return data

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > self.limits.buffers:
            raise TooLarge(f"more than {self.limits.buffers:,} bytes")

    def _buffer(self, data: bytes) -> int:
        self.buffers.append(data)
        return len(self.buffers) - 1


class Decoder:
    """Reads trees from the other side, none of whose parts is believed."""

    def __init__(
        self,
        buffers: list[bytes],
        limits: Limits,
        hold: Callable[[list], Any],
        table: list | None = None,
        *,
        trusted: bool = False,
    ):
        """`hold` makes the stand-in of what is not plain; `trusted` trees may name imports."""
        self.buffers, self.limits, self.hold, self.trusted = buffers, limits, hold, trusted
        self.table: list[Any] = [] if table is None else table

    def decode(self, tree: Any) -> Any:
        """Return the value of a tree; `Malformed` where it is none."""
        try:
            return self._decode(tree, 0)
        except Malformed:
            raise
        except Exception as error:
            raise Malformed(f"not a value: {type(error).__name__}: {str(error)[:100]}") from None

    def _decode(self, tree: Any, depth: int) -> Any:
        if not isinstance(tree, list):
            return tree
        if depth > self.limits.depth:
            raise Malformed(f"nested deeper than {self.limits.depth} levels")
        tag, *rest = tree
        depth += 1
        if tag in (LIST, SET, DICT):
            value: Any = {LIST: list, SET: set, DICT: dict}[tag]()
            self.table.append(value)
            self._fill(value, rest, depth)
            return value
        if tag == TUPLE:
            return tuple(self._decode(item, depth) for item in rest)
        if tag == FROZENSET:
            return frozenset(self._decode(item, depth) for item in rest)
        if tag in (ARRAY, TENSOR):
            value = self._decode_array(tree)
            self.table.append(value)
            return value
        if tag == REF:
            return self.table[_natural(rest[0])]
        if tag == SCALAR:
            return _numpy_array(rest[0], [], rest[1])[()]
        if tag == BIG:
            return int(rest[0], 16)
        if tag == COMPLEX:
            return complex(float(rest[0]), float(rest[1]))
        if tag == SLICE:
            start, stop, step = (self._decode(part, depth) for part in rest)
            return slice(start, stop, step)
        if tag == RANGE:
            return range(*(self._decode(part, depth) for part in rest))
        if tag == ELLIPSIS:
            return ...
        if tag == DTYPE and rest[0] == "numpy":
            return _numpy_dtype(rest[1])
        if tag == DTYPE:
            return _torch_dtype(rest[1])
        if tag == DEVICE:
            return importlib.import_module("torch").device(str(rest[0]))
        if self.trusted and tag == GLOBAL:
            return _import(*rest)
        if self.trusted and tag == RECORD:
            kind = _import(rest[0], rest[1])
            return _make_record(kind, [self._decode(item, depth) for item in rest[2:]])
        if self.trusted and tag == NAMESPACE:
            names: dict = {}
            self._fill(names, rest[0][1:], depth)
            return types.SimpleNamespace(**names)
        return self.hold(tree)

    def _fill(self, value: Any, trees: list, depth: int) -> None:
        items = [self._decode(item, depth) for item in trees]
        if isinstance(value, list):
            value[:] = items
        elif isinstance(value, set):
            value.clear()
            value.update(items)
        else:
            value.clear()
            value.update(zip(items[::2], items[1::2], strict=True))

    def _decode_array(self, tree: list) -> Any:
        tag, dtype, shape, number, layout, *grad = tree
        if layout is not None and not self.trusted:
            raise Malformed("an array with a layout")
        data, size = self.buffers[_natural(number)], [_natural(n) for n in shape]
        stored = size if layout is None else _stored_shape(size, layout)
        if tag == ARRAY:
            array = _numpy_array(dtype, stored, data)
            return array if layout is None else _lay_out_numpy(array, size, layout)
        tensor = _torch_tensor(dtype, stored, data)
        if layout is not None:
            tensor = _lay_out_torch(tensor, size, layout)
        if grad and grad[0] is True and (tensor.is_floating_point() or tensor.is_complex()):
            tensor.requires_grad_(True)
        return tensor


def apply_content(decoder: Decoder, number: Any, tree: Any) -> None:
    """Give the changeable value `number` of the decoder's table the contents that `tree` holds.

    `Malformed` if the tree is no content of that kind of value, `AssertionError` if an array's
    shape or dtype was changed: a call may fill an argument, not make another thing of it.
    """
    try:
        value = decoder.table[_natural(number)]
        tag = tree[0]
        if isinstance(value, list | set | dict):
            if tag != {list: LIST, set: SET, dict: DICT}[type(value)]:
                raise Malformed("contents of another kind of value")
            decoder._fill(value, tree[1:], 1)
            return
        if tag != (ARRAY if isinstance(value, np.ndarray) else TENSOR):
            raise Malformed("contents of another kind of value")
        new = decoder._decode_array(tree)
    except Malformed:
        raise
    except Exception as error:
        raise Malformed(f"not a value: {type(error).__name__}") from None
    if new.shape != value.shape or new.dtype != value.dtype:
        raise AssertionError("the call changed the shape or the dtype of its argument in place")
    if isinstance(value, np.ndarray):
        if not value.flags.writeable:
            raise AssertionError("the call changed an argument that is read-only")
        np.copyto(value, new)
    else:
        torch = importlib.import_module("torch")
        if isinstance(value, torch.nn.Parameter):
            raise AssertionError("the call changed a weight of the model")
        with torch.no_grad():
            value.copy_(new)


# Arrays --------------------------------------------------------------------------------------


def _natural(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise Malformed("not a size")
    return number


def _numpy_dtype(name: Any) -> np.dtype:
    if not isinstance(name, str) or not NUMPY_DTYPE.fullmatch(name):
        raise Malformed("not a dtype")
    return np.dtype(name)


def _numpy_array(dtype: Any, shape: list[int], data: Any) -> np.ndarray:
    kind = _numpy_dtype(dtype)
    array = np.frombuffer(bytearray(data), kind).reshape(shape)
    # A boolean's byte is 0 or 1: another would make array code misbehave.
    return array.view(np.uint8) != 0 if kind.kind == "b" else array


def _torch_dtype(name: Any) -> Any:
    if name not in TORCH_DTYPES:
        raise Malformed("not a dtype")
    return getattr(importlib.import_module("torch"), name)


def _torch_tensor(dtype: Any, shape: list[int], data: Any) -> Any:
    torch = importlib.import_module("torch")
    kind = _torch_dtype(dtype)
    read = torch.uint8 if kind == torch.bool else kind
    if not len(data):
        return torch.empty(shape, dtype=kind) if 0 in shape else torch.empty(0).reshape(shape)
    tensor = torch.frombuffer(bytearray(data), dtype=read).reshape(shape)
    return tensor != 0 if kind == torch.bool else tensor


def _is_dense(tensor: Any) -> bool:
    torch = sys.modules["torch"]
    name = str(tensor.dtype).removeprefix("torch.")
    return tensor.layout == torch.strided and name in TORCH_DTYPES and tensor.device.type != "meta"


def _layout(shape: Any, strides: Any) -> list[int] | None:
    """Return the strides of an array that is not contiguous, or None where there is no need.

    A learner's `.view` must fail on a transposed argument here as it does in one process.
    """
    axes = [(step, size) for step, size in zip(strides, shape, strict=True) if size > 1]
    if any(size == 0 for size in shape) or any(step < 0 or step % 1 for step, _ in axes):
        return None
    expected = 1
    for step, size in reversed(axes):
        if step != expected:
            break
        expected *= size
    else:
        return None
    extent = 1
    for step, size in sorted(axes):
        if step and step < extent:
            return None  # elements that overlap
        extent += int(step) * (size - 1)
    if extent > 16 * int(np.prod(shape)) + 1024:
        return None
    return [int(step) if size > 1 else 1 for step, size in zip(strides, shape, strict=True)]


def _stored_shape(shape: list[int], layout: list[int]) -> list[int]:
    return [size if step else 1 for size, step in zip(shape, layout, strict=True)]


def _without_repeats(array: Any, layout: list[int] | None) -> Any:
    if layout is None:
        return array
    return array[tuple(slice(None) if step else slice(0, 1) for step in layout)]


def _extent(shape: list[int], layout: list[int]) -> int:
    return 1 + sum(step * (size - 1) for size, step in zip(shape, layout, strict=True))


def _lay_out_numpy(array: np.ndarray, shape: list[int], layout: list[int]) -> np.ndarray:
    memory = np.zeros(_extent(shape, layout), array.dtype)
    strides = [step * array.itemsize for step in layout]
    as_strided = np.lib.stride_tricks.as_strided
    as_strided(memory, array.shape, strides)[...] = array
    return as_strided(memory, shape, strides, writeable=0 not in layout)


def _lay_out_torch(tensor: Any, shape: list[int], layout: list[int]) -> Any:
    memory = tensor.new_zeros(_extent(shape, layout))
    memory.as_strided(tensor.shape, layout).copy_(tensor)
    return memory.as_strided(shape, layout)


# What only the judge sends: importable things and the package's own records ---------------------


def _record_fields(value: Any) -> list | None:
    """Return the fields of a frozen dataclass or named tuple, or None for another object."""
    kind = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return list(value)
    params = getattr(kind, "__dataclass_params__", None)
    if params is not None and params.frozen:
        return [getattr(value, name) for name in kind.__dataclass_fields__]
    return None


def _make_record(kind: type, fields: list) -> Any:
    if issubclass(kind, tuple):
        return tuple.__new__(kind, fields)
    value = object.__new__(kind)
    for name, item in zip(kind.__dataclass_fields__, fields, strict=True):
        object.__setattr__(value, name, item)
    return value


def _global_name(value: Any) -> tuple[str, str] | None:
    """Return (module, name) of a function, class or module of a known library, or None."""
    if isinstance(value, types.ModuleType):
        top = value.__name__.partition(".")[0]
        return (value.__name__, "") if top in IMPORTABLE - {"builtins"} else None
    if not callable(value):
        return None
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = getattr(value, "__module__", None)
    candidates = [module] if isinstance(module, str) else ["torch", "numpy", "math", "builtins"]
    for module in [*candidates, "torch", "torch.nn.functional", "numpy"]:
        if not isinstance(name, str) or module.partition(".")[0] not in IMPORTABLE | {PACKAGE}:
            continue
        try:
            if _import(module, name) is value:
                return module, name
        except (ImportError, AttributeError):
            continue
    return None


def _import(module: str, name: str) -> Any:
    value = importlib.import_module(module)
    for part in name.split(".") if name else []:
        value = getattr(value, part)
    return value
