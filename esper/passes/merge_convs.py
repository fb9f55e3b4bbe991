"""merge_convs: convolutions of one map by windows of one form are one, of their weights side by side.

    [W1 * x, W2 * x] = [W1; W2] * x

The map is read once, and its gradient is written once. Weights are joined in the graph, so parameters stay
what they are. Products of one matrix are left to the plan: they share a kernel, and nothing is joined for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.law import Law, register
from esper.passes.readers import of_weights, weights_first


@register
@dataclass(frozen=True)
class MergeConvs:
    """For graphs after `expand`. Convolutions in groups stay, and those whose weights depend on inputs."""

    name: ClassVar[str] = "merge_convs"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        ir = map_bodies(ir, self.run)
        siblings = _siblings(ir)
        return rewrite(weights_first(ir), _Merging(siblings).rule) if siblings else ir


def _siblings(ir: BlueprintIR) -> Mapping[str, Sequence[Node]]:
    """The convolutions that become one, under the name of each."""
    known = of_weights(ir)
    alike: dict[object, list[Node]] = {}
    for node in ir.nodes:
        if node.op == "convolution" and node.attrs["groups"] == 1:
            x, weight = node.operands
            assert weight is not None
            if weight.node in known:
                key = (x, ir.type(weight).shape[1:], tuple(node.attrs.items()))
                alike.setdefault(key, []).append(node)
    return {node.name: group for group in alike.values() if len(group) > 1 for node in group}


@dataclass(slots=True)
class _Merging:
    """done: what stands for the result of each convolution that was merged already."""

    siblings: Mapping[str, Sequence[Node]]
    done: dict[str, Value] = field(default_factory=dict)

    def rule(self, build: Builder, node: Node) -> Sequence[Value] | None:
        if node.name not in self.siblings:
            return None
        if node.name not in self.done:
            self._merge(build, node)
        return [self.done[node.name]]

    def _merge(self, build: Builder, node: Node) -> None:
        group = self.siblings[node.name]
        weight = build.op("concat", *(other.operands[1] for other in group), axis=0)
        y = build.op(node.op, node.operands[0], weight, name=None, span=node.span, **node.attrs)
        start: Size = 0
        for other in group:
            stop = start + other.type.shape[1]
            self.done[other.name] = build.op("slice", y, axes=(1,), start=(start,), stop=(stop,))
            start = stop
