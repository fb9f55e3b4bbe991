"""cse: of nodes that compute the same, the first stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.law import Law, register
from esper.passes.numbering import ValueNumbers


@register
@dataclass(frozen=True)
class CommonSubexpressions:
    """Never ties two parameters, merges two random draws, or takes one input for another."""

    name: ClassVar[str] = "cse"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        numbers = ValueNumbers()
        first: dict[int, tuple[Value, ...]] = {}

        def rule(build: Builder, node: Node) -> tuple[Value, ...] | None:
            number = numbers.number(node)
            if number in first:
                return first[number]
            first[number] = node.results
            return None

        return rewrite(ir, rule)
