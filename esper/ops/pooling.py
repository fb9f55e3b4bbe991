"""Pooling over one to three axes: windows of equal sides, windows that cover an axis, whole channels.

The gradient of a maximum goes to the element that its window found first among the greatest, as in torch;
its place is found again from `x`, which costs less memory than a saved index of eight bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import require_floating, traffic

_GEOMETRY = (
    Attribute("kernel", Kind.INT, doc="size of the window along each axis"),
    Attribute("stride", Kind.INT, 0, doc="step between windows; 0 is `kernel`"),
    Attribute("padding", Kind.INT, 0, doc="how far windows reach over each end; at most half of `kernel`"),
)
_COUNT = Attribute(
    "count_include_pad", Kind.BOOL, True, doc="whether the padding counts, as zeros, in the mean"
)
_SIZE = Attribute("size", Kind.INT, doc="windows along each axis")
_SHAPE = Attribute("shape", Kind.DIMS, doc="the sizes of the result")
_KEEPDIMS = Attribute("keepdims", Kind.BOOL, False, doc="whether the axes S stay, with size 1")


def _require_map(site: Site, x: TensorType) -> None:
    require_floating(site)
    site.require(3 <= x.rank <= 5, f"`x` is {x}, expected [N, C, ...S] with one to three axes in S")


def _windows(site: Site, x: TensorType) -> TensorType:
    """`x` with `(size + 2 * padding - kernel) // stride + 1` along each axis of S."""
    _require_map(site, x)
    kernel, stride, padding = (site.integer(name) for name in ("kernel", "stride", "padding"))
    site.require(kernel >= 1, f"`kernel` is {kernel}, expected at least 1")
    site.require(stride >= 0, f"`stride` is {stride}, expected at least 1, or 0 for `kernel`")
    site.require(
        0 <= padding <= kernel // 2,
        f"`padding` is {padding}, expected 0 to {kernel // 2}, half of kernel = {kernel}",
    )
    sizes: list[Size] = []
    for axis, size in enumerate(x.shape[2:], start=2):
        room = size + 2 * padding - kernel
        site.require(
            isinstance(room, Dim) or room >= 0,
            f"`x` is {x}: axis {axis} and padding = {padding} have no room for a window of {kernel}",
        )
        sizes.append(room // (stride or kernel) + 1)
    return x.with_shape((*x.shape[:2], *sizes))


def _adapted(site: Site, x: TensorType) -> TensorType:
    _require_map(site, x)
    size = site.integer("size")
    site.require(size >= 1, f"`size` is {size}, expected at least 1")
    return x.with_shape((*x.shape[:2], *[size] * (x.rank - 2)))


Pooled = Callable[[Site, TensorType], TensorType]


def _mean_rule(pooled: Pooled) -> Callable[[Site], Sequence[TensorType]]:
    return lambda site: [pooled(site, site.type(0))]


def _max_rule(pooled: Pooled) -> Callable[[Site], Sequence[TensorType]]:
    def infer(site: Site) -> Sequence[TensorType]:
        y = pooled(site, site.type(0))
        return [y, TensorType(DType.I64, y.shape)]

    return infer


def _gradient_rule(
    pooled: Pooled, shape: Callable[[Site], tuple[Size, ...]]
) -> Callable[[Site], Sequence[TensorType]]:
    def infer(site: Site) -> Sequence[TensorType]:
        require_floating(site)
        g = site.type(0)
        x = TensorType(g.dtype, shape(site))
        expected = pooled(site, x)
        site.require(g == expected, f"`g` is {g}, expected {expected} for {x}")
        return [x]

    return infer


def _max_gradient_rule(pooled: Pooled) -> Callable[[Site], Sequence[TensorType]]:
    def infer(site: Site) -> Sequence[TensorType]:
        g, x = site.type(0), site.type(1)
        expected = pooled(site, x)
        site.require(g == expected, f"`g` is {g}, expected {expected} for `x` {x}")
        return [x]

    return infer


def _map(draw: Sampler) -> Value:
    return draw.tensor(dtype=draw.dtype(), min_rank=3, max_rank=draw.integer(3, 4))


def _geometry(draw: Sampler) -> dict[str, AttrValue]:
    """Half a window over each end, so that a map of any size has room."""
    kernel = draw.integer(1, 3)
    return {"kernel": kernel, "stride": draw.integer(0, 2), "padding": kernel // 2}


def _counted(draw: Sampler) -> dict[str, AttrValue]:
    return {**_geometry(draw), "count_include_pad": draw.boolean()}


def _size(draw: Sampler) -> dict[str, AttrValue]:
    return {"size": draw.integer(1, 3)}


Draw = Callable[[Sampler], dict[str, AttrValue]]
Sampled = tuple[Sequence[Value | None], dict[str, AttrValue]]


def _sample(attrs: Draw) -> Callable[[Sampler], Sampled]:
    return lambda draw: ([_map(draw)], attrs(draw))


def _sample_gradient(name: str, pooled: Pooled, attrs: Draw, reads_x: bool) -> Callable[[Sampler], Sampled]:
    def sample(draw: Sampler) -> Sampled:
        x, chosen = _map(draw), attrs(draw)
        type = draw.type(x)
        y = pooled(Site(_FORWARD[name], (type,), chosen), type)
        g = draw.tensor(y.shape, y.dtype)
        return ([g, x], chosen) if reads_x else ([g], {"shape": type.shape, **chosen})

    return sample


def _cost_of_max(site: Site) -> Cost:
    return traffic(
        site, site.results[0].elements * product([site.integer("kernel")] * (site.type(0).rank - 2))
    )


def _cost_once(site: Site) -> Cost:
    """About one operation for each element of the larger map."""
    return traffic(site, site.type(0).elements + site.results[0].elements)


_FORWARD: dict[str, Operator] = {}

for _name, _pooled, _attributes, _draw, _doc in (
    (
        "max_pool",
        _windows,
        _GEOMETRY,
        _geometry,
        "The greatest element of each window of `x` [N, C, ...S], one to three axes S; each size becomes "
        "`(size + 2 * padding - kernel) // stride + 1`. `indices` are places in S in row-major order.",
    ),
    (
        "adaptive_max_pool",
        _adapted,
        (_SIZE,),
        _size,
        "The greatest element of each window of `x` [N, C, ...S], one to three axes S: `size` windows cover "
        "each axis, number i from `i * length // size` to before `-(-(i + 1) * length // size)`.",
    ),
):
    _FORWARD[_name] = define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=Outside(),
            inputs=(Input("x"),),
            attributes=_attributes,
            results=("result", "indices"),
            infer=_max_rule(_pooled),
            reference=f"esper.ops.reference.pooling:{_name}",
            first_result_reference=f"esper.ops.reference.pooling:{_name}_result",
            vjp=lambda v: [
                None
                if v.gradients[0] is None
                else v.op(f"{v.node.op}_backward", v.gradient, v.operand(0), **v.attrs)
            ],
            cost=_cost_of_max if _pooled is _windows else _cost_once,
            sample=_sample(_draw),
        )
    )
    define(
        Operator(
            name=f"{_name}_backward",
            doc=f"The gradient of the `x` of `{_name}` from that of its result, `g`: each goes to the "
            "element that its window found first among the greatest.",
            lowering=Outside(),
            inputs=(Input("g"), Input("x")),
            attributes=_attributes,
            infer=_max_gradient_rule(_pooled),
            reference=f"esper.ops.reference.pooling:{_name}_backward",
            no_gradient="second derivatives are not supported",
            cost=_cost_once,
            sample=_sample_gradient(_name, _pooled, _draw, reads_x=True),
            in_language=False,
        )
    )

for _name, _pooled, _fields, _draw, _doc in (
    (
        "avg_pool",
        _windows,
        (*_GEOMETRY, _COUNT),
        _counted,
        "The mean of each window of `x` [N, C, ...S], one to three axes S; each size becomes "
        "`(size + 2 * padding - kernel) // stride + 1`.",
    ),
    (
        "adaptive_avg_pool",
        _adapted,
        (_SIZE,),
        _size,
        "The mean of each window of `x` [N, C, ...S], one to three axes S: `size` windows cover each axis, "
        "number i from `i * length // size` to before `-(-(i + 1) * length // size)`.",
    ),
):
    _FORWARD[_name] = define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=Outside(),
            inputs=(Input("x"),),
            attributes=_fields,
            infer=_mean_rule(_pooled),
            reference=f"esper.ops.reference.pooling:{_name}",
            vjp=lambda v: [
                v.op(f"{v.node.op}_backward", v.gradient, shape=v.build.type(v.operand(0)).shape, **v.attrs)
            ],
            cost=_cost_once,
            sample=_sample(_draw),
        )
    )
    define(
        Operator(
            name=f"{_name}_backward",
            doc=f"The gradient of the `x` of `{_name}`, of the sizes `shape`, from that of its result, `g`.",
            lowering=Outside(),
            inputs=(Input("g"),),
            attributes=(_SHAPE, *_fields),
            infer=_gradient_rule(_pooled, lambda site: site.sizes("shape")),
            reference=f"esper.ops.reference.pooling:{_name}_backward",
            vjp=lambda v: [
                v.op(
                    v.node.op.removesuffix("_backward"),
                    v.gradient,
                    **{name: value for name, value in v.attrs.items() if name != "shape"},
                )
            ],
            cost=_cost_once,
            sample=_sample_gradient(_name, _pooled, _draw, reads_x=False),
            in_language=False,
        )
    )


def _infer_global(site: Site) -> Sequence[TensorType]:
    x = site.type(0)
    _require_map(site, x)
    return [x.with_shape((*x.shape[:2], *([1] * (x.rank - 2) if site.flag("keepdims") else [])))]


def _define_global(build: Builder, node: Node) -> Sequence[Value]:
    (x,) = node.operands
    assert x is not None
    axes = tuple(range(2, build.type(x).rank))
    name = {"global_avg_pool": "mean", "global_max_pool": "amax"}[node.op]
    return [build.op(name, x, axes=axes, keepdims=bool(node.attrs["keepdims"]))]


for _name, _what in (("global_avg_pool", "mean"), ("global_max_pool", "greatest element")):
    define(
        Operator(
            name=_name,
            doc=f"The {_what} of each channel of `x` [N, C, ...S], one to three axes S.",
            lowering=Composite(_define_global),
            inputs=(Input("x"),),
            attributes=(_KEEPDIMS,),
            infer=_infer_global,
            reference=f"esper.ops.reference.pooling:{_name}",
            no_gradient="`expand` replaces it by its definition",
            cost=lambda site: traffic(site, site.type(0).elements),
            sample=_sample(lambda draw: {"keepdims": draw.boolean()}),
        )
    )
