"""The space of a search: the product of the domains that a blueprint declares with `in`."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esper.lang import Interval, ParameterValue, Signature
from esper.tezzeret.errors import NothingToChoose

Point = Mapping[str, ParameterValue]
"""A value for each parameter of the space."""


@dataclass(frozen=True, slots=True)
class Space:
    """Parameters with their domains, in the blueprint's order: sets, and intervals of numbers."""

    domains: tuple[tuple[str, tuple[ParameterValue, ...] | Interval], ...]

    @property
    def size(self) -> int | None:
        """The number of points; None if a domain is an interval."""
        sets = [domain for _, domain in self.domains if not isinstance(domain, Interval)]
        return math.prod(map(len, sets)) if len(sets) == len(self.domains) else None

    def points(self) -> Iterator[Point]:
        """All points of a space without intervals, the last parameter varying fastest."""
        names = [name for name, _ in self.domains]
        sets = [domain for _, domain in self.domains if not isinstance(domain, Interval)]
        for values in itertools.product(*sets):
            yield dict(zip(names, values, strict=True))

    def sample(self, count: int, seed: int) -> list[Point]:
        """`count` points, uniformly; different ones, or all in order, where the space is finite."""
        generator = random.Random(seed)
        if self.size is None:
            return [{name: _drawn(domain, generator) for name, domain in self.domains} for _ in range(count)]
        if count >= self.size:
            return list(self.points())
        return [self._point(index) for index in generator.sample(range(self.size), count)]

    def _point(self, index: int) -> Point:
        """Point number `index` in the order of `points`."""
        found: dict[str, ParameterValue] = {}
        for name, domain in reversed(self.domains):
            assert not isinstance(domain, Interval)
            index, digit = divmod(index, len(domain))
            found[name] = domain[digit]
        return {name: found[name] for name, _ in self.domains}


def _drawn(domain: tuple[ParameterValue, ...] | Interval, generator: random.Random) -> ParameterValue:
    if not isinstance(domain, Interval):
        return generator.choice(domain)
    if not domain.is_log:
        return generator.uniform(domain.low, domain.high)
    exponent = generator.uniform(math.log(domain.low), math.log(domain.high))
    return min(max(math.exp(exponent), domain.low), domain.high)


def space_of(signature: Signature, fixed: Mapping[str, ParameterValue]) -> Space:
    """The domains of the parameters that `fixed` leaves open. Raises `NothingToChoose`."""
    domains = tuple(
        (parameter.name, parameter.domain)
        for parameter in signature.parameters
        if parameter.domain is not None and parameter.name not in fixed
    )
    if not domains:
        raise NothingToChoose(blueprint=signature.name)
    return Space(domains)
