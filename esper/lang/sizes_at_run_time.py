"""Sizes that must be equal but are known only when a seed runs: which can be, and the check that says so.

`2*(H//2)` and `H` are equal for every even `H`: the graph gets an `ensure_shape`, whose error names the line
of the blueprint. `H//2` and `H` never are, and that is an error at once.
"""

from __future__ import annotations

from collections.abc import Mapping

from esper.errors import Span
from esper.ir.build import Builder, complete_attrs, infer_types
from esper.ir.dims import Dim, Size, product, quotients_in, remainder, size_symbols
from esper.ir.errors import SizesUnproved
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import TensorType
from esper.lang.diagnostics import Report
from esper.lang.errors import TakenAsEqual
from esper.lang.inequality import never_equal
from esper.ops.shape import MOST_WORDS


def with_ensured_sizes(
    build: Builder,
    op: str,
    operands: list[Value | float | None],
    attrs: Mapping[str, AttrValue],
    error: SizesUnproved,
    later: frozenset[str],
    doubted: frozenset[str],
    report: Report,
    place: str,
) -> list[Value | float | None]:
    """The operands of a node for which `error` was raised, with an `ensure_shape` before those that need one.

    later: size symbols that are numbers by the time a seed runs, so that nothing can be left open for them,
    but for those of `doubted`, whose mismatch need not come up.
    place: what the error of a run says of the line. Raises `error`, or the next one of its kind, if sizes
    can never be equal. Sizes that have no symbol in common are told to `report`.
    """
    entry = OPERATORS[op]
    complete = complete_attrs(entry, dict(attrs), node=op)
    types = [build.type(operand) if isinstance(operand, Value) else None for operand in operands]
    merged = list(types)
    while True:
        held = types[error.operand]
        assert held is not None, op
        axis, end = error.axis % held.rank, error.axis % held.rank + error.axes
        before, after = held.shape[:axis], held.shape[end:]
        found, wanted = product(held.shape[axis:end]), error.wanted
        if not can_be_equal(found, wanted, later - doubted):
            raise error.with_way_out(_way_out(found, wanted, later))
        tell_apart(found, wanted, f"`{op}`", error.span, report, later)
        if error.axes > 1:
            merged[error.operand] = held.with_shape((*before, found, *after))
        types[error.operand] = held.with_shape((*before, wanted, *after))
        try:
            infer_types(entry, _with_numbers(operands, types), complete, error.span)
            break
        except SizesUnproved as next_error:
            error = next_error
    checked: list[Value | float | None] = []
    for operand, whole, type in zip(operands, merged, types, strict=True):
        if isinstance(operand, Value) and whole is not None and type is not None:
            if build.type(operand) != whole:
                name = build.fresh("merged_axes")
                operand = build.op("reshape", operand, shape=whole.shape, name=name, span=error.span)
            operand = ensured(build, operand, type, place, error.span)
        checked.append(operand)
    return checked


def ensured(build: Builder, value: Value, type: TensorType, place: str, span: Span | None) -> Value:
    """`value`, through an `ensure_shape` if its sizes are not those of `type`."""
    pairs = zip(build.type(value).shape, type.shape, strict=True)
    claims = dict.fromkeys(f"{found} = {wanted}" for found, wanted in pairs if found != wanted)
    if not claims:
        return value
    because = f"{place} needs {' and '.join(claims)}"[:MOST_WORDS]
    return build.op("ensure_shape", value, shape=type.shape, because=because, span=span)


def _way_out(found: Size, wanted: Size, later: frozenset[str]) -> str:
    """What a blueprint would say if two sizes are equal because one divides; nothing for others."""
    zero = found - wanted
    if not isinstance(zero, Dim) or not size_symbols(zero) <= later:
        return ""
    for quotient in quotients_in(zero):
        if remainder(quotient) in (zero, -zero):
            return f'say so where it is true: require {quotient.written(" % ")} == 0: "why"'
    return ""


def tell_apart(
    one: Size, other: Size, where: str, span: Span | None, report: Report, later: frozenset[str]
) -> None:
    """Warns of two sizes that have no symbol in common: their equality is chance, as far as names tell.

    Of sizes whose symbols are all of `later` nothing is said: their numbers will tell.
    """
    symbols, others = size_symbols(one), size_symbols(other)
    if not symbols & others and not symbols | others <= later:
        report.add(TakenAsEqual(where=where, one=one, other=other), span)


def _with_numbers(
    operands: list[Value | float | None], types: list[TensorType | None]
) -> list[TensorType | None]:
    """The operands' types; a number is a scalar of the first tensor's dtype."""
    dtype = next(type.dtype for type in types if type is not None)
    return [
        TensorType(dtype) if isinstance(operand, int | float) else type
        for operand, type in zip(operands, types, strict=True)
    ]


def can_be_equal(one: Size, other: Size, later: frozenset[str] = frozenset()) -> bool:
    """Whether `one` and `other` are left to a run: unless it is proved that they never are equal.

    A size of 1 counts only where 1 is written: `H` and `(H - 1)//2 + 1`, the two sides of a shortcut past a
    convolution with a stride, are equal for no other. False, too, if only symbols of `later` tell them apart.
    """
    difference = one - other
    if not isinstance(difference, Dim) or size_symbols(difference) <= later:
        return difference == 0
    return not never_equal(one, other, 1 if 1 in (one, other) else 2)
