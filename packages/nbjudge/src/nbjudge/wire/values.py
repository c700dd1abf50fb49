"""Plain data over the line between the judge and a learner's kernel: msgpack, never pickle.

What is plain: None, booleans, numbers, strings, bytes, the built-in containers and those of
`collections`, dates, fractions and their like (`plain`), dtypes, NumPy arrays and torch tensors
(`arrays`), tables of pandas (`tables`), expressions of SymPy (`formulas`). A subclass of one of
them that a notebook defines arrives as its base or is held, so a value cannot bring behaviour (an
`__eq__` that always says yes) along. Anything else is left to `hold`, which gives it a number under
which the other side may ask for it, or names it, where both sides have it (`own`).

A value is written as a tree of msgpack arrays, each led by a tag; the numbers of arrays travel
beside the tree as buffers, so a small limit on the tree holds however large the arrays are.

Containers and arrays can be changed by the call that they are passed to. Both sides number them
in the order in which they are met (`Encoder.table`, `Decoder.table`): the answer brings their
contents after the call, and a value that *is* an argument comes back as that argument.

NumPy, torch, pandas and SymPy are used where they are loaded, and are not needed.
"""

from __future__ import annotations

import collections
import enum
import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

from nbjudge.wire import arrays, course, formulas, plain, tables
from nbjudge.wire.limits import (
    Limits,
    Malformed,
    Reference,
    TooLarge,
    natural,
    pack,
    unpack,
)

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


(
    BIG, LIST, TUPLE, SET, FROZENSET, DICT, COMPLEX, SLICE, ELLIPSIS, RANGE, ARRAY, SCALAR, TENSOR,
    DTYPE, DEVICE, REF, HELD, YOURS, METHOD, GLOBAL, RECORD, NAMESPACE, MAPPING, DEQUE, BYTES,
    VALUE, NAMED, NAMED_CLASS, TABLE, MISSING, FORMULA, OBJECTS, CLAIM, ERROR_CLASS, DRESSED,
    KIND_OF_ARRAY, VIEW,
) = range(37)  # fmt: skip

#: Where functions, classes and modules may come from that the judge sends by their names.
IMPORTABLE = {"builtins", "collections", "functools", "math", "numpy", "operator", "torch"}
#: Modules of classes that a notebook or a test cell defines.
NOTEBOOKS = {"__main__", "hidden_tests"}
CONTAINERS = (list, tuple, dict, set, frozenset)
MAPPINGS: dict[str, type[dict]] = {
    "Counter": collections.Counter,
    "OrderedDict": collections.OrderedDict,
    "defaultdict": collections.defaultdict,
}
#: What makes a `defaultdict`'s missing values, where it is one of these.
FACTORIES: dict[str, type] = {
    kind.__name__: kind
    for kind in (int, float, str, list, dict, set, tuple, bool, collections.Counter)
}
CHANGEABLE = (list, dict, set, bytearray, collections.deque)


#: Numbers and texts, each with what gives its value as one of the built-in class.
SCALARS: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes.__bytes__,
    complex: complex.__complex__,
}
#: What every class has in its dictionary, and an enumeration: no behaviour of its own.
_NOTHING_ADDED = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__slots__", "__qualname__"),
    *("__static_attributes__", "__firstlineno__", "__orig_bases__", "__parameters__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
}
_OF_ENUMERATIONS = {"__new__", "__str__", "__repr__", "__format__", "__reduce_ex__", "__hash__"}


def added(kind: type) -> set[str]:
    """Return the names of what a notebook's own classes add to those that they are made from."""
    names = {n for base in kind.__mro__ if base.__module__ in NOTEBOOKS for n in vars(base)}
    return names - _NOTHING_ADDED - (_OF_ENUMERATIONS if issubclass(kind, enum.Enum) else set())


def _is_more(names: set[str]) -> bool:
    """Whether a tuple's class adds anything but a way to compare, which is not for it to say."""
    return bool(names) and "__eq__" not in names


#: Operators that a number or text of a class of its own may have another meaning for.
OPERATORS = frozenset(
    f"__{prefix}{name}__"
    for name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift",
                 "rshift", "and", "or", "xor", "divmod", "neg", "pos", "invert", "abs", "round",
                 "call", "getitem", "len", "iter", "contains")
    for prefix in ("", "r", "i")
)  # fmt: skip


