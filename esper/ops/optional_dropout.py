"""Dropout inside operators that do other work: at the probability zero they draw nothing and take no seed."""

from __future__ import annotations

from esper.ir.graph import Value
from esper.ir.operator import Attribute, AttrValue, Input, Kind, Role, Sampler, Site
from esper.ir.types import DType, TensorType
from esper.ops.random import MAX_OFFSET

UNDRAWN: dict[str, AttrValue] = {"dropout": 0.0, "offset": 0}

SEED = Input("seed", Role.SEED, optional=True)
DROPOUT = Attribute("dropout", Kind.FLOAT, 0.0, doc="the probability that an element is dropped, below 1")
OFFSET = Attribute("offset", Kind.INT, 0, doc="which stream of random numbers, if an element may be dropped")


def require_draws(site: Site, seed: TensorType | None) -> None:
    """Refuses a `dropout` that is no probability, and a seed without dropout or dropout without a seed."""
    p, offset = site.number("dropout"), site.integer("offset")
    site.require(0.0 <= p < 1.0, f"`dropout` is {p}, expected a probability below 1")
    site.require(0 <= offset < MAX_OFFSET, f"`offset` is {offset}, expected 0 to {MAX_OFFSET - 1}")
    if p:
        found = "left out" if seed is None else seed
        site.require(seed == TensorType(DType.I64), f"`seed` is {found}, expected i64[] for dropout = {p}")
    else:
        site.require(seed is None, f"`seed` is {seed}, expected none for dropout = 0.0")
        site.require(offset == 0, f"`offset` is {offset}, expected 0 for dropout = 0.0")


def draw_dropout(draw: Sampler) -> tuple[Value | None, dict[str, AttrValue]]:
    """A seed and the attributes of dropout; none of it half of the time."""
    if draw.boolean():
        return draw.seed(), {"dropout": draw.number(0.125, 0.875), "offset": draw.offset()}
    return None, dict(UNDRAWN)
