"""Means and variances in graph form, for norms: computed in float32, or in float64 for float64 operands.

A norm is `xhat = (x - mean) * rstd` over some axes, then a scale and a shift. Definitions widen their
operands first and narrow the results last; a kernel that computes in float32 anyway pays nothing for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.ir.build import Builder
from esper.ir.dims import Size, product
from esper.ir.graph import Value
from esper.ir.operator import Creation, Input, Role, Site
from esper.ir.types import DType, TensorType
from esper.ops.rules import require_type


def statistics_dtype(dtype: DType) -> DType:
    """The dtype of means, variances and running statistics of tensors of `dtype`."""
    return DType.F64 if dtype is DType.F64 else DType.F32


def cast(build: Builder, value: Value, dtype: DType) -> Value:
    """`value` in `dtype`; itself if it has it."""
    return value if build.type(value).dtype is dtype else build.op("cast", value, dtype=dtype)


def widen(build: Builder, value: Value) -> Value:
    """`value` in the dtype that statistics are computed in."""
    return cast(build, value, statistics_dtype(build.type(value).dtype))


def total(build: Builder, value: Value, axes: Sequence[int], keepdims: bool = False) -> Value:
    """The sum over `axes`; `value` itself if there are none."""
    return build.op("sum", value, axes=tuple(axes), keepdims=keepdims) if axes else value


def average(build: Builder, value: Value, axes: Sequence[int]) -> Value:
    """The mean over `axes`, which stay with size 1."""
    return build.op("div", total(build, value, axes, keepdims=True), count(build, value, axes))


def count(build: Builder, value: Value, axes: Sequence[int]) -> Value:
    """The number of elements along `axes`, as a scalar in `value`'s dtype."""
    type = build.type(value)
    return build.op("size", value=product(type.shape[axis] for axis in axes), dtype=type.dtype)


def reshaped(build: Builder, value: Value, shape: tuple[Size, ...]) -> Value:
    """`value` in `shape`; itself if it has it."""
    return value if build.type(value).shape == shape else build.op("reshape", value, shape=shape)


@dataclass(frozen=True, slots=True)
class Moments:
    """Statistics over some axes, which stay with size 1."""

    mean: Value
    centered: Value
    variance: Value
    rstd: Value


def moments(build: Builder, x: Value, axes: Sequence[int], eps: float) -> Moments:
    """Mean first, then the mean square of what is left, which loses no digits to a large mean."""
    mean = average(build, x, axes)
    centered = build.op("sub", x, mean)
    variance = average(build, build.op("mul", centered, centered), axes)
    return Moments(mean, centered, variance, build.op("rsqrt", build.op("add", variance, eps)))


def normalized_gradient(
    build: Builder, g: Value, xhat: Value, rstd: Value, axes: Sequence[int], centered: bool = True
) -> Value:
    """The gradient of x where that of `xhat = (x - mean) * rstd` is g.

    With averages over `axes`: (g - avg(g) - xhat * avg(g * xhat)) * rstd; without the middle term if x is not
    `centered` (rms_norm).
    """
    along = average(build, build.op("mul", g, xhat), axes)
    rest = build.op("sub", g, average(build, g, axes)) if centered else g
    return build.op("mul", build.op("sub", rest, build.op("mul", xhat, along)), rstd)


def moment_gradient(
    build: Builder,
    x: Value,
    axes: Sequence[int],
    rstd: Value,
    *,
    mean: Value | None = None,
    g_mean: Value | None = None,
    g_rstd: Value | None = None,
    g_variance: Value | None = None,
) -> Value | None:
    """The gradient that reaches x through its statistics; None if none of them has a gradient.

    `(g_mean + 2 * (x - mean) * g_variance) / n`, where rstd adds `-rstd ** 3 / 2 * g_rstd` to g_variance.
    Everything is wide and keeps the reduced axes with size 1; without `mean` the variance is the mean square.
    """
    if g_rstd is not None:
        cube = build.op("mul", build.op("mul", rstd, rstd), rstd)
        through = build.op("mul", build.op("mul", cube, -0.5), g_rstd)
        g_variance = through if g_variance is None else build.op("add", g_variance, through)
    if g_variance is not None:
        centered = x if mean is None else build.op("sub", x, mean)
        along = build.op("mul", build.op("mul", centered, 2.0), g_variance)
        g_mean = along if g_mean is None else build.op("add", along, g_mean)
    if g_mean is None:
        return None
    share = build.op("div", g_mean, count(build, x, axes))
    return build.op("broadcast_to", share, shape=build.type(x).shape)


def add_gradients(build: Builder, first: Value | None, second: Value | None, dtype: DType) -> Value | None:
    """The sum of two gradients, of which either may be absent; the first has `dtype`, the second is cast."""
    if second is None:
        return first
    second = cast(build, second, dtype)
    return second if first is None else build.op("add", first, second)


def scaled_and_shifted(
    build: Builder, x: Value, weight: Value | None, bias: Value | None, axis: int
) -> Value:
    """`x * weight + bias` in the dtype of x, for vectors along `axis`, which is 1 or the last."""

    def spread(vector: Value) -> Value:
        return widen(build, vector if axis == -1 else along_channels(build, vector, build.type(x).rank))

    if weight is not None:
        x = build.op("mul", x, spread(weight))
    return x if bias is None else build.op("add", x, spread(bias))


def along_channels(build: Builder, value: Value, rank: int) -> Value:
    """A [C] vector as [1, C, 1, ...] of `rank` axes."""
    size = build.type(value).shape[0]
    return reshaped(build, value, (1, size, *(1 for _ in range(rank - 2))))


def affine_inputs(axis: int, bias: bool = True) -> tuple[Input, ...]:
    """The optional `weight` (ones) and `bias` (zeros) of a norm, as long as axis `axis` of x."""

    def shape(creation: Creation) -> tuple[Size, ...]:
        return (creation.types["x"].shape[axis],)

    weight = Input(
        "weight", Role.PARAM, optional=True, shape=shape, init="ones", when="affine", doc="the scale"
    )
    shift = Input(
        "bias", Role.PARAM, optional=True, shape=shape, init="zeros", when="affine", doc="the shift"
    )
    return (weight, shift) if bias else (weight,)


def require_vector(site: Site, index: int, length: Size, dtype: DType) -> None:
    """Refuses an operand, if present, that is not `dtype[length]`."""
    require_type(site, index, TensorType(dtype, (length,)))
