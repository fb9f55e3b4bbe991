"""Reductions that are made of others: least elements, products, variances, norms, and of booleans.

A root has no slope at zero; definitions pass it by, so that the gradient of `std` and `vector_norm` is zero
there, as torch's is.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Decompose,
    Definition,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    Vjp,
    VjpRule,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops import statistics as stats
from esper.ops.axes import integers_of
from esper.ops.reduction import (
    ATTRIBUTES,
    extremum_vjp,
    infer_reduction,
    reduced,
    require_axes,
    sample_reduction,
    spread,
)
from esper.ops.rules import attribute_integer, require_floating, traffic


def _reduce(build: Builder, node: Node, op: str, value: Value) -> Value:
    """`op` of `value` over the node's axes."""
    return build.op(op, value, axes=node.attrs["axes"], keepdims=bool(node.attrs["keepdims"]))


def _operand(node: Node) -> Value:
    (x,) = node.operands
    assert x is not None
    return x


def _root(build: Builder, square: Value) -> Value:
    """The square root, of which no gradient passes where it is zero."""
    is_above = build.op("greater", square, 0.0)
    one = build.constant(1.0, build.type(square).dtype)
    return build.op("where", is_above, build.op("sqrt", build.op("where", is_above, square, one)), square)


def _over_root(v: Vjp, gradient: Value) -> Value:
    """`gradient / root`, and zero where the result, the root, is zero."""
    root = v.result()
    zero = v.build.constant(0.0, v.build.type(root).dtype)
    return v.op("where", v.op("equal", root, zero), zero, v.op("div", gradient, root))


def _define_amin(build: Builder, node: Node) -> Sequence[Value]:
    return [build.op("neg", _reduce(build, node, "amax", build.op("neg", _operand(node))))]


def _define_vector_norm(build: Builder, node: Node) -> Sequence[Value]:
    x = _operand(node)
    wide = stats.widen(build, x)
    root = _root(build, _reduce(build, node, "sum", build.op("mul", wide, wide)))
    return [stats.cast(build, root, build.type(x).dtype)]


def _vector_norm_vjp(v: Vjp) -> Sequence[Value | None]:
    return [v.op("mul", v.operand(0), spread(v, _over_root(v, v.gradient)))]


def _define_logsumexp(build: Builder, node: Node) -> Sequence[Value]:
    """`log(sum(exp(x - m))) + m` with m the greatest element, or zero where that is infinite."""
    x = _operand(node)
    wide = stats.widen(build, x)
    greatest = build.op("amax", wide, axes=node.attrs["axes"], keepdims=True)
    zero = build.constant(0.0, build.type(wide).dtype)
    is_finite = build.op("equal", build.op("sub", greatest, greatest), zero)
    shift = build.op("where", is_finite, greatest, zero)
    total = _reduce(build, node, "sum", build.op("exp", build.op("sub", wide, shift)))
    back = stats.reshaped(build, shift, build.type(total).shape)
    return [stats.cast(build, build.op("add", build.op("log", total), back), build.type(x).dtype)]


def _logsumexp_vjp(v: Vjp) -> Sequence[Value | None]:
    share = v.op("exp", v.op("sub", v.operand(0), spread(v, v.result())))
    return [v.op("mul", spread(v, v.gradient), share)]


def _define(
    name: str, doc: str, definition: Definition, vjp: VjpRule, flops: int, reference: str | None = None
) -> None:
    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Decompose(definition),
            inputs=(Input("x"),),
            attributes=ATTRIBUTES,
            infer=infer_reduction,
            reference=reference or f"esper.ops.reference.reduction:{name}",
            vjp=vjp,
            cost=lambda site: traffic(site, site.type(0).elements * flops),
            sample=sample_reduction,
        )
    )


_define("amin", "The least element over `axes`.", _define_amin, extremum_vjp("less"), 1)
_define(
    "vector_norm",
    "The root of the sum of squares over `axes`.",
    _define_vector_norm,
    _vector_norm_vjp,
    2,
)
_define(
    "logsumexp",
    "`log(sum(exp(x)))` over `axes`, without overflow.",
    _define_logsumexp,
    _logsumexp_vjp,
    6,
)


