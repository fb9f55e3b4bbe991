"""Gated linear units: one half of an axis scales the other (Dauphin et al. 2017, Shazeer 2020)."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Input,
    Kind,
    Operator,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.axes import axis_of
from esper.ops.rules import require_floating, traffic


def _infer(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x = site.type(0)
    axis = axis_of(site, x)
    size = x.shape[axis]
    site.require_size(0, axis, size // 2 * 2, f"axis {axis} of {x} is {size}, expected two halves")
    return [x.with_shape((*x.shape[:axis], size // 2, *x.shape[axis + 1 :]))]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    shape = list(draw.shape(1))
    axis = draw.integer(-len(shape), len(shape) - 1)
    shape[axis] = shape[axis] * 2
    return [draw.tensor(tuple(shape), draw.dtype())], {"axis": axis}


def _define(name: str, gate: str, doc: str) -> None:
    def definition(build: Builder, node: Node) -> Sequence[Value]:
        (x,) = node.operands
        assert x is not None
        halves = [build.op("chunk", x, chunks=2, index=index, axis=node.attrs["axis"]) for index in range(2)]
        return [build.op("mul", halves[0], build.op(gate, halves[1]))]

    define(
        Operator(
            name=name,
            doc=f"`a * {gate}(b)` for the halves `a` and `b` of `x` along `axis`{doc}.",
            lowering=Composite(definition),
            inputs=(Input("x"),),
            attributes=(Attribute("axis", Kind.INT, -1, doc="the axis; negative from the end"),),
            infer=_infer,
            reference=f"esper.ops.reference.gated:{name}",
            no_gradient="`expand` replaces it by its definition",
            cost=lambda site: traffic(site, site.results[0].elements * 6),
            sample=_sample,
        )
    )


_define("glu", "sigmoid", ", as in torch")
_define("swiglu", "silu", ", in the order of `glu`: the second half is the gate")
_define("geglu", "gelu", ", in the order of `glu`: the second half is the gate")
_define("reglu", "relu", ", in the order of `glu`: the second half is the gate")
