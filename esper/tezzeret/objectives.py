"""What a search makes small, and which of several candidates is the best by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.tezzeret.costs import Quantities
from esper.tezzeret.pareto import Vector, front, rises

FIGURES = ("latency", "memory", "params")
"""What less of is better, whatever the objective."""
JUDGED_FIGURES = ("error", *FIGURES)
"""The same, where it is known how well candidates learn."""


@dataclass(frozen=True, slots=True)
class Objective:
    """`figures`: which of a candidate's figures are minimised; with several the best is the front's knee.

    scalar: the figure that stands for all of them where only one can be followed. ties: what decides between
    candidates that are equal by that.
    """

    name: str
    figures: tuple[str, ...]
    scalar: str
    ties: tuple[str, ...] = FIGURES

    @property
    def is_several(self) -> bool:
        return len(self.figures) > 1

    def vector(self, found: Quantities) -> Vector:
        return tuple(float(getattr(found, name)) for name in self.figures)

    def value(self, found: Quantities) -> float:
        return float(getattr(found, self.scalar))

    def rank(self, found: Quantities) -> tuple[float, ...]:
        """Less is better: the figure that stands for all, then whatever else is worth having less of."""
        return (self.value(found), *figures_of(found, self.ties))

    def ranked(self, found: Sequence[Quantities]) -> list[int]:
        """Indices of all of `found`, the best first; what is equal in every figure keeps its order.

        By the one figure, or by how far below the plane through the extremes of the front each lies: the knee
        is first. Where that is equal, as it is for all where the front is one point, nothing still comes
        before what dominates it.
        """
        places = range(len(found))
        if not self.is_several:
            return sorted(places, key=lambda place: self.rank(found[place]))
        vectors = [self.vector(figures) for figures in found]
        heights = rises(vectors, [vectors[place] for place in front(vectors)])
        return sorted(
            places, key=lambda place: (heights[place], *vectors[place], *figures_of(found[place], self.ties))
        )


def figures_of(found: Quantities, names: Sequence[str] = FIGURES) -> Vector:
    return tuple(float(getattr(found, name)) for name in names)


OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("latency", ("latency",), "latency"),
        Objective("memory", ("memory",), "memory"),
        Objective("balanced", ("latency", "memory"), "balanced"),
    )
}
"""Of what is counted: figures are those of `Quantities`."""

JUDGED_OBJECTIVES = {
    objective.name: objective
    for objective in (
        Objective("accuracy", ("error",), "error", ("params", "latency", "memory")),
        Objective("balanced", ("error", "latency", "memory"), "balanced"),
    )
}
"""Of what is judged by training, too: figures are those of `Judged`."""
