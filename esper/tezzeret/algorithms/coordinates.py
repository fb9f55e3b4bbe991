"""Points as rows of numbers, for models of them: near where values are near."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from esper.lang import Interval, ParameterValue
from esper.tezzeret.space import Domain, Point, Space
from esper.tezzeret.space.domains import are_numbers, place_of

Rows = NDArray[np.float64]


class Coordinates:
    """One column for a parameter whose values are numbers, from 0 to 1; for another, one for each value.

    Sets of numbers count by their order alone, intervals by where in them a number lies. Two values of a
    parameter without order are as far apart as the ends of one that has it.
    """

    def __init__(self, space: Space) -> None:
        self._axes = {name: _Axis(domain) for name, domain in space.domains.items()}
        self.parameters = len(self._axes)
        self.width = sum(axis.width for axis in self._axes.values())

    def rows(self, points: Sequence[Point]) -> Rows:
        """[points, width], settled points."""
        found = [[x for name, axis in self._axes.items() for x in axis(point[name])] for point in points]
        return np.array(found, dtype=np.float64).reshape(len(points), self.width)


class _Axis:
    """The columns of one parameter. Its value may lie outside the domain where it does not matter."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._numbers: list[float] = []
        self._known: dict[tuple[type, ParameterValue], list[float]] = {}
        self.width = 1
        if isinstance(domain, Interval):
            return
        if are_numbers(domain):
            self._numbers = sorted(float(value) for value in domain)
            return
        self.width = len(domain)
        for index, value in enumerate(domain):
            self._known[type(value), value] = [
                math.sqrt(0.5) if index == column else 0.0 for column in range(self.width)
            ]

    def __call__(self, value: ParameterValue) -> list[float]:
        key = type(value), value
        if key not in self._known:
            self._known[key] = self._columns(value)
        return self._known[key]

    def _columns(self, value: ParameterValue) -> list[float]:
        if isinstance(self._domain, Interval):
            return [min(max(place_of(self._domain, value), 0.0), 1.0)]
        if self._numbers and isinstance(value, int | float):
            last = len(self._numbers) - 1
            return [min(bisect.bisect_left(self._numbers, value), last) / last if last else 0.0]
        return [0.0] * self.width
