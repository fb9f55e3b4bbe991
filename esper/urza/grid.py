"""Sizes that a launch computes: numbers, argument names, sums, products and rounded-up quotients of these.

A closed little language in place of Python expressions, so that a grid or a buffer's size can be stored
in a file and evaluated at a launch without evaluating code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esper.urza.errors import MalformedExtent


@dataclass(frozen=True, slots=True)
class Product:
    """factors multiplied; 1 where there are none."""

    factors: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """terms added up; 0 where there are none."""

    terms: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class CeilDiv:
    """ceil(numerator / denominator)."""

    numerator: Extent
    denominator: Extent


Extent = int | str | Product | Sum | CeilDiv
"""A number, the name of a size argument or constant, or an expression over these."""


def evaluate(extent: Extent, values: Mapping[str, int]) -> int:
    """The number that `extent` stands for; MalformedExtent where a name has no value."""
    match extent:
        case int():
            return extent
        case str():
            if extent not in values:
                raise MalformedExtent(extent=extent, reason="it has no value")
            return values[extent]
        case Product(factors):
            return math.prod(evaluate(factor, values) for factor in factors)
        case Sum(terms):
            return sum(evaluate(term, values) for term in terms)
        case CeilDiv(numerator, denominator):
            divisor = evaluate(denominator, values)
            if divisor <= 0:
                raise MalformedExtent(extent=to_text(extent), reason=f"the divisor is {divisor}")
            return -(-evaluate(numerator, values) // divisor)


def to_text(extent: Extent) -> str:
    """For people: `ceil(M / 64) * 4`."""
    match extent:
        case int() | str():
            return str(extent)
        case Product(factors):
            return " * ".join(map(_factor_text, factors)) or "1"
        case Sum(terms):
            return " + ".join(to_text(term) for term in terms) or "0"
        case CeilDiv(numerator, denominator):
            return f"ceil({to_text(numerator)} / {to_text(denominator)})"


def _factor_text(factor: Extent) -> str:
    return f"({to_text(factor)})" if isinstance(factor, Sum) else to_text(factor)


def to_json(extent: Extent) -> Any:
    """Nested lists: `["ceil_div", "M", 64]`, `["product", "A", 2]`."""
    match extent:
        case int() | str():
            return extent
        case Product(factors):
            return ["product", *(to_json(factor) for factor in factors)]
        case Sum(terms):
            return ["sum", *(to_json(term) for term in terms)]
        case CeilDiv(numerator, denominator):
            return ["ceil_div", to_json(numerator), to_json(denominator)]


def from_json(data: Any) -> Extent:
    """The inverse of `to_json`; MalformedExtent for anything else."""
    match data:
        case bool():
            raise MalformedExtent(extent=str(data), reason="it is no size")
        case int() | str():
            return data
        case ["product", *factors]:
            return Product(tuple(from_json(factor) for factor in factors))
        case ["sum", *terms]:
            return Sum(tuple(from_json(term) for term in terms))
        case ["ceil_div", numerator, denominator]:
            return CeilDiv(from_json(numerator), from_json(denominator))
        case _:
            raise MalformedExtent(extent=str(data)[:80], reason="it is no size")
