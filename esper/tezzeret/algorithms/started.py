"""Any algorithm, begun at points that are known to be worth a look."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from esper.tezzeret.algorithms.protocol import Algorithm, Outcome
from esper.tezzeret.space import Point


class Started:
    """Asks for `points` first, and then for what `algorithm` asks for, which is told of all."""

    def __init__(self, algorithm: Algorithm, points: Iterable[Point]) -> None:
        self._algorithm = algorithm
        self._points = deque(points)

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        return self._points.popleft() if self._points else self._algorithm.ask()

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._algorithm.tell(point, outcome)
