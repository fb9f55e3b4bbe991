"""decompose: operators that torch runs whole become the primitives that Urza plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.ir.graph import BlueprintIR
from esper.ir.operator import Decompose as DecomposeLowering
from esper.passes.expand import replace_by_definitions
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class Decompose:
    """After it no node is lowered by `Decompose`: a `layer_norm` is its means, differences and products."""

    name: ClassVar[str] = "decompose"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return replace_by_definitions(ir, DecomposeLowering)
