"""fold: arithmetic on constants is done when the graph is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.canonicalize import Known, Site, simplify
from esper.passes.constants import computed
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class Fold:
    """Scalars computed from constants and concrete sizes become constants.

    What becomes foldable or an identity by that, as `x * (2 * 0.5)` does, is simplified at once.
    """

    name: ClassVar[str] = "fold"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        known = Known()
        ir = map_bodies(ir, self.run)

        def rule(build: Builder, node: Node) -> Sequence[Value] | Node:
            value = computed(build, node)
            if value is not None:
                node = node.replace(op="constant", operands=(), attrs=frozen_attrs({"value": value}))
            return simplify(Site(build, known), node)

        return rewrite(ir, rule)
