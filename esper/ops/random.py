"""Random operators: pure functions of the run's seed, an offset of their own, and the element's index.

The offset is given once, at elaboration, and no pass changes it, so the backward pass draws the same
numbers again instead of keeping a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.graph import Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Input,
    Kind,
    Operator,
    Pointwise,
    Role,
    Sampler,
    Site,
    Vjp,
    define,
)
from esper.ir.types import DType, TensorType
from esper.ops.rules import elementwise_cost

MAX_OFFSET = 2**31


def _infer(site: Site) -> Sequence[TensorType]:
    x, seed = site.type(0), site.type(1)
    site.require(x.dtype.is_floating, f"`x` is {x}, expected a floating dtype")
    site.require(seed == TensorType(DType.I64), f"`seed` is {seed}, expected i64[]")
    p, offset = site.number("p"), site.integer("offset")
    site.require(0.0 <= p < 1.0, f"`p` is {p}, expected a probability below 1")
    site.require(0 <= offset < MAX_OFFSET, f"`offset` is {offset}, expected 0 to {MAX_OFFSET - 1}")
    return [x]


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
            Attribute(
                "offset", Kind.INT, doc="which stream of random numbers; elaboration gives each use its own"
            ),
        ),
        infer=_infer,
        reference="esper.ops.reference.random:dropout",
        vjp=_vjp,
        cost=elementwise_cost(16),
        sample=_sample,
        random=True,
    )
)
