"""Measurements of whole blueprints in a registry: kept by one run, learned from by another.

A graph is made again from what the registry keeps of its blueprint. A source that imports others cannot be;
such a blueprint's measurements stay in the registry and teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.lang.library import Loaded, reject
from esper.lang.lower import lower_loaded
from esper.lang.source import Source
from esper.lang.units import source_unit
from esper.tezzeret.prediction.calls import calls_of
from esper.tezzeret.prediction.predictor import QUANTITIES, Observation, Quantity
from esper.tezzeret.registry import Blueprint, Measurement, Provenance, Registry, Regression

SYNTHESIZER = "esperc bench"


@dataclass(frozen=True, slots=True)
class Recorded:
    """observations: of blueprints that can be made again. left_out: the names of the others."""

    observations: tuple[Observation, ...]
    left_out: tuple[str, ...]


def conditions(quantity: Quantity, tier: str, sizes: Mapping[str, int], torch: str) -> dict[str, Any]:
    """What a re-measurement has to share with a measurement of one thread. torch: the version."""
    return {"of": quantity, "tier": tier, "threads": 1, "sizes": dict(sizes), "torch": torch}


def keep(
    registry: Registry,
    blueprint: Blueprint,
    device: str,
    times: Mapping[Quantity, tuple[float, float]],
    *,
    tier: str,
    sizes: Mapping[str, int],
    torch: str,
) -> list[Regression]:
    """Writes the times of `blueprint` down; where they are worse than the best before.

    times: seconds and their standard error, by quantity.
    """
    registry.versions.add(blueprint, Provenance(SYNTHESIZER, ""))
    found = [
        registry.measurements.add(
            blueprint.ir_hash,
            "latency_ms",
            seconds * 1e3,
            standard_error=error * 1e3,
            device=device,
            conditions=conditions(quantity, tier, sizes, torch),
        )
        for quantity, (seconds, error) in times.items()
    ]
    return [regression for regression in found if regression is not None]


def recorded(registry: Registry, device: str, torch: str) -> Recorded:
    """What the torch tier took on the processor `device`: of each blueprint at given sizes the least."""
    observations: list[Observation] = []
    left_out: dict[str, None] = {}
    by_hash: dict[str, list[Measurement]] = {}
    for measurement in registry.measurements.on(device, "latency_ms"):
        by_hash.setdefault(measurement.ir_hash, []).append(measurement)
    for ir_hash, measurements in by_hash.items():
        blueprint = registry.versions.of(ir_hash)[0].blueprint
        times = _least(measurements, torch)
        try:
            ir = graph_of(blueprint)
            observations += [
                Observation(blueprint.name, calls_of(ir, dict(sizes)), seconds)
                for sizes, seconds in times.items()
                if set(seconds) == set(QUANTITIES)
            ]
        except EsperError:  # another file is imported, or the blueprint is of another version's language
            left_out[blueprint.name] = None
    return Recorded(tuple(observations), tuple(left_out))


def graph_of(blueprint: Blueprint) -> BlueprintIR:
    """The graph, from its text, or lowered again. Raises as `lower` does."""
    try:
        found = BlueprintIR.from_text(blueprint.source)
    except EsperError:
        unit, report = source_unit(Source(f"<{blueprint.name}>", blueprint.source))
        reject(report, unit.sources)
        named = next(one for one in unit.program.blueprints if one.name.text == blueprint.name)
        given = dict(blueprint.values), dict(blueprint.sizes), blueprint.precision
        found, _ = lower_loaded(Loaded(named, unit), *given)
    return found


Sizes = tuple[tuple[str, int], ...]


def _least(measurements: Sequence[Measurement], torch: str) -> dict[Sizes, dict[Quantity, float]]:
    """Seconds by sizes and quantity; measurements under other conditions are left out."""
    found: dict[Sizes, dict[Quantity, float]] = {}
    for one in measurements:
        given = one.conditions
        for quantity in QUANTITIES:
            sizes = given.get("sizes", {})
            if given == conditions(quantity, "torch", sizes, torch):
                times = found.setdefault(tuple(sizes.items()), {})
                times[quantity] = min(one.value / 1e3, times.get(quantity, float("inf")))
    return found