class Dressed:
    """Base of a number or text of a learner's own class: plain in all but its attributes."""

    _proxy_stand_in: Any


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
        kind = type(value)
        if kind not in SCALARS and isinstance(value, tuple(SCALARS)):
            if isinstance(value, Dressed):
                return self.hold(value._proxy_stand_in)
            if kind.__module__ in NOTEBOOKS and not self.trusted:
                return self._encode_own(value, depth)
        np = sys.modules.get("numpy")
        if np is not None and isinstance(value, np.generic) and value.dtype.kind in arrays.KINDS:
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

    def _encode_own(self, value: Any, depth: int) -> Any:
        """Write a number or text of a notebook's own class: as it, with the object behind it.

        How it is compared is not for its class to say: it is compared as what it is.
        """
        base = next(base for base in SCALARS if isinstance(value, base))
        plain = self.encode(SCALARS[base](value), depth + 1)
        return [DRESSED, plain, self.hold(value), sorted(added(type(value)) & OPERATORS)]

    def content(self, number: int) -> Any:
        """Return what the changeable value `number` holds now, without its place in the table."""
        value = self.table[number]
        if tables.can_change(value):
            return self._encode_table(value, 1)
        if isinstance(value, CHANGEABLE):
            return self._encode_items(value, 1)
        return self._encode_array(value)

    def _encode_items(self, value: Any, depth: int) -> list:
        if isinstance(value, dict):
            return self._encode_dict(value, depth)
        if isinstance(value, bytearray):
            return [BYTES, self._text(bytes(value))]
        if isinstance(value, collections.deque):
            items = collections.deque.__iter__(value)
            return [DEQUE, value.maxlen, *(self.encode(item, depth) for item in items)]
        tag = LIST if isinstance(value, list) else SET
        members = list.__iter__(value) if tag == LIST else set.__iter__(value)
        return [tag, *(self.encode(item, depth) for item in members)]

    def _encode_table(self, value: Any, depth: int) -> list | None:
        parts = tables.parts_of(value)
        return parts and [TABLE, *(self._part(part, depth) for part in parts)]

    def _part(self, part: Any, depth: int) -> Any:
        """Write a part of a table: its arrays are of one use, and never in the table."""
        if isinstance(part, list):
            return [LIST, *(self._part(item, depth + 1) for item in part)]
        return self._encode_array(part) if arrays.is_array(part) else self.encode(part, depth + 1)

    def _enter(self, value: Any) -> list | None:
        """Give a changeable value its number; its reference, where it has one already."""
        if id(value) in self.numbers:
            return [REF, self.numbers[id(value)]]
        self.numbers[id(value)] = len(self.table)
        self.table.append(value)
        return None

    def _encode_object(self, value: Any, depth: int) -> Any:
        if isinstance(value, Reference):
            return self.hold(value)
        torch, np = sys.modules.get("torch"), sys.modules.get("numpy")
        special = arrays.parts_of_kind(value)
        if special is not None:
            return [KIND_OF_ARRAY, special[0], *(self._encode_array(part) for part in special[1:])]
        if arrays.is_array(value) or arrays.is_tensor(value):
            return self._enter(value) or self._encode_view(value) or self._encode_array(value)
        if isinstance(value, CHANGEABLE) and self._is_plain(value):
            return self._enter(value) or self._encode_items(value, depth)
        if isinstance(value, types.MappingProxyType):
            return self.hold(value)
        if self.trusted and course.is_shared(type(value).__module__):
            fields = _record_fields(value)
            if fields is not None:
                kind = type(value)
                items = (self.encode(item, depth) for item in fields)
                return [RECORD, kind.__module__, kind.__qualname__, *items]
        if isinstance(value, tuple) and hasattr(type(value), "_fields"):
            fields = plain.named_fields(type(value))
            if fields is not None:
                items = (self.encode(item, depth) for item in tuple.__iter__(value))
                return [NAMED, type(value).__name__[:80], fields, *items]
            if type(value).__module__ in NOTEBOOKS and not self.trusted:
                return self.hold(value)
        if isinstance(value, tuple) and not self.trusted and _is_more(added(type(value))):
            return self.hold(value)
        if isinstance(value, tuple) and not (getattr(value, "__dict__", None) and not self.trusted):
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
        if np is not None and isinstance(value, np.dtype) and value.kind in arrays.KINDS:
            return [DTYPE, "numpy", value.str]
        if torch is not None and isinstance(value, torch.dtype):
            name = str(value).removeprefix("torch.")
            if name in arrays.TORCH_DTYPES:
                return [DTYPE, "torch", name]
        if torch is not None and isinstance(value, torch.device):
            return [DEVICE, str(value)]
        other = self._encode_other(value, depth)
        if other is not None:
            return other
        if self.trusted:
            found = _global_name(value)
            if found is not None:
                return [GLOBAL, *found]
            if type(value) is types.SimpleNamespace:
                return [NAMESPACE, self._encode_dict(vars(value), depth)]
        return self.hold(value)

    def _encode_other(self, value: Any, depth: int) -> list | None:
        """Write a value of the standard library, of pandas or of SymPy, or return None."""
        found = plain.parts_of(value)
        if found is not None:
            return [VALUE, found[0], *(self.encode(part, depth) for part in found[1])]
        missing = tables.is_missing(value)
        if missing is not None:
            return [MISSING, missing]
        if tables.is_table(value):
            if tables.can_change(value) and id(value) in self.numbers:
                return [REF, self.numbers[id(value)]]
            tree = self._encode_table(value, depth)
            if tree is not None and tables.can_change(value):
                self._enter(value)
            return tree
        if formulas.is_formula(value):
            parts = formulas.parts_of(value)
            return parts and [FORMULA, self.encode(parts, depth)]
        np = sys.modules.get("numpy")
        if np is not None and isinstance(value, np.ndarray) and value.dtype.kind == "O":
            items = (self.encode(item, depth) for item in np.asarray(value).ravel().tolist())
            return [OBJECTS, list(value.shape), *items]
        if isinstance(value, type) and issubclass(value, tuple) and not self.trusted:
            fields = plain.named_fields(value)
            defaults = vars(value).get("_field_defaults")
            if fields is not None and not defaults and value.__module__ in NOTEBOOKS:
                return [NAMED_CLASS, value.__name__[:80], fields]
        return None

    @staticmethod
    def _is_plain(value: Any) -> bool:
        # A learner's cache may well be a class made from dict: it is an object, not its items.
        kind = type(value)
        return kind in CONTAINERS or kind.__module__ not in NOTEBOOKS

    def _encode_dict(self, value: dict, depth: int) -> list:
        tree: list[Any] = [DICT]
        for name, kind in MAPPINGS.items():
            if isinstance(value, kind):
                factory = getattr(value, "default_factory", None)
                known = [key for key, made in FACTORIES.items() if made is factory]
                own = None if factory is None else self.encode(factory, depth)
                tree = [MAPPING, name, known[0] if known else own]
        for key, item in dict.items(value):
            tree += [self.encode(key, depth), self.encode(item, depth)]
        return tree

    def _encode_view(self, value: Any) -> list | None:
        """Write an array that lies in the memory of an earlier one as that, or return None."""
        if self.trusted or not arrays.is_array(value):
            return None
        for number, other in enumerate(self.table):
            place = None if other is value else arrays.place_in(value, other)
            if place is not None:
                return [VIEW, number, value.dtype.str, list(value.shape), *place]
        return None

    def _encode_array(self, value: Any) -> list:
        if arrays.is_array(value):
            base = arrays.numpy().asarray(value)
            steps = [s / base.itemsize if base.itemsize else 0 for s in base.strides]
            layout = arrays.layout(base.shape, steps) if self.trusted else None
            once = arrays.without_repeats(base, layout)
            self._count(once.nbytes)  # before it is copied: a broadcast array is small
            data = arrays.numpy().ascontiguousarray(once).tobytes()
            return [ARRAY, base.dtype.str, list(base.shape), self._buffer(data), layout]
        torch = sys.modules["torch"]
        base = value.detach().cpu().resolve_conj().resolve_neg()
        layout = arrays.layout(base.shape, base.stride()) if self.trusted else None
        once = arrays.without_repeats(base, layout)
        self._count(once.numel() * once.element_size())
        whole = once.contiguous()
        # Not `reshape`: a single number out of an expanded tensor keeps its stride of 0 there.
        flat = whole.as_strided((whole.numel(),), (1,))
        data = flat.view(torch.uint8).numpy().tobytes()
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
        if tag in (MAPPING, DEQUE, BYTES):
            value = self._empty(tag, rest)
            self.table.append(value)
            self._fill(value, rest[_LEADING.get(tag, 0) :], depth)
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
            return self.table[natural(rest[0])]
        if tag == VIEW:
            value = arrays.view_at(self.table[natural(rest[0])], *rest[1:])
            self.table.append(value)
            return value
        if tag == SCALAR:
            return arrays.numpy_array(rest[0], [], rest[1])[()]
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
            return arrays.numpy_dtype(rest[1])
        if tag == DTYPE:
            return arrays.torch_dtype(rest[1])
        if tag == DEVICE:
            return importlib.import_module("torch").device(str(rest[0]))
        if tag == DRESSED:
            return self.hold([DRESSED, self._decode(rest[0], depth), *rest[1:]])
        if tag in _OTHERS:
            return self._decode_other(tag, rest, depth)
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

    def _decode_other(self, tag: int, rest: list, depth: int) -> Any:
        if tag == VALUE:
            parts = [self._decode(part, depth) for part in rest[1:]]
            return plain.make(rest[0], parts, self.trusted)
        if tag == NAMED:
            kind = plain.named_class(rest[0], rest[1])
            return kind(*(self._decode(item, depth) for item in rest[2:]))
        if tag == NAMED_CLASS:
            return plain.named_class(rest[0], rest[1])
        if tag == MISSING:
            return getattr(importlib.import_module("pandas"), {"NA": "NA", "NaT": "NaT"}[rest[0]])
        if tag == TABLE:
            value = self._decode_table(rest, depth)
            if tables.can_change(value):
                self.table.append(value)
            return value
        if tag == FORMULA:
            return formulas.make(self._decode(rest[0], depth))
        if tag == KIND_OF_ARRAY:
            return arrays.make_kind(rest[0], [self._decode_array(part) for part in rest[1:]])
        shape = [natural(size) for size in rest[0]]
        array = arrays.numpy().empty(len(rest) - 1, dtype=object)
        for at, item in enumerate(rest[1:]):
            array[at] = self._decode(item, depth)
        return array.reshape(shape)

    def _decode_table(self, rest: list, depth: int) -> Any:
        return tables.make([self._decode_part(part, depth) for part in rest])

    def _decode_part(self, tree: Any, depth: int) -> Any:
        """Read a part of a table; what is a list or an array there is in no one's hands."""
        if depth > self.limits.depth:
            raise Malformed(f"nested deeper than {self.limits.depth} levels")
        if isinstance(tree, list) and tree and tree[0] == LIST:
            return [self._decode_part(item, depth + 1) for item in tree[1:]]
        if isinstance(tree, list) and tree and tree[0] == ARRAY:
            return self._decode_array(tree)
        return self._decode(tree, depth)

    def _empty(self, tag: int, rest: list) -> Any:
        if tag == BYTES:
            return bytearray()
        if tag == DEQUE:
            return collections.deque(maxlen=None if rest[0] is None else natural(rest[0]))
        value = MAPPINGS[rest[0]]()
        if isinstance(value, collections.defaultdict) and rest[1] is not None:
            own = isinstance(rest[1], list)
            value.default_factory = self._decode(rest[1], 1) if own else FACTORIES[rest[1]]
        return value

    def _fill(self, value: Any, trees: list, depth: int) -> None:
        if isinstance(value, bytearray):
            value[:] = bytes(trees[0])
            return
        items = [self._decode(item, depth) for item in trees]
        if isinstance(value, list):
            value[:] = items
            return
        value.clear()
        if isinstance(value, dict):
            # Not `value.update`, which counts in a `Counter`.
            dict.update(value, zip(items[::2], items[1::2], strict=True))
            if isinstance(value, collections.OrderedDict):
                value.clear()
                for key, item in zip(items[::2], items[1::2], strict=True):
                    value[key] = item
        else:
            (value.update if isinstance(value, set) else value.extend)(items)

    def _decode_array(self, tree: list) -> Any:
        tag, dtype, shape, number, layout, *grad = tree
        if layout is not None and not self.trusted:
            raise Malformed("an array with a layout")
        data, size = self.buffers[natural(number)], [natural(n) for n in shape]
        stored = size if layout is None else arrays.stored_shape(size, layout)
        if tag == ARRAY:
            array = arrays.numpy_array(dtype, stored, data)
            return array if layout is None else arrays.lay_out_numpy(array, size, layout)
        tensor = arrays.torch_tensor(dtype, stored, data)
        if layout is not None:
            tensor = arrays.lay_out_torch(tensor, size, layout)
        if grad and grad[0] is True and (tensor.is_floating_point() or tensor.is_complex()):
            tensor.requires_grad_(True)
        return tensor


