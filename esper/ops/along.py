"""What runs along one axis: running sums, and the places of the extreme elements."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.axes import axis_of, sample_axis
from esper.ops.rules import require_floating, traffic

_AXIS = Attribute("axis", Kind.INT, -1, doc="the axis; below zero it counts from the end")


def _infer_cumsum(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    axis_of(site, site.type(0))
    return [site.type(0)]


def _cumsum_vjp(v: Vjp) -> Sequence[Value | None]:
    """An element is in the sums of all that follow it."""
    return [v.op("cumsum", v.gradient, axis=v.attrs["axis"], reverse=not v.attrs["reverse"])]


def _sample_cumsum(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = sample_axis(draw)
    return operands, {**attrs, "reverse": draw.boolean()}


define(
    Operator(
        name="cumsum",
        doc="The sums of all elements up to each one along `axis`, or with `reverse` from each one on.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=(
            _AXIS,
            Attribute("reverse", Kind.BOOL, False, doc="whether to sum from the end of the axis"),
        ),
        infer=_infer_cumsum,
        reference="esper.ops.reference.reduction:cumsum",
        vjp=_cumsum_vjp,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample_cumsum,
    )
)


def _infer_place(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    type = site.type(0)
    axis = axis_of(site, type)
    kept = (1,) if site.flag("keepdims") else ()
    return [TensorType(DType.I64, (*type.shape[:axis], *kept, *type.shape[axis + 1 :]))]


def _sample_place(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    operands, attrs = sample_axis(draw)
    return operands, {**attrs, "keepdims": draw.boolean()}


for _name, _what in (("argmax", "greatest"), ("argmin", "least")):
    define(
        Operator(
            name=_name,
            doc=f"The index along `axis` of the {_what} element, an i64 tensor; of equal ones any.",
            lowering=Outside(),
            inputs=(Input("x"),),
            attributes=(
                _AXIS,
                Attribute("keepdims", Kind.BOOL, False, doc="whether the axis stays, with size 1"),
            ),
            infer=_infer_place,
            reference=f"esper.ops.reference.reduction:{_name}",
            no_gradient="indices are integers",
            cost=lambda site: traffic(site, site.type(0).elements),
            sample=_sample_place,
        )
    )
