"""Numbers in place of those that a check leaves open: what all of them agree on does not depend on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice

from esper.ir.dims import Dim, evaluate_size, size_symbols
from esper.ir.errors import SizeOverflow
from esper.ir.operator import AttrValue, Kind, Operator
from esper.lang.values import Unknown

SIZES = (1, 2, 3, 4, 5, 7, 8, 16, 64)
INTEGERS = (1, 2, 0, -1, 3, 4, 5, 7, 8, 16, 64)
FLOATS = (0.5, 1.0, 0.1, 2.0, 1e-5, 0.0, -1.0, 64.0)


def trials(operator: Operator, open_values: Mapping[str, Dim | Unknown]) -> Iterator[dict[str, AttrValue]]:
    """Values for the attributes that are open: in step, and shifted against one another."""
    columns = {name: _tried(operator, name, value) for name, value in open_values.items()}
    if not all(columns.values()):
        return
    longest = max(map(len, columns.values()))
    for shift in range(2 if len(columns) > 1 else 1):
        rows = [
            islice(cycle(column), index * shift, index * shift + longest)
            for index, column in enumerate(columns.values())
        ]
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*rows, strict=True))


def _tried(operator: Operator, name: str, value: Dim | Unknown) -> Sequence[AttrValue]:
    attribute = operator.attribute(name)
    assert attribute is not None, name
    if attribute.kind is Kind.BOOL:
        return (True, False)
    is_float = attribute.kind is Kind.FLOAT
    if isinstance(value, Unknown):
        return FLOATS if is_float else INTEGERS
    found: dict[int, None] = {}
    for size in SIZES:
        try:
            found[evaluate_size(value, dict.fromkeys(size_symbols(value), size))] = None
        except (ZeroDivisionError, SizeOverflow):
            continue
    return tuple(map(float, found)) if is_float else tuple(found)
