"""Running passes, alone or in pipelines.

The graph is verified before the first pass and after each, so a pass that breaks a rule is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from esper.errors import EsperError, require_kind
from esper.ir.errors import InvalidGraph, InvalidNode, TypeRuleViolated, UnknownIROperator
from esper.ir.graph import BlueprintIR
from esper.ir.verify import verify
from esper.passes.autodiff import Autodiff
from esper.passes.errors import PassBrokeGraph, PassCrashed
from esper.passes.expand import Expand
from esper.passes.law import Pass
from esper.passes.pipeline import parse_pipeline, pipeline_text

DEFAULT = "expand,canonicalize,fold,cse,dce"
CLEAN = "canonicalize,fold,cse,dce"
DECOMPOSED = f"decompose,{CLEAN}"
"""What a joint graph goes through before it is cut in two, so that parts of norms can be computed again."""

# On a graph that the verifier has passed, these are the fault of the pass that built something on it.
BUILT_WRONGLY = (InvalidGraph, InvalidNode, TypeRuleViolated, UnknownIROperator)


@dataclass(frozen=True)
class PassRecord:
    """One run of a pass: its time in milliseconds without the verifier's, and the graph's size."""

    name: str
    ms: float
    nodes_before: int
    nodes_after: int


Observer = Callable[[PassRecord, BlueprintIR], None]


def run_passes(
    ir: BlueprintIR, pipeline: str | Sequence[str | Pass] = DEFAULT, observe: Observer | None = None
) -> BlueprintIR:
    """`ir` after the passes of `pipeline`, in order.

    pipeline: a text that `parse_pipeline` reads, or passes and such texts.
    observe: called after each pass with its record and the graph that it made.
    Raises `WrongArgument`, what `parse_pipeline` raises, an `EsperError` that a pass raises where the graph
    is at fault, and `PassCrashed` or `PassBrokeGraph` for a defect of a pass.
    """
    require_kind("ir", ir, BlueprintIR, "a `BlueprintIR`")
    passes = _passes(pipeline)
    verify(ir)
    for entry in passes:
        result, ms = _run(entry, ir)
        if observe is not None:
            observe(PassRecord(entry.name, ms, len(ir.nodes), len(result.nodes)), result)
        ir = result
    return ir


def _passes(pipeline: str | Sequence[str | Pass]) -> list[Pass]:
    expected = "a pipeline in text, or a list of passes"
    require_kind("pipeline", pipeline, (str, Sequence), expected)
    passes: list[Pass] = []
    for entry in [pipeline] if isinstance(pipeline, str) else pipeline:
        if isinstance(entry, str):
            passes += parse_pipeline(entry)
        else:
            require_kind("pipeline", entry, Pass, "a list of passes or their texts")
            passes.append(entry)
    return passes


def _run(entry: Pass, ir: BlueprintIR) -> tuple[BlueprintIR, float]:
    """The verified result of one pass, and its time in milliseconds."""
    start = time.perf_counter()
    try:
        result = entry.run(ir)
    except EsperError as error:
        if not isinstance(error, BUILT_WRONGLY):
            raise
        raise PassCrashed(**_culprit(entry, ir), kind=error.code, reason=str(error)) from error
    except Exception as error:
        reason = str(error) or "without a message"
        raise PassCrashed(**_culprit(entry, ir), kind=type(error).__name__, reason=reason) from error
    ms = (time.perf_counter() - start) * 1e3
    try:
        verify(result, ir)
    except EsperError as error:
        raise PassBrokeGraph(**_culprit(entry, ir), reason=str(error), span=error.span) from error
    return result, ms


def _culprit(entry: Pass, ir: BlueprintIR) -> dict[str, Any]:
    return {"name": entry.name, "pipeline": pipeline_text([entry]), "given": str(ir)}


def joint_graph(ir: BlueprintIR, wrt: tuple[str, ...] | None = None) -> BlueprintIR:
    """The cleaned joint graph of `ir`, with the gradients of `wrt` (see `Autodiff`)."""
    return run_passes(ir, [Expand(), Autodiff(wrt), *parse_pipeline(CLEAN)])
