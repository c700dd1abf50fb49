"""Values that have crossed the line and that the learner's code still has: one on both sides.

`xs = [1]; s = Stack(xs); s.push(2)`: if the class keeps the list that it was given, `xs` holds two
numbers in one process, and a test that asks for a copy fails. So each side holds such values by one
number. A call and its answer begin with what was changed since, and a value that is known is
written as its number: it stays the same object, too.

A value counts for as long as both the learner's code and the test have it. Large values, and more
than a few, are left out: they are written anew each time, as if nobody had kept them.
"""

from __future__ import annotations

import sys
from typing import Any

from nbjudge.wire import arrays

#: Bytes that one value may have, and all together; and how many of them there are at most.
_MOST_OF_ONE, _MOST_BYTES, _MOST_VALUES = 500_000, 1_000_000, 64
#: Items of a container, or cells of a table: to write them takes longer than an array's bytes.
_MOST_ITEMS = 4000


class Kept:
    """Changeable values by their numbers, each with what it held when both sides last agreed."""

    def __init__(self) -> None:
        self.values: dict[int, Any] = {}
        self.contents: dict[int, bytes] = {}
        self._next = 0

    def has_room_for(self, content: bytes) -> bool:
        """Whether a value of these contents can be followed besides the others."""
        size = sum(map(len, self.contents.values())) + len(content)
        return (
            len(content) <= _MOST_OF_ONE and size <= _MOST_BYTES and len(self.values) < _MOST_VALUES
        )

    def new_number(self) -> int:
        """Return the number of the next value."""
        self._next += 1
        return self._next

    def add(self, number: int, value: Any, content: bytes) -> None:
        """Hold a value by a number from now on."""
        self.values[number], self.contents[number] = value, content

    def keep_held(self) -> None:
        """Forget what nothing else of this side has any longer."""
        numbers, table = list(self.values), list(self.values.values())
        self.values.clear()
        for at, number in enumerate(numbers):
            if is_held_elsewhere(table, at):
                self.values[number] = table[at]
            else:
                self.contents.pop(number, None)

    def keep_only(self, numbers: list[int]) -> None:
        """Forget what the other side does not name."""
        for number in self.values.keys() - set(numbers):
            self.forget(number)

    def forget(self, number: int) -> None:
        """Hold a value no longer."""
        self.values.pop(number, None)
        self.contents.pop(number, None)


def is_small(value: Any) -> bool:
    """Whether the contents of a value may be few enough to look at them: told without reading."""
    if arrays.is_array(value):
        return bool(value.nbytes <= _MOST_OF_ONE)
    if arrays.is_tensor(value):
        return bool(value.numel() * value.element_size() <= _MOST_OF_ONE)
    size = getattr(value, "size", None)  # of a table: its cells
    return (size if isinstance(size, int) else len(value)) <= _MOST_ITEMS


def bytes_of(value: Any) -> bytes | None:
    """Return what an array or a tensor holds, to compare it with itself; None for another value."""
    if arrays.is_array(value):
        return bytes(value.tobytes())
    if arrays.is_tensor(value) and value.device.type == "cpu" and not value.is_conj():
        return bytes(value.detach().contiguous().view(-1).view(sys.modules["torch"].uint8).numpy())
    return None


def is_held_elsewhere(table: list, at: int) -> bool:
    """Whether anything besides `table` has its value `at`; where not, it is taken out of there.

    A list in a list is held by it: ask for the outer one first.
    """
    held = _references(table, at) > _ALONE
    if not held:
        table[at] = None
    return held


def _references(table: list, at: int) -> int:
    """Count what refers to a value: Python's versions differ in what they count of this."""
    return sys.getrefcount(table[at])


#: Of a value that nothing but the table has.
_ALONE = _references([[]], 0)
