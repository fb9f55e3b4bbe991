"""What the law `tolerance` allows and what it does not, on graphs made by hand."""

from __future__ import annotations

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value
from esper.passes import Law
from esper.testing import random_values
from esper.testing.laws import require_law


def sigmoid_of_x(dtype: DType = DType.BF16, offset: float = 0.0, factor: float = 1.0) -> BlueprintIR:
    """`sigmoid(x)` by way of `dtype`, with `offset` added and taken off again on the way."""
    build = Builder("b")
    x: Value = build.input("x", TensorType(DType.F32, (4, 8)))
    narrow = build.op("cast", x, dtype=dtype)
    if offset:
        narrow = build.op("sub", build.op("add", narrow, offset), offset)
    y = build.op("sigmoid", build.op("cast", narrow, dtype=DType.F32))
    return build.finish({"y": build.op("mul", y, factor) if factor != 1.0 else y})


def difference(dtype: DType) -> BlueprintIR:
    """`exp(x) - exp(z)` where z is nearly x."""
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (16,)))
    z = build.op("mul", x, 1.0001)
    left, right = (build.op("exp", build.op("cast", value, dtype=dtype)) for value in (x, z))
    return build.finish({"y": build.op("cast", build.op("sub", left, right), dtype=DType.F32)})


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_roundings_are_allowed(dtype: DType, seed: int) -> None:
    before = sigmoid_of_x(DType.F32)
    require_law(Law.TOLERANCE, before, sigmoid_of_x(dtype), random_values(before, seed=seed))


@pytest.mark.parametrize("seed", range(20))
def test_roundings_that_the_graph_magnifies_are_allowed(seed: int) -> None:
    before = difference(DType.F32)
    require_law(Law.TOLERANCE, before, difference(DType.BF16), random_values(before, seed=seed))


@pytest.mark.parametrize("seed", range(20))
def test_a_factor_is_no_rounding(seed: int) -> None:
    before = sigmoid_of_x(DType.F32, factor=1.01)
    with pytest.raises(AssertionError, match="`y`"):
        require_law(Law.TOLERANCE, before, sigmoid_of_x(DType.BF16), random_values(before, seed=seed))


@pytest.mark.parametrize("seed", range(20))
def test_digits_lost_to_a_great_number_are_more_than_roundings_explain(seed: int) -> None:
    before = sigmoid_of_x(DType.F32)
    after = sigmoid_of_x(DType.BF16, offset=1024.0)
    with pytest.raises(AssertionError, match=r"further from [\s\S]* than roundings explain"):
        require_law(Law.TOLERANCE, before, after, random_values(before, seed=seed))


def test_out_of_the_dtypes_range_nothing_is_required_but_over_the_reals() -> None:
    def scaled(dtype: DType, factor: float) -> BlueprintIR:
        build = Builder("b")
        x = build.op("cast", build.input("x", TensorType(DType.F32, (4,))), dtype=dtype)
        for _ in range(8):
            x = build.op("mul", x, factor)
        return build.finish({"y": build.op("cast", x, dtype=DType.F32)})

    before = scaled(DType.F32, 64.0)
    require_law(Law.TOLERANCE, before, scaled(DType.F16, 64.0), random_values(before))
    with pytest.raises(AssertionError, match="`y`"):
        require_law(Law.TOLERANCE, before, scaled(DType.F16, 65.0), random_values(before))