# --- variances ---


def _elements(site: Site) -> Size:
    return product(site.type(0).shape[axis] for axis in site.integers("axes"))


def _infer_var(site: Site) -> Sequence[TensorType]:
    found = infer_reduction(site)
    count, correction = _elements(site), site.integer("correction")
    site.require(correction >= 0, f"`correction` is {correction}, expected 0 or more")
    site.require(
        not isinstance(count, int) or count > correction,
        f"`x` is {site.type(0)}: its {count} elements along axes {list(site.integers('axes'))} are not more "
        f"than correction = {correction}",
    )
    return found


def _sample_var(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    (x,), attrs = sample_reduction(draw)
    assert x is not None
    shape = draw.type(x).shape
    count = product(shape[axis] for axis in integers_of(attrs["axes"]))
    correction = 0 if count == 1 else draw.integer(0, 1)
    return [x], {**attrs, "correction": correction}


def _divisor(build: Builder, node: Node, x: Value) -> Value:
    """The number of elements of `x` along the axes less the correction, in `x`'s dtype."""
    count = stats.count(build, x, integers_of(node.attrs["axes"]))
    return build.op("sub", count, float(attribute_integer(node.attrs, "correction")))


def _variance(build: Builder, node: Node) -> Value:
    """Of the widened operand."""
    wide = stats.widen(build, _operand(node))
    centered = build.op("sub", wide, stats.average(build, wide, integers_of(node.attrs["axes"])))
    total = _reduce(build, node, "sum", build.op("mul", centered, centered))
    return build.op("div", total, _divisor(build, node, wide))


def _define_var(build: Builder, node: Node) -> Sequence[Value]:
    return [stats.cast(build, _variance(build, node), node.type.dtype)]


def _define_std(build: Builder, node: Node) -> Sequence[Value]:
    return [stats.cast(build, _root(build, _variance(build, node)), node.type.dtype)]


def _slope(v: Vjp, gradient: Value) -> Value:
    """`gradient * (x - mean) / (count - correction)`"""
    x = v.operand(0)
    centered = v.op("sub", x, stats.average(v.build, x, integers_of(v.attrs["axes"])))
    return v.op("mul", centered, spread(v, v.op("div", gradient, _divisor(v.build, v.node, x))))


def _var_vjp(v: Vjp) -> Sequence[Value | None]:
    return [_slope(v, v.op("mul", v.gradient, 2.0))]


def _std_vjp(v: Vjp) -> Sequence[Value | None]:
    return [_slope(v, _over_root(v, v.gradient))]


for _name, _doc, _definition, _vjp in (
    ("var", "The variance over `axes`, divided by their elements less `correction`.", _define_var, _var_vjp),
    ("std", "The standard deviation over `axes`: the root of `var`.", _define_std, _std_vjp),
):
    define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=Decompose(_definition),
            inputs=(Input("x"),),
            attributes=(
                *ATTRIBUTES,
                Attribute("correction", Kind.INT, 1, doc="what the divisor is less than the elements"),
            ),
            infer=_infer_var,
            reference=f"esper.ops.reference.reduction:{_name}",
            vjp=_vjp,
            cost=lambda site: traffic(site, site.type(0).elements * 4),
            sample=_sample_var,
        )
    )


# --- products ---


