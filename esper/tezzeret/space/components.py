"""A space as a product of components: parameters that decide over one another are in one.

The points of a component are counted by trying the values of those that decide; the others multiply.
"""

from __future__ import annotations

import bisect
import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from esper.lang import Interval, ParameterValue
from esper.tezzeret.space.domains import Domain, drawn

MAX_CASES = 10_000
"""Assignments of those that decide; of more, a component is bounded instead of counted."""

Values = dict[str, ParameterValue]
Options = Callable[[str, Mapping[str, ParameterValue]], Domain]
"""What a parameter may be, given the deciders before it; its default alone where it does not matter."""


@dataclass(frozen=True)
class Component:
    """deciders: in an order in which each is decided by those before it. others: decided by these alone.

    bound: no fewer than there are points.
    """

    deciders: tuple[str, ...]
    others: tuple[str, ...]
    options: Options
    bound: float

    @cached_property
    def _cases(self) -> list[tuple[Values, int]] | None:
        """Assignments of the deciders with the number of points of each; None if uncounted."""
        found: list[tuple[Values, int]] = []
        for case in self._assignments():
            domains = [self.options(name, case) for name in self.others]
            if len(found) == MAX_CASES or any(isinstance(domain, Interval) for domain in domains):
                return None
            found.append((case, math.prod(len(d) for d in domains if not isinstance(d, Interval))))
        return found

    @cached_property
    def _totals(self) -> list[int]:
        return list(itertools.accumulate(count for _, count in self._cases or ()))

    @property
    def size(self) -> int | None:
        """The number of points; None where it is not counted."""
        if self.bound == math.inf or self._cases is None:
            return None
        return self._totals[-1] if self._totals else 0

    def _assignments(self) -> Iterator[Values]:
        def further(done: Values, left: Sequence[str]) -> Iterator[Values]:
            if not left:
                yield dict(done)
                return
            domain = self.options(left[0], done)
            assert not isinstance(domain, Interval)
            for value in domain:
                yield from further({**done, left[0]: value}, left[1:])

        return further({}, self.deciders)

    def points(self) -> Iterator[Values]:
        """All points of a component without intervals, the last parameter varying fastest."""
        for case in self._assignments():
            sets = []
            for name in self.others:
                domain = self.options(name, case)
                assert not isinstance(domain, Interval)
                sets.append(domain)
            for values in itertools.product(*sets):
                yield {**case, **dict(zip(self.others, values, strict=True))}

    def sample(self, rng: random.Random) -> Values:
        """A point, uniformly where the points are counted, else parameter by parameter."""
        if self.size:
            assert self._cases is not None
            place = rng.randrange(self._totals[-1])
            case = self._cases[bisect.bisect_right(self._totals, place)][0]
        else:
            case = {}
            for name in self.deciders:
                case[name] = drawn(self.options(name, case), rng)
        return {**case, **{name: drawn(self.options(name, case), rng) for name in self.others}}
