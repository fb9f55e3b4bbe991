"""Passes: graphs to graphs, each with a stated law. It must not know torch, source text or kernels.

Every module here is imported, so a pass that registers itself needs to be named nowhere else.
"""

from importlib import import_module
from pkgutil import iter_modules

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir.graph import BlueprintIR
from esper.passes.law import PASSES, Law, Pass, register
from esper.passes.manager import DECOMPOSED, DEFAULT, PassRecord, joint_graph, run_passes
from esper.passes.partition import Partition, Saved, forward_and_backward, partition
from esper.passes.pipeline import parse_pipeline, pipeline_text

__all__ = [
    "DECOMPOSED",
    "DEFAULT",
    "PASSES",
    "BlueprintIR",
    "Law",
    "Partition",
    "Pass",
    "PassRecord",
    "Saved",
    "forward_and_backward",
    "joint_graph",
    "parse_pipeline",
    "partition",
    "pipeline_text",
    "register",
    "run_passes",
]

for _module in sorted(iter_modules(__path__), key=lambda module: module.name):
    import_module(f"{__name__}.{_module.name}")
