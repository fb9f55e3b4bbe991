"""`synthesize`: the blueprint that answers requirements, and how it was come to.

What is returned was counted anew from its whole graph, never by what a search remembers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import esper
from esper.ir.graph import BlueprintIR
from esper.tezzeret.costs import Quantities
from esper.tezzeret.errors import AccuracyUnjudged
from esper.tezzeret.evaluator import BoundFigure
from esper.tezzeret.fidelity import Learned
from esper.tezzeret.ladder import Ladder
from esper.tezzeret.registry.registry import Registry
from esper.tezzeret.registry.versions import Blueprint, Provenance, Version
from esper.tezzeret.requirements import Requirements
from esper.tezzeret.synthesis.existing import counted, modified
from esper.tezzeret.synthesis.strategies import Strategy, made_by

SYNTHESIZER = f"esper {esper.__version__}"
TRIALS = 300


@dataclass(frozen=True, slots=True)
class Synthesis:
    """An answer to requirements.

    blueprint: source, values and sizes. ir: its graph. figures: counted from the graph; latency by the
    datasheet of the reference GPU. bounds: the limits with the figures that they bound, each kept. algorithm:
    what found it. changes: from the defaults of the template, or of `existing_architecture`, in words.
    learned: how well it learns, where that was asked. version: in the registry, if there is one. is_cached:
    whether the registry had the answer.
    """

    blueprint: Blueprint
    ir: BlueprintIR
    figures: Quantities
    bounds: tuple[BoundFigure, ...]
    algorithm: str
    seconds: float
    changes: tuple[str, ...] = ()
    learned: Learned | None = None
    version: Version | None = None
    is_cached: bool = False


def synthesize(
    requirements: Requirements,
    *,
    registry: Registry | None = None,
    strategy: Strategy = "hybrid",
    seed: int = 0,
    trials: int = TRIALS,
    ladder: Ladder | None = None,
    refresh: bool = False,
) -> Synthesis:
    """The blueprint for `requirements`, which keeps all their limits.

    registry: an answer that it has is taken, unless `refresh`; another is put there. trials: of a search, for
    each template. ladder: on which accuracy is judged.
    Raises `NoTemplate`, `Unsatisfiable` with the smallest relaxation, `Unsatisfied`, `AccuracyUnjudged`,
    `NotAccurate`; for `existing_architecture` `NoRegistry`, `UnregisteredBlueprint`, `OtherShapes` and
    `NoRepairFound`.
    """
    start = time.perf_counter()
    asks_accuracy = requirements.optimization_target == "accuracy"
    if ladder is None and (asks_accuracy or requirements.constraints.target_accuracy is not None):
        raise AccuracyUnjudged()
    if registry is not None and not refresh:
        known = registry.answers.get(requirements)
        if known is not None:
            found = counted(known.blueprint, requirements)
            spent = time.perf_counter() - start
            algorithm = known.provenance.algorithm
            return Synthesis(known.blueprint, *found, algorithm, spent, version=known, is_cached=True)
    if requirements.existing_architecture is None:
        made = made_by(strategy, requirements, seed, trials, ladder)
    else:
        made = modified(requirements, registry, ladder)
    found = counted(made.blueprint, requirements)
    version = None
    if registry is not None:
        provenance = Provenance(SYNTHESIZER, made.algorithm, requirements)
        edit = "" if made.parent is None else "; ".join(made.changes)
        version = registry.versions.add(made.blueprint, provenance, parent=made.parent, edit=edit)
        registry.answers.put(requirements, version.number)
    spent = time.perf_counter() - start
    return Synthesis(made.blueprint, *found, made.algorithm, spent, made.changes, made.learned, version)
