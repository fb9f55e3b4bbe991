"""How far one point of a space is from another, and the points of a space in that order.

What is least is a repair's promise: of two points the one that sets fewer parameters to something else
changes less; of those that change as many, the one whose values lie fewer steps away. A step leads to the
next number of a domain, or to any other name; of an interval, it is a sixteenth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esper.lang import Interval, ParameterValue
from esper.tezzeret.space import Domain, Point, Space
from esper.tezzeret.space.domains import STEPS, is_same, rank

MAX_LISTED = 50_000
"""Points that are put in order at a time."""


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """edits: parameters with another value. steps: how far the values lie apart, over all of them."""

    edits: int = 0
    steps: float = 0.0


def change(space: Space, origin: Point, point: Point) -> Change:
    """From `origin` to `point`, both settled points of `space`."""
    differing = [name for name in space.domains if not is_same(origin[name], point[name])]
    return Change(
        len(differing), sum(distance(space.domains[name], origin[name], point[name]) for name in differing)
    )


def distance(domain: Domain, one: ParameterValue, other: ParameterValue) -> float:
    """In steps: 0 for equal values, 1 for different names."""
    if is_same(one, other):
        return 0.0
    if isinstance(domain, Interval):
        assert isinstance(one, int | float) and isinstance(other, int | float)
        return STEPS * abs(one - other) / ((domain.high - domain.low) or 1.0)
    ranks = rank(domain, one), rank(domain, other)
    return 1.0 if ranks[0] is None or ranks[1] is None else float(abs(ranks[0] - ranks[1]))


def in_words(origin: Point, point: Point) -> tuple[str, ...]:
    """Each parameter that changes, with both values."""
    return tuple(
        f"{name}: {_spelled(origin[name])} -> {_spelled(point[name])}"
        for name in origin
        if not is_same(origin[name], point[name])
    )


def by_change(space: Space, origin: Point) -> Iterator[tuple[Change, Point]]:
    """The points of a space without intervals by their change from `origin`, that itself first.

    All of them, unless more than `MAX_LISTED` set as many parameters anew: then it ends before those.
    """
    size = space.size
    if size is not None and size <= MAX_LISTED:
        found = [(change(space, origin, point), point) for point in space.points()]
        found.sort(key=lambda one: one[0])
        yield from found
        return
    names = [name for name, domain in space.domains.items() if len(_others(domain, origin[name])) > 0]
    seen = {space.encode(origin)}
    yield Change(), origin
    for edits in range(1, len(names) + 1):
        layer = _layer(space, origin, names, edits, seen)
        if layer is None:
            return
        yield from layer


def _layer(
    space: Space, origin: Point, names: list[str], edits: int, seen: set[str]
) -> list[tuple[Change, Point]] | None:
    """The points with `edits` other values, in order; None if they are too many."""
    others = {name: _others(space.domains[name], origin[name]) for name in names}
    several = list(itertools.combinations(names, edits))
    taken = sum(math.prod(len(others[name]) for name in chosen) for chosen in several)
    if taken > 2 * MAX_LISTED:  # settling makes some of them equal
        return None
    found: list[tuple[Change, Point]] = []
    for chosen in several:
        for values in itertools.product(*(others[name] for name in chosen)):
            point = space.settled({**origin, **dict(zip(chosen, values, strict=True))})
            key = space.encode(point)
            if key not in seen:
                seen.add(key)
                found.append((change(space, origin, point), point))
            if len(found) > MAX_LISTED:
                return None
    found.sort(key=lambda one: one[0])
    return found


def _others(domain: Domain, value: ParameterValue) -> list[ParameterValue]:
    assert not isinstance(domain, Interval)
    return [other for other in domain if not is_same(other, value)]


def _spelled(value: ParameterValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def default_point(space: Space, defaults: Mapping[str, ParameterValue | None]) -> Point:
    """Each parameter as it is where nobody sets it, as far as its domain has that."""
    chosen: dict[str, ParameterValue] = {}
    for name, domain in space.domains.items():
        default = defaults.get(name)
        is_known = default is not None and (
            default in domain if isinstance(domain, Interval) else any(is_same(default, v) for v in domain)
        )
        first = domain.low if isinstance(domain, Interval) else domain[0]
        chosen[name] = default if is_known and default is not None else first
    return space.settled(chosen)
