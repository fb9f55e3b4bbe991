"""Which uses of attention have kernels of their own, and how their operands are read."""

from __future__ import annotations

from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS
from esper.urza.plan.access import Access, access

WIDEST_HEAD = 256
"""The greatest head size of which a block fits the registers."""


def refuses_attention(ir: BlueprintIR, node: Node) -> str | None:
    """Why a step of attention has no kernel for this node, or None."""
    operands = named(node)
    for name in ("q", "v"):
        width = ir.type(present(operands[name])).shape[-1]
        if not isinstance(width, int):
            return f"the head size {width} of `{name}` is not fixed"
        if width > WIDEST_HEAD:
            return f"the head size {width} of `{name}` is above {WIDEST_HEAD}"
    for name, value in operands.items():
        if value is not None and ir.node(read_of(ir, value).base.node).op == "constant":
            return f"`{name}` is a constant, which lies in no buffer"
    return None


def refuses_mask_grad(ir: BlueprintIR, node: Node) -> str | None:
    """As `refuses_attention`, for the gradient of the mask."""
    shape = ir.type(present(named(node)["mask"])).shape
    if len(shape) < 2 or 1 in shape[-2:]:
        return (
            "the mask is broadcast along queries or keys, so its gradient is a sum over whole rows of scores"
        )
    return refuses_attention(ir, node)


def named(node: Node) -> dict[str, Value | None]:
    """Operands by the names of their inputs."""
    return {entry.name: value for entry, value in zip(OPERATORS[node.op].inputs, node.operands, strict=True)}


def read_of(ir: BlueprintIR, value: Value) -> Access:
    found = access(ir, value)
    assert found is not None
    return found


def present(value: Value | None) -> Value:
    assert value is not None
    return value
