"""Bounds of what crosses the line, and its outermost form: bytes of msgpack."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import msgpack


class Malformed(Exception):
    """Bytes that `Encoder` does not write."""


class TooLarge(Exception):
    """A value beyond the `Limits`."""


class Unchecked(BaseException):
    """What is asked for cannot be judged from outside the learner's process.

    Not an `Exception`: a test's own `except` would make a verdict of it. One that a bare `except`
    caught is still found in `seen`.
    """

    _here = threading.local()

    def __init__(self, why: str):
        super().__init__(why)
        self._here.first = self.seen() or why

    @classmethod
    def seen(cls) -> str | None:
        """Return why the first since `forget` was raised in this thread, or None."""
        return getattr(cls._here, "first", None)

    @classmethod
    def forget(cls) -> None:
        """Begin anew."""
        cls._here.first = None


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


def natural(number: Any) -> int:
    """Return a size or a place in a list; `Malformed` where it is none."""
    if type(number) is not int or number < 0:
        raise Malformed("not a size")
    return number
