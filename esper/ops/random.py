"""Random operators: pure functions of the run's seed, an offset of their own, and the element's index.

The offset is given once, at elaboration, and no pass changes it, so the backward pass draws the same
numbers again instead of keeping a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.ir.build import Builder
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Input,
    Kind,
    Operator,
    Pointwise,
    Role,
    Sample,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import elementwise_cost

MAX_OFFSET = 2**31

_OFFSET = Attribute(
    "offset", Kind.INT, doc="which stream of random numbers; elaboration gives each use its own"
)


def _infer(site: Site) -> Sequence[TensorType]:
    x, seed = site.type(0), site.type(1)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    site.require(seed == TensorType(DType.I64), f"`seed` is {seed}, expected i64[]")
    p = site.number("p")
    site.require(0.0 <= p < 1.0, f"`p` is {p}, expected a probability below 1")
    _require_offset(site)
    return [x]


def _require_offset(site: Site) -> None:
    offset = site.integer("offset")
    site.require(0 <= offset < MAX_OFFSET, f"`offset` is {offset}, expected 0 to {MAX_OFFSET - 1}")


def _vjp(v: Vjp) -> Sequence[Value | None]:
    """The same elements are dropped from the gradient."""
    return [v.op("dropout", v.gradient, v.operand(1), **v.attrs), None]


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype())
    return [x, draw.seed()], {"p": draw.number(0.0, 0.875), "offset": draw.offset()}


define(
    Operator(
        name="dropout",
        doc="`x / (1 - p)` where a uniform number of (seed, offset, index) is at least `p`, else zero "
        "(Srivastava et al. 2014). `index` counts the elements of `x` in row-major order; the pass "
        "`inference` removes the operator.",
        lowering=Pointwise(
            "tl.where(uniform({seed}, {offset}, {index}) >= {p}, {x} * (1.0 / (1.0 - {p})), 0.0)"
        ),
        inputs=(Input("x"), Input("seed", Role.SEED)),
        attributes=(
            Attribute("p", Kind.FLOAT, 0.5, doc="the probability that an element is dropped, below 1"),
            _OFFSET,
        ),
        infer=_infer,
        reference="esper.ops.reference.random:dropout",
        vjp=_vjp,
        cost=elementwise_cost(16),
        sample=_sample,
        random=True,
    )
)


def _dropping(axes: int) -> Composite:
    """`x` times the dropout of ones along its first `axes` axes."""

    def definition(build: Builder, node: Node) -> Sequence[Value]:
        x, seed = node.operands
        assert x is not None
        type = build.type(x)
        shape = (*type.shape[:axes], *(1 for _ in type.shape[axes:]))
        ones = build.op("broadcast_to", build.constant(1.0, type.dtype), shape=shape)
        kept = build.op("dropout", ones, seed, name=None, span=None, **node.attrs)
        return [build.op("mul", x, kept)]

    return Composite(definition)


def _infer_dropping(axes: int) -> Callable[[Site], Sequence[TensorType]]:
    def infer(site: Site) -> Sequence[TensorType]:
        x = site.type(0)
        site.require(x.rank >= axes, f"`x` is {x}, expected {axes} {'axis' if axes == 1 else 'axes'} or more")
        return _infer(site)

    return infer


def _sample_dropping(axes: int) -> Sample:
    def sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        x = draw.tensor(dtype=draw.dtype(), min_rank=axes)
        return [x, draw.seed()], {"p": draw.number(0.0, 0.875), "offset": draw.offset()}

    return sample


for _name, _axes, _what, _doc in (
    (
        "feature_dropout",
        2,
        "a channel",
        "Dropout of whole channels: `x` [N, C, ...] is scaled by `1 / (1 - p)` or zeroed for each n and c "
        "(Tompson et al. 2015); torch's `dropout1d` to `dropout3d`.",
    ),
    (
        "drop_path",
        1,
        "a sample",
        "Stochastic depth: `x` [N, ...], a branch beside a shortcut, is scaled by `1 / (1 - p)` or zeroed "
        "for each n (Huang et al. 2016).",
    ),
):
    define(
        Operator(
            name=_name,
            doc=_doc,
            lowering=_dropping(_axes),
            inputs=(Input("x"), Input("seed", Role.SEED)),
            attributes=(
                Attribute("p", Kind.FLOAT, 0.5, doc=f"the probability that {_what} is dropped, below 1"),
                _OFFSET,
            ),
            infer=_infer_dropping(_axes),
            reference=f"esper.ops.reference.random:{_name}",
            no_gradient="`expand` replaces it by its definition",
            cost=elementwise_cost(1),
            sample=_sample_dropping(_axes),
            random=True,
        )
    )


def _infer_noise(site: Site) -> Sequence[TensorType]:
    x, seed = site.type(0), site.type(1)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    site.require(seed == TensorType(DType.I64), f"`seed` is {seed}, expected i64[]")
    std = site.number("std")
    site.require(std >= 0.0, f"`std` is {std}, expected 0 or more")
    _require_offset(site)
    return [x]


def _sample_noise(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    x = draw.tensor(dtype=draw.dtype())
    return [x, draw.seed()], {"std": draw.number(0.0, 2.0), "offset": draw.offset()}


def _noise_vjp(v: Vjp) -> Sequence[Value | None]:
    """What is added does not depend on `x`."""
    return [v.op("broadcast_to", v.gradient, shape=v.node.type.shape), None]


define(
    Operator(
        name="gaussian_noise",
        doc="`x + std * z` with a standard normal number z of (seed, offset, index) for each element, by Box "
        "and Muller 1958; the pass `inference` removes the operator.",
        lowering=Pointwise("{x} + {std} * normal({seed}, {offset}, {index})"),
        inputs=(Input("x"), Input("seed", Role.SEED)),
        attributes=(Attribute("std", Kind.FLOAT, 1.0, doc="the standard deviation"), _OFFSET),
        infer=_infer_noise,
        reference="esper.ops.reference.random:gaussian_noise",
        vjp=_noise_vjp,
        cost=elementwise_cost(40),
        sample=_sample_noise,
        random=True,
    )
)
