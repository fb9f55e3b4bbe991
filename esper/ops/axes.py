"""Axes as attributes name them: counted from the front, or from the end where negative."""

from __future__ import annotations

from collections.abc import Sequence

from esper.ir.dims import Dim
from esper.ir.graph import Value
from esper.ir.operator import AttrValue, Sampler, Site
from esper.ir.types import TensorType


def axis_of(site: Site, type: TensorType, name: str = "axis") -> int:
    """The attribute `name` as an axis of `type`, from 0. Raises `TypeRuleViolated`."""
    axis = site.integer(name)
    site.require(-type.rank <= axis < type.rank, f"`{name}` is {axis}, which is no axis of {type}")
    return axis % type.rank


def axes_of(site: Site, type: TensorType, name: str = "axes") -> tuple[int, ...]:
    """The attribute `name` as different axes of `type`, from 0. Raises `TypeRuleViolated`."""
    given = site.attrs[name]
    assert isinstance(given, tuple)
    for axis in given:
        site.require(
            isinstance(axis, int) and -type.rank <= axis < type.rank,
            f"`{name}` has {axis}, which is no axis of {type}",
        )
    axes = tuple(axis % type.rank for axis in given if isinstance(axis, int))
    site.require(
        len(set(axes)) == len(axes), f"`{name}` is {list(given)}, which names an axis of {type} twice"
    )
    return axes


def integers_of(value: AttrValue) -> tuple[int, ...]:
    """A tuple of integers that a type rule has accepted."""
    assert isinstance(value, tuple)
    return tuple(item for item in value if isinstance(item, int))


def listed(sizes: Sequence[int | Dim]) -> str:
    """Sizes as a message shows them: `[2, N]`."""
    return f"[{', '.join(map(str, sizes))}]"


def sample_axis(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    """Samples a tensor, and any of its axes from either end."""
    x = draw.tensor(dtype=draw.dtype(), min_rank=1)
    rank = draw.type(x).rank
    return [x], {"axis": draw.integer(-rank, rank - 1)}
