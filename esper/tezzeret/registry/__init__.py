"""The registry: blueprints with provenance and lineage, answers by requirements, measurements.

One SQLite file that several processes share. It must not know how blueprints are found or measured.
"""

from esper.tezzeret.registry.measurements import Measurement, Regression
from esper.tezzeret.registry.registry import Registry, open_registry
from esper.tezzeret.registry.versions import Blueprint, Provenance, Version, blueprint_of

__all__ = [
    "Blueprint",
    "Measurement",
    "Provenance",
    "Registry",
    "Regression",
    "Version",
    "blueprint_of",
    "open_registry",
]
