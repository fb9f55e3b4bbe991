"""What a search makes small, and which of several candidates is the best by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.tezzeret.costs import Quantities
from esper.tezzeret.pareto import Vector, front, rises


@dataclass(frozen=True, slots=True)
class Objective:
    """`figures`: which of a candidate's figures are minimised; with several the best is the front's knee.

    scalar: the figure that stands for all of them where only one can be followed.
    """

    name: str
    figures: tuple[str, ...]
    scalar: str

    @property
    def is_several(self) -> bool:
        return len(self.figures) > 1

    def vector(self, found: Quantities) -> Vector:
        return tuple(float(getattr(found, name)) for name in self.figures)

    def value(self, found: Quantities) -> float:
        return float(getattr(found, self.scalar))

    def rank(self, found: Quantities) -> tuple[float, ...]:
        """Less is better: the figure that stands for all, then whatever else is worth having less of."""
        return (self.value(found), *figures_of(found))

    def ranked(self, found: Sequence[Quantities]) -> list[int]:
        """Indices of all of `found`, the best first; what is equal in every figure keeps its order.

        By the one figure, or by how far below the plane through the extremes of the front each lies: the knee
        is first.
        """
        places = range(len(found))
        if not self.is_several:
            return sorted(places, key=lambda place: self.rank(found[place]))
        vectors = [self.vector(figures) for figures in found]
        heights = rises(vectors, [vectors[place] for place in front(vectors)])
        return sorted(places, key=lambda place: (heights[place], *figures_of(found[place])))


FIGURES = ("latency", "memory", "params")
"""What less of is better, whatever the objective."""


def figures_of(found: Quantities) -> Vector:
    return tuple(float(getattr(found, name)) for name in FIGURES)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("latency", ("latency",), "latency"),
        Objective("memory", ("memory",), "memory"),
        Objective("balanced", ("latency", "memory"), "balanced"),
    )
}
