"""Expressions of SymPy as trees of its own constructors: never as text, which SymPy evaluates."""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

from nbjudge.wire.limits import Malformed

_CLASS = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,40}")
_CONSTANTS = (
    *("Pi", "Exp1", "ImaginaryUnit", "Infinity", "NegativeInfinity", "ComplexInfinity", "NaN"),
    *("EulerGamma", "GoldenRatio", "true", "false", "EmptySet", "Reals", "Integers", "Naturals"),
)


def is_formula(value: Any) -> bool:
    """Whether `value` is an expression or a matrix of SymPy."""
    sympy = sys.modules.get("sympy")
    return sympy is not None and isinstance(value, sympy.Basic | sympy.MatrixBase)


def parts_of(value: Any) -> list[Any] | None:
    """Return an expression as lists of text and numbers, or None where it is of another kind."""
    try:
        return _parts(importlib.import_module("sympy"), value, 0)
    except LookupError:
        return None


def _parts(sympy: Any, value: Any, depth: int) -> list[Any]:
    if depth > 30:
        raise LookupError("too deep")
    for name in _CONSTANTS:
        if value is getattr(sympy.S, name, None):
            return ["constant", name]
    if isinstance(value, sympy.Symbol) and type(value) is sympy.Symbol:
        return ["symbol", value.name, dict(value._assumptions_orig)]
    if isinstance(value, sympy.Integer):
        return ["integer", int(value)]
    if isinstance(value, sympy.Rational):
        return ["rational", int(value.p), int(value.q)]
    if isinstance(value, sympy.Float):
        sign, mantissa, exponent, _ = value._mpf_
        return ["float", int(sign), int(mantissa), int(exponent), int(value._prec)]
    if isinstance(value, sympy.MatrixBase):
        rows, columns = value.shape
        kind = "immutable" if isinstance(value, sympy.ImmutableMatrix) else "mutable"
        items = [_parts(sympy, item, depth + 1) for item in value]
        return ["matrix", kind, int(rows), int(columns), items]
    own = type(value)
    if isinstance(value, sympy.core.function.AppliedUndef):
        items = [_parts(sympy, item, depth + 1) for item in value.args]
        return ["function", own.__name__, items]
    if getattr(sympy, own.__name__, None) is not own or not _is_allowed(sympy, own):
        raise LookupError(own.__name__)
    return ["node", own.__name__, [_parts(sympy, item, depth + 1) for item in value.args]]


def _is_allowed(sympy: Any, kind: Any) -> bool:
    bases = (
        *(sympy.Add, sympy.Mul, sympy.Pow, sympy.Function, sympy.core.relational.Relational),
        *(sympy.Tuple, sympy.Set, sympy.Derivative, sympy.Integral, sympy.Sum, sympy.Product),
        *(sympy.Limit, sympy.And, sympy.Or, sympy.Not),
    )
    return isinstance(kind, type) and issubclass(kind, bases)


def make(parts: Any) -> Any:
    """Return the expression of decoded parts; `Malformed` where they are none."""
    try:
        sympy = importlib.import_module("sympy")
    except ImportError:
        raise Malformed("a formula, and there is no SymPy here") from None
    return _make(sympy, parts, 0)


def _make(sympy: Any, parts: list[Any], depth: int) -> Any:
    kind, first, *rest = parts
    if depth > 30:
        raise Malformed("a formula that is too deep")
    if kind == "constant" and first in _CONSTANTS:
        return getattr(sympy.S, first)
    if kind == "symbol" and isinstance(first, str):
        assumptions = {str(name): bool(value) for name, value in rest[0].items()}
        return sympy.Symbol(first, **assumptions)
    if kind == "integer" and type(first) is int:
        return sympy.Integer(first)
    if kind == "rational" and type(first) is type(rest[0]) is int:
        return sympy.Rational(first, rest[0])
    if kind == "float":
        sign, mantissa, exponent, precision = (int(number) for number in (first, *rest))
        if not (0 < precision < 10_000 and abs(exponent) < 100_000):
            raise Malformed("not a number")
        value = (sign, mantissa, exponent, mantissa.bit_length())
        return sympy.Float._new(value, precision)
    if kind == "matrix":
        rows, columns, items = rest
        cells = [_make(sympy, item, depth + 1) for item in items]
        matrix = sympy.ImmutableMatrix if first == "immutable" else sympy.Matrix
        return matrix(rows, columns, cells)
    if not isinstance(first, str) or not _CLASS.fullmatch(first):
        raise Malformed("not a formula")
    arguments = [_make(sympy, item, depth + 1) for item in rest[0]]
    if kind == "function":
        return sympy.Function(first)(*arguments)
    node = getattr(sympy, first, None)
    if kind != "node" or node is None or not _is_allowed(sympy, node):
        raise Malformed("not a formula")
    return node(*arguments)
