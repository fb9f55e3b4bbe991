"""dce: nodes that no result needs are dropped, and results that only a gradient would have read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import complete_attrs, infer_types
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS
from esper.ir.rewrite import map_bodies, needed_by
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class DeadCode:
    """Inputs stay, for they are the signature, and so do buffers with an update.

    A param or buffer that no result needs is dropped, and so leaves the seed's state: no gradient
    could ever reach it. A `scan` whose histories nothing reads yields none.
    """

    name: ClassVar[str] = "dce"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        live = needed_by(ir, [*(value.node for value in ir.results), *(name for name, _ in ir.updates)])
        kept = tuple(node for node in ir.nodes if node.name in live or node.op == "input")
        ir = ir if len(kept) == len(ir.nodes) else ir.replace(nodes=kept)
        return _without_residuals(ir)


def _without_residuals(ir: BlueprintIR) -> BlueprintIR:
    """`ir` with nodes in their plain form where nothing reads what `autodiff` made them yield."""
    yielding = [
        node
        for node in ir.nodes
        if (residuals := OPERATORS[node.op].residuals) and residuals.items() <= dict(node.attrs).items()
    ]
    if not yielding:
        return ir
    read: set[Value | None] = {operand for node in ir.nodes for operand in node.operands}
    read.update(ir.results)
    plain = {node.name: found for node in yielding if (found := _plain(ir, node, read)) is not None}
    return ir.replace(nodes=(plain.get(node.name, node) for node in ir.nodes)) if plain else ir


def _plain(ir: BlueprintIR, node: Node, read: set[Value | None]) -> Node | None:
    """`node` without its residual results, if none of them is in `read`."""
    entry = OPERATORS[node.op]
    own = {name: value for name, value in node.attrs.items() if name not in entry.residuals}
    attrs = complete_attrs(entry, own, node.name)
    types = infer_types(entry, [None if o is None else ir.type(o) for o in node.operands], attrs)
    return None if read & set(node.results[len(types) :]) else node.replace(attrs=attrs, types=types)