#: How many parts stand before the items of a container, and what `_decode_other` reads.
_LEADING = {MAPPING: 2, DEQUE: 1}
_OTHERS = {VALUE, NAMED, NAMED_CLASS, TABLE, MISSING, FORMULA, OBJECTS, KIND_OF_ARRAY}


def _content_tag(value: Any) -> int:
    if isinstance(value, dict):
        return MAPPING if isinstance(value, tuple(MAPPINGS.values())) else DICT
    kinds = {list: LIST, set: SET, bytearray: BYTES, collections.deque: DEQUE}
    return next(tag for kind, tag in kinds.items() if isinstance(value, kind))


def apply_content(decoder: Decoder, number: Any, tree: Any) -> None:
    """Give the changeable value `number` of the decoder's table the contents that `tree` holds.

    `Malformed` if the tree is no content of that kind of value, `AssertionError` if an array's
    shape or dtype was changed: a call may fill an argument, not make another thing of it.
    """
    try:
        value = decoder.table[natural(number)]
        tag = tree[0]
        if isinstance(value, CHANGEABLE):
            if tag != _content_tag(value):
                raise Malformed("contents of another kind of value")
            decoder._fill(value, tree[1 + _LEADING.get(tag, 0) :], 1)
            return
        if tables.can_change(value):
            if tag != TABLE:
                raise Malformed("contents of another kind of value")
            tables.replace(value, decoder._decode_table(tree[1:], 1))
            return
        if tag != (ARRAY if arrays.is_array(value) else TENSOR):
            raise Malformed("contents of another kind of value")
        new = decoder._decode_array(tree)
    except Malformed:
        raise
    except Exception as error:
        raise Malformed(f"not a value: {type(error).__name__}") from None
    if new.shape != value.shape or new.dtype != value.dtype:
        raise AssertionError("the call changed the shape or the dtype of its argument in place")
    if arrays.is_array(value):
        if not value.flags.writeable:
            raise AssertionError("the call changed an argument that is read-only")
        arrays.numpy().copyto(value, new)
    else:
        torch = importlib.import_module("torch")
        if isinstance(value, torch.nn.Parameter):
            raise AssertionError("the call changed a weight of the model")
        with torch.no_grad():
            value.copy_(new)


