"""Random search: points drawn uniformly, none of them twice. What any other algorithm has to beat."""

from __future__ import annotations

import random

from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Point, Space


class RandomSearch:
    """Learns nothing from what it is told, so its points are the same for every objective."""

    def __init__(self, space: Space, rng: random.Random) -> None:
        self._unseen = Unseen(space, rng)

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        return self._unseen.take()

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._unseen.mark(point)
