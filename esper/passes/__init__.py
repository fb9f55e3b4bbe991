"""Passes: graphs to graphs, each with a stated law. It must not know torch, source text or kernels."""

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir.graph import BlueprintIR
from esper.passes.law import Law, Pass
from esper.passes.manager import DEFAULT, PASSES, PassRecord, joint_graph, parse_pipeline, run_passes
from esper.passes.partition import Partition, Saved, partition

__all__ = [
    "DEFAULT",
    "PASSES",
    "BlueprintIR",
    "Law",
    "Partition",
    "Pass",
    "PassRecord",
    "Saved",
    "joint_graph",
    "parse_pipeline",
    "partition",
    "run_passes",
]