def refill(value: Any, new: Any) -> None:
    """Give a changeable value the contents of another of its kind; TypeError for another kind."""
    if value is new:
        return
    if arrays.is_array(value) and arrays.is_array(new):
        arrays.numpy().copyto(value, new)
    elif tables.can_change(value) and tables.can_change(new):
        tables.replace(value, new)
    elif isinstance(value, list | bytearray) and isinstance(new, list | bytearray):
        value[:] = new
    elif isinstance(value, dict) and isinstance(new, dict):
        value.clear()
        dict.update(value, new)  # not `value.update`, which counts in a `Counter`
    elif isinstance(value, set) and isinstance(new, set):
        value.clear()
        value.update(new)
    elif isinstance(value, collections.deque) and isinstance(new, collections.deque):
        value.clear()
        value.extend(new)
    else:
        raise TypeError(f"a {type(value).__name__} does not take contents of another kind")


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
    names = getattr(kind, "__dataclass_fields__", ())
    for name, item in zip(names, fields, strict=True):
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
        known = module.partition(".")[0] in IMPORTABLE or course.is_shared(module)
        if not isinstance(name, str) or not known:
            continue
        try:
            # A library that is not loaded here has nothing that could be meant.
            if module in sys.modules and _import(module, name) is value:
                return module, name
        except (ImportError, AttributeError):
            continue
    return None


def _import(module: str, name: str) -> Any:
    value = importlib.import_module(module)
    for part in name.split(".") if name else []:
        value = getattr(value, part)
    return value
