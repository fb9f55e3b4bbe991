"""Counting what a registry holds: the cost model's figures of its blueprints, kept as measurements.

Counted figures have no noise. So where a later version of the compiler or of the cost model counts more for
the same graph than an earlier one did, the registry tells a regression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import esper
from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.lang import BlueprintRejected, Source, lower_loaded
from esper.lang.library import Loaded, reject
from esper.lang.units import source_unit
from esper.tezzeret.costs import REFERENCE_DEVICE, quantities
from esper.tezzeret.registry import Blueprint, Registry, Regression, Version

_GRAPH = re.compile(r"blueprint [\w.]+ \{")

COUNTED = ("latency_ms", "memory_mb", "params")


@dataclass(frozen=True, slots=True)
class Recount:
    """What came of counting the blueprint of `version`. problem: why it could not be counted, or nothing."""

    version: Version
    regressions: tuple[Regression, ...] = ()
    problem: str = ""


def holds_graph(blueprint: Blueprint) -> bool:
    """Whether the graph's textual form is kept in place of a source, which has parameters behind the name."""
    return _GRAPH.match(blueprint.source) is not None


def graph_of(blueprint: Blueprint) -> BlueprintIR:
    """The graph again, from what is kept. Raises what `esper.lower` and `BlueprintIR.from_text` raise."""
    if holds_graph(blueprint):
        return BlueprintIR.from_text(blueprint.source)
    unit, report = source_unit(Source(f"{blueprint.name}.esp", blueprint.source))
    reject(report, unit.sources)
    named = {one.name.text: one for one in unit.program.blueprints}
    loaded = Loaded(named[blueprint.name], unit)
    return lower_loaded(loaded, blueprint.values, blueprint.sizes, blueprint.precision)[0]


def count(registry: Registry, blueprint: Blueprint, ir: BlueprintIR) -> tuple[Regression, ...]:
    """Keeps the figures of `ir`, the graph of `blueprint`; those that are worse than before.

    Raises what `Measurements.add` raises.
    """
    found = quantities(ir, blueprint.sizes)
    conditions = {"sizes": blueprint.sizes, "by": "cost model"}
    kept = (
        registry.measurements.add(
            blueprint.ir_hash,
            name,
            float(getattr(found, name)),
            standard_error=0.0,
            device=REFERENCE_DEVICE.name,
            conditions=conditions,
        )
        for name in COUNTED
    )
    return tuple(regression for regression in kept if regression is not None)


def recount(registry: Registry, version: Version) -> Recount:
    """Lowers the blueprint of `version` anew, and keeps what is counted of it."""
    blueprint = version.blueprint
    try:
        ir = graph_of(blueprint)
    except BlueprintRejected as error:
        return Recount(version, problem=f"its source is refused: {error.diagnostics[0].message}")
    except EsperError as error:
        return Recount(version, problem=str(error))
    if ir.hash != blueprint.ir_hash:
        problem = f"its source gives another graph with Esper {esper.__version__}, {ir.hash[:12]}"
        return Recount(version, problem=problem)
    return Recount(version, count(registry, blueprint, ir))
