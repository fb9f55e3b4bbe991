"""Arithmetic on static values: integers within 64 bits, sizes, floats, truth values.

A comparison of sizes is decided where every assignment of numbers >= 1 to their symbols agrees, and is
`Unknown` otherwise; `and`, `or` and `not` follow Kleene's three-valued logic.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

from esper.errors import EsperError
from esper.ir.dims import Dim, Size, size_symbols
from esper.ir.types import DType
from esper.lang.errors import DivisionByZero, OperandKind, OperandKinds, ValueOverflow
from esper.lang.inequality import bounds, never_equal
from esper.lang.values import OperatorName, Static, Unknown, describe, is_size

LIMIT = 2**63
MAX_POWER = 16

_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_SIZE_OPERATIONS: dict[str, Callable[[Size, Size], Size]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


def negate(value: Static) -> Static:
    """`-value`. Raises `OperandKind`."""
    if isinstance(value, Unknown):
        return value
    if is_size(value):
        return apply("*", value, -1)
    if isinstance(value, float):
        return -value
    raise OperandKind(operator="-", operand=describe(value), suggestion="")


def invert(value: Static) -> Static:
    """`not value`. Raises `OperandKind`."""
    if isinstance(value, Unknown):
        return value
    if isinstance(value, bool):
        return not value
    raise OperandKind(operator="not", operand=describe(value), suggestion="it takes a truth value")


def apply(symbol: str, left: Static, right: Static) -> Static:
    """`left symbol right`. Raises `OperandKinds`, `DivisionByZero` or `ValueOverflow`."""
    try:
        if symbol in ("and", "or"):
            return _logical(symbol, left, right)
        if isinstance(left, Unknown) or isinstance(right, Unknown):
            return Unknown(_symbols(left) | _symbols(right))
        if symbol in _COMPARISONS:
            return _compare(symbol, left, right)
        return _compute(symbol, left, right)
    except ZeroDivisionError:
        raise DivisionByZero() from None
    except OverflowError:
        raise ValueOverflow(operator=symbol) from None


def _symbols(value: Static) -> frozenset[str]:
    if isinstance(value, Unknown):
        return value.symbols
    return size_symbols(value) if isinstance(value, Dim) else frozenset()


def _mismatch(symbol: str, left: Static, right: Static, suggestion: str = "") -> EsperError:
    return OperandKinds(operator=symbol, left=describe(left), right=describe(right), suggestion=suggestion)


def _logical(symbol: str, left: Static, right: Static) -> Static:
    for value in (left, right):
        if not isinstance(value, bool | Unknown):
            raise _mismatch(symbol, left, right, "it takes truth values")
    decisive = symbol == "or"
    if left is decisive or right is decisive:
        return decisive
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return Unknown(_symbols(left) | _symbols(right))
    return not decisive


def _compare(symbol: str, left: Static, right: Static) -> Static:
    if isinstance(left, Dim | int) and isinstance(right, Dim | int) and is_size(left) and is_size(right):
        low, high = bounds(left - right)
        compare = _COMPARISONS[symbol]
        if low == high:
            return compare(low, 0)
        if symbol in ("==", "!="):
            return symbol == "!=" if never_equal(left, right) else Unknown(_symbols(left) | _symbols(right))
        at_low, at_high = compare(low, 0), compare(high, 0)
        return at_low if at_low == at_high else Unknown(_symbols(left) | _symbols(right))
    if _is_number(left) and _is_number(right):
        if isinstance(left, Dim) or isinstance(right, Dim):
            return Unknown(_symbols(left) | _symbols(right))
        assert isinstance(left, int | float) and isinstance(right, int | float)
        return _COMPARISONS[symbol](left, right)
    if (
        symbol in ("==", "!=")
        and type(left) is type(right)
        and isinstance(left, bool | str | OperatorName | DType | tuple)
    ):
        return (left == right) == (symbol == "==")
    texts = [value for value in (left, right) if isinstance(value, str)]
    is_quoted = bool(texts) and any(isinstance(value, OperatorName | DType) for value in (left, right))
    raise _mismatch(symbol, left, right, f"it stands without quotes: `{texts[0]}`" if is_quoted else "")


def _is_number(value: Static) -> bool:
    return is_size(value) or isinstance(value, float)


def _compute(symbol: str, left: Static, right: Static) -> Static:
    if not (_is_number(left) and _is_number(right)) or symbol not in _ARITHMETIC:
        raise _mismatch(symbol, left, right, "`@` multiplies tensors" if symbol == "@" else "")
    if isinstance(left, Dim) or isinstance(right, Dim):
        return _compute_sizes(symbol, left, right)
    assert isinstance(left, int | float) and isinstance(right, int | float)
    if symbol == "**":
        if left < 0 and not isinstance(right, int):
            raise _mismatch(symbol, left, right, "a number below zero has no such power")
        _refuse_large_power(left, right)
    result = _ARITHMETIC[symbol](left, right)
    if (
        isinstance(result, complex)
        or not math.isfinite(result)
        or (isinstance(result, int) and abs(result) >= LIMIT)
    ):
        raise ValueOverflow(operator=symbol)
    return result


def _compute_sizes(symbol: str, left: Static, right: Static) -> Static:
    if isinstance(left, Dim | int) and isinstance(right, Dim | int):
        if symbol in _SIZE_OPERATIONS:
            return _SIZE_OPERATIONS[symbol](left, right)
        if symbol == "**" and isinstance(right, int) and 0 <= right <= MAX_POWER:
            result: Size = 1
            for _ in range(right):
                result = result * left
            return result
    return Unknown(_symbols(left) | _symbols(right))


def _refuse_large_power(base: float, exponent: float) -> None:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > 64:
        raise ValueOverflow(operator="**")
