"""conv_to_matmul: a convolution of maps of one element is a matrix product.

A gate computes with the means of channels, [N, C, 1, 1], by windows of one element. As convolutions these are
calls of a library, between kernels; as products they are kernels with what follows behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from esper.ir.build import Builder
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.rewrite import map_bodies, rewrite
from esper.passes.law import Law, register


@register
@dataclass(frozen=True)
class ConvToMatmul:
    """For graphs after `expand`. A map of more elements would have to be transposed before and behind its
    product, which costs more than the product saves.
    """

    name: ClassVar[str] = "conv_to_matmul"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return rewrite(map_bodies(ir, self.run), _product)


def _product(build: Builder, node: Node) -> Sequence[Value] | None:
    if node.op != "convolution" or node.attrs["groups"] != 1 or node.attrs["padding"] != 0:
        return None
    x, weight = node.operands
    assert x is not None and weight is not None
    sizes, window = build.type(x).shape, build.type(weight).shape
    if any(size != 1 for size in (*sizes[2:], *window[2:])):
        return None
    rows = build.op("reshape", x, shape=sizes[:2])
    matrix = build.op("reshape", weight, shape=window[:2])
    y = build.op("matmul", rows, matrix, transpose_b=True)
    return [build.op("reshape", y, shape=node.type.shape)]
