"""The space of a search: the product of the domains that a blueprint declares with `in`."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from esper.lang import ParameterValue, Signature
from esper.tezzeret.errors import NothingToChoose

Point = Mapping[str, ParameterValue]
"""A value for each parameter of the space."""


@dataclass(frozen=True, slots=True)
class Space:
    """Parameters with their choices, in the blueprint's order."""

    choices: tuple[tuple[str, tuple[ParameterValue, ...]], ...]

    @property
    def size(self) -> int:
        """The number of points."""
        return math.prod(len(values) for _, values in self.choices)

    def points(self) -> Iterator[Point]:
        """All points, the last parameter varying fastest."""
        names = [name for name, _ in self.choices]
        for values in itertools.product(*(values for _, values in self.choices)):
            yield dict(zip(names, values, strict=True))

    def sample(self, count: int, seed: int) -> list[Point]:
        """`count` different points, uniformly; all points, in order, if there are no more than that."""
        if count >= self.size:
            return list(self.points())
        generator = random.Random(seed)
        return [self._point(index) for index in generator.sample(range(self.size), count)]

    def _point(self, index: int) -> Point:
        """Point number `index` in the order of `points`."""
        found: dict[str, ParameterValue] = {}
        for name, values in reversed(self.choices):
            index, digit = divmod(index, len(values))
            found[name] = values[digit]
        return {name: found[name] for name, _ in self.choices}


def space_of(signature: Signature, fixed: Mapping[str, ParameterValue]) -> Space:
    """The domains of the parameters that `fixed` leaves open. Raises `NothingToChoose`."""
    choices = tuple(
        (parameter.name, parameter.domain)
        for parameter in signature.parameters
        if parameter.domain is not None and parameter.name not in fixed
    )
    if not choices:
        raise NothingToChoose(blueprint=signature.name)
    return Space(choices)
