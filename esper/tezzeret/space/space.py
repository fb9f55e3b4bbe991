"""A `Space`: the points that a blueprint leaves to a search, counted, listed, drawn, changed and crossed."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esper.lang import Interval, ParameterValue
from esper.lang.library import Loaded
from esper.lang.parameters import signature_of
from esper.tezzeret.errors import EndlessSpace, NothingToChoose, OutsideSpace
from esper.tezzeret.space.domains import Domain, beside, drawn, holds, mutated_value

Point = Mapping[str, ParameterValue]
"""A value for each parameter of the space, in the blueprint's order."""


@dataclass(frozen=True)
class Space:
    """The parameters that are open, with their domains, in the blueprint's order.

    Every random choice comes from the generator that the caller gives, so equal seeds give equal points.
    """

    domains: Mapping[str, Domain]

    @property
    def size(self) -> int | None:
        """The number of points; None if a domain is an interval."""
        sets = [domain for domain in self.domains.values() if not isinstance(domain, Interval)]
        return math.prod(map(len, sets)) if len(sets) == len(self.domains) else None

    @property
    def bound(self) -> float:
        """No fewer than there are points: an integer, or infinity."""
        size = self.size
        return math.inf if size is None else size

    def points(self) -> Iterator[Point]:
        """All points, the last parameter varying fastest. Raises `EndlessSpace` for one with intervals."""
        sets = []
        for name, domain in self.domains.items():
            if isinstance(domain, Interval):
                raise EndlessSpace(name=name, domain=domain)
            sets.append(domain)
        return (dict(zip(self.domains, values, strict=True)) for values in itertools.product(*sets))

    def __contains__(self, point: object) -> bool:
        return (
            isinstance(point, Mapping)
            and point.keys() == self.domains.keys()
            and all(holds(domain, point[name]) for name, domain in self.domains.items())
        )

    def sample(self, rng: random.Random) -> Point:
        """A point, uniformly."""
        return {name: drawn(domain, rng) for name, domain in self.domains.items()}

    def samples(self, count: int, rng: random.Random) -> list[Point]:
        """`count` points, uniformly: different ones where the space is finite, all where it has no more."""
        size = self.size
        if size is None:
            return [self.sample(rng) for _ in range(count)]
        if count >= size:
            return list(self.points())
        found: dict[str, Point] = {}
        while len(found) < count:
            point = self.sample(rng)
            found.setdefault(self.encode(point), point)
        return list(found.values())

    def mutated(self, point: Point, rng: random.Random) -> Point:
        """`point` with one parameter changed; the same only if there is no other."""
        open_names = [name for name, domain in self.domains.items() if _has_several(domain)]
        if not open_names:
            return point
        name = rng.choice(open_names)
        return {**point, name: mutated_value(self.domains[name], point[name], rng)}

    def crossed(self, a: Point, b: Point, rng: random.Random) -> Point:
        """Each parameter from one of the two parents, by a fair coin (uniform crossover)."""
        return {name: (a if rng.random() < 0.5 else b)[name] for name in self.domains}

    def neighbours(self, point: Point) -> Iterator[Point]:
        """The points that differ in one parameter, by a step where values are numbers."""
        for name, domain in self.domains.items():
            for value in beside(domain, point[name]):
                yield {**point, name: value}

    def encode(self, point: Point) -> str:
        """`point` as JSON text, equal for equal points."""
        return json.dumps({name: point[name] for name in self.domains}, allow_nan=False)

    def decode(self, text: str) -> Point:
        """The point that `encode` wrote. Raises `OutsideSpace` for what is no point of this space."""
        try:
            found = json.loads(text)
        except ValueError:
            raise OutsideSpace(found=text[:80]) from None
        if found not in self:
            raise OutsideSpace(found=text[:80])
        return {name: found[name] for name in self.domains}


def _has_several(domain: Domain) -> bool:
    return domain.low < domain.high if isinstance(domain, Interval) else len(domain) > 1


def space_of(loaded: Loaded, fixed: Mapping[str, ParameterValue]) -> Space:
    """The domains of the parameters that `fixed` leaves open. Raises `NothingToChoose`."""
    about = signature_of(loaded.blueprint)
    domains = {
        parameter.name: parameter.domain
        for parameter in about.parameters
        if parameter.domain is not None and parameter.name not in fixed
    }
    if not domains:
        raise NothingToChoose(blueprint=about.name)
    return Space(domains)
