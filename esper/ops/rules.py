"""Type, cost and sampling rules that many entries share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.ir.operator import Attrs, AttrValue, Cost, Sample, Sampler, Site
from esper.ir.types import DType, TensorType, broadcast_shapes


def broadcast(site: Site) -> tuple[TensorType]:
    """Operands of one dtype, broadcast together by NumPy's rule."""
    types = [type for type in site.types if type is not None]
    dtype = types[0].dtype
    for index, type in enumerate(types):
        if type.dtype is not dtype:
            first = site.op.inputs[0].name
            site.refuse(f"`{site.op.input_of(index).name}` is {type}, but `{first}` has dtype {dtype}")
    return (TensorType(dtype, broadcast_shape(site)),)


def broadcast_shape(site: Site, named: str = "") -> tuple[Size, ...]:
    """The shape that all operands broadcast to; `named`, else their types, stands for them in the error."""
    shapes = [() if type is None else type.shape for type in site.types]
    shape = broadcast_shapes(*shapes)
    if shape is not None:
        return shape
    types = " and ".join(str(type) for type in site.types if type is not None)
    reason = f"the shapes {named or types} do not broadcast"
    for axis in range(-max(map(len, shapes)), 0):
        wide = [i for i, s in enumerate(shapes) if len(s) >= -axis and s[axis] != 1]
        for index in wide[1:]:
            site.require_same_size((index, axis), (wide[0], axis), reason)
    raise AssertionError(reason)


def broadcast_floating(site: Site) -> tuple[TensorType]:
    """As `broadcast`, for floating operands."""
    require_floating(site)
    return broadcast(site)


def require_floating(site: Site) -> None:
    for index, type in enumerate(site.types):
        if type is not None and not type.dtype.is_floating:
            site.refuse(f"`{site.op.input_of(index).name}` is {type}, expected a floating dtype")


def require_type(site: Site, index: int, expected: TensorType) -> None:
    """Refuses an operand, if present, that is not of the type `expected`; its sizes may be left to a run."""
    found = site.types[index]
    if found is None or found == expected:
        return
    reason = f"`{site.op.input_of(index).name}` is {found}, expected {expected}"
    site.require(found.dtype is expected.dtype and found.rank == expected.rank, reason)
    for axis, size in enumerate(expected.shape):
        site.require_size(index, axis, size, reason)


def elementwise_cost(flops_per_element: int) -> Callable[[Site], Cost]:
    """Each operand read once, each result written once, some arithmetic for each result element."""

    def cost(site: Site) -> Cost:
        return traffic(site, site.results[0].elements * flops_per_element)

    return cost


def traffic(site: Site, flops: Size) -> Cost:
    """`flops`, with each operand read once and each result written once."""
    read: Size = 0
    for type in site.types:
        read = read + (type.bytes if type is not None else 0)
    written: Size = 0
    for type in site.results:
        written = written + type.bytes
    return Cost(flops, read, written)


def same_shapes(count: int, attrs: Callable[[Sampler], dict[str, AttrValue]] | None = None) -> Sample:
    """Samples `count` floating tensors of one type."""

    def sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        first = draw.tensor(dtype=draw.dtype())
        type = draw.type(first)
        rest = [draw.tensor(type.shape, type.dtype) for _ in range(count - 1)]
        return [first, *rest], attrs(draw) if attrs else {}

    return sample


def broadcastable(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    """Samples two floating tensors; one may lack leading axes or have axes of size 1."""
    first = draw.tensor(dtype=draw.dtype())
    type = draw.type(first)
    shape = type.shape[draw.integer(0, type.rank) :]
    shape = tuple(1 if draw.boolean() else size for size in shape)
    second = draw.tensor(shape, type.dtype)
    return ([first, second] if draw.boolean() else [second, first]), {}


def positive_operand(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    """Samples one tensor with elements above zero."""
    return [draw.positive()], {}


def attribute_dtype(attrs: Attrs, name: str) -> DType:
    value = attrs[name]
    assert isinstance(value, DType), name
    return value


def attribute_integer(attrs: Attrs, name: str) -> int:
    value = attrs[name]
    assert isinstance(value, int), name
    return value


def attribute_number(attrs: Attrs, name: str) -> float:
    value = attrs[name]
    assert isinstance(value, float), name
    return value
