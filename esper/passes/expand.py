"""expand: every composite operator becomes its definition, `linear` a `matmul` and an `add`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, Composite, Decompose, Definition
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class Expand:
    """After it the graph holds no `Composite` operator.

    A definition computes what the reference computes, though not in the same roundings.
    """

    name: ClassVar[str] = "expand"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return replace_by_definitions(ir, Composite)


def replace_by_definitions(ir: BlueprintIR, kind: type[Composite | Decompose]) -> BlueprintIR:
    """`ir` with each operator lowered by `kind` replaced by its definition, in definitions and bodies too."""

    def definition(node: Node) -> Definition | None:
        lowering = OPERATORS[node.op].lowering
        return lowering.definition if isinstance(lowering, kind) else None

    def rule(build: Builder, node: Node) -> list[Value] | None:
        defined = definition(node)
        return None if defined is None else list(defined(build, node))

    while any(map(definition, ir.nodes)):
        ir = rewrite(ir, rule)
    return map_bodies(ir, lambda body: replace_by_definitions(body, kind))
