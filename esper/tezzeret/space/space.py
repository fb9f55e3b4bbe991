"""A `Space`: the points that a blueprint leaves to a search, counted, listed, drawn, changed and crossed.

A parameter that does not matter at a point has its default there, so that no two points are the same by that.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from esper.lang import Interval, ParameterValue, lower_loaded
from esper.lang.library import Loaded
from esper.lang.parameters import signature_of
from esper.tezzeret.errors import EmptyDomain, EndlessSpace, NothingToChoose, OutsideSpace
from esper.tezzeret.space.components import MAX_CASES, Component, Values
from esper.tezzeret.space.conditions import Conditions
from esper.tezzeret.space.domains import Domain, beside, drawn, holds, mutated_value

Point = Mapping[str, ParameterValue]
"""A value for each parameter of the space, in the blueprint's order."""

MAX_LISTED = 100_000
"""Points that are listed in order to draw many of them."""


@dataclass(frozen=True)
class Space:
    """The parameters that are open, with their domains, in the blueprint's order.

    domains: where one depends on other parameters, all that it may come to. conditions: which parameters
    matter where, and such domains; None where all always matter. Every random choice comes from the generator
    that the caller gives, so equal seeds give equal points.
    """

    domains: Mapping[str, Domain]
    conditions: Conditions | None = None

    @cached_property
    def size(self) -> int | None:
        """The exact number of points; None if a domain is an interval, or too much depends on too much."""
        sizes = [component.size for component in self._components]
        return None if None in sizes else math.prod(size for size in sizes if size is not None)

    @cached_property
    def bound(self) -> float:
        """No fewer than there are points: an integer, or infinity."""
        return math.prod(
            component.bound if component.size is None else component.size for component in self._components
        )

    def points(self) -> Iterator[Point]:
        """All points. Raises `EndlessSpace` for a space with intervals."""
        for name, domain in self.domains.items():
            if isinstance(domain, Interval):
                raise EndlessSpace(name=name, domain=domain)
        return map(self._in_order, _product(self._components))

    def __contains__(self, point: object) -> bool:
        return (
            isinstance(point, Mapping)
            and point.keys() == self.domains.keys()
            and all(isinstance(value, ParameterValue) for value in point.values())
            and all(
                holds(self._options(name, point), point[name]) or not self._matters(name, point)
                for name in self.domains
            )
        )

    def sample(self, rng: random.Random) -> Point:
        """A point, uniformly, as far as points are counted."""
        found: Values = {}
        for component in self._components:
            found.update(component.sample(rng))
        return self._in_order(found)

    def samples(self, count: int, rng: random.Random) -> list[Point]:
        """`count` points, uniformly: different ones where the space is counted, all where it has no more."""
        size = self.size
        if size is None:
            return [self.sample(rng) for _ in range(count)]
        if count >= size:
            return list(self.points())
        if 2 * count >= size and size <= MAX_LISTED:
            return rng.sample(list(self.points()), count)
        found: dict[str, Point] = {}
        while len(found) < count:
            point = self.sample(rng)
            found.setdefault(self.encode(point), point)
        return list(found.values())

    def settled(self, point: Point) -> Point:
        """`point` with the default of each parameter that does not matter, or has a value it may not have."""
        return self._settled(point, None, None)

    def mutated(self, point: Point, rng: random.Random) -> Point:
        """`point` with one parameter changed that matters; the same only if there is no other.

        Parameters that come to matter by that are drawn.
        """
        point = self.settled(point)
        options = {name: self._options(name, point) for name in self.domains}
        able = [name for name, domain in options.items() if _has_several(domain)]
        if not able:
            return point
        name = rng.choice(able)
        return self._settled({**point, name: mutated_value(options[name], point[name], rng)}, point, rng)

    def crossed(self, a: Point, b: Point, rng: random.Random) -> Point:
        """Each parameter from one of the two parents, by a fair coin (uniform crossover).

        Where it matters in one of them alone it is that one's; where in neither, it is drawn.
        """
        found: Values = {}
        for name in self._order:
            if not self._matters(name, found):
                found[name] = self._default(name, found)
                continue
            domain = self._options(name, found)
            able = [
                parent[name]
                for parent in (a, b)
                if self._matters(name, parent) and holds(domain, parent[name])
            ]
            found[name] = rng.choice(able) if able else drawn(domain, rng)
        return self._in_order(found)

    def neighbours(self, point: Point) -> Iterator[Point]:
        """The points that differ in one parameter that matters, by a step where values are numbers.

        Parameters that come to matter by that have their defaults.
        """
        point = self.settled(point)
        for name in self.domains:
            for value in beside(self._options(name, point), point[name]):
                yield self.settled({**point, name: value})

    def encode(self, point: Point) -> str:
        """`point`, settled, as JSON text: equal for points that differ only where it does not matter."""
        return json.dumps(self.settled(point), allow_nan=False)

    def decode(self, text: str) -> Point:
        """The point that `encode` wrote. Raises `OutsideSpace` for what is no point of this space."""
        try:
            found = json.loads(text)
        except ValueError:
            raise OutsideSpace(found=text[:80]) from None
        if found not in self:
            raise OutsideSpace(found=text[:80])
        return self._in_order(found)

    def _in_order(self, values: Point) -> Point:
        return {name: values[name] for name in self.domains}

    def _settled(self, point: Point, before: Point | None, rng: random.Random | None) -> Point:
        """before: where what did not matter is no choice that was made; it is drawn by `rng` instead."""
        if self.conditions is None:
            return self._in_order(point)
        found: Values = {}
        for name in self._order:
            if not self._matters(name, found):
                found[name] = self._default(name, found)
                continue
            domain = self._options(name, found)
            is_chosen = before is None or self._matters(name, before)
            if is_chosen and holds(domain, point[name]):
                found[name] = point[name]
            elif rng is not None:
                found[name] = drawn(domain, rng)
            else:
                default = self._default(name, found)
                found[name] = default if holds(domain, default) else _first(domain)
        return self._in_order(found)

    def _matters(self, name: str, values: Point) -> bool:
        return self.conditions is None or self.conditions.matters(name, values)

    def _default(self, name: str, values: Point) -> ParameterValue:
        default = None if self.conditions is None else self.conditions.default(name, values)
        return _first(self.domains[name]) if default is None else default

    def _options(self, name: str, values: Point) -> Domain:
        """What `name` may be, given those that decide over it: its default alone where it does not matter."""
        if self.conditions is None:
            return self.domains[name]
        if not self.conditions.matters(name, values):
            return (self._default(name, values),)
        if not self.conditions.domain_reads[name]:
            return self.domains[name]
        return self.conditions.domain(name, values) or (self._default(name, values),)

    def _deciders(self, name: str) -> tuple[str, ...]:
        return () if self.conditions is None else self.conditions.deciders(name)

    @cached_property
    def _order(self) -> tuple[str, ...]:
        """The parameters, each after those that decide over it."""
        found: dict[str, None] = {}

        def add(name: str) -> None:
            if name not in found:
                for decider in self._deciders(name):
                    add(decider)
                found[name] = None

        for name in self.domains:
            add(name)
        return tuple(found)

    @cached_property
    def _components(self) -> tuple[Component, ...]:
        member = {name: {name} for name in self.domains}
        for name in self.domains:
            for decider in self._deciders(name):
                if member[decider] is not member[name]:
                    member[name] |= member[decider]
                    for other in member[decider]:
                        member[other] = member[name]
        deciding = {decider for name in self.domains for decider in self._deciders(name)}
        found = []
        for group in {id(group): group for group in member.values()}.values():
            names = [name for name in self._order if name in group]
            sizes = [
                math.inf if isinstance(domain, Interval) else len(domain)
                for domain in (self.domains[name] for name in names)
            ]
            found.append(
                Component(
                    tuple(name for name in names if name in deciding),
                    tuple(name for name in names if name not in deciding),
                    self._options,
                    math.prod(sizes),
                )
            )
        return tuple(found)


