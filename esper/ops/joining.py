"""Several tensors as one: joined along an axis that they have, or stacked along one that they have not."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import TensorType
from esper.ops.axes import axis_of
from esper.ops.rules import attribute_integer, traffic

_MOST = 3  # tensors that samples join
_TENSORS = (Input("tensors", variadic=True, doc="tensors of one dtype, in order"),)


def _operands(site: Site) -> list[TensorType]:
    types = [type for type in site.types if type is not None]
    site.require(bool(types), "takes at least one tensor, found none")
    for type in types:
        site.require(
            type.dtype is types[0].dtype, f"found {types[0]} and {type} in `tensors`: the dtypes differ"
        )
    return types


def _infer_concat(site: Site) -> Sequence[TensorType]:
    first, *rest = _operands(site)
    axis = axis_of(site, first)
    total = first.shape[axis]
    for index, type in enumerate(rest, start=1):
        reason = f"found {first} and {type} in `tensors`: they differ beside axis {axis}"
        site.require(type.rank == first.rank, reason)
        for other in range(first.rank):
            if other != axis:
                site.require_size(index, other, first.shape[other], reason)
        total = total + type.shape[axis]
    return [first.with_shape((*first.shape[:axis], total, *first.shape[axis + 1 :]))]


def _concat_vjp(v: Vjp) -> Sequence[Value | None]:
    """Each operand's gradient is the part of the result's that it became."""
    rank = v.build.type(v.result()).rank
    axis = attribute_integer(v.attrs, "axis") % rank
    gradients: list[Value | None] = []
    start: Size = 0
    for index, needed in enumerate(v.needed):
        stop = start + v.build.type(v.operand(index)).shape[axis]
        part = v.op("slice", v.gradient, axes=(axis,), start=(start,), stop=(stop,)) if needed else None
        gradients.append(part)
        start = stop
    return gradients


def _sample_concat(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    first = draw.tensor(min_rank=1)
    type = draw.type(first)
    axis = draw.integer(-type.rank, type.rank - 1)
    shape = list(type.shape)
    tensors = [first]
    for _ in range(draw.integer(0, _MOST - 1)):
        shape[axis] = draw.integer(1, 3) if draw.boolean() else type.shape[axis]
        tensors.append(draw.tensor(tuple(shape), type.dtype))
    return tensors, {"axis": axis}


define(
    Operator(
        name="concat",
        doc="`tensors` one after the other along `axis`; their other axes are equal.",
        lowering=Outside(),
        inputs=_TENSORS,
        attributes=(Attribute("axis", Kind.INT, 0, doc="the axis; a negative one counts from the end"),),
        infer=_infer_concat,
        reference="esper.ops.reference.joining:concat",
        vjp=_concat_vjp,
        cost=lambda site: traffic(site, 0),
        sample=_sample_concat,
    )
)


def _infer_stack(site: Site) -> Sequence[TensorType]:
    first, *rest = types = _operands(site)
    for index, type in enumerate(rest, start=1):
        site.require_same_shape(index, 0, f"found {first} and {type} in `tensors`, expected equal shapes")
    longer = first.with_shape((*first.shape, 1))
    axis = axis_of(site, longer)
    return [first.with_shape((*first.shape[:axis], len(types), *first.shape[axis:]))]


def _stack(build: Builder, node: Node) -> Sequence[Value]:
    axis = attribute_integer(node.attrs, "axis") % node.type.rank
    shape = (*node.type.shape[:axis], 1, *node.type.shape[axis + 1 :])
    rows = [build.op("reshape", operand, shape=shape) for operand in node.operands]
    return [build.op("concat", *rows, axis=axis)]


def _sample_stack(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    first = draw.tensor(max_rank=3)
    type = draw.type(first)
    rest = [draw.tensor(type.shape, type.dtype) for _ in range(draw.integer(0, _MOST - 1))]
    return [first, *rest], {"axis": draw.integer(-type.rank - 1, type.rank)}


define(
    Operator(
        name="stack",
        doc="`tensors`, of one shape, as the slices of the result along its axis `axis`.",
        lowering=Composite(_stack),
        inputs=_TENSORS,
        attributes=(Attribute("axis", Kind.INT, 0, doc="the axis of the result; negative from the end"),),
        infer=_infer_stack,
        reference="esper.ops.reference.joining:stack",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, 0),
        sample=_sample_stack,
    )
)
