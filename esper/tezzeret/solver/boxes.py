"""Proofs that nothing fits, by dividing a space into boxes of points (branch and bound, Land and Doig 1960).

If the bound of a box (`bounding`) breaks a constraint, all its points do; else the box is divided, down to
single points, which are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from esper.lang import BlueprintRejected, ParameterValue
from esper.tezzeret.errors import TooComplex
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.solver.bounding import Bounding, Box, TooMany
from esper.tezzeret.solver.least import NONE_FITS, Least
from esper.tezzeret.space import Point, Space

MAX_BOXES = 400


@dataclass(frozen=True, slots=True)
class Proof:
    """boxes: how many were bounded. points: how many were counted. fitting: a point that keeps all, if one
    turned up. is_complete: whether every point lies in a box that was ruled out, or was counted."""

    boxes: int
    points: int
    fitting: Candidate | None
    is_complete: bool


def search_boxes(
    evaluator: Evaluator, space: Space, limit: int = MAX_BOXES, watch: Callable[[], None] = lambda: None
) -> Proof:
    """Whether any point of a finite `space` keeps the evaluator's own constraints; see above.

    watch: called before each box; what it raises ends the search.
    """
    bounding = Bounding(evaluator)
    constraints = list(evaluator.constraints)
    whole: Box = {name: domain for name, domain in space.domains.items() if isinstance(domain, tuple)}
    pending: list[Box] = [whole]
    boxes = points = 0
    while pending:
        watch()
        if boxes + points >= limit:
            return Proof(boxes, points, None, False)
        box = pending.pop()
        open_names = [name for name, values in box.items() if len(values) > 1]
        if not open_names:
            points += 1
            found = _counted(evaluator, space, {name: values[0] for name, values in box.items()})
            if found is not None and found.is_feasible:
                return Proof(boxes, points, found, False)
            continue
        boxes += 1
        try:
            least = bounding.least(box)
        except TooMany:
            least = Least()
        if any(least.breaks(constraint) for constraint in constraints) or least == NONE_FITS:
            continue
        name = max(open_names, key=lambda one: len(box[one]))
        values = _ordered(box[name])
        half = len(values) // 2
        pending += [{**box, name: values[half:]}, {**box, name: values[:half]}]
    return Proof(boxes, points, None, True)


def _counted(evaluator: Evaluator, space: Space, point: Point) -> Candidate | None:
    try:
        return evaluator(space.settled(point))
    except (BlueprintRejected, TooComplex):
        return None


def _ordered(values: tuple[ParameterValue, ...]) -> tuple[ParameterValue, ...]:
    if any(isinstance(value, str | bool) for value in values):
        return values
    return tuple(sorted(values))
