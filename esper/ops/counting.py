"""Numbers that a graph counts by itself."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Dim
from esper.ir.graph import Value
from esper.ir.operator import Attribute, AttrValue, Kind, Operator, Pointwise, Sampler, Site, define
from esper.ir.types import DType, TensorType
from esper.ops.rules import attribute_dtype, traffic


def _infer(site: Site) -> Sequence[TensorType]:
    size, dtype = site.attrs["size"], attribute_dtype(site.attrs, "dtype")
    assert isinstance(size, int | Dim)
    site.require(dtype is not DType.BOOL, "`dtype` is bool, expected one of numbers")
    return [TensorType(dtype, (size,))]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    return [], {"size": draw.integer(1, 6), "dtype": draw.choice((DType.I64, DType.I32, DType.F32))}


define(
    Operator(
        name="arange",
        doc="The numbers 0, 1, 2, … below `size`.",
        lowering=Pointwise("{index}"),
        attributes=(
            Attribute("size", Kind.DIM, doc="how many"),
            Attribute("dtype", Kind.DTYPE, DType.I64, doc="the element type of the result"),
        ),
        infer=_infer,
        reference="esper.ops.reference.indexing:arange",
        no_gradient="it has no operands",
        cost=lambda site: traffic(site, 0),
        sample=_sample,
    )
)