def _infer_prod_backward(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    g, x = site.type(0), site.type(1)
    axes = site.integers("axes")
    require_axes(site, x, axes)
    kept = tuple(size for axis, size in enumerate(x.shape) if axis not in axes)
    site.require(g == x.with_shape(kept), f"`g` is {g}, expected {x.with_shape(kept)}")
    return [x]


def _prod_vjp(v: Vjp) -> Sequence[Value | None]:
    x, axes = v.operand(0), integers_of(v.attrs["axes"])
    kept = tuple(s for a, s in enumerate(v.build.type(x).shape) if a not in axes)
    return [v.op("prod_backward", stats.reshaped(v.build, v.gradient, kept), x, axes=axes)]


def _define_prod_backward(build: Builder, node: Node) -> Sequence[Value]:
    """The product over an element; where elements are zero, only a single one of them has a gradient."""
    g, x = node.operands
    assert g is not None and x is not None
    axes, type = integers_of(node.attrs["axes"]), build.type(x)
    wide = stats.widen(build, x)
    zero, one = (build.constant(value, build.type(wide).dtype) for value in (0.0, 1.0))
    is_zero = build.op("equal", wide, zero)
    factors = build.op("where", is_zero, one, wide)
    total = build.op("prod", factors, axes=axes, keepdims=True)
    zeros = build.op("where", is_zero, one, build.op("broadcast_to", zero, shape=type.shape))
    count = build.op("sum", zeros, axes=axes, keepdims=True)
    without = build.op("where", build.op("equal", count, zeros), build.op("div", total, factors), zero)
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(type.shape))
    spread = stats.reshaped(build, stats.widen(build, g), kept)
    return [stats.cast(build, build.op("mul", spread, without), type.dtype)]


def _sample_prod_backward(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    (x,), attrs = sample_reduction(draw)
    assert x is not None
    axes = integers_of(attrs["axes"])
    type = draw.type(x)
    kept = tuple(s for a, s in enumerate(type.shape) if a not in axes)
    return [draw.tensor(kept, type.dtype), x], {"axes": axes}


define(
    Operator(
        name="prod",
        doc="The product over `axes`.",
        lowering=Outside(),
        inputs=(Input("x"),),
        attributes=ATTRIBUTES,
        infer=infer_reduction,
        reference="esper.ops.reference.reduction:prod",
        vjp=_prod_vjp,
        cost=lambda site: traffic(site, site.type(0).elements),
        sample=sample_reduction,
    )
)
define(
    Operator(
        name="prod_backward",
        doc="The gradient of `prod`: `g` times the product of all other elements, which may hold zeros.",
        lowering=Decompose(_define_prod_backward),
        inputs=(Input("g"), Input("x")),
        attributes=ATTRIBUTES[:1],
        infer=_infer_prod_backward,
        reference="esper.ops.reference.reduction:prod_backward",
        no_gradient="second derivatives are not supported",
        cost=lambda site: traffic(site, site.type(1).elements * 4),
        sample=_sample_prod_backward,
        in_language=False,
    )
)


# --- booleans ---


def _infer_boolean(site: Site) -> Sequence[TensorType]:
    type = site.type(0)
    site.require(type.dtype is DType.BOOL, f"`x` is {type}, expected dtype bool")
    return reduced(site)


def _sample_boolean(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=DType.BOOL, min_rank=1)
    axes = tuple(axis for axis in range(draw.type(x).rank) if draw.boolean())
    return [x], {"axes": axes or (draw.type(x).rank - 1,), "keepdims": draw.boolean()}


def _define_any(build: Builder, node: Node) -> Sequence[Value]:
    numbers = build.op("cast", _operand(node), dtype=DType.F32)
    return [build.op("greater", _reduce(build, node, "amax", numbers), 0.0)]


def _define_all(build: Builder, node: Node) -> Sequence[Value]:
    return [build.op("logical_not", _reduce(build, node, "any", build.op("logical_not", _operand(node))))]


for _name, _doc, _definition in (
    ("any", "Whether an element over `axes` holds.", _define_any),
    ("all", "Whether all elements over `axes` hold.", _define_all),
):
    define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=Decompose(_definition),
            inputs=(Input("x"),),
            attributes=ATTRIBUTES,
            infer=_infer_boolean,
            reference=f"esper.ops.reference.reduction:{_name}",
            no_gradient="boolean results have none",
            cost=lambda site: traffic(site, site.type(0).elements),
            sample=_sample_boolean,
        )
    )
