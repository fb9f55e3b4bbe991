"""The whole way of a repair: other values of a blueprint's parameters first, then edits of its graph.

Other values leave the blueprint what it is, and whether any keep the rules can be proven. Only where none do,
or none were found, the graph that came nearest is edited.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.solver.enforce import MAX_TRIED, Repair, enforce
from esper.tezzeret.solver.enforce_graph import GraphRepair, enforce_graph
from esper.tezzeret.solver.errors import Infeasible, NoRepairFound
from esper.tezzeret.solver.rules import Rule
from esper.tezzeret.space import Point


def repair(
    evaluator: Evaluator,
    rules: Sequence[Rule] = (),
    *,
    point: Point | None = None,
    tried: int = MAX_TRIED,
    seed: int = 0,
) -> Repair | GraphRepair:
    """As `enforce`; where it gives up, as `enforce_graph` from the point that came nearest.

    Raises what `enforce` raises where edits do not keep the rules either.
    """
    try:
        return enforce(evaluator, rules, point=point, tried=tried, seed=seed)
    except (Infeasible, NoRepairFound) as error:
        nearest: Point = error.details["nearest"]
        try:
            found = enforce_graph(evaluator.lower(nearest), [*evaluator.constraints, *rules], evaluator.sizes)
        except NoRepairFound:
            raise error from None
        return found
