"""Which points were met, and the way to one that was not: what keeps algorithms from asking twice."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from esper.lang import Interval
from esper.tezzeret.space import Point, Space

TRIES = 64
"""Points drawn before those that are left are listed, or an endless space counts as used up."""
LISTED = 10_000
"""Points that are listed at a time."""
STEPS = 16
"""Mutations of a walk."""


class Unseen:
    """The points of a space that were neither asked for nor told."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        self.space = space
        self._rng = rng
        self._seen: set[str] = set()
        self._left: list[Point] | None = None
        """What is listed, in random order; None while drawing still finds something."""

    def __contains__(self, point: Point) -> bool:
        return self.space.encode(point) not in self._seen

    def mark(self, point: Point) -> None:
        """From here on `point` is seen."""
        self._seen.add(self.space.encode(point))

    def take(self, proposals: Iterable[Point] = ()) -> Point | None:
        """The first unseen of `proposals`, else any unseen point, uniformly; marked. None if none is left."""
        size = self.space.size
        if size is not None and len(self._seen) >= size:
            return None
        for point in proposals:
            if point in self:
                self.mark(point)
                return point
        found = self._drawn()
        if found is not None:
            self.mark(found)
        return found

    def walk(self, start: Point) -> Iterator[Point]:
        """Points ever farther from `start`, each a mutation of the one before."""
        point = start
        for _ in range(STEPS):
            point = self.space.mutated(point, self._rng)
            yield point

    def _drawn(self) -> Point | None:
        if self._left is None:
            for _ in range(TRIES):
                point = self.space.sample(self._rng)
                if point in self:
                    return point
            if any(isinstance(domain, Interval) for domain in self.space.domains.values()):
                return None
        # So many misses in a row mean that most of the space was seen, so it is small enough to list.
        while True:
            while self._left:
                point = self._left.pop()
                if point in self:
                    return point
            self._left = list(islice((point for point in self.space.points() if point in self), LISTED))
            self._rng.shuffle(self._left)
            if not self._left:
                return None
