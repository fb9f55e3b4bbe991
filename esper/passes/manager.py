"""Running passes, alone or in pipelines written as text.

The graph is verified before the first pass and after each, so a pass that breaks a rule is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.ir.verify import verify
from esper.passes.autodiff import Autodiff
from esper.passes.errors import PassBrokeGraph, UnknownPass
from esper.passes.expand import Expand
from esper.passes.law import PASSES, Pass

DEFAULT = "expand,canonicalize,fold,cse,dce"
CLEAN = "canonicalize,fold,cse,dce"


@dataclass(frozen=True)
class PassRecord:
    """One run of a pass: its time in milliseconds without the verifier's, and the graph's size."""

    name: str
    ms: float
    nodes_before: int
    nodes_after: int


Observer = Callable[[PassRecord, BlueprintIR], None]


def run_passes(
    ir: BlueprintIR, pipeline: str | Sequence[Pass] = DEFAULT, observe: Observer | None = None
) -> BlueprintIR:
    """`ir` after the passes of `pipeline`, in order.

    pipeline: names of passes with commas between, or passes.
    observe: called after each pass with its record and the graph that it made.
    Raises `UnknownPass`, what a pass raises, and `PassBrokeGraph` for a defect of a pass.
    """
    passes = parse_pipeline(pipeline) if isinstance(pipeline, str) else pipeline
    verify(ir)
    for entry in passes:
        start = time.perf_counter()
        result = entry.run(ir)
        ms = (time.perf_counter() - start) * 1e3
        try:
            verify(result)
        except EsperError as error:
            raise PassBrokeGraph(name=entry.name, reason=str(error), span=error.span) from error
        if observe is not None:
            observe(PassRecord(entry.name, ms, len(ir.nodes), len(result.nodes)), result)
        ir = result
    return ir


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that `text` names. Raises `UnknownPass`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PASSES:
            raise UnknownPass(name=name, passes=", ".join(PASSES))
    return [PASSES[name] for name in names]


def joint_graph(ir: BlueprintIR, wrt: tuple[str, ...] | None = None) -> BlueprintIR:
    """The cleaned joint graph of `ir`, with the gradients of `wrt` (see `Autodiff`)."""
    return run_passes(ir, [Expand(), Autodiff(wrt), *parse_pipeline(CLEAN)])
