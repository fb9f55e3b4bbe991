"""Regularized evolution: tournaments for parents, and the oldest dies (Real et al. 2019, arXiv:1802.01548).

A population of fixed size begins with random points. Each further point is a mutation of the best of a sample
of it; when its outcome is told it joins, and the oldest leaves, however good it is: what lasts has to be
found again by its descendants.
"""

from __future__ import annotations

import random
from collections import deque

from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space

SHARE = 4
"""One in so many of the population takes part in a tournament, as in the paper: 25 of 100."""


class RegularizedEvolution:
    """One objective. A point that the blueprint refuses never joins the population."""

    def __init__(self, space: Space, rng: random.Random, population: int = 20) -> None:
        self._rng = rng
        self._unseen = Unseen(space, rng)
        self._members: deque[tuple[Outcome, Point]] = deque(maxlen=population)
        self._first = population

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        if self._first > 0 or not self._members:
            self._first -= 1
            return self._unseen.take()
        size = max(2, len(self._members) // SHARE)
        contenders = self._rng.sample(self._members, min(size, len(self._members)))
        _, parent = min(contenders, key=lambda member: member[0].rank)
        return self._unseen.take(self._unseen.walk(parent))

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._unseen.mark(point)
        if not outcome.is_refused:
            self._members.append((outcome, point))
