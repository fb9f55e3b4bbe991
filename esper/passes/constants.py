"""What is known of scalars when a graph is compiled: which values are constant, and arithmetic on them.

A constant's value is converted to its dtype when it is run; arithmetic here gives a result only where that
conversion gives what running the operators would, in the declared dtypes and in float64 alike.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Mapping

from esper.ir.build import Builder
from esper.ir.graph import Node, Value
from esper.ir.types import DType

ARITHMETIC: Mapping[str, Callable[..., float]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
}
"""Operators that are computed before the graph runs."""

_INTEGER = ("add", "sub", "mul")
_EXACT_INTEGER = {DType.I32: 2**31 - 1, DType.I64: 2**53}
_FLOATS = (DType.F16, DType.BF16, DType.F32, DType.F64)


def constant_of(build: Builder, value: Value | None) -> float | None:
    """The value of a `constant`, or None."""
    node = None if value is None else build.node(value.node)
    return float(str(node.attrs["value"])) if node is not None and node.op == "constant" else None


def is_constant(node: Node) -> bool:
    """Whether `node` is a scalar known from its operands: a constant, a concrete size, or arithmetic."""
    if node.op == "size":
        return isinstance(node.attrs["value"], int)
    return node.op == "constant" or ((node.op in ARITHMETIC or node.op == "cast") and node.type.rank == 0)


def computed(build: Builder, node: Node) -> float | None:
    """The value of `node` if all its operands are constants and it can be had exactly, else None."""
    if node.op == "size":
        value = node.attrs["value"]
        return _stored(float(value), float(value), node.type.dtype) if isinstance(value, int) else None
    if node.op == "constant" or not is_constant(node):
        return None
    operands = [constant_of(build, operand) for operand in node.operands]
    known = [operand for operand in operands if operand is not None]
    if len(known) != len(operands):
        return None
    dtypes = [build.type(operand).dtype for operand in node.operands if operand is not None]
    rounded = [_rounded(value, dtype) for value, dtype in zip(known, dtypes, strict=True)]
    if node.op == "cast":
        return _cast(known[0], rounded[0], dtypes[0], node.type.dtype)
    if not node.type.dtype.is_floating and node.op not in _INTEGER:
        return None
    compute = ARITHMETIC[node.op]
    try:
        return _stored(compute(*known), compute(*rounded), node.type.dtype)
    except (ZeroDivisionError, ValueError, OverflowError):
        return None


def _cast(exact: float, rounded: float, source: DType, target: DType) -> float | None:
    if source in _FLOATS and target in _FLOATS:
        return _stored(exact, rounded, target)
    same = exact == rounded and math.isfinite(exact)
    if target is DType.BOOL:
        return float(exact != 0.0) if same else None
    if target not in _FLOATS and same:
        exact = rounded = float(math.trunc(exact))
    return _stored(exact, rounded, target) if same else None


def _stored(exact: float, ran: float, dtype: DType) -> float | None:
    """`exact`, if converted to `dtype` it is what running gives; None otherwise."""
    if not math.isfinite(exact):
        return None
    limit = _EXACT_INTEGER.get(dtype)
    if limit is not None and abs(exact) > limit:
        return None
    converted = _rounded(exact, dtype)
    return exact if math.isfinite(converted) and repr(converted) == repr(_rounded(ran, dtype)) else None


def _rounded(value: float, dtype: DType) -> float:
    """`value` as torch converts it: through float32 to the narrower dtypes."""
    if dtype not in _FLOATS or dtype is DType.F64:
        return value
    single = _packed(value, "f")
    if dtype is DType.F16:
        return _packed(single, "e")
    return _to_bfloat16(single) if dtype is DType.BF16 else single


def _packed(value: float, form: str) -> float:
    """`value` rounded to a format of `struct`, ties to even; infinite where that has no such number."""
    try:
        rounded: float = struct.unpack(form, struct.pack(form, value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def _to_bfloat16(single: float) -> float:
    """Rounds to the nearest of the floats whose low 16 bits are zero, ties to even."""
    if not math.isfinite(single):
        return single
    bits: int = struct.unpack("I", struct.pack("f", single))[0]
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    rounded: float = struct.unpack("f", struct.pack("I", bits))[0]
    return rounded
