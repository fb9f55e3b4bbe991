"""Constant folding against torch's arithmetic on scalars, in every dtype and at its edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate
from esper.passes import run_passes

FLOATS = [dtype for dtype in DType if dtype.is_floating]
INTEGERS = [DType.I32, DType.I64]
BINARY = ["add", "sub", "mul"]
EDGES = (
    0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 1.00390625, 2049.0, 65504.0, 65519.0, 65520.0, 1e-8, 6e-8, 3.3e38,
    1e300, 16777217.0, 0.3333333432674408, 257.0, -2.5,
)  # fmt: skip
NUMBERS = st.sampled_from(EDGES) | st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**33), 2**33) | st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 46341, 2**16])


def folded_as_run(ir: BlueprintIR) -> bool:
    """Whether `fold` left one constant; asserts that it changed no bit of the output."""
    folded = run_passes(ir, "fold,dce")
    before, after = (evaluate(graph, {}, {})["y"] for graph in (ir, folded))
    assert before.dtype is after.dtype
    same = (before == after) & (torch.signbit(before) == torch.signbit(after))
    assert bool(same) or bool(before.isnan() & after.isnan()), (ir, before, after)
    return [node.op for node in folded.nodes] == ["constant"]


@given(x=NUMBERS, y=NUMBERS, op=st.sampled_from([*BINARY, "div"]), dtype=st.sampled_from(FLOATS))
def test_arithmetic_on_floats_folds_to_what_torch_gives(x: float, y: float, op: str, dtype: DType) -> None:
    build = Builder("b")
    z = build.op(op, build.constant(x, dtype), build.constant(y, dtype))
    folded_as_run(build.finish({"y": z}))


@given(x=NUMBERS.map(abs), op=st.sampled_from(["neg", "sqrt"]), dtype=st.sampled_from(FLOATS))
def test_functions_of_one_float_fold_to_what_torch_gives(x: float, op: str, dtype: DType) -> None:
    build = Builder("b")
    folded_as_run(build.finish({"y": build.op(op, build.constant(x, dtype))}))


@given(x=WHOLE, y=WHOLE, op=st.sampled_from(BINARY), dtype=st.sampled_from(INTEGERS))
def test_arithmetic_on_integers_folds_to_what_torch_gives(x: int, y: int, op: str, dtype: DType) -> None:
    limit = torch.iinfo(TORCH_DTYPES[dtype])
    x, y = (max(limit.min, min(limit.max, value)) for value in (x, y))
    build = Builder("b")
    folded_as_run(
        build.finish({"y": build.op(op, build.constant(float(x), dtype), build.constant(float(y), dtype))})
    )


@pytest.mark.parametrize("target", FLOATS, ids=str)
@pytest.mark.parametrize("source", FLOATS, ids=str)
@pytest.mark.parametrize("value", EDGES)
def test_casts_between_floats_fold_to_what_torch_gives(value: float, source: DType, target: DType) -> None:
    build = Builder("b")
    y = build.op("cast", build.constant(value, source), dtype=target)
    folded_as_run(build.finish({"y": y}))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
@pytest.mark.parametrize(("op", "expected"), [("add", 6.0), ("sub", 2.0), ("mul", 8.0)])
def test_exact_arithmetic_is_folded_in_every_dtype(dtype: DType, op: str, expected: float) -> None:
    build = Builder("b")
    ir = build.finish({"y": build.op(op, build.constant(4.0, dtype), build.constant(2.0, dtype))})
    assert folded_as_run(ir)
    assert math.isclose(float(evaluate(ir, {}, {})["y"]), expected, abs_tol=0.0, rel_tol=0.0)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [(DType.F16, 65504.0), (DType.BF16, 3.3895313892515355e38), (DType.F32, 3.4028234663852886e38)],
    ids=str,
)
def test_the_largest_value_is_kept_and_its_double_is_not_folded(dtype: DType, value: float) -> None:
    build = Builder("b")
    kept = build.finish({"y": build.op("neg", build.constant(value, dtype))})
    assert folded_as_run(kept)
    build = Builder("b")
    lost = build.finish({"y": build.op("add", build.constant(value, dtype), build.constant(value, dtype))})
    assert not folded_as_run(lost)
