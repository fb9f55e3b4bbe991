"""Which nodes run in generated kernels, and why the others are calls of a library."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from esper.ir.graph import BlueprintIR, Node
from esper.urza.plan.attention_uses import refuses_attention, refuses_mask_grad
from esper.urza.plan.placed import PLACED, refuses_place
from esper.urza.plan.scan_uses import refuses_scan
from esper.urza.plan.window_uses import WINDOW_USES

Refuses = Callable[[BlueprintIR, Node], str | None]

ELIGIBLE: Mapping[str, Refuses] = {
    "attention_forward": refuses_attention,
    "attention_query_grad": refuses_attention,
    "attention_key_value_grad": refuses_attention,
    "attention_mask_grad": refuses_mask_grad,
    **WINDOW_USES,
    "cumsum": lambda ir, node: None,
    "scan": refuses_scan,
}
"""Operators that get a kernel without neighbours, whose writer is in `templates.TEMPLATES`: why a node cannot
have that kernel, or None."""

OUTSIDE: Mapping[str, str] = {
    "ensure_shape": "it checks sizes before anything runs, and moves nothing",
    "embedding_backward": "a sum over equal indices in no fixed order, which a kernel would need atomics for",
}
"""Operators that have no kernel, and why."""


def why_outside(ir: BlueprintIR, node: Node) -> str | None:
    """Why no generated kernel computes `node`, or None."""
    if node.op in ELIGIBLE:
        return ELIGIBLE[node.op](ir, node)
    if node.op in PLACED:
        return refuses_place(ir, node)
    return OUTSIDE.get(node.op, f"no kernel computes `{node.op}`")
