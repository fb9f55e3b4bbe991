"""What every algorithm of a search has in common: it is asked for points, and told how they turned out.

An algorithm knows a `Space`, its own random generator, and outcomes; neither blueprints nor costs. It may be
asked several times before it is told, and told in any order. What satisfies the constraints comes before what
does not, and of what does not, the less violated first (Deb 2000, "An efficient constraint handling method
for genetic algorithms").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from esper.tezzeret.pareto import Vector, dominates
from esper.tezzeret.space import Point


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a point turned out: its objectives, to be minimised, and by how much it breaks its constraints.

    violation: 0 where every constraint holds; infinite where there is nothing to evaluate, and no objectives.
    """

    objectives: Vector
    violation: float = 0.0

    @property
    def is_refused(self) -> bool:
        return math.isinf(self.violation)

    @property
    def rank(self) -> tuple[float, ...]:
        """Less is better, by Deb's rules; for algorithms that minimise one objective."""
        return (self.violation, *self.objectives)


REFUSED = Outcome((), math.inf)
"""Of a point that the blueprint refuses."""


def surpasses(one: Outcome, other: Outcome) -> bool:
    """Whether `one` comes before `other` by Deb's rules; between feasible ones, whether it dominates."""
    if one.violation or other.violation:
        return one.violation < other.violation
    return dominates(one.objectives, other.objectives)


class Algorithm(Protocol):
    """The face of an algorithm. Equal seeds and equal outcomes in an equal order give equal points.

    No point is asked for twice, nor one that was told, and in a finite space every one is asked for in the
    end.
    """

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
