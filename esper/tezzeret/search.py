"""Random search: different points, uniformly; all of them where the space is no larger than the budget.

It is the baseline that any other algorithm has to beat, and for the small spaces of single blocks it is
often exhaustive.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esper.lang import BlueprintRejected, ParameterValue, SizeValue
from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs import REFERENCE_DEVICE
from esper.tezzeret.errors import NothingFeasible, NothingValid
from esper.tezzeret.evaluator import BoundFigure, Candidate, Evaluator


@dataclass(frozen=True, slots=True)
class SearchResult:
    """best: the feasible trial with the least objective, the first of equals.

    front: the feasible trials that none surpasses in latency, memory and parameters at once; of several
    with the same figures, the first. trials: all that were evaluated; infeasible: those that break a
    constraint; invalid: points that the blueprint refuses; duplicates: points whose graph was met before.
    space_size: of how many points, None where a domain is an interval. exhaustive: no point is left out.
    device: the GPU whose datasheet latency is estimated by.
    """

    best: Candidate
    front: tuple[Candidate, ...]
    trials: tuple[Candidate, ...]
    infeasible: int
    invalid: int
    duplicates: int
    space_size: int | None
    device: str = REFERENCE_DEVICE.name

    @property
    def exhaustive(self) -> bool:
        return len(self.trials) + self.invalid + self.duplicates == self.space_size


def random_search(
    blueprint: str | Path,
    *,
    name: str | None = None,
    fixed: Mapping[str, ParameterValue] | None = None,
    sizes: Mapping[str, SizeValue] | None = None,
    precision: str | None = None,
    objective: str = "latency",
    constraints: Sequence[Constraint] = (),
    trials: int = 100,
    seed: int = 0,
) -> SearchResult:
    """Searches the `in` domains of a blueprint that `fixed` leaves open; equal seeds give equal results.

    blueprint, name, sizes, precision: as in `esper.lower`. objective: one of `OBJECTIVES`, to be minimised.
    constraints: beside those that the blueprint states.
    Raises `NothingToChoose`, `UnknownTarget`, `NothingValid`, `NothingFeasible`, and the language's errors.
    """
    evaluator = Evaluator(blueprint, name, dict(fixed or {}), dict(sizes or {}), precision, constraints)
    title = evaluator.loaded.blueprint.name.text
    evaluated: dict[str, Candidate] = {}
    refusals: list[BlueprintRejected] = []
    duplicates = 0
    points = evaluator.space.samples(trials, random.Random(seed))
    for point in points:
        try:
            candidate = evaluator(point)
        except BlueprintRejected as error:
            refusals.append(error)
            continue
        if evaluated.setdefault(candidate.ir_hash, candidate) is not candidate:
            duplicates += 1
    found = tuple(evaluated.values())
    feasible = [trial for trial in found if trial.is_feasible]
    if not found:
        raise NothingValid(blueprint=title, trials=len(points), reason=refusals[0])
    if not feasible:
        raise _nothing_feasible(title, found)
    return SearchResult(
        best=min(feasible, key=lambda trial: float(getattr(trial.figures, objective))),
        front=_front(feasible),
        trials=found,
        infeasible=len(found) - len(feasible),
        invalid=len(refusals),
        duplicates=duplicates,
        space_size=evaluator.space.size,
    )


def _front(trials: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The trials that no other is nowhere worse than and somewhere better; one for each set of figures."""
    first: dict[tuple[float, ...], Candidate] = {}
    for trial in trials:
        first.setdefault((trial.figures.latency, trial.figures.memory, trial.figures.params), trial)

    def is_surpassed(figures: tuple[float, ...]) -> bool:
        return any(
            other != figures and all(a <= b for a, b in zip(other, figures, strict=True)) for other in first
        )

    return tuple(trial for figures, trial in first.items() if not is_surpassed(figures))


def _nothing_feasible(blueprint: str, trials: Sequence[Candidate]) -> NothingFeasible:
    """Names the constraint that even the trial nearest to it breaks by the largest share."""
    nearest: dict[int, BoundFigure] = {}
    for trial in trials:
        for key, bound in enumerate(trial.bounds):
            if key not in nearest or bound.share < nearest[key].share:
                nearest[key] = bound
    tightest = max(nearest.values(), key=lambda bound: bound.share)
    return NothingFeasible(
        trials=len(trials),
        blueprint=blueprint,
        constraint=tightest.constraint,
        nearest=f"{tightest.found:,}",
    )
