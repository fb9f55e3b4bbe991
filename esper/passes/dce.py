"""dce: nodes that no result needs are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.ir.graph import BlueprintIR
from esper.ir.rewrite import needed_by
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class DeadCode:
    """Inputs stay, for they are the signature, and so do buffers with an update.

    A param or buffer that no result needs is dropped, and so leaves the seed's state: no gradient
    could ever reach it.
    """

    name: ClassVar[str] = "dce"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        live = needed_by(ir, [*(value.node for value in ir.results), *(name for name, _ in ir.updates)])
        kept = tuple(node for node in ir.nodes if node.name in live or node.op == "input")
        return ir if len(kept) == len(ir.nodes) else ir.replace(nodes=kept)
