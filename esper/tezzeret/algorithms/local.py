"""Local search: hill climbing with restarts, the baseline that random search is too weak for.

From a random point it moves to the first neighbour found better, until none is; then it starts elsewhere.
It is hard to beat where good architectures lie close together (White et al. 2021, arXiv:2005.02960).
"""

from __future__ import annotations

import random

from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space


class LocalSearch:
    """One climber; what is told of points that are no neighbours is remembered for when it comes by."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        self._space = space
        self._rng = rng
        self._unseen = Unseen(space, rng)
        self._told: dict[str, Outcome] = {}
        self._waiting: set[str] = set()
        self._here: Point | None = None
        self._neighbours: dict[str, Point] = {}

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other.

        Neighbours of where the climber is. While all of them are being evaluated, random points: one may
        become the next start.
        """
        while self._here is not None:
            fresh = next((point for point in self._neighbours.values() if point in self._unseen), None)
            if fresh is not None:
                return self._asked(self._unseen.take([fresh]))
            if any(key in self._waiting for key in self._neighbours):
                break
            self._step(self._here)
        return self._asked(self._unseen.take())

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        key = self._key(point)
        self._unseen.mark(point)
        self._waiting.discard(key)
        self._told[key] = outcome
        if outcome.is_refused:
            return
        if self._here is None or (key in self._neighbours and outcome.rank < self._rank(self._here)):
            self._move(point)

    def _step(self, here: Point) -> None:
        """To the best neighbour, known from an earlier climb, if it is better; else the climb is over."""
        best = min(self._neighbours.values(), key=self._rank, default=here)
        if self._rank(best) < self._rank(here):
            self._move(best)
        else:
            self._here, self._neighbours = None, {}

    def _move(self, point: Point) -> None:
        self._here = point
        found = list(self._space.neighbours(point))
        self._rng.shuffle(found)
        self._neighbours = {self._key(other): other for other in found}

    def _asked(self, point: Point | None) -> Point | None:
        if point is not None:
            self._waiting.add(self._key(point))
        return point

    def _rank(self, point: Point) -> tuple[float, ...]:
        return self._told[self._key(point)].rank

    def _key(self, point: Point) -> str:
        return self._space.encode(point)
