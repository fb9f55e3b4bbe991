"""`esperc search --registry`: the best goes into a registry, with how it was found and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import esper
from esper.lang.from_graph import write_source
from esper.tezzeret import Evaluator, Plan, SearchResult
from esper.tezzeret.recount import count
from esper.tezzeret.registry import Blueprint, Provenance, Version, blueprint_of, open_registry
from esper.tezzeret.requirements import Requirements, SlotTensor, slot_requirements

if TYPE_CHECKING:
    from collections.abc import Mapping

_LIMITS = {"latency_ms": "max_latency_ms", "memory_mb": "max_memory_mb"}


def slot_asked(slot: SlotTensor, plan: Plan, result: SearchResult) -> Requirements:
    """What a search in a slot was to meet: to take and return the slot's tensor, within its bounds."""
    bounds = [bound.constraint for bound in result.best.bounds if bound.constraint.comparison == "<="]
    limits = {_LIMITS[one.quantity]: one.bound for one in bounds if one.quantity in _LIMITS}
    return slot_requirements(slot, optimization_target=plan.objective, constraints=limits)


def earlier_answer(path: Path, asked: Requirements) -> Version | None:
    """What the registry at `path` has for equal requirements and still takes for an answer."""
    if not path.exists():
        return None
    with open_registry(path) as registry:
        return registry.answers.get(asked)


def register(
    path: Path,
    evaluator: Evaluator,
    plan: Plan,
    result: SearchResult,
    asked: Requirements | None = None,
    about: Mapping[str, Any] | None = None,
) -> Version:
    """The version that the best is kept as, which is the one before where the same search found it again.

    asked: what the best answers from here on. about: the task, host and slot that candidates were trained in.
    Raises what `open_registry` raises.
    """
    graph = evaluator.lower(result.best.values)
    blueprint = blueprint_of(evaluator, result.best)
    if len(evaluator.loaded.unit.sources) > 1:  # a registry keeps one file, and this one imports others
        sizes = dict(evaluator.sizes)
        blueprint = Blueprint(blueprint.ir_hash, blueprint.name, write_source(graph).text, {}, sizes)
    place = "" if about is None else f" in {about['slot']} of {about['host']} on {about['task']}"
    bounds = ", ".join(str(bound.constraint) for bound in result.best.bounds)
    how = f"{plan.algorithm} for {plan.objective}{place}, {len(result.trials)} candidates, seed {plan.seed}"
    how += f", within {bounds}" if bounds else ""
    with open_registry(path) as registry:
        version = registry.versions.add(
            blueprint, Provenance(f"esperc search {esper.__version__}", how, asked)
        )
        count(registry, version.blueprint, graph)
        learned = result.best.learned
        if learned is not None and learned.standard_error is not None:
            registry.measurements.add(
                blueprint.ir_hash,
                "accuracy",
                learned.accuracy,
                standard_error=learned.standard_error,
                device="training",
                conditions={**dict(about or {}), "steps": learned.steps},
            )
        if asked is not None:
            registry.answers.put(asked, version.number)
    return version
