"""From a point of a space to a `Candidate`: its graph's hash, its figures, and which bounds they break."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from esper.ir.graph import BlueprintIR
from esper.lang import ParameterValue, SizeValue, load, lower_loaded
from esper.lang.library import Loaded
from esper.tezzeret.constraints import Constraint, stated
from esper.tezzeret.costs import DEVICES, Quantities, quantities
from esper.tezzeret.space import Point, Space, space_of


@dataclass(frozen=True, slots=True)
class BoundFigure:
    """What a constraint bounds, as it was found: on the device that the constraint is about."""

    constraint: Constraint
    found: float

    @property
    def share(self) -> float:
        """By how much the constraint is broken, as a share of its bound; 0 exactly where it holds."""
        return self.constraint.excess(self.found)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point that the blueprint takes: `values`, the canonical hash of its graph, and what it costs.

    bounds: each constraint, the blueprint's own among them, with the figure that it bounds.
    """

    values: Point
    ir_hash: str
    figures: Quantities
    bounds: tuple[BoundFigure, ...] = ()

    @property
    def violations(self) -> dict[str, float]:
        """Each constraint that is broken, as text, and by what share of its bound: always above 0."""
        return {str(bound.constraint): bound.share for bound in self.bounds if bound.share}

    @property
    def violation(self) -> float:
        """The sum of `violations`; 0 exactly where the candidate is feasible."""
        return sum(self.violations.values())

    @property
    def is_feasible(self) -> bool:
        return not self.violations


@dataclass(frozen=True)
class Evaluator:
    """Calling it with a point gives the point's `Candidate`.

    blueprint, name, sizes, precision: as in `esper.lower`. fixed: parameters that the space leaves out.
    constraints: beside those that the blueprint states. It can be pickled, for process pools.
    """

    blueprint: str | Path
    name: str | None = None
    fixed: Mapping[str, ParameterValue] = field(default_factory=dict)
    sizes: Mapping[str, SizeValue] = field(default_factory=dict)
    precision: str | None = None
    constraints: Sequence[Constraint] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.blueprint, self.name, dict(self.fixed), dict(self.sizes), self.precision)
        return Evaluator, (*parts, tuple(self.constraints))

    @cached_property
    def loaded(self) -> Loaded:
        return load(self.blueprint, self.name)

    @cached_property
    def space(self) -> Space:
        """What is left to choose. Raises `NothingToChoose`."""
        return space_of(self.loaded, self.fixed)

    def lower(self, point: Point) -> BlueprintIR:
        """The graph at `point`. Raises `BlueprintRejected`."""
        return lower_loaded(self.loaded, {**self.fixed, **point}, self.sizes, self.precision)[0]

    def __call__(self, point: Point) -> Candidate:
        """Raises `BlueprintRejected` where the blueprint refuses the point, and `UnknownTarget`."""
        ir, bounds = lower_loaded(self.loaded, {**self.fixed, **point}, self.sizes, self.precision)
        constraints = [*self.constraints, *map(stated, bounds)]
        found = quantities(ir, self.sizes)
        targets = {constraint.target for constraint in constraints if constraint.target is not None}
        on = {target: quantities(ir, self.sizes, DEVICES[target]) for target in sorted(targets)}
        figures = (
            BoundFigure(c, getattr(found if c.target is None else on[c.target], c.quantity))
            for c in constraints
        )
        return Candidate(dict(point), ir.hash, found, tuple(figures))
