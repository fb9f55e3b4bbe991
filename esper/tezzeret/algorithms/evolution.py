"""Regularized evolution: tournaments for parents, and the oldest dies (Real et al. 2019, arXiv:1802.01548).

A population of fixed size begins with random points. Whoever wins among a sample of it has children; when
the outcome of one is told it joins, and the oldest leaves, however good it is: what lasts has to be found
again by its descendants. Which child is asked for, `Preselection` says.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

from esper.tezzeret.algorithms.preselection import FIRST, Preselection
from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space

SHARE = 4
"""One in so many of the population takes part in a tournament, as in the paper: 25 of 100."""
CHILDREN = 12
"""Born for each that is asked for."""
ANYWHERE, CROSSED = 0.15, 0.35
"""How often a child has no parents at all, and how often it has two; else it is a mutation of one."""
FARTHER = 0.4
"""How often a mutation is mutated again."""


class RegularizedEvolution:
    """One objective. A point that the blueprint refuses never joins the population."""

    def __init__(self, space: Space, rng: random.Random, population: int = 20) -> None:
        self._space = space
        self._rng = rng
        self._unseen = Unseen(space, rng)
        self._members: deque[tuple[Outcome, Point]] = deque(maxlen=population)
        self._first = min(population, FIRST)
        self._preselection = Preselection(space, self._unseen, rng)

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        if self._first > 0 or not self._members:
            self._first -= 1
            return self._unseen.take()
        return self._unseen.take(self._proposals())

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._unseen.mark(point)
        self._preselection.tell(point, outcome)
        if not outcome.is_refused:
            self._members.append((outcome, point))

    def _proposals(self) -> Iterator[Point]:
        """The most promising child; where all were seen, what lies ever farther from a parent."""
        if self._preselection.is_ready:
            child = self._preselection.choice(self._child() for _ in range(CHILDREN))
            if child is not None:
                yield child
        yield from self._unseen.walk(self._parent())

    def _child(self) -> Point:
        chance = self._rng.random()
        if chance < ANYWHERE:
            return self._space.sample(self._rng)
        if chance < ANYWHERE + CROSSED:
            return self._space.crossed(self._parent(), self._parent(), self._rng)
        child = self._space.mutated(self._parent(), self._rng)
        while self._rng.random() < FARTHER:
            child = self._space.mutated(child, self._rng)
        return child

    def _parent(self) -> Point:
        """The best of a sample of the population."""
        size = max(2, len(self._members) // SHARE)
        contenders = self._rng.sample(self._members, min(size, len(self._members)))
        return min(contenders, key=lambda member: member[0].rank)[1]
