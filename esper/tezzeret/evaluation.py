"""One evaluation of a search: done wherever an executor has room, and written down as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from esper.lang import BlueprintRejected
from esper.tezzeret.algorithms import REFUSED, Outcome
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import Quantities
from esper.tezzeret.errors import TooComplex, Untrainable
from esper.tezzeret.evaluator import BoundFigure, Candidate
from esper.tezzeret.fidelity import Learned
from esper.tezzeret.objectives import Objective
from esper.tezzeret.space import Point


@dataclass(frozen=True, slots=True)
class Refusal:
    """A point that the blueprint refuses, or that is too large, and why as text."""

    values: Point
    reason: str


Evaluation = Candidate | Refusal
Evaluate = Callable[..., Candidate]
"""An `Evaluator`, or what takes a rung beside the point: raises `BlueprintRejected`, `TooComplex` or
`Untrainable` for a point that is refused."""
Seen = Callable[[Candidate], Quantities]
"""What an objective looks at of a candidate: what is counted, or `Judged`."""


def outcome_of(evaluation: Evaluation, objective: Objective, is_scalar: bool, seen: Seen) -> Outcome:
    """What an algorithm is told. is_scalar: by one figure, however many the objective has."""
    if isinstance(evaluation, Refusal):
        return REFUSED
    figures = seen(evaluation)
    vector = (objective.value(figures),) if is_scalar else objective.vector(figures)
    return Outcome(vector, evaluation.violation)


class Evaluating:
    """`evaluate` as executors take it: what is refused is a result. `search` names the search that it serves.

    Sent to a worker process again and again, it arrives there once, and keeps what it remembers.
    """

    def __init__(self, search: str, evaluate: Evaluate) -> None:
        self.search = search
        self.evaluate = evaluate

    def __call__(self, point: Point, rung: int = 0) -> Evaluation:
        try:
            return self.evaluate(point, rung) if rung else self.evaluate(point)
        except (BlueprintRejected, TooComplex, Untrainable) as error:
            return Refusal(dict(point), str(error))

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.search, self.evaluate)


_arrived: dict[str, Evaluating] = {}
"""In a worker process: what it works with, by the name of the search; of one search only."""


def _received(search: str, evaluate: Evaluate) -> Evaluating:
    if search not in _arrived:
        _arrived.clear()
        _arrived[search] = Evaluating(search, evaluate)
    return _arrived[search]


def to_json(evaluation: Evaluation) -> str:
    """`evaluation` as JSON text, but for its point."""
    if isinstance(evaluation, Refusal):
        return json.dumps({"refused": evaluation.reason})
    bounds = [{**asdict(bound.constraint), "found": bound.found} for bound in evaluation.bounds]
    found: dict[str, Any] = {
        "ir_hash": evaluation.ir_hash,
        "figures": asdict(evaluation.figures),
        "bounds": bounds,
    }
    if evaluation.learned is not None:
        found["learned"] = asdict(evaluation.learned)
    if evaluation.proxy is not None:
        found["proxy"] = evaluation.proxy
    return json.dumps(found, allow_nan=False)


def from_json(point: Point, text: str) -> Evaluation:
    """What `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
    found: Mapping[str, Any] = json.loads(text)
    if "refused" in found:
        return Refusal(dict(point), str(found["refused"]))
    bounds = tuple(
        BoundFigure(
            Constraint(**{name: value for name, value in bound.items() if name != "found"}), bound["found"]
        )
        for bound in found["bounds"]
    )
    figures = Quantities(**found["figures"])
    learned = Learned.read(found["learned"]) if "learned" in found else None
    proxy = float(found["proxy"]) if "proxy" in found else None
    return Candidate(dict(point), str(found["ir_hash"]), figures, bounds, learned, proxy)
