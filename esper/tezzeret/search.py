"""Random search: different points, uniformly; all of them where the space is no larger than the budget.

It is the baseline that any other algorithm has to beat, and for the small spaces of single blocks it is
often exhaustive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esper.ir.graph import BlueprintIR
from esper.lang import BlueprintRejected, ParameterValue, SizeValue, load, lower_loaded, signature
from esper.tezzeret.constraints import Constraint, stated
from esper.tezzeret.cost import DEVICES, REFERENCE_DEVICE, Quantities, quantities
from esper.tezzeret.errors import NothingFeasible, NothingValid
from esper.tezzeret.space import Point, space_of


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate: what was chosen, what it costs, its graph's hash, and what it is bound by.

    bounds: each constraint, the blueprint's own among them, with the figures of the device it is about.
    """

    values: Point
    found: Quantities
    ir_hash: str
    bounds: tuple[tuple[Constraint, Quantities], ...] = ()

    @property
    def is_feasible(self) -> bool:
        return all(constraint.holds(figures) for constraint, figures in self.bounds)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """best: the feasible trial with the least objective, the first of equals.

    front: the feasible trials that none surpasses in latency, memory and parameters at once; of several
    with the same figures, the first. trials: all that were evaluated; infeasible: those that break a
    constraint; invalid: points that the blueprint refuses; duplicates: points whose graph was met before.
    space_size: of how many points, None where a domain is an interval. exhaustive: no point is left out.
    device: the GPU whose datasheet latency is estimated by.
    """

    best: Trial
    front: tuple[Trial, ...]
    trials: tuple[Trial, ...]
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
    given = dict(fixed or {})
    loaded = load(blueprint, name)
    about = signature(blueprint, name)
    space = space_of(about, given)
    evaluated: dict[str, Trial] = {}
    refusals: list[BlueprintRejected] = []
    duplicates = 0
    points = space.sample(trials, seed)
    for point in points:
        try:
            ir, bounds = lower_loaded(loaded, {**given, **point}, sizes or {}, precision)
        except BlueprintRejected as error:
            refusals.append(error)
            continue
        if ir.hash in evaluated:
            duplicates += 1
            continue
        stated_here = [*constraints, *map(stated, bounds)]
        evaluated[ir.hash] = _trial(point, ir, sizes, stated_here)
    found = tuple(evaluated.values())
    feasible = [trial for trial in found if trial.is_feasible]
    if not found:
        raise NothingValid(blueprint=about.name, trials=len(points), reason=refusals[0])
    if not feasible:
        raise _nothing_feasible(about.name, found)
    return SearchResult(
        best=min(feasible, key=lambda trial: float(getattr(trial.found, objective))),
        front=_front(feasible),
        trials=found,
        infeasible=len(found) - len(feasible),
        invalid=len(refusals),
        duplicates=duplicates,
        space_size=space.size,
    )


def _trial(
    point: Point, ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None, constraints: Sequence[Constraint]
) -> Trial:
    found = quantities(ir, sizes)
    targets = {constraint.target for constraint in constraints if constraint.target is not None}
    on = {target: quantities(ir, sizes, DEVICES[target]) for target in sorted(targets)}
    bounds = tuple((c, found if c.target is None else on[c.target]) for c in constraints)
    return Trial(point, found, ir.hash, bounds)


def _front(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials that no other is nowhere worse than and somewhere better; one for each set of figures."""
    first: dict[tuple[float, ...], Trial] = {}
    for trial in trials:
        first.setdefault((trial.found.latency, trial.found.memory, trial.found.params), trial)

    def is_surpassed(figures: tuple[float, ...]) -> bool:
        return any(
            other != figures and all(a <= b for a, b in zip(other, figures, strict=True)) for other in first
        )

    return tuple(trial for figures, trial in first.items() if not is_surpassed(figures))


def _nothing_feasible(blueprint: str, trials: Sequence[Trial]) -> NothingFeasible:
    """Names the constraint that even the trial nearest to it breaks by the largest share."""
    nearest: dict[int, tuple[float, Constraint, Quantities]] = {}
    for trial in trials:
        for key, (constraint, figures) in enumerate(trial.bounds):
            excess = constraint.excess(figures)
            if key not in nearest or excess < nearest[key][0]:
                nearest[key] = excess, constraint, figures
    _, tightest, figures = max(nearest.values(), key=lambda entry: entry[0])
    value = getattr(figures, tightest.quantity)
    return NothingFeasible(trials=len(trials), blueprint=blueprint, constraint=tightest, nearest=f"{value:,}")