def _product(components: Sequence[Component]) -> Iterator[Values]:
    if not components:
        yield {}
        return
    for head in components[0].points():
        for tail in _product(components[1:]):
            yield {**head, **tail}


def _first(domain: Domain) -> ParameterValue:
    return domain.low if isinstance(domain, Interval) else domain[0]


def _has_several(domain: Domain) -> bool:
    return domain.low < domain.high if isinstance(domain, Interval) else len(domain) > 1


def space_of(loaded: Loaded, fixed: Mapping[str, ParameterValue]) -> Space:
    """What `fixed` leaves open of the parameters that have a domain.

    Raises `NothingToChoose`, `EmptyDomain`, and `BlueprintRejected` where a mistake leaves nothing to choose.
    """
    about = signature_of(loaded.blueprint)
    domains = {
        parameter.name: parameter.domain
        for parameter in about.parameters
        if parameter.domain is not None and parameter.name not in fixed
    }
    if not domains:
        lower_loaded(loaded, fixed, {})  # says what is wrong with a domain that is none
        raise NothingToChoose(blueprint=about.name)
    conditions = Conditions(loaded, tuple(domains), fixed)
    for name, reads in conditions.domain_reads.items():
        if reads or fixed:
            domains[name] = _all_of(name, domains, conditions)
    is_plain = all(not conditions.deciders(name) and conditions.matters(name, {}) for name in domains)
    return Space(domains, None if is_plain else conditions)


def _all_of(name: str, domains: Mapping[str, Domain], conditions: Conditions) -> Domain:
    """All that the domain of `name` may come to, of as many cases as are counted. Raises `EmptyDomain`."""
    reads = conditions.domain_reads[name]
    sets = [
        domain if not isinstance(domain := domains[read], Interval) else (domain.low, domain.high)
        for read in reads
    ]
    cases = itertools.islice(itertools.product(*sets), MAX_CASES)
    found = [conditions.domain(name, dict(zip(reads, case, strict=True))) for case in cases]
    intervals = [domain for domain in found if isinstance(domain, Interval)]
    values = [value for domain in found if isinstance(domain, tuple) for value in domain]
    if not intervals and not values:
        raise EmptyDomain(
            name=name, given=", ".join(f"{n} = {v}" for n, v in conditions.fixed.items()) or "defaults"
        )
    if intervals:
        low, high = min(one.low for one in intervals), max(one.high for one in intervals)
        return Interval(low, high, all(one.is_log for one in intervals))
    return tuple({(type(value), value): value for value in values}.values())
