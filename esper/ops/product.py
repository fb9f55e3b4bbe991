"""Matrix products and the linear layer on them."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Input,
    Kind,
    Operator,
    Role,
    Sampler,
    Site,
    Template,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import require_floating, traffic

_FLAGS = (
    Attribute("transpose_a", Kind.BOOL, False, doc="read `a` with its last two axes swapped"),
    Attribute("transpose_b", Kind.BOOL, False, doc="read `b` with its last two axes swapped"),
)


def _matrix(type: TensorType, transposed: bool) -> tuple[Size, Size]:
    rows, columns = type.shape[-2:]
    return (columns, rows) if transposed else (rows, columns)


def _infer_matmul(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    a, b = site.type(0), site.type(1)
    site.require(a.dtype is b.dtype, f"`a` is {a} and `b` is {b}: the dtypes differ")
    site.require(a.rank >= 2 and b.rank >= 2, f"`a` is {a} and `b` is {b}, expected at least two axes each")
    m, k = _matrix(a, site.flag("transpose_a"))
    inner, n = _matrix(b, site.flag("transpose_b"))
    inner_axes = (0, -2 if site.flag("transpose_a") else -1), (1, -1 if site.flag("transpose_b") else -2)
    reason = f"`a` is {a} and `b` is {b}: the inner sizes {k} and {inner} differ"
    site.require_same_size(*inner_axes, reason)
    if b.rank > 2:
        reason = f"`a` is {a} and `b` is {b}: the batch axes differ"
        site.require(a.rank == b.rank, reason)
        for axis in range(b.rank - 2):
            site.require_same_size((1, axis), (0, axis), reason)
    else:
        site.require(
            a.rank == 2 or not site.flag("transpose_a"), f"`a` is {a}: only a matrix can be transposed here"
        )
    return [a.with_shape((*a.shape[:-2], m, n))]


def _matmul_cost(site: Site) -> Cost:
    _, k = _matrix(site.type(0), site.flag("transpose_a"))
    return traffic(site, site.results[0].elements * k * 2)


def _matmul_vjp(v: Vjp) -> Sequence[Value | None]:
    """For C = A B: dA = G B', dB = A' G; with a shared `b`, the batch axes of A and G become rows."""
    a, b, g = v.operand(0), v.operand(1), v.gradient
    ta, tb = bool(v.attrs["transpose_a"]), bool(v.attrs["transpose_b"])
    da = db = None
    if v.needed[0]:
        da = (
            v.op("matmul", b, g, transpose_a=tb, transpose_b=True)
            if ta
            else v.op("matmul", g, b, transpose_b=not tb)
        )
    if v.needed[1]:
        if v.build.type(a).rank > v.build.type(b).rank:
            a, g = _rows(v, a), _rows(v, g)
        db = (
            v.op("matmul", g, a, transpose_a=True, transpose_b=ta)
            if tb
            else v.op("matmul", a, g, transpose_a=not ta)
        )
    return [da, db]


def _rows(v: Vjp, value: Value) -> Value:
    shape = v.build.type(value).shape
    return v.op("reshape", value, shape=(product(shape[:-1]), shape[-1]))


def _sample_matmul(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    a = draw.tensor(dtype=draw.dtype(), min_rank=2)
    type = draw.type(a)
    shared = type.rank == 2 or draw.boolean()
    ta = draw.boolean() and (type.rank == 2 or not shared)
    tb = draw.boolean()
    _, k = _matrix(type, ta)
    n = draw.integer(1, 5)
    matrix: tuple[Size, Size] = (n, k) if tb else (k, n)
    b = draw.tensor(matrix if shared else (*type.shape[:-2], *matrix), type.dtype)
    return [a, b], {"transpose_a": ta, "transpose_b": tb}


define(
    Operator(
        name="matmul",
        doc="The matrix product of the last two axes: `a` [..., M, K] times `b` [K, N] or [..., K, N] is "
        "[..., M, N].",
        lowering=Template("matmul"),
        inputs=(Input("a"), Input("b")),
        attributes=_FLAGS,
        infer=_infer_matmul,
        reference="esper.ops.reference.product:matmul",
        vjp=_matmul_vjp,
        cost=_matmul_cost,
        sample=_sample_matmul,
    )
)


def _infer_linear(site: Site) -> Sequence[TensorType]:
    require_floating(site)
    x, weight, bias = site.type(0), site.type(1), site.types[2]
    if x.rank < 2:
        site.refuse(f"`x` is {x}, expected at least two axes")
    if weight.rank != 2:
        site.refuse(f"`weight` is {weight}, expected two axes")
    if x.shape[-1] != weight.shape[1]:
        site.refuse(f"`x` is {x}, its last axis is not `weight`'s {weight.shape[1]} inputs")
    if bias is not None and bias.shape != weight.shape[:1]:
        site.refuse(f"`bias` is {bias}, expected {weight.shape[0]} values")
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.dtype is not x.dtype:
            site.refuse(f"`{name}` is {other}, expected the dtype of `x`, {x.dtype}")
    return [x.with_shape((*x.shape[:-1], weight.shape[0]))]


def _linear(build: Builder, node: Node) -> Sequence[Value]:
    x, weight, bias = node.operands
    y = build.op("matmul", x, weight, transpose_b=True, span=node.span)
    return [y if bias is None else build.op("add", y, bias, span=node.span)]


def _sample_linear(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=DType.F32, min_rank=2, max_rank=3)
    features = draw.integer(1, 5)
    weight = draw.param((features, draw.type(x).shape[-1]), DType.F32)
    return [x, weight, draw.param((features,), DType.F32) if draw.boolean() else None], {}


define(
    Operator(
        name="linear",
        doc="An affine map of the last axis: `x` [..., K] times `weight` [features, K] transposed, plus "
        "`bias`.",
        lowering=Composite(_linear),
        inputs=(
            Input("x"),
            Input(
                "weight",
                Role.PARAM,
                shape=lambda c: (c.size("features"), c.types["x"].shape[-1]),
                init="fan_in_uniform",
                fan_in=lambda c: c.types["x"].shape[-1],
            ),
            Input(
                "bias",
                Role.PARAM,
                optional=True,
                shape=lambda c: (c.size("features"),),
                init="fan_in_uniform",
                fan_in=lambda c: c.types["x"].shape[-1],
                when="bias",
            ),
        ),
        attributes=(
            Attribute("features", Kind.DIM, doc="size of the result's last axis", stored=False),
            Attribute("bias", Kind.BOOL, True, doc="whether to add a bias", stored=False),
            Attribute(
                "init",
                Kind.STRING,
                "",
                doc="initialiser of the weight; `zeros` zeroes the bias too",
                stored=False,
            ),
        ),
        infer=_infer_linear,
        reference="torch.nn.functional:linear",
        no_gradient="`expand` replaces it by its definition",
        cost=lambda site: traffic(site, site.results[0].elements * (site.type(0).shape[-1] * 2 + 1)),
        sample=_sample_linear,
    )
)
