"""Arrays of NumPy and tensors of torch as bytes and shapes; neither library has to be there."""

from __future__ import annotations

import importlib
import math
import re
import sys
from typing import Any

from nbjudge.wire.limits import Malformed

NUMPY_DTYPE = re.compile(r"[<>|=]?[biufcSUmM]\d{1,4}(\[\w{1,4}\])?")
TORCH_DTYPES = (
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip
#: Kinds of NumPy's dtypes whose items are bytes and nothing else.
KINDS = "biufcSUmM"


def numpy() -> Any:
    """Return NumPy, which a value of the other side needs; `ImportError` where it is missing."""
    return importlib.import_module("numpy")


def is_array(value: Any) -> bool:
    """Whether `value` is an array of NumPy, of a dtype that travels."""
    np = sys.modules.get("numpy")
    return np is not None and isinstance(value, np.ndarray) and value.dtype.kind in KINDS


def is_tensor(value: Any) -> bool:
    """Whether `value` is a tensor of torch that travels."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor) and is_dense(value)


def parts_of_kind(value: Any) -> list[Any] | None:
    """Return the kind and the plain arrays of a masked array, a matrix or records; else None."""
    np = sys.modules.get("numpy")
    if np is None or not isinstance(value, np.ndarray) or type(value) is np.ndarray:
        return None
    if value is np.ma.masked:
        return ["masked out"]
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in KINDS:
        fill = np.asarray(value.fill_value, dtype=value.dtype)
        return ["masked", np.asarray(value.data), np.ma.getmaskarray(value), fill]
    if isinstance(value, np.matrix) and value.dtype.kind in KINDS:
        return ["matrix", np.asarray(value)]
    return None


def make_kind(kind: Any, parts: list[Any]) -> Any:
    """Return the array of a kind and its decoded parts."""
    np = numpy()
    if kind == "masked out":
        return np.ma.masked
    if kind == "matrix":
        return np.asmatrix(parts[0])
    if kind != "masked":
        raise Malformed("no such kind of array")
    data, mask, fill = parts
    return np.ma.MaskedArray(data, mask=mask if mask.any() else np.ma.nomask, fill_value=fill[()])


def numpy_dtype(name: Any) -> Any:
    if not isinstance(name, str) or not NUMPY_DTYPE.fullmatch(name):
        raise Malformed("not a dtype")
    return numpy().dtype(name)


def numpy_array(dtype: Any, shape: list[int], data: Any) -> Any:
    kind = numpy_dtype(dtype)
    array = numpy().frombuffer(bytearray(data), kind).reshape(shape)
    # A boolean's byte is 0 or 1: another would make array code misbehave.
    return array.view(numpy().uint8) != 0 if kind.kind == "b" else array


def torch_dtype(name: Any) -> Any:
    if name not in TORCH_DTYPES:
        raise Malformed("not a dtype")
    return getattr(importlib.import_module("torch"), name)


def torch_tensor(dtype: Any, shape: list[int], data: Any) -> Any:
    torch = importlib.import_module("torch")
    kind = torch_dtype(dtype)
    read = torch.uint8 if kind == torch.bool else kind
    if not len(data):
        return torch.empty(shape, dtype=kind) if 0 in shape else torch.empty(0).reshape(shape)
    tensor = torch.frombuffer(bytearray(data), dtype=read).reshape(shape)
    return tensor != 0 if kind == torch.bool else tensor


def is_dense(tensor: Any) -> bool:
    torch = sys.modules["torch"]
    name = str(tensor.dtype).removeprefix("torch.")
    return tensor.layout == torch.strided and name in TORCH_DTYPES and tensor.device.type != "meta"


def layout(shape: Any, strides: Any) -> list[int] | None:
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
    if extent > 16 * math.prod(shape) + 1024:
        return None
    return [int(step) if size > 1 else 1 for step, size in zip(strides, shape, strict=True)]


def stored_shape(shape: list[int], layout: list[int]) -> list[int]:
    return [size if step else 1 for size, step in zip(shape, layout, strict=True)]


def without_repeats(array: Any, layout: list[int] | None) -> Any:
    if layout is None:
        return array
    return array[tuple(slice(None) if step else slice(0, 1) for step in layout)]


def place_in(value: Any, other: Any) -> list | None:
    """Return where an array lies in the memory of another one: its offset and strides.

    None where it lies elsewhere, is of another kind of numbers, or the other is not contiguous: the
    other side may hold it in another way. None, too, where it has more numbers than the other, by
    repeating them: what is sent is bounded by what it takes up.
    """
    np = numpy()
    if not is_array(other) or other.dtype != value.dtype or not 0 < value.size <= other.size:
        return None
    if not (other.flags.c_contiguous and np.may_share_memory(value, other)):
        return None
    (start, end), (first, last) = (_bounds(array) for array in (value, other))
    if start < first or end > last:
        return None
    offset = value.__array_interface__["data"][0] - other.__array_interface__["data"][0]
    return [offset, list(value.strides)]


def view_at(other: Any, dtype: Any, shape: list[int], offset: int, strides: list[int]) -> Any:
    """Return the array that lies there in the memory of `other`; `Malformed` where it does not."""
    kind = numpy_dtype(dtype)
    if not is_array(other) or other.dtype != kind:
        raise Malformed("an array in the memory of another kind")
    other = numpy().ascontiguousarray(other)  # a copy, where it lies in another way here
    if len(strides) != len(shape) or any(type(n) is not int for n in (*shape, *strides, offset)):
        raise Malformed("not a place in memory")
    first, last = _bounds(other)
    start = end = other.__array_interface__["data"][0] + offset
    for size, step in zip(shape, strides, strict=True):
        if size < 1:
            raise Malformed("not a place in memory")
        start, end = start + min(0, step * (size - 1)), end + max(0, step * (size - 1))
    if start < first or end + kind.itemsize > last or offset % kind.itemsize:
        raise Malformed("outside of the memory of the other array")
    if math.prod(shape) > other.size:
        raise Malformed("more numbers than there are in memory")
    return numpy().asarray(_InMemory(other, offset, shape, strides))


class _InMemory:
    """What NumPy makes an array of that lies in the memory of another one."""

    def __init__(self, other: Any, offset: int, shape: list[int], strides: list[int]):
        about = other.__array_interface__
        address, read_only = about["data"]
        self.other = other  # its memory is there as long as this is
        self.__array_interface__ = {
            **about,
            "data": (address + offset, read_only),
            "shape": tuple(shape),
            "strides": tuple(strides),
        }


def _bounds(array: Any) -> tuple[int, int]:
    """Return the first address of an array's memory, and the one behind its last."""
    start = end = array.__array_interface__["data"][0]
    for size, step in zip(array.shape, array.strides, strict=True):
        start, end = start + min(0, step * (size - 1)), end + max(0, step * (size - 1))
    return start, end + array.itemsize


def _extent(shape: list[int], layout: list[int]) -> int:
    return 1 + sum(step * (size - 1) for size, step in zip(shape, layout, strict=True))


def lay_out_numpy(array: Any, shape: list[int], layout: list[int]) -> Any:
    memory = numpy().zeros(_extent(shape, layout), array.dtype)
    strides = [step * array.itemsize for step in layout]
    as_strided = numpy().lib.stride_tricks.as_strided
    as_strided(memory, array.shape, strides)[...] = array
    return as_strided(memory, shape, strides, writeable=0 not in layout)


def lay_out_torch(tensor: Any, shape: list[int], layout: list[int]) -> Any:
    memory = tensor.new_zeros(_extent(shape, layout))
    memory.as_strided(tensor.shape, layout).copy_(tensor)
    return memory.as_strided(shape, layout)
