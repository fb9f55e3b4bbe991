"""From a point of a space to a `Candidate`: its graph's hash, its figures, and which bounds they break.

A point is evaluated by what changed: statements of the blueprint that read other values than before, nodes
and their gradients that no earlier point had. Where the parts do not say what the whole would (`Unforeseen`),
the whole is elaborated and counted, as `reference` always does; both give the same to the last digit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node, frozen_attrs
from esper.ir.types import TensorType
from esper.lang import Bound, ParameterValue, SizeValue, load, lower_loaded, size_values
from esper.lang.library import Loaded
from esper.lang.lower import settings_of
from esper.tezzeret.constraints import Constraint, stated
from esper.tezzeret.costs import DEVICES, REFERENCE_DEVICE, Quantities
from esper.tezzeret.costs.elaboration import Elaboration
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.exact import ExactMemory, exact_memory
from esper.tezzeret.costs.figures import Device, counted
from esper.tezzeret.costs.ledger import Ledger
from esper.tezzeret.costs.taken import elaborated
from esper.tezzeret.costs.wiring import Pieces, Wiring
from esper.tezzeret.errors import TooComplex
from esper.tezzeret.fidelity import Learned
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

    bounds: each constraint, the blueprint's own among them, with the figure that it bounds. learned: how well
    it learns, where that was tried; None where it was only counted. proxy: what `esper.tezzeret.proxies`
    makes of it, where nothing better is known.
    """

    values: Point
    ir_hash: str
    figures: Quantities
    bounds: tuple[BoundFigure, ...] = ()
    learned: Learned | None = None
    proxy: float | None = None

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


MAX_BLUEPRINT_COMPLEXITY = 1_000
"""Nodes of a candidate's graph, weights and inputs among them."""


@dataclass(frozen=True)
class Evaluator:
    """Calling it with a point gives the point's `Candidate`.

    blueprint, name, sizes, precision: as in `esper.lower`. fixed: parameters that the space leaves out.
    constraints: beside those that the blueprint states. max_nodes: of a candidate's graph.
    It can be pickled, for process pools; what it has learned of the blueprint stays behind. Threads may share
    it, one at a time.
    """

    blueprint: str | Path
    name: str | None = None
    fixed: Mapping[str, ParameterValue] = field(default_factory=dict)
    sizes: Mapping[str, SizeValue] = field(default_factory=dict)
    precision: str | None = None
    constraints: Sequence[Constraint] = ()
    max_nodes: int = MAX_BLUEPRINT_COMPLEXITY

    def __reduce__(self) -> tuple[Any, ...]:
        parts = (self.blueprint, self.name, dict(self.fixed), dict(self.sizes), self.precision)
        return Evaluator, (*parts, tuple(self.constraints), self.max_nodes)

    @cached_property
    def loaded(self) -> Loaded:
        return load(self.blueprint, self.name)

    @cached_property
    def space(self) -> Space:
        """What is left to choose. Raises `NothingToChoose`."""
        return space_of(self.loaded, self.fixed)

    @cached_property
    def _known(self) -> _Known:
        return _Known(self)

    @property
    def wholes(self) -> int:
        """How many points had to be elaborated and counted whole."""
        return self._known.wholes

    @property
    def measured(self) -> int:
        """How many parts of graphs were measured: no more as long as points hold nothing unseen."""
        return sum(ledger.measured for ledger in self._known.ledgers.values())

    def lower(self, point: Point) -> BlueprintIR:
        """The graph at `point`. Raises `BlueprintRejected`."""
        return lower_loaded(self.loaded, {**self.fixed, **point}, self.sizes, self.precision)[0]

    def __call__(self, point: Point) -> Candidate:
        """Raises `BlueprintRejected` where the blueprint refuses the point, `TooComplex`, `UnknownTarget`."""
        known = self._known
        try:
            with known.lock:
                return known.candidate(point)
        except Unforeseen:
            known.wholes += 1
            return self.reference(point)

    def reference(self, point: Point) -> Candidate:
        """As calling it, with nothing taken over from other points: slow, and what calling is tested by."""
        ir, bounds = lower_loaded(self.loaded, {**self.fixed, **point}, self.sizes, self.precision)
        self.require_simple(len(ir.nodes))
        constraints, devices = self.asked(bounds)
        return _candidate(point, ir.hash, constraints, devices, counted(ir, self.sizes, devices))

    def exact(self, point: Point) -> ExactMemory:
        """The memory of the programs that Urza plans for `point`. Raises as `lower` and `exact_memory` do."""
        return exact_memory(self.lower(point), self.sizes)

    def require_simple(self, nodes: int) -> None:
        """Raises `TooComplex`."""
        if nodes > self.max_nodes:
            title = self.loaded.blueprint.name.text
            raise TooComplex(blueprint=title, nodes=nodes, limit=self.max_nodes)

    def asked(self, bounds: Sequence[Bound]) -> tuple[list[Constraint], list[Device]]:
        """All constraints, and the devices that they are about after the one for all else."""
        constraints = [*self.constraints, *map(stated, bounds)]
        targets = {constraint.target for constraint in constraints if constraint.target is not None}
        return constraints, [REFERENCE_DEVICE, *(DEVICES[target] for target in sorted(targets))]


class _Known:
    """What an evaluator has learned of its blueprint.

    lock: held while a point is evaluated, since threads share the tables. wholes: points that these were
    of no use to.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.table = Pieces()
        settings = settings_of({}, evaluator.sizes, evaluator.precision)
        self.elaboration = Elaboration(evaluator.loaded, settings, self.table)
        self.ledgers: dict[tuple[tuple[str, int], ...], Ledger] = {}
        self.sizes: dict[tuple[TensorType, ...], tuple[tuple[str, int], ...]] = {}
        self.lock = threading.Lock()
        self.wholes = 0

    def candidate(self, point: Point) -> Candidate:
        """Raises `Unforeseen`."""
        evaluator = self.evaluator
        taken = elaborated(self.elaboration, {**evaluator.fixed, **point})
        wiring = taken.wiring
        evaluator.require_simple(len(wiring.pieces))
        constraints, devices = evaluator.asked(taken.constraints)
        try:
            figures = self._ledger(wiring).figures(wiring, devices)
        except EsperError:
            raise Unforeseen("a graph that a pass refuses") from None
        return _candidate(point, wiring.hash(self.table), constraints, devices, figures)

    def _ledger(self, wiring: Wiring) -> Ledger:
        """The one for the sizes that inputs of these types have."""
        inputs = wiring.input_types
        sizes = self.sizes.get(inputs)
        if sizes is None:
            nodes = (Node(f"x{n}", "input", (), frozen_attrs({}), (type,)) for n, type in enumerate(inputs))
            title = self.evaluator.loaded.blueprint.name.text
            found = size_values(BlueprintIR(title, tuple(nodes), ()), self.evaluator.sizes)
            sizes = self.sizes[inputs] = tuple(found.items())
        if sizes not in self.ledgers:
            self.ledgers[sizes] = Ledger(self.table, dict(sizes))
        return self.ledgers[sizes]


def _candidate(
    point: Point,
    ir_hash: str,
    constraints: Sequence[Constraint],
    devices: Sequence[Device],
    figures: Sequence[Quantities],
) -> Candidate:
    by_device = dict(zip(devices, figures, strict=True))

    def bounded(constraint: Constraint) -> BoundFigure:
        device = REFERENCE_DEVICE if constraint.target is None else DEVICES[constraint.target]
        return BoundFigure(constraint, getattr(by_device[device], constraint.quantity))

    return Candidate(dict(point), ir_hash, figures[0], tuple(map(bounded, constraints)))
