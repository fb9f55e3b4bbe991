"""inference: the graph as it runs after training, with no randomness and no updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Role
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class Inference:
    """Law: the outputs are those of the same module in torch's eval mode."""

    name: ClassVar[str] = "inference"
    law: ClassVar[Law] = Law.CHANGES_SIGNATURE

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        def rule(build: Builder, node: Node) -> Sequence[Value] | Node | None:
            found = RULES.get(node.op)
            return _undrawn(node) if found is None else found(node)

        return rewrite(map_bodies(ir, self.run).replace(updates=()), rule)


def _undrawn(node: Node) -> Node | None:
    """A node that need not draw, without its draws."""
    entry = OPERATORS[node.op]
    if not entry.undrawn or not entry.draws(node.attrs):
        return None
    inputs = map(entry.input_of, range(len(node.operands)))
    operands = (
        None if declared.role is Role.SEED else operand
        for declared, operand in zip(inputs, node.operands, strict=True)
    )
    return node.replace(operands=tuple(operands), attrs=frozen_attrs({**node.attrs, **entry.undrawn}))


def _identity(node: Node) -> Sequence[Value]:
    x = node.operands[0]
    assert x is not None
    return (x,)


def _running_statistics(node: Node) -> Node:
    return node.replace(attrs=frozen_attrs({**node.attrs, "training": False}))


RULES: dict[str, Callable[[Node], Sequence[Value] | Node]] = {
    "dropout": _identity,
    "feature_dropout": _identity,
    "drop_path": _identity,
    "gaussian_noise": _identity,
    "batch_norm": _running_statistics,
}
