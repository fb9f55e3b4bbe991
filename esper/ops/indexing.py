"""Reading by indices: tables of vectors, elements along an axis, and indicators of classes.

Indices are i64 and count from 0; what lies outside is an error of the reference, as in torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Dim, Size
from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Creation,
    Input,
    Kind,
    Operator,
    Outside,
    Role,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.axes import axis_of
from esper.ops.rules import attribute_dtype, traffic

_AXIS = Attribute("axis", Kind.INT, -1, doc="the axis; below zero it counts from the end")
_ROWS = Attribute("rows", Kind.DIM, doc="how many vectors the table has")


def _require_indices(site: Site, index: int) -> TensorType:
    found = site.type(index)
    name = site.op.input_of(index).name
    site.require(found.dtype is DType.I64, f"`{name}` is {found}, expected dtype i64")
    return found


def _require_floating(site: Site, index: int) -> TensorType:
    found = site.type(index)
    name = site.op.input_of(index).name
    site.require(found.dtype.is_floating, f"`{name}` is {found}, expected a floating dtype")
    return found


def _infer_embedding(site: Site) -> Sequence[TensorType]:
    indices, weight = _require_indices(site, 0), _require_floating(site, 1)
    site.require(weight.rank == 2, f"`weight` is {weight}, expected [rows, features]")
    return [weight.with_shape((*indices.shape, weight.shape[1]))]


def _infer_embedding_backward(site: Site) -> Sequence[TensorType]:
    g, indices = _require_floating(site, 0), _require_indices(site, 1)
    site.require(
        g.rank == indices.rank + 1 and g.shape[:-1] == indices.shape,
        f"`g` is {g} and `indices` is {indices}, expected one vector for each index",
    )
    rows = site.attrs["rows"]
    assert isinstance(rows, int | Dim)
    return [g.with_shape((rows, g.shape[-1]))]


def _embedding_vjp(v: Vjp) -> Sequence[Value | None]:
    rows = v.build.type(v.operand(1)).shape[0]
    return [None, v.op("embedding_backward", v.gradient, v.operand(0), rows=rows)]


def _embedding_backward_vjp(v: Vjp) -> Sequence[Value | None]:
    """The rule is linear in `g`: its gradient is the look-up itself."""
    return [v.op("embedding", v.operand(1), v.gradient), None]


def _table(creation: Creation) -> tuple[Size, ...]:
    return creation.size("rows"), creation.size("features")


def _sample_embedding(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    rows = draw.integer(4, 6)
    return [draw.indices(draw.shape(0, 2), rows), draw.param((rows, draw.integer(1, 3)), draw.dtype())], {}


def _sample_embedding_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    rows, shape = draw.integer(4, 6), draw.shape(0, 2)
    indices = draw.indices(shape, rows)
    return [draw.tensor((*shape, draw.integer(1, 3)), draw.dtype()), indices], {"rows": rows}


define(
    Operator(
        name="embedding",
        doc="The rows of `weight` [rows, features] that `indices` [...] name: [..., features].",
        lowering=Outside(),
        inputs=(
            Input("indices", doc="which rows"),
            Input(
                "weight",
                Role.PARAM,
                shape=_table,
                init="normal",
                fan_in=lambda creation: creation.size("rows"),
                doc="a vector for each index",
            ),
        ),
        attributes=(
            Attribute("rows", Kind.DIM, doc="how many vectors the table has", stored=False),
            Attribute("features", Kind.DIM, doc="the length of each", stored=False),
            Attribute("init", Kind.STRING, "", doc="initialiser of the table", stored=False),
        ),
        infer=_infer_embedding,
        reference="esper.ops.reference.indexing:embedding",
        vjp=_embedding_vjp,
        cost=lambda site: traffic(site, 0),
        sample=_sample_embedding,
    )
)

define(
    Operator(
        name="embedding_backward",
        doc="The gradient of the table of `embedding`: each row's is the sum of those of its uses.",
        lowering=Outside(),
        inputs=(Input("g"), Input("indices")),
        attributes=(_ROWS,),
        infer=_infer_embedding_backward,
        reference="esper.ops.reference.indexing:embedding_backward",
        vjp=_embedding_backward_vjp,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample_embedding_backward,
        in_language=False,
    )
)


def _without(shape: tuple[Size, ...], axis: int) -> tuple[Size, ...]:
    return (*shape[:axis], *shape[axis + 1 :])


def _infer_gather(site: Site) -> Sequence[TensorType]:
    x, indices = site.type(0), _require_indices(site, 1)
    axis = axis_of(site, x)
    site.require(
        x.rank == indices.rank and _without(x.shape, axis) == _without(indices.shape, axis),
        f"`x` is {x} and `indices` is {indices}: only their axis {axis} may differ",
    )
    return [x.with_shape(indices.shape)]


def _infer_gather_backward(site: Site) -> Sequence[TensorType]:
    g, indices = _require_floating(site, 0), _require_indices(site, 1)
    site.require(g.shape == indices.shape, f"`g` is {g} and `indices` is {indices}: the shapes differ")
    axis = axis_of(site, g)
    size = site.attrs["size"]
    assert isinstance(size, int | Dim)
    return [g.with_shape((*g.shape[:axis], size, *g.shape[axis + 1 :]))]


def _gather_vjp(v: Vjp) -> Sequence[Value | None]:
    shape, axis = v.build.type(v.operand(0)).shape, v.attrs["axis"]
    assert isinstance(axis, int)
    return [v.op("gather_backward", v.gradient, v.operand(1), axis=axis, size=shape[axis]), None]


def _gather_backward_vjp(v: Vjp) -> Sequence[Value | None]:
    """The rule is linear in `g`: its gradient is the look-up itself."""
    return [v.op("gather", v.gradient, v.operand(1), axis=v.attrs["axis"]), None]


def _gathered(draw: Sampler) -> tuple[tuple[Size, ...], int, int]:
    """The shape of indices, the axis, and how many elements it has to choose from."""
    shape = draw.shape(1, 3)
    return shape, draw.integer(0, len(shape) - 1), draw.integer(4, 5)


def _sample_gather(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    shape, axis, size = _gathered(draw)
    x = draw.tensor((*shape[:axis], size, *shape[axis + 1 :]), draw.dtype())
    return [x, draw.indices(shape, size)], {"axis": axis - (len(shape) if draw.boolean() else 0)}


def _sample_gather_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    shape, axis, size = _gathered(draw)
    return [draw.tensor(shape, draw.dtype()), draw.indices(shape, size)], {"axis": axis, "size": size}


define(
    Operator(
        name="gather",
        doc="The elements of `x` along `axis` that `indices` names, in the shape of `indices`, whose other "
        "axes are those of `x`.",
        lowering=Outside(),
        inputs=(Input("x"), Input("indices")),
        attributes=(_AXIS,),
        infer=_infer_gather,
        reference="esper.ops.reference.indexing:gather",
        vjp=_gather_vjp,
        cost=lambda site: traffic(site, 0),
        sample=_sample_gather,
    )
)

define(
    Operator(
        name="gather_backward",
        doc="The gradient of `x` of `gather`, with `size` elements along `axis`: sums over equal indices.",
        lowering=Outside(),
        inputs=(Input("g"), Input("indices")),
        attributes=(_AXIS, Attribute("size", Kind.DIM, doc="elements along the axis")),
        infer=_infer_gather_backward,
        reference="esper.ops.reference.indexing:gather_backward",
        vjp=_gather_backward_vjp,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=_sample_gather_backward,
        in_language=False,
    )
)


def _infer_one_hot(site: Site) -> Sequence[TensorType]:
    indices = _require_indices(site, 0)
    classes = site.integer("classes")
    site.require(classes >= 1, f"`classes` is {classes}, expected at least 1")
    dtype = attribute_dtype(site.attrs, "dtype")
    return [TensorType(dtype, (*indices.shape, classes))]


def _sample_one_hot(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    classes = draw.integer(4, 6)
    return [draw.indices(draw.shape(0, 2), classes)], {"classes": classes, "dtype": draw.dtype()}


define(
    Operator(
        name="one_hot",
        doc="[..., classes]: one where the last axis counts as far as `indices` [...] says, zero elsewhere.",
        lowering=Outside(),
        inputs=(Input("indices"),),
        attributes=(
            Attribute("classes", Kind.INT, doc="the size of the last axis"),
            Attribute("dtype", Kind.DTYPE, DType.F32, doc="the element type of the result"),
        ),
        infer=_infer_one_hot,
        reference="esper.ops.reference.indexing:one_hot",
        no_gradient="indices have none",
        cost=lambda site: traffic(site, 0),
        sample=_sample_one_hot,
    )
)
