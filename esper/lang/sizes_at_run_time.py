"""Sizes that must be equal but are known only when a seed runs: which can be, and the check that says so.

`2*(H//2)` and `H` are equal for every even `H`: the graph gets an `ensure_shape`, whose error names the line
of the blueprint. `H//2` and `H` never are, and that is an error at once.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import lru_cache

from esper.errors import Span
from esper.ir.build import Builder, complete_attrs, infer_types
from esper.ir.dims import Dim, Size, evaluate_size, size_symbols
from esper.ir.errors import SizesUnproved
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import TensorType
from esper.lang.diagnostics import Report
from esper.lang.errors import TakenAsEqual
from esper.ops.shape import MOST_WORDS

TRIED = range(2, 65)  # sizes: one of 1 is no case worth compiling for
BASES = (2, 3, 4, 5, 8, 16, 48)


def with_ensured_sizes(
    build: Builder,
    op: str,
    operands: list[Value | float | None],
    attrs: Mapping[str, AttrValue],
    error: SizesUnproved,
    later: frozenset[str],
    report: Report,
    place: str,
) -> list[Value | float | None]:
    """The operands of a node for which `error` was raised, with an `ensure_shape` before those that need one.

    later: size symbols that are numbers by the time a seed runs, so that nothing can be left open for them.
    place: what the error of a run says of the line. Raises `error`, or the next one of its kind, if sizes
    can never be equal. Sizes that have no symbol in common are told to `report`.
    """
    entry = OPERATORS[op]
    complete = complete_attrs(entry, dict(attrs), node=op)
    types = [build.type(operand) if isinstance(operand, Value) else None for operand in operands]
    while True:
        held = types[error.operand]
        assert held is not None, op
        axis = error.axis % held.rank
        if not can_be_equal(held.shape[axis], error.wanted, later):
            raise error
        tell_apart(held.shape[axis], error.wanted, f"`{op}`", error.span, report)
        types[error.operand] = held.with_shape((*held.shape[:axis], error.wanted, *held.shape[axis + 1 :]))
        try:
            infer_types(entry, _with_numbers(operands, types), complete, error.span)
            break
        except SizesUnproved as next_error:
            error = next_error
    return [
        ensured(build, operand, type, place, error.span)
        if isinstance(operand, Value) and type is not None
        else operand
        for operand, type in zip(operands, types, strict=True)
    ]


def ensured(build: Builder, value: Value, type: TensorType, place: str, span: Span | None) -> Value:
    """`value`, through an `ensure_shape` if its sizes are not those of `type`."""
    pairs = zip(build.type(value).shape, type.shape, strict=True)
    claims = dict.fromkeys(f"{found} = {wanted}" for found, wanted in pairs if found != wanted)
    if not claims:
        return value
    because = f"{place} needs {' and '.join(claims)}"[:MOST_WORDS]
    return build.op("ensure_shape", value, shape=type.shape, because=because, span=span)


def tell_apart(one: Size, other: Size, where: str, span: Span | None, report: Report) -> None:
    """Warns of two sizes that have no symbol in common: their equality is chance, as far as names tell."""
    if not size_symbols(one) & size_symbols(other):
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


@lru_cache(4096)
def can_be_equal(one: Size, other: Size, later: frozenset[str] = frozenset()) -> bool:
    """Whether some sizes of at least 2 make `one` and `other` equal, found by trying a fixed set of them.

    False if only symbols of `later` tell them apart.
    """
    difference = one - other
    if not isinstance(difference, Dim) or size_symbols(difference) <= later:
        return difference == 0
    return any(evaluate_size(difference, sizes) == 0 for sizes in _tried(difference))


def _tried(difference: Dim) -> Iterator[dict[str, int]]:
    """Values for the symbols: all alike; each in turn over `TRIED`, and where a straight line would be 0."""
    names = sorted(size_symbols(difference))
    yield from (dict.fromkeys(names, value) for value in TRIED)
    draw = random.Random(0)
    for _ in range(len(BASES)):
        base = {name: draw.choice(BASES) for name in names}
        for name in names:
            yield from ({**base, name: value} for value in TRIED)
            first, last = (evaluate_size(difference, {**base, name: value}) for value in (2, 62))
            if first != last and 60 * first % (first - last) == 0:
                root = 2 + 60 * first // (first - last)
                if root >= TRIED.start:
                    yield {**base, name: root}
