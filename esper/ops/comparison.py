"""Comparisons and logic: boolean results, no gradient. NaN is unequal to all and neither less nor greater."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.graph import Value
from esper.ir.operator import AttrValue, Input, Operator, Pointwise, Sampler, Site, define
from esper.ir.types import DType, TensorType
from esper.ops.rules import broadcast, broadcastable, elementwise_cost


def _infer_comparison(site: Site) -> Sequence[TensorType]:
    return [broadcast(site)[0].with_dtype(DType.BOOL)]


def _infer_logic(site: Site) -> Sequence[TensorType]:
    for index, type in enumerate(site.types):
        assert type is not None
        site.require(
            type.dtype is DType.BOOL, f"`{site.op.inputs[index].name}` is {type}, expected dtype bool"
        )
    return broadcast(site)


def _sample_logic(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=DType.BOOL)
    return [x, draw.tensor(draw.type(x).shape, DType.BOOL)], {}


def _sample_not(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    return [draw.tensor(dtype=DType.BOOL)], {}


for _name, _function, _sign in (
    ("less", "lt", "<"),
    ("less_equal", "le", "<="),
    ("greater", "gt", ">"),
    ("greater_equal", "ge", ">="),
    ("equal", "eq", "=="),
    ("not_equal", "ne", "!="),
):
    define(
        Operator(
            name=_name,
            doc=f"`x {_sign} y`, a boolean tensor; operands of any one dtype.",
            lowering=Pointwise(f"{{x}} {_sign} {{y}}"),
            inputs=(Input("x"), Input("y")),
            infer=_infer_comparison,
            reference=f"torch:{_function}",
            no_gradient="boolean results have none",
            cost=elementwise_cost(1),
            sample=broadcastable,
        )
    )

for _name, _sign, _doc in (
    ("logical_and", "&", "Whether both `x` and `y` hold."),
    ("logical_or", "|", "Whether `x` or `y` or both hold."),
):
    define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=Pointwise(f"{{x}} {_sign} {{y}}"),
            inputs=(Input("x"), Input("y")),
            infer=_infer_logic,
            reference=f"torch:{_name}",
            no_gradient="boolean results have none",
            cost=elementwise_cost(1),
            sample=_sample_logic,
        )
    )

define(
    Operator(
        name="logical_not",
        doc="Whether `x` does not hold.",
        lowering=Pointwise("{x} == 0"),
        inputs=(Input("x"),),
        infer=_infer_logic,
        reference="torch:logical_not",
        no_gradient="boolean results have none",
        cost=elementwise_cost(1),
        sample=_sample_not,
    )
)
